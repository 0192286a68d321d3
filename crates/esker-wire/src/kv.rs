//! Answers about keys: put, delete, list.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    DecodeError, Encoding,
    encoding::{decode_text, encode_pair},
};

/// The answer to a put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutAnswer<'a> {
    /// The key, as `encoding` says.
    pub key: Cow<'a, str>,
    /// How the key is written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The write's version.
    pub version: u64,
}

impl<'a> PutAnswer<'a> {
    /// The answer to a put of `key`.
    pub fn new(key: &'a [u8], version: u64) -> Self {
        let (key, _, encoding) = encode_pair(key, None, false);
        Self { key, encoding, version }
    }
}

/// The answer to a delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeleteAnswer<'a> {
    /// The key, as `encoding` says.
    pub key: Cow<'a, str>,
    /// How the key is written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The write's version.
    pub version: u64,
    /// Whether the key was present.
    pub existed: bool,
}

impl<'a> DeleteAnswer<'a> {
    /// The answer to a delete of `key`.
    pub fn new(key: &'a [u8], version: u64, existed: bool) -> Self {
        let (key, _, encoding) = encode_pair(key, None, false);
        Self { key, encoding, version, existed }
    }
}

/// One key of a list, or one line of a streamed list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Item<'a> {
    /// The key, as `encoding` says.
    pub key: Cow<'a, str>,
    /// The value, as `encoding` says; absent where only keys were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Cow<'a, str>>,
    /// How key and value are written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The version of the write that put the value.
    pub version: u64,
}

impl<'a> Item<'a> {
    /// An item; base64 if `base64` says so or if key or value is not UTF-8.
    pub fn new(key: &'a [u8], value: Option<&'a [u8]>, version: u64, base64: bool) -> Self {
        let (key, value, encoding) = encode_pair(key, value, base64);
        Self { key, value, encoding, version }
    }

    /// The key's and the value's bytes.
    pub fn into_bytes(self) -> Result<(Vec<u8>, Option<Vec<u8>>), DecodeError> {
        let key = decode_text(self.key, self.encoding)?.into_owned();
        let value = self.value.map(|value| decode_text(value, self.encoding)).transpose()?;
        Ok((key, value.map(Cow::into_owned)))
    }
}

/// The answer to a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListAnswer<'a> {
    /// The items, in key order, or in the opposite order if `reverse` was asked for.
    pub items: Vec<Item<'a>>,
    /// The cursor to go on from; null at the end of the range.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_are_the_documented_ones() {
        let put = serde_json::to_string(&PutAnswer::new(b"k", 3)).unwrap();
        assert_eq!(put, r#"{"key":"k","version":3}"#);
        let delete = serde_json::to_string(&DeleteAnswer::new(b"\xff", 4, true)).unwrap();
        assert_eq!(delete, r#"{"key":"/w==","encoding":"base64","version":4,"existed":true}"#);
        let list = ListAnswer { items: vec![Item::new(b"k", Some(b"v"), 1, false)], next: None };
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(json, r#"{"items":[{"key":"k","value":"v","version":1}],"next":null}"#);
        assert_eq!(serde_json::from_str::<ListAnswer<'static>>(&json).unwrap(), list);
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(key: Vec<u8>, value: Option<Vec<u8>>, base64: bool) {
            let json = serde_json::to_string(&Item::new(&key, value.as_deref(), 1, base64)).unwrap();
            let item: Item<'static> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(item.into_bytes().unwrap(), (key, value));
        }
    }
}
