//! Batches: `{"operations":[{"type":"put","key","value","encoding"},{"type":"delete","key"}]}`.
//!
//! The decoder hands each operation on as soon as it is read, so that a batch is never held twice, and stops
//! at the first one beyond a limit. Depth is bounded by serde_json's recursion limit.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use crate::{
    Encoding,
    encoding::{decode_text, encode_pair},
};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OperationType {
    /// Sets the key to the value.
    Put,
    /// Removes the key.
    Delete,
}

/// An operation as a caller writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JsonOperation<'a> {
    /// What it does.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// The key, as `encoding` says.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value of a put, as `encoding` says; absent in a delete.
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub value: Option<Cow<'a, str>>,
    /// How key and value are written; absent for text.
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
    /// A put of any bytes.
    pub fn put(key: &'a [u8], value: &'a [u8]) -> Self {
        let (key, value, encoding) = encode_pair(key, Some(value), false);
        Self { kind: OperationType::Put, key, value, encoding }
    }

    /// A delete of any bytes.
    pub fn delete(key: &'a [u8]) -> Self {
        let (key, value, encoding) = encode_pair(key, None, false);
        Self { kind: OperationType::Delete, key, value, encoding }
    }

    fn into_operation(self) -> Result<Operation<'a>, String> {
        let key = decode_text(self.key, self.encoding).map_err(|e| format!("`key` is {e}"))?;
        let value = self.value.map(|value| decode_text(value, self.encoding)).transpose();
        match (self.kind, value.map_err(|e| format!("`value` is {e}"))?) {
            (OperationType::Put, Some(value)) => Ok(Operation::Put { key, value }),
            (OperationType::Put, None) => Err("a put needs a `value`".into()),
            (OperationType::Delete, None) => Ok(Operation::Delete { key }),
            (OperationType::Delete, Some(_)) => Err("a delete takes no `value`".into()),
        }
    }
}

/// The body of a batch as a caller writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchRequest<'a> {
    /// What to do, in order: a later operation on a key wins over an earlier one.
    pub operations: Vec<JsonOperation<'a>>,
}

/// The answer to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    /// The version of every write in the batch.
    pub version: u64,
    /// How many operations it held.
    pub operations: u64,
}

/// A decoded operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets the key to the value.
    Put {
        /// The key.
        key: Cow<'a, [u8]>,
        /// The value.
        value: Cow<'a, [u8]>,
    },
    /// Removes the key.
    Delete {
        /// The key.
        key: Cow<'a, [u8]>,
    },
}

impl Operation<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
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

/// Reads a batch and hands every operation to `each`, in order; says how many there were.
///
/// `each` may refuse an operation with a reason. On an error the operations handed on so far are void.
pub fn decode(
    json: &[u8],
    limits: BatchLimits,
    each: &mut dyn FnMut(Operation<'_>) -> Result<(), String>,
) -> Result<usize, BatchError> {
    let mut reader = Reader { limits, each, operations: 0, bytes: 0, refused: None };
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
    bytes: usize,
    refused: Option<BatchError>,
}

impl Reader<'_> {
    fn read<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(Body(self))
    }

    fn take(&mut self, operation: JsonOperation<'_>) -> Result<(), BatchError> {
        let at = self.operations;
        let malformed = |why| BatchError::Malformed(format!("operation {at}: {why}"));
        let operation = operation.into_operation().map_err(malformed)?;
        self.operations += 1;
        self.bytes += operation.len();
        if self.operations > self.limits.operations {
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
        let mut seen = false;
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            match field.as_ref() {
                "operations" if seen => return Err(A::Error::duplicate_field("operations")),
                "operations" => map.next_value_seed(Operations(self.0))?,
                other => return Err(A::Error::unknown_field(other, &["operations"])),
            }
            seen = true;
        }
        if seen { Ok(()) } else { Err(A::Error::missing_field("operations")) }
    }
}

struct Operations<'r, 'f>(&'r mut Reader<'f>);

impl<'de> DeserializeSeed<'de> for Operations<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Operations<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut operations: A) -> Result<(), A::Error> {
        while let Some(operation) = operations.next_element::<JsonOperation<'de>>()? {
            if let Err(refused) = self.0.take(operation) {
                self.0.refused = Some(refused);
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
            seen.push(match operation {
                Operation::Put { key, value } => format!("{}={}", key.escape_ascii(), value.escape_ascii()),
                Operation::Delete { key } => format!("-{}", key.escape_ascii()),
            });
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn puts_and_deletes_come_in_order() {
        let json = r#"{"operations":[{"type":"put","key":"a","value":"1\n"},
            {"type":"delete","key":"b"},{"encoding":"base64","value":"/w","key":"AA==","type":"put"}]}"#;
        assert_eq!(check(json).unwrap(), ["a=1\\n", "-b", "\\x00=\\xff"]);
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_its_place() {
        let one =
            |operation: &str| check(&format!(r#"{{"operations":[{operation}]}}"#)).unwrap_err().to_string();
        assert!(one(r#"{"type":"put","key":"a"}"#).contains("operation 0: a put needs a `value`"));
        assert!(one(r#"{"type":"delete","key":"a","value":""}"#).contains("takes no `value`"));
        assert!(one(r#"{"type":"put","key":"a","value":"b","ttl":"3s"}"#).contains("unknown field `ttl`"));
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
        fn what_a_client_writes_is_read(key: Vec<u8>, value: Vec<u8>) {
            let operations = vec![JsonOperation::put(&key, &value), JsonOperation::delete(&key)];
            let json = serde_json::to_vec(&BatchRequest { operations }).unwrap();
            let mut seen = Vec::new();
            let limits = BatchLimits { operations: 2, bytes: usize::MAX };
            decode(&json, limits, &mut |operation| {
                seen.push(match operation {
                    Operation::Put { key, value } => (key.into_owned(), Some(value.into_owned())),
                    Operation::Delete { key } => (key.into_owned(), None),
                });
                Ok(())
            }).unwrap();
            prop_assert_eq!(seen, [(key.clone(), Some(value)), (key, None)]);
        }

        /// CHECKS 35.
        #[test]
        fn any_input_is_decoded_or_refused(json: Vec<u8>) {
            let _ = decode(&json, LIMITS, &mut |_| Ok(()));
        }
    }
}
