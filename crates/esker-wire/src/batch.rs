//! Batches: `{"operations":[{"type":"put","key","value","ttl" or "expires_at"},{"type":"delete","key"},{"type":"incr","key","by"},
//! {"type":"delete_range","prefix"}],"if":[{"key","is":"absent"}]}`.
//!
//! The decoder hands each operation on as soon as it is read, so that a batch is never held twice, and stops
//! at the first one beyond a limit. Depth is bounded by serde_json's recursion limit.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

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

    fn into_operation(self) -> Result<Operation<'a>, String> {
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

/// What a condition demands of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// That it is absent.
    Absent,
    /// That it is present.
    Present,
    /// That its value was put by this version.
    Version(u64),
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

    fn into_condition(self) -> Result<Operation<'a>, String> {
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

/// A decoded operation, or a condition on all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets the key to the value.
    Put {
        /// The key.
        key: Cow<'a, [u8]>,
        /// The value.
        value: Cow<'a, [u8]>,
        /// When it expires; `None`: it stays.
        expiry: Option<Expiry>,
    },
    /// Removes the key.
    Delete {
        /// The key.
        key: Cow<'a, [u8]>,
    },
    /// Adds to the integer that the key holds, 0 if it is absent.
    Incr {
        /// The key.
        key: Cow<'a, [u8]>,
        /// What is added.
        by: i64,
    },
    /// Removes all keys of a range.
    DeleteRange(Range<'a>),
    /// A condition: looked at before all operations, wherever it is written.
    Require {
        /// The key.
        key: Cow<'a, [u8]>,
        /// What must hold of it.
        demand: Demand,
    },
}

/// When a put expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So long after it is taken on.
    After(Ttl),
    /// Then, in milliseconds since 1970.
    At(u64),
}

impl Expiry {
    /// In milliseconds since 1970, of a put that is taken on at `now_ms`.
    pub const fn at(self, now_ms: u64) -> u64 {
        match self {
            Self::After(ttl) => ttl.after(now_ms),
            Self::At(expires_at) => expires_at,
        }
    }
}

/// A range of keys to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range<'a> {
    /// All that begin so.
    Prefix(Cow<'a, [u8]>),
    /// From a key to a key, both of them in the range.
    Between(Cow<'a, [u8]>, Cow<'a, [u8]>),
}

impl Operation<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } | Self::Incr { key, .. } | Self::Require { key, .. } => key.len(),
            Self::DeleteRange(Range::Prefix(prefix)) => prefix.len(),
            Self::DeleteRange(Range::Between(start, end)) => start.len() + end.len(),
        }
    }
}

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most operations.
    pub operations: usize,
    /// The most bytes of keys and values together.
    pub bytes: usize,
}

/// Why a batch is refused. Nothing of it may be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// It is not the JSON it should be, or an operation breaks a rule.
    Malformed(String),
    /// It is larger than a limit.
    TooLarge(String),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::TooLarge(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BatchError {}

/// Reads a batch and hands every operation to `each`, in order, and every condition; says how many operations there were.
/// Conditions count for the limits as operations do.
///
/// `each` may refuse an operation with a reason. On an error the operations handed on so far are void.
pub fn decode(
    json: &[u8],
    limits: BatchLimits,
    each: &mut dyn FnMut(Operation<'_>) -> Result<(), String>,
) -> Result<usize, BatchError> {
    let mut reader = Reader { limits, each, operations: 0, conditions: 0, bytes: 0, refused: None };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = reader.read(&mut deserializer).and_then(|()| deserializer.end());
    match (read, reader.refused) {
        (_, Some(refused)) => Err(refused),
        (Err(e), None) => Err(BatchError::Malformed(format!("the body is not a batch: {e}"))),
        (Ok(()), None) if reader.operations == 0 => {
            Err(BatchError::Malformed("`operations` is empty: a batch needs at least one".into()))
        }
        (Ok(()), None) => Ok(reader.operations),
    }
}

/// What serde walks with. serde's own errors carry only text, so a refusal is kept aside in `refused`.
struct Reader<'f> {
    limits: BatchLimits,
    each: &'f mut dyn FnMut(Operation<'_>) -> Result<(), String>,
    operations: usize,
    conditions: usize,
    bytes: usize,
    refused: Option<BatchError>,
}

impl Reader<'_> {
    fn read<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(Body(self))
    }

    fn take(&mut self, operation: JsonOperation<'_>) -> Result<(), BatchError> {
        let at = self.operations;
        self.operations += 1;
        self.hand_on(operation.into_operation(), &format_args!("operation {at}"))
    }

    fn take_condition(&mut self, condition: JsonCondition<'_>) -> Result<(), BatchError> {
        let at = self.conditions;
        self.conditions += 1;
        self.hand_on(condition.into_condition(), &format_args!("condition {at}"))
    }

    /// `place` is only for errors.
    fn hand_on(
        &mut self,
        operation: Result<Operation<'_>, String>,
        place: &dyn fmt::Display,
    ) -> Result<(), BatchError> {
        let malformed = |why| BatchError::Malformed(format!("{place}: {why}"));
        let operation = operation.map_err(malformed)?;
        self.bytes += operation.len();
        if self.operations + self.conditions > self.limits.operations {
            let limit = self.limits.operations;
            return Err(BatchError::TooLarge(format!(
                "the batch has more than {limit} operations: split it"
            )));
        }
        if self.bytes > self.limits.bytes {
            let limit = self.limits.bytes;
            return Err(BatchError::TooLarge(format!("the batch has more than {limit} bytes: split it")));
        }
        (self.each)(operation).map_err(malformed)
    }
}

struct Body<'r, 'f>(&'r mut Reader<'f>);

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `operations`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut operations, mut conditions) = (false, false);
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match field.as_ref() {
                "operations" if operations => return Err(A::Error::duplicate_field("operations")),
                "if" if conditions => return Err(A::Error::duplicate_field("if")),
                "operations" => {
                    operations = true;
                    map.next_value_seed(Each::<JsonOperation<'de>>::new(self.0, Reader::take))?;
                }
                "if" => {
                    conditions = true;
                    map.next_value_seed(Each::<JsonCondition<'de>>::new(self.0, Reader::take_condition))?;
                }
                other => return Err(A::Error::unknown_field(other, &["operations", "if"])),
            }
        }
        if operations { Ok(()) } else { Err(A::Error::missing_field("operations")) }
    }
}

/// An array whose items are handed on one by one.
struct Each<'r, 'f, T> {
    reader: &'r mut Reader<'f>,
    take: fn(&mut Reader<'f>, T) -> Result<(), BatchError>,
}

impl<'r, 'f, T> Each<'r, 'f, T> {
    fn new(reader: &'r mut Reader<'f>, take: fn(&mut Reader<'f>, T) -> Result<(), BatchError>) -> Self {
        Self { reader, take }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Each<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<T>()? {
            if let Err(refused) = (self.take)(self.reader, item) {
                self.reader.refused = Some(refused);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { operations: 3, bytes: 20 };

    fn check(json: &str) -> Result<Vec<String>, BatchError> {
        let mut seen = Vec::new();
        decode(json.as_bytes(), LIMITS, &mut |operation| {
            seen.push(show(&operation));
            Ok(())
        })?;
        Ok(seen)
    }

    fn show(operation: &Operation<'_>) -> String {
        match operation {
            Operation::Put { key, value, expiry: None } => {
                format!("{}={}", key.escape_ascii(), value.escape_ascii())
            }
            Operation::Put { key, value, expiry: Some(Expiry::After(ttl)) } => {
                format!("{}={} for {ttl}", key.escape_ascii(), value.escape_ascii())
            }
            Operation::Put { key, value, expiry: Some(Expiry::At(then)) } => {
                format!("{}={} until {then}", key.escape_ascii(), value.escape_ascii())
            }
            Operation::Delete { key } => format!("-{}", key.escape_ascii()),
            Operation::Incr { key, by } => format!("{}+{by}", key.escape_ascii()),
            Operation::DeleteRange(Range::Prefix(prefix)) => format!("-{}*", prefix.escape_ascii()),
            Operation::DeleteRange(Range::Between(start, end)) => {
                format!("-{}..{}", start.escape_ascii(), end.escape_ascii())
            }
            Operation::Require { key, demand } => format!("{} {demand:?}", key.escape_ascii()),
        }
    }

    #[test]
    fn puts_and_deletes_come_in_order() {
        let json = r#"{"operations":[{"type":"put","key":"a","value":"1\n"},
            {"type":"delete","key":"b"},{"encoding":"base64","value":"/w","key":"AA==","type":"put"}]}"#;
        assert_eq!(check(json).unwrap(), ["a=1\\n", "-b", "\\x00=\\xff"]);
    }

    #[test]
    fn every_operation_and_condition_is_read() {
        let json = r#"{"operations":[{"type":"put","key":"a","value":"1","ttl":"90s"},
            {"type":"incr","key":"n"}]}"#;
        assert_eq!(check(json).unwrap(), ["a=1 for 90s", "n+1"]);
        let json = r#"{"operations":[{"type":"put","key":"a","value":"1","expires_at":1900000000000}]}"#;
        assert_eq!(check(json).unwrap(), ["a=1 until 1900000000000"]);
        let json =
            r#"{"operations":[{"type":"delete_range","prefix":""},{"type":"incr","key":"n","by":-4}]}"#;
        assert_eq!(check(json).unwrap(), ["-*", "n+-4"]);
        let range = r#"{"type":"delete_range","start":"/w","end":"/w==","encoding":"base64"}"#;
        let json = format!(
            r#"{{"if":[{{"key":"a","is":"absent"}},{{"key":"b","version":7}}],"operations":[{range}]}}"#
        );
        assert_eq!(check(&json).unwrap(), ["a Absent", "b Version(7)", "-\\xff..\\xff"]);
        let json = r#"{"operations":[{"type":"delete","key":"a"}],"if":[{"key":"YQ","encoding":"base64","is":"present"}]}"#;
        assert_eq!(check(json).unwrap(), ["-a", "a Present"]);
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_place() {
        let refused = |conditions: &str| {
            let json = format!(r#"{{"operations":[{{"type":"delete","key":"a"}}],"if":{conditions}}}"#);
            check(&json).unwrap_err().to_string()
        };
        assert!(refused(r#"[{"key":"a"}]"#).contains("condition 0: it takes either `is` or `version`"));
        assert!(refused(r#"[{"key":"a","is":"absent","version":1}]"#).contains("either"));
        assert!(refused(r#"[{"key":"a","is":"there"}]"#).contains("unknown variant"));
        assert!(refused(r#"{}"#).contains("an array"));
        assert!(check(r#"{"if":[{"key":"a","is":"absent"}],"operations":[]}"#).is_err(), "nothing to do");
        assert!(check(r#"{"if":[{"key":"a","is":"absent"}]}"#).is_err());
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_its_place() {
        let one =
            |operation: &str| check(&format!(r#"{{"operations":[{operation}]}}"#)).unwrap_err().to_string();
        assert!(one(r#"{"type":"put","key":"a"}"#).contains("operation 0: a put needs a `value`"));
        assert!(one(r#"{"type":"delete","key":"a","value":""}"#).contains("takes no `value`"));
        assert!(one(r#"{"type":"put","value":"a"}"#).contains("a put needs a `key`"));
        assert!(one(r#"{"type":"put","key":"a","value":"b","ttl":"3"}"#).contains("`ttl` is `3`"));
        assert!(one(r#"{"type":"delete","key":"a","ttl":"3s"}"#).contains("takes no `ttl`"));
        assert!(one(r#"{"type":"incr","key":"a","expires_at":3}"#).contains("takes no `expires_at`"));
        let both = r#"{"type":"put","key":"a","value":"b","ttl":"3s","expires_at":3}"#;
        assert!(one(both).contains("either `ttl` or `expires_at`"));
        assert!(one(r#"{"type":"put","key":"a","value":"b","by":3}"#).contains("takes no `by`"));
        assert!(one(r#"{"type":"incr","key":"a","by":9223372036854775808}"#).contains("i64"));
        assert!(one(r#"{"type":"delete_range"}"#).contains("needs a `prefix`"));
        assert!(one(r#"{"type":"delete_range","start":"a"}"#).contains("needs a `prefix`"));
        assert!(one(r#"{"type":"delete_range","start":"a","end":""}"#).contains("not empty"));
        assert!(one(r#"{"type":"delete_range","key":"a","prefix":"a"}"#).contains("takes no `key`"));
        assert!(one(r#"{"type":"put","key":"a","value":"b","live":1}"#).contains("unknown field `live`"));
        assert!(one(r#"{"type":"move","key":"a"}"#).contains("unknown variant `move`"));
        assert!(one(r#"{"type":"put","key":"*","value":"","encoding":"base64"}"#).contains("not base64"));
        assert!(one("").contains("at least one"));
        assert!(check("{}").is_err() && check("[]").is_err() && check("").is_err());
        assert!(check(r#"{"operations":[{"type":"delete","key":"b"}]} x"#).is_err());
        assert!(check(r#"{"operations":[],"operations":[]}"#).is_err());
    }

    #[test]
    fn limits_are_too_large_not_malformed() {
        let many = [r#"{"type":"delete","key":"b"}"#; 4].join(",");
        let big = r#"{"type":"put","key":"b","value":"01234567890123456789"}"#;
        let conditions = [r#"{"key":"b","is":"absent"}"#; 3].join(",");
        let one = r#"{"type":"delete","key":"b"}"#;
        let guarded = format!(r#"{{"if":[{conditions}],"operations":[{one}]}}"#);
        assert!(matches!(check(&guarded), Err(BatchError::TooLarge(_))));
        for operations in [many.as_str(), big] {
            let refused = check(&format!(r#"{{"operations":[{operations}]}}"#)).unwrap_err();
            assert!(matches!(refused, BatchError::TooLarge(_)), "{refused}");
        }
    }

    /// CHECKS 33.
    #[test]
    fn depth_is_bounded() {
        assert!(check(&"[".repeat(100_000)).is_err());
        assert!(check(&format!(r#"{{"operations":{}"#, "[".repeat(100_000))).is_err());
    }

    proptest! {
        #[test]
        fn what_a_client_writes_is_read(key: Vec<u8>, value: Vec<u8>, by: i64, time in 1..u64::MAX) {
            let ttl = Ttl::from_millis(time);
            let (key, value) = (&key[..], &value[..]);
            let operations = vec![
                JsonOperation::put(key, value),
                JsonOperation::put(key, value).living(ttl),
                JsonOperation::put(key, value).expiring(Some(time)),
                JsonOperation::delete(key),
                JsonOperation::incr(key, by),
                JsonOperation::delete_prefix(key),
            ];
            let demands = [Demand::Absent, Demand::Present, Demand::Version(9)];
            let conditions = demands.map(|demand| JsonCondition::new(key, demand)).to_vec();
            let json = serde_json::to_vec(&BatchRequest { operations, conditions }).unwrap();
            let mut seen = Vec::new();
            let limits = BatchLimits { operations: 9, bytes: usize::MAX };
            decode(&json, limits, &mut |operation| {
                seen.push(show(&operation));
                Ok(())
            }).unwrap();
            let of = |bytes: &[u8]| Cow::Owned(bytes.to_vec());
            let mut expected = vec![
                Operation::Put { key: of(key), value: of(value), expiry: None },
                Operation::Put { key: of(key), value: of(value), expiry: ttl.map(Expiry::After) },
                Operation::Put { key: of(key), value: of(value), expiry: Some(Expiry::At(time)) },
                Operation::Delete { key: of(key) },
                Operation::Incr { key: of(key), by },
                Operation::DeleteRange(Range::Prefix(of(key))),
            ];
            expected.extend(demands.map(|demand| Operation::Require { key: of(key), demand }));
            prop_assert_eq!(seen, expected.iter().map(show).collect::<Vec<_>>());
        }

        /// CHECKS 35.
        #[test]
        fn any_input_is_decoded_or_refused(json: Vec<u8>) {
            let _ = decode(&json, LIMITS, &mut |_| Ok(()));
        }
    }
}
