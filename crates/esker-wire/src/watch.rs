//! What a watcher is told over HTTP: the data of server-sent events. A put is a [`kv::Item`](crate::kv::Item).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Encoding, encoding::encode_pair};

/// A key was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted<'a> {
    /// The key, as `encoding` says.
    pub key: Cow<'a, str>,
    /// How the key is written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The write's version.
    pub version: u64,
}

impl<'a> Deleted<'a> {
    /// The delete of `key`; base64 if `base64` says so or if it is not UTF-8.
    pub fn new(key: &'a [u8], version: u64, base64: bool) -> Self {
        let (key, _, encoding) = encode_pair(key, None, base64);
        Self { key, encoding, version }
    }
}

/// Where a range of keys ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeEnd<'a> {
    /// With this key.
    With(&'a [u8]),
    /// Before this key.
    Before(&'a [u8]),
    /// Nowhere.
    None,
}

/// All keys of a range were deleted. Of `end` and `before` at most one is there; without either the range goes on to the last key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletedRange<'a> {
    /// The first key of the range, as `encoding` says.
    pub start: Cow<'a, str>,
    /// The last key of the range: it is part of it, as everywhere in this API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Cow<'a, str>>,
    /// The first key behind the range, where it has no last one: that of a prefix, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Cow<'a, str>>,
    /// How the keys are written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The write's version.
    pub version: u64,
}

impl<'a> DeletedRange<'a> {
    /// The delete of a range; base64 if `base64` says so or if a key is not UTF-8.
    pub fn new(start: &'a [u8], end: RangeEnd<'a>, version: u64, base64: bool) -> Self {
        let key = match end {
            RangeEnd::With(key) | RangeEnd::Before(key) => Some(key),
            RangeEnd::None => None,
        };
        let (start, key, encoding) = encode_pair(start, key, base64);
        let (end, before) = match end {
            RangeEnd::Before(_) => (None, key),
            _ => (key, None),
        };
        Self { start, end, before, encoding, version }
    }
}

/// Everything up to this version was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// The version.
    pub version: u64,
}

/// What comes next is not to be had any more: read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resync<'a> {
    /// From this version on everything is there.
    pub version: u64,
    /// Why, and what to do.
    pub message: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_which_end_is_part_of_them() {
        let json = |end, base64| serde_json::to_string(&DeletedRange::new(b"a", end, 7, base64)).unwrap();
        assert_eq!(json(RangeEnd::With(b"b"), false), r#"{"start":"a","end":"b","version":7}"#);
        assert_eq!(json(RangeEnd::Before(b"b"), false), r#"{"start":"a","before":"b","version":7}"#);
        assert_eq!(json(RangeEnd::None, false), r#"{"start":"a","version":7}"#);
        let coded = r#"{"start":"YQ==","before":"/w==","encoding":"base64","version":7}"#;
        assert_eq!(json(RangeEnd::Before(b"\xff"), false), coded);
        let deleted = serde_json::to_string(&Deleted::new(b"k", 8, true)).unwrap();
        assert_eq!(deleted, r#"{"key":"aw==","encoding":"base64","version":8}"#);
    }
}
