//! Words and numbers of a header.

use std::str::FromStr;

/// A number in decimal digits, and nothing else.
pub(super) fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    let is_number = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| is_number)?.parse().ok()
}

/// The same, perhaps below 0.
pub(super) fn signed(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| is_number)?.parse().ok()
}

/// Two hexadecimal numbers with a dash between.
pub(super) fn request_id(word: &[u8]) -> Option<(u64, u64)> {
    let hexadecimal = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_number)
    };
    let (client, sequence) = std::str::from_utf8(word).ok()?.split_once('-')?;
    Some((hexadecimal(client)?, hexadecimal(sequence)?))
}

/// Where the line ends that begins at `at`, if its end is there. `searched` says up to where there is none; it is moved.
pub(super) fn line_end(input: &[u8], searched: &mut usize) -> Option<usize> {
    match input[*searched..].iter().position(|&byte| byte == b'\n') {
        Some(found) => Some(*searched + found),
        None => {
            *searched = input.len();
            None
        }
    }
}

/// Bytes as a message may show them: never a line's end, never long.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 32;
    let (shown, more) = match bytes.len() > SHOWN_MAX {
        true => (&bytes[..SHOWN_MAX], "..."),
        false => (bytes, ""),
    };
    format!("{}{more}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!((number::<u64>(b"0"), number::<u64>(b"18446744073709551615")), (Some(0), Some(u64::MAX)));
        for wrong in [&b""[..], b"+1", b"-1", b"1 ", b"0x1", b"18446744073709551616", b"\xff"] {
            assert_eq!(number::<u64>(wrong), None, "{wrong:?}");
        }
        assert_eq!((signed(b"-9223372036854775808"), signed(b"7")), (Some(i64::MIN), Some(7)));
        for wrong in [&b"-"[..], b"--1", b"+1", b"", b"9223372036854775808"] {
            assert_eq!(signed(wrong), None, "{wrong:?}");
        }
        assert_eq!(request_id(b"00ff-2a"), Some((255, 42)));
        for wrong in [&b"1"[..], b"-1", b"1-", b"+1-1", b"g-1", b"1-1-1", b"11111111111111111-1"] {
            assert_eq!(request_id(wrong), None, "{wrong:?}");
        }
    }
}
