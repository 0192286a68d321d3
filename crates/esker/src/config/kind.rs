//! What a setting's value may be: how each kind is read, printed and described in an error.
//!
//! Every kind prints a value in a form that it reads back, so that `esker config` can be pasted into a file.

use std::fmt;

use esker_log::SyncPolicy;

/// The kind of a setting, with its range.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A path in the file system.
    Path,
    /// Any text but the empty one.
    Text,
    /// Text of this form, or nothing.
    Optional(&'static str),
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count(u64, u64),
    /// A size; a bare number is in bytes.
    Bytes(u64, u64),
    /// A length of time; a bare number is in milliseconds.
    Millis(u64, u64),
    /// A part of one, in hundredths.
    Ratio(u64, u64),
    /// A sync policy.
    Sync,
    /// A port, or none.
    Port,
    /// Text of this form, or nothing; it is told nowhere.
    Secret(&'static str),
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Of [`Kind::Path`], [`Kind::Text`], [`Kind::Optional`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::Secret`].
    Secret(Hidden),
    /// Of [`Kind::Flag`].
    Flag(bool),
    /// Of [`Kind::Count`].
    Count(u64),
    /// Of [`Kind::Bytes`].
    Bytes(u64),
    /// Of [`Kind::Millis`].
    Millis(u64),
    /// Of [`Kind::Ratio`], in hundredths.
    Ratio(u64),
    /// Of [`Kind::Sync`].
    Sync(SyncPolicy),
    /// Of [`Kind::Port`].
    Port(Option<u16>),
}

/// What is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(pub(super) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What stands for no port.
const OFF: &str = "off";

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];
/// `ms` comes before `s` and `m`: the first suffix that fits is taken.
const TIME_UNITS: &[(&str, u64)] = &[("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

impl Kind {
    /// Reads a value; the error is the reason without the setting's name and place.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let refuse = || format!("`{text}` is not allowed: {}", self.allowed());
        let in_range = |number: Option<u64>, min, max| {
            number.filter(|number| (min..=max).contains(number)).ok_or_else(refuse)
        };
        match self {
            Self::Path | Self::Text if text.is_empty() => Err(refuse()),
            Self::Path | Self::Text | Self::Optional(_) => Ok(Value::Text(text.to_owned())),
            Self::Secret(_) => Ok(Value::Secret(Hidden(text.to_owned()))),
            Self::Flag => text.parse().map(Value::Flag).map_err(|_| refuse()),
            Self::Count(min, max) => in_range(text.parse().ok(), min, max).map(Value::Count),
            Self::Bytes(min, max) => in_range(parse_bytes(text), min, max).map(Value::Bytes),
            Self::Millis(min, max) => in_range(parse_millis(text), min, max).map(Value::Millis),
            Self::Ratio(min, max) => in_range(parse_hundredths(text), min, max).map(Value::Ratio),
            Self::Sync => text.parse().map(Value::Sync).map_err(|_| refuse()),
            Self::Port if text.is_empty() || text == OFF => Ok(Value::Port(None)),
            Self::Port => text.parse().map(|port| Value::Port(Some(port))).map_err(|_| refuse()),
            Self::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(_) => Err(refuse()),
        }
    }

    /// The allowed values in words.
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Path => "a path".into(),
            Self::Text => "text, not empty".into(),
            Self::Optional(form) => format!("{form}, or nothing"),
            Self::Secret(form) => format!("{form}, or nothing; `esker config` shows `***`"),
            Self::Flag => "true or false".into(),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Bytes(min, max) => {
                format!("a size from {} to {}, such as 64MiB or a number of bytes", Bytes(min), Bytes(max))
            }
            Self::Millis(min, max) => {
                let (min, max) = (Millis(min), Millis(max));
                format!("a time from {min} to {max}, such as 500ms, 30s or a number of milliseconds")
            }
            Self::Ratio(min, max) => format!("a number from {} to {}", Value::Ratio(min), Value::Ratio(max)),
            Self::Sync => "always, never or every:<ms> (true and false mean always and never)".into(),
            Self::Port => format!("a port from 0 to {}, or {OFF}", u16::MAX),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// What stands for the value in a usage line.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Path => "PATH",
            Self::Text | Self::Optional(_) => "TEXT",
            Self::Secret(_) => "SECRET",
            Self::Flag => "BOOL",
            Self::Count(..) | Self::Ratio(..) => "N",
            Self::Bytes(..) => "SIZE",
            Self::Millis(..) => "TIME",
            Self::Sync => "POLICY",
            Self::Port => "PORT",
            Self::Choice(_) => "WORD",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Secret(Hidden(secret)) if secret.is_empty() => Ok(()),
            Self::Secret(_) => f.write_str("***"),
            Self::Flag(flag) => flag.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Bytes(bytes) => Bytes(*bytes).fmt(f),
            Self::Millis(millis) => Millis(*millis).fmt(f),
            Self::Ratio(hundredths) => write!(f, "{}.{:02}", hundredths / 100, hundredths % 100),
            Self::Sync(policy) => policy.fmt(f),
            Self::Port(None) => f.write_str(OFF),
            Self::Port(Some(port)) => port.fmt(f),
        }
    }
}

/// A size, printed with the largest binary unit that divides it.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits =
            |unit: &&(&str, u64)| unit.0.ends_with("iB") && self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        match SIZE_UNITS.iter().find(fits) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            millis if millis >= 1000 && millis.is_multiple_of(1000) => write!(f, "{}s", millis / 1000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

/// A size such as `64MiB`, `1.5GB` is refused: a size is a whole number of its unit.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    parse_with_unit(text, SIZE_UNITS)
}

/// A time such as `500ms`, `30s`, `5m`, `1h`; a bare number is in milliseconds.
pub(crate) fn parse_millis(text: &str) -> Option<u64> {
    parse_with_unit(text, TIME_UNITS)
}

/// A part of one with at most two decimals, in hundredths.
fn parse_hundredths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || decimals.len() > 2 || !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let decimals: u64 = format!("{decimals:0<2}").parse().ok()?;
    whole.checked_mul(100)?.checked_add(decimals)
}

fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let named = units.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor)));
    let (digits, factor) = named.unwrap_or((text, 1));
    let digits = digits.trim_end();
    // `u64::from_str` takes a leading plus, which no size has.
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_take_units_or_bare_numbers() {
        for (text, bytes) in [("0", 0), ("17", 17), ("64MiB", 64 << 20), ("2 GiB", 2 << 30), ("5kB", 5000)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for (text, millis) in
            [("250", 250), ("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_millis(text), Some(millis), "{text}");
        }
        for text in ["", "B", "-1", "+1", "1.5GB", "1XB", "99999999999999999999", "16777216TiB", "0x10"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn every_kind_reads_what_it_prints() {
        let cases = [
            (Kind::Bytes(0, u64::MAX), "3MiB"),
            (Kind::Bytes(0, u64::MAX), "3000001B"),
            (Kind::Millis(0, u64::MAX), "1500ms"),
            (Kind::Millis(0, u64::MAX), "90s"),
            (Kind::Count(0, 9), "7"),
            (Kind::Flag, "true"),
            (Kind::Ratio(5, 95), "0.35"),
            (Kind::Sync, "every:5"),
            (Kind::Port, "6380"),
            (Kind::Port, "off"),
            (Kind::Choice(&["a", "b"]), "b"),
            (Kind::Path, "/tmp/x"),
            (Kind::Optional("a name"), ""),
        ];
        for (kind, text) in cases {
            let value = kind.parse(text).unwrap();
            assert_eq!(value.to_string(), text);
            assert_eq!(kind.parse(&value.to_string()).unwrap(), value);
        }
    }

    #[test]
    fn refusals_name_what_is_allowed() {
        for (kind, text) in [
            (Kind::Count(1, 9), "10"),
            (Kind::Count(1, 9), "0"),
            (Kind::Bytes(1024, 4096), "5KiB"),
            (Kind::Millis(1, 1000), "2s"),
            (Kind::Ratio(5, 95), "0.96"),
            (Kind::Ratio(5, 95), ".5"),
            (Kind::Ratio(5, 95), "0.355"),
            (Kind::Flag, "yes"),
            (Kind::Sync, "sometimes"),
            (Kind::Port, "65536"),
            (Kind::Port, "on"),
            (Kind::Choice(&["a", "b"]), "c"),
            (Kind::Path, ""),
        ] {
            let refusal = kind.parse(text).unwrap_err();
            assert!(refusal.contains(&kind.allowed()), "{refusal}");
        }
    }
}
