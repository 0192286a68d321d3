//! Numbers in arguments and values.

use esker_wire::resp::parse_integer;

use super::refusal::{Done, NOT_A_FLOAT, NOT_AN_INTEGER, Refusal};

/// An integer argument.
pub(crate) fn integer(text: &[u8]) -> Done<i64> {
    parse_integer(text).ok_or(NOT_AN_INTEGER)
}

/// Decimals that are kept of a sum, as Redis does.
const DECIMALS: u32 = 17;
const SCALE: i128 = 10_i128.pow(DECIMALS);

/// The sum of two numbers as text: exact where both have at most 17 decimals and are not too large, so that 0.1 and 0.2
/// are 0.3; else what floating point makes of them.
pub(crate) fn add_floats(value: &[u8], by: &[u8]) -> Done<String> {
    let (left, right) = (float(value)?, float(by)?);
    if let (Some(left), Some(right)) = (scaled(value), scaled(by))
        && let Some(sum) = left.checked_add(right)
    {
        return Ok(print_scaled(sum));
    }
    let sum = left + right;
    match sum.is_finite() {
        true => Ok(print_float(sum)),
        false => Err(Refusal::new("ERR increment would produce NaN or Infinity")),
    }
}

fn float(text: &[u8]) -> Done<f64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    parsed.filter(|number| !number.is_nan()).ok_or(NOT_A_FLOAT)
}

/// A decimal number times 10^17; `None` if that is no whole number, or too large.
fn scaled(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    let mut number = 0_i128;
    for byte in whole.bytes().chain(decimals.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    let shift = exponent.checked_add(DECIMALS as i32)?.checked_sub(i32::try_from(decimals.len()).ok()?)?;
    let power = 10_i128.checked_pow(u32::try_from(shift).ok()?)?;
    let number = number.checked_mul(power)?;
    Some(if is_negative { -number } else { number })
}

fn print_scaled(sum: i128) -> String {
    let (sign, sum) = if sum < 0 { ("-", sum.unsigned_abs()) } else { ("", sum.unsigned_abs()) };
    let (whole, decimals) = (sum / SCALE.unsigned_abs(), sum % SCALE.unsigned_abs());
    let text = format!("{sign}{whole}.{decimals:017}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn print_float(sum: f64) -> String {
    // Rust prints no exponent, and as many digits as it takes to read the same number back.
    format!("{sum}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_one_expects_of_decimals() {
        for (value, by, sum) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-1.5", "0.25", "-1.25"),
            ("1e-17", "1", "1.00000000000000001"),
            (".5", "1.", "1.5"),
            ("1e300", "0", &format!("{}", 1e300)),
        ] {
            assert_eq!(add_floats(value.as_bytes(), by.as_bytes()).unwrap(), sum);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", " 1", "1 ", "abc", "nan", "1e", "0x10", "--1"] {
            assert_eq!(add_floats(text.as_bytes(), b"1").unwrap_err().text(), NOT_A_FLOAT.text(), "{text:?}");
        }
        for (value, by) in [("inf", "1"), ("1e308", "1e308"), ("inf", "-inf")] {
            let refusal = add_floats(value.as_bytes(), by.as_bytes()).unwrap_err();
            assert!(refusal.text().contains("NaN or Infinity"));
        }
    }
}
