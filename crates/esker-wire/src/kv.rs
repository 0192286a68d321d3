//! Requests and answers about keys: put, delete, increment, list.

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

/// The body of an increment; an empty one stands for `{"by":1}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct IncrRequest {
    /// What is added; 1 if left out.
    #[serde(default = "one")]
    pub by: i64,
}

fn one() -> i64 {
    1
}

impl Default for IncrRequest {
    fn default() -> Self {
        Self { by: one() }
    }
}

/// The answer to an increment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IncrAnswer<'a> {
    /// The key, as `encoding` says.
    pub key: Cow<'a, str>,
    /// How the key is written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// What the key holds now.
    pub value: i64,
    /// The write's version.
    pub version: u64,
}

impl<'a> IncrAnswer<'a> {
    /// The answer to an increment of `key`.
    pub fn new(key: &'a [u8], value: i64, version: u64) -> Self {
        let (key, _, encoding) = encode_pair(key, None, false);
        Self { key, encoding, value, version }
    }
}

/// The answer to a delete of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RangeDeleteAnswer {
    /// The write's version.
    pub version: u64,
    /// How many keys were in the range, with those that had expired and were not reclaimed yet.
    pub deleted: u64,
}

/// The details of a condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreconditionDetails {
    /// The version that the key is at; null if it is absent. Of a batch, the key of the first condition that does not hold.
    pub version: Option<u64>,
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
    /// When the key expires, in milliseconds since 1970; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

impl<'a> Item<'a> {
    /// An item that does not expire; base64 if `base64` says so or if key or value is not UTF-8.
    pub fn new(key: &'a [u8], value: Option<&'a [u8]>, version: u64, base64: bool) -> Self {
        let (key, value, encoding) = encode_pair(key, value, base64);
        Self { key, value, encoding, version, expires_at: None }
    }

    /// The same, expiring then, in milliseconds since 1970.
    #[must_use]
    pub fn expiring(self, expires_at: Option<u64>) -> Self {
        Self { expires_at, ..self }
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
        let item = serde_json::to_string(&Item::new(b"k", None, 1, false).expiring(Some(7))).unwrap();
        assert_eq!(item, r#"{"key":"k","version":1,"expires_at":7}"#);
        let incr = serde_json::to_string(&IncrAnswer::new(b"k", -3, 4)).unwrap();
        assert_eq!(incr, r#"{"key":"k","value":-3,"version":4}"#);
        assert_eq!(serde_json::from_str::<IncrRequest>("{}").unwrap(), IncrRequest::default());
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
