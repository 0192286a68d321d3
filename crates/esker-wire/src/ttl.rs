//! Times to live: `30s`, `500ms`, `5m`, `2h`, `7d`.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long a key is to live, in milliseconds; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u64);

/// The units, from long to short, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Ttl {
    /// A time to live of so many milliseconds; `None` if that is 0.
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis == 0 { None } else { Some(Self(millis)) }
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// When a key that is written at `now_ms` expires, in milliseconds since 1970; as late as can be said if it is later.
    pub const fn after(self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.0)
    }
}

/// A text that is no time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTtl;

impl fmt::Display for InvalidTtl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time to live is a whole number above 0 with its unit: ms, s, m, h or d, as in 30s")
    }
}

impl std::error::Error for InvalidTtl {}

impl FromStr for Ttl {
    type Err = InvalidTtl;

    fn from_str(text: &str) -> Result<Self, InvalidTtl> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidTtl)?;
        let number: u64 = number.parse().map_err(|_| InvalidTtl)?;
        number.checked_mul(*factor).and_then(Self::from_millis).ok_or(InvalidTtl)
    }
}

/// In the longest unit that tells it exactly.
impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) =
            UNITS.iter().find(|(_, factor)| self.0.is_multiple_of(*factor)).expect("1 divides all");
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|e| serde::de::Error::custom(format_args!("`ttl` is `{text}`: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_what_they_say() {
        for (text, millis) in
            [("1ms", 1), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)]
        {
            let ttl: Ttl = text.parse().unwrap();
            assert_eq!((ttl.as_millis(), ttl.to_string().as_str()), (millis, text));
        }
        assert_eq!("007s".parse::<Ttl>().unwrap().to_string(), "7s");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let overflow = format!("{}s", u64::MAX);
        for text in
            ["", "0s", "0ms", "5", "s", "-1s", "+1s", "1.5s", "1 s", " 1s", "1w", "1S", "1sm", &overflow]
        {
            assert_eq!(text.parse::<Ttl>(), Err(InvalidTtl), "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_round_trip(millis in 1..u64::MAX) {
            let ttl = Ttl::from_millis(millis).unwrap();
            prop_assert_eq!(ttl.to_string().parse(), Ok(ttl));
        }
    }
}
