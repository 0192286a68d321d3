//! Keys in paths and queries: any byte may be written `%XX`, and is decoded exactly once.
//!
//! A path is never normalised: `..`, `//` and `%2f` are bytes of the key like any other.

use std::borrow::Cow;

use crate::DecodeError;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Decodes a name or value of a query: as [`decode`], but `+` stands for a space, as forms write it.
pub fn decode_query(coded: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    if !coded.contains(&b'+') {
        return decode(coded);
    }
    let spaced: Vec<u8> = coded.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    decode(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Decodes percent-coded bytes; without a `%` nothing is copied. `+` stands for itself.
pub fn decode(coded: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let Some(first) = coded.iter().position(|&byte| byte == b'%') else { return Ok(Cow::Borrowed(coded)) };
    let mut decoded = Vec::with_capacity(coded.len());
    decoded.extend_from_slice(&coded[..first]);
    let mut at = first;
    while at < coded.len() {
        match coded[at] {
            b'%' => {
                decoded.push(hex_pair(coded.get(at + 1..at + 3)).ok_or_else(|| malformed(at))?);
                at += 3;
            }
            byte => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Ok(Cow::Owned(decoded))
}

fn malformed(at: usize) -> DecodeError {
    DecodeError::new(format!("the % at byte {at} is not followed by two hex digits: write a % itself as %25"))
}

fn hex_pair(pair: Option<&[u8]>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    match pair? {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Percent-codes a key for a path: all but unreserved characters and `/`.
///
/// Dots are coded where they make up a whole `.` or `..` segment, because HTTP clients and proxies would
/// otherwise resolve such a segment away.
pub fn encode_path(key: &[u8]) -> String {
    let mut coded = String::with_capacity(key.len());
    for (at, segment) in key.split(|&byte| byte == b'/').enumerate() {
        if at > 0 {
            coded.push('/');
        }
        let dots = matches!(segment, b"." | b"..");
        segment.iter().for_each(|&byte| push(&mut coded, byte, dots));
    }
    coded
}

/// Percent-codes the value of a query parameter: all but unreserved characters.
pub fn encode_query(value: &[u8]) -> String {
    let mut coded = String::with_capacity(value.len());
    value.iter().for_each(|&byte| push(&mut coded, byte, false));
    coded
}

fn push(coded: &mut String, byte: u8, code_dots: bool) {
    let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
    if unreserved && !(code_dots && byte == b'.') {
        coded.push(char::from(byte));
    } else {
        coded.push('%');
        coded.push(char::from(HEX[usize::from(byte >> 4)]));
        coded.push(char::from(HEX[usize::from(byte & 0xf)]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_decoded_once() {
        assert_eq!(*decode(b"a%2Fb%2f%00+%252F").unwrap(), *b"a/b/\0+%2F");
        for bad in ["%", "%2", "a%zz", "%%41"] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plus_is_a_space_in_queries_only() {
        assert_eq!(*decode_query(b"a+b%2B").unwrap(), *b"a b+");
        assert_eq!(*decode(b"a+b").unwrap(), *b"a+b");
    }

    #[test]
    fn dot_segments_are_hidden_from_normalisers() {
        assert_eq!(encode_path(b"../a.b/./c"), "%2E%2E/a.b/%2E/c");
    }

    proptest! {
        #[test]
        fn any_key_round_trips(key: Vec<u8>) {
            let (path, query) = (encode_path(&key), encode_query(&key));
            prop_assert_eq!(&*decode(path.as_bytes()).unwrap(), &key[..]);
            prop_assert_eq!(&*decode_query(query.as_bytes()).unwrap(), &key[..]);
        }

        /// CHECKS 35.
        #[test]
        fn any_input_is_decoded_or_refused(coded: Vec<u8>) {
            if let Ok(key) = decode(&coded) {
                prop_assert!(key.len() <= coded.len());
            }
        }
    }
}
