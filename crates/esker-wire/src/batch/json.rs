//! A batch as JSON, and as what is answered to it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use super::operation::{Demand, Expiry, Operation, Range};
use crate::{
    Encoding, Ttl,
    encoding::{decode_text, encode_base64, encode_pair},
};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationType {
    /// Sets the key to the value.
    Put,
    /// Removes the key.
    Delete,
    /// Adds to the integer that the key holds.
    Incr,
    /// Removes all keys of a range.
    DeleteRange,
}

impl OperationType {
    fn name(self) -> &'static str {
        match self {
            Self::Put => "a put",
            Self::Delete => "a delete",
            Self::Incr => "an incr",
            Self::DeleteRange => "a delete_range",
        }
    }
}

/// An operation as a caller writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JsonOperation<'a> {
    /// What it does.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// The key, as `encoding` says; absent in a delete_range.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// The value of a put, as `encoding` says; absent in all others.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub value: Option<Cow<'a, str>>,
    /// How long what a put puts is to live, as in `30s`; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ttl: Option<Ttl>,
    /// When what a put puts expires, in milliseconds since 1970, in place of ttl; a time that has passed is as good as a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// What an incr adds; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<i64>,
    /// The first key of a delete_range, as `encoding` says; with `end`.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub start: Option<Cow<'a, str>>,
    /// Its last key, itself in the range.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub end: Option<Cow<'a, str>>,
    /// What all keys of a delete_range begin with, in place of start and end; the empty text stands for every key.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Cow<'a, str>>,
    /// How all of these strings are written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

/// serde borrows a `Cow` by itself, but not within an `Option`.
fn borrowed<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Text<'a>>::deserialize(deserializer)?.map(|text| text.0))
}

impl<'a> JsonOperation<'a> {
    fn empty(kind: OperationType) -> Self {
        Self {
            kind,
            key: None,
            value: None,
            ttl: None,
            expires_at: None,
            by: None,
            start: None,
            end: None,
            prefix: None,
            encoding: None,
        }
    }

    /// A put of any bytes.
    pub fn put(key: &'a [u8], value: &'a [u8]) -> Self {
        let (key, value, encoding) = encode_pair(key, Some(value), false);
        Self { key: Some(key), value, encoding, ..Self::empty(OperationType::Put) }
    }

    /// The same, of what is to live so long.
    #[must_use]
    pub fn living(self, ttl: Option<Ttl>) -> Self {
        Self { ttl, ..self }
    }

    /// The same, of what expires then, in milliseconds since 1970.
    #[must_use]
    pub fn expiring(self, expires_at: Option<u64>) -> Self {
        Self { expires_at, ..self }
    }

    /// A delete of any bytes.
    pub fn delete(key: &'a [u8]) -> Self {
        let (key, _, encoding) = encode_pair(key, None, false);
        Self { key: Some(key), encoding, ..Self::empty(OperationType::Delete) }
    }

    /// An increment.
    pub fn incr(key: &'a [u8], by: i64) -> Self {
        let (key, _, encoding) = encode_pair(key, None, false);
        Self { key: Some(key), by: Some(by), encoding, ..Self::empty(OperationType::Incr) }
    }

    /// A delete of all keys from `start` to `end`, both of them in the range.
    pub fn delete_between(start: &'a [u8], end: &'a [u8]) -> Self {
        let (start, end, encoding) = encode_pair(start, Some(end), false);
        Self { start: Some(start), end, encoding, ..Self::empty(OperationType::DeleteRange) }
    }

    /// A delete of all keys that begin so.
    pub fn delete_prefix(prefix: &'a [u8]) -> Self {
        let (prefix, _, encoding) = encode_pair(prefix, None, false);
        Self { prefix: Some(prefix), encoding, ..Self::empty(OperationType::DeleteRange) }
    }

    pub(super) fn into_operation(self) -> Result<Operation<'a>, String> {
        let (kind, encoding) = (self.kind, self.encoding);
        self.refuse_what_does_not_belong()?;
        let expiry = match (self.ttl, self.expires_at) {
            (None, None) => None,
            (Some(ttl), None) => Some(Expiry::After(ttl)),
            (None, Some(expires_at)) => Some(Expiry::At(expires_at)),
            (Some(_), Some(_)) => return Err("a put takes either `ttl` or `expires_at`".into()),
        };
        let bytes = |name: &str, text: Option<Cow<'a, str>>| match text {
            Some(text) => decode_text(text, encoding).map_err(|e| format!("`{name}` is {e}")),
            None => Err(format!("{} needs a `{name}`", kind.name())),
        };
        Ok(match kind {
            OperationType::Put => {
                Operation::Put { key: bytes("key", self.key)?, value: bytes("value", self.value)?, expiry }
            }
            OperationType::Delete => Operation::Delete { key: bytes("key", self.key)? },
            OperationType::Incr => Operation::Incr { key: bytes("key", self.key)?, by: self.by.unwrap_or(1) },
            OperationType::DeleteRange => Operation::DeleteRange(match (self.prefix, self.start, self.end) {
                (Some(prefix), None, None) => Range::Prefix(bytes("prefix", Some(prefix))?),
                (None, Some(start), Some(end)) => Range::Between(
                    key_bound(bytes("start", Some(start))?)?,
                    key_bound(bytes("end", Some(end))?)?,
                ),
                _ => return Err("a delete_range needs a `prefix`, or `start` and `end`".into()),
            }),
        })
    }

    /// A field that would be ignored is a mistake.
    fn refuse_what_does_not_belong(&self) -> Result<(), String> {
        use OperationType::{DeleteRange, Incr, Put};
        let kind = self.kind;
        let fields = [
            ("key", self.key.is_some(), kind != DeleteRange),
            ("value", self.value.is_some(), kind == Put),
            ("ttl", self.ttl.is_some(), kind == Put),
            ("expires_at", self.expires_at.is_some(), kind == Put),
            ("by", self.by.is_some(), kind == Incr),
            ("start", self.start.is_some(), kind == DeleteRange),
            ("end", self.end.is_some(), kind == DeleteRange),
            ("prefix", self.prefix.is_some(), kind == DeleteRange),
        ];
        match fields.iter().find(|(_, given, belongs)| *given && !belongs) {
            Some((name, ..)) => Err(format!("{} takes no `{name}`", kind.name())),
            None => Ok(()),
        }
    }
}

/// No key is empty, so an empty end of a range is most likely a variable that was not set.
fn key_bound(key: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, String> {
    match key.is_empty() {
        true => {
            Err("`start` and `end` are keys, which are not empty; an empty `prefix` stands for every key"
                .into())
        }
        false => Ok(key),
    }
}

/// What a condition demands of a key by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// That it is absent.
    Absent,
    /// That it is present.
    Present,
}

/// A condition as a caller writes it: with `is` or with `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JsonCondition<'a> {
    /// The key, as `encoding` says.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Whether it is to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Presence>,
    /// Which version it is to be at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// How the key is written; absent for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

impl<'a> JsonCondition<'a> {
    /// A condition on any key.
    pub fn new(key: &'a [u8], demand: Demand) -> Self {
        let (key, encoding) = match std::str::from_utf8(key) {
            Ok(key) => (Cow::Borrowed(key), None),
            Err(_) => (encode_base64(key).into(), Some(Encoding::Base64)),
        };
        let (is, version) = match demand {
            Demand::Absent => (Some(Presence::Absent), None),
            Demand::Present => (Some(Presence::Present), None),
            Demand::Version(version) => (None, Some(version)),
        };
        Self { key, is, version, encoding }
    }

    pub(super) fn into_condition(self) -> Result<Operation<'a>, String> {
        let demand = match (self.is, self.version) {
            (Some(Presence::Absent), None) => Demand::Absent,
            (Some(Presence::Present), None) => Demand::Present,
            (None, Some(version)) => Demand::Version(version),
            _ => return Err("it takes either `is` or `version`".into()),
        };
        let key = decode_text(self.key, self.encoding).map_err(|e| format!("`key` is {e}"))?;
        Ok(Operation::Require { key, demand })
    }
}

/// The body of a batch as a caller writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchRequest<'a> {
    /// What to do, in order: a later operation on a key wins over an earlier one.
    pub operations: Vec<JsonOperation<'a>>,
    /// What must hold, before all operations, or else nothing is done.
    #[serde(rename = "if", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub conditions: Vec<JsonCondition<'a>>,
}

/// The answer to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    /// The version of every write in the batch.
    pub version: u64,
    /// How many operations it held.
    pub operations: u64,
    /// What the last incr in it came to; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
}
