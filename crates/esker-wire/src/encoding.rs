//! Bytes as JSON strings: UTF-8 as it is, anything else in base64 and marked so.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose};
use serde::{Deserialize, Serialize};

/// How the strings of an item stand for bytes. Without one they are the UTF-8 text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Key and value are base64: the standard alphabet is written, both alphabets are read, padding is optional.
    Base64,
}

/// A string that does not say what its encoding promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(String);

impl DecodeError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Writes standard base64 with padding.
pub fn encode_base64(bytes: &[u8]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

/// Writes base64 in the alphabet for URLs, without padding.
pub fn encode_base64url(bytes: &[u8]) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64 in either alphabet (not mixed), with or without padding.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if url_safe {
        &general_purpose::URL_SAFE_PAD_INDIFFERENT
    } else {
        &general_purpose::STANDARD_PAD_INDIFFERENT
    };
    engine.decode(text).map_err(|e| DecodeError(format!("not base64: {e}")))
}

/// The bytes that `text` stands for.
pub fn decode_text<'a>(text: Cow<'a, str>, encoding: Option<Encoding>) -> Result<Cow<'a, [u8]>, DecodeError> {
    match (encoding, text) {
        (Some(Encoding::Base64), text) => decode_base64(text.as_bytes()).map(Cow::Owned),
        (None, Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
        (None, Cow::Owned(text)) => Ok(Cow::Owned(text.into_bytes())),
    }
}

/// Key and value as strings, with the encoding they share: text where both are UTF-8 and base64 is not asked for.
pub fn encode_pair<'a>(
    key: &'a [u8],
    value: Option<&'a [u8]>,
    base64: bool,
) -> (Cow<'a, str>, Option<Cow<'a, str>>, Option<Encoding>) {
    let texts = (std::str::from_utf8(key), value.map(std::str::from_utf8).transpose());
    match texts {
        (Ok(key), Ok(value)) if !base64 => (key.into(), value.map(Cow::Borrowed), None),
        _ => (encode_base64(key).into(), value.map(|v| encode_base64(v).into()), Some(Encoding::Base64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_are_read_with_and_without_padding() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(decode_base64(text.as_bytes()).unwrap(), [0xfb, 0xff], "{text}");
        }
        assert!(decode_base64(b"+_8").is_err());
        assert!(decode_base64(b"a").is_err());
    }

    #[test]
    fn only_what_is_not_text_is_marked() {
        assert_eq!(encode_pair(b"k", Some(b"v"), false), ("k".into(), Some("v".into()), None));
        let (key, value, encoding) = encode_pair(b"k", Some(b"\xff"), false);
        assert_eq!(
            (key.as_ref(), value.as_deref(), encoding),
            ("aw==", Some("/w=="), Some(Encoding::Base64))
        );
        assert_eq!(encode_pair(b"k", None, true).0, "aw==");
    }
}
