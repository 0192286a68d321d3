//! `grpc-timeout`: how long the client waits for the answer.

use std::time::Duration;

use http::HeaderMap;

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The most digits that the protocol allows.
const DIGITS_MAX: usize = 8;

/// A `grpc-timeout` that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the headers say, if anything.
pub(super) fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    headers.get(GRPC_TIMEOUT).map(|given| parse(given.as_bytes())).transpose()
}

fn parse(given: &[u8]) -> Result<Duration, Malformed> {
    let (unit, digits) = given.split_last().ok_or(Malformed)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_digits_and_a_unit() {
        for (text, time) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("40m", Duration::from_millis(40)),
            ("500u", Duration::from_micros(500)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(time), "{text}");
        }
        for text in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", "1 S", "S1"] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
        }
    }
}
