//! A batch, encoded as it is filled.

use std::time::Duration;

use bytes::Bytes;
use esker_wire::{
    batch::{self as wire, Expiry, JsonCondition, JsonOperation, Operation},
    binary::Operations,
};

use crate::{Condition, Error, Range, Result, types::ttl_of};

/// Writes that are done together or not at all. A later operation on a key wins over an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// As the binary protocol has them.
    all: Operations,
    /// Without conditions.
    operations: usize,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.add_put(key, value, None);
    }

    /// Adds a put of a key that is to live so long from when the batch is taken on.
    ///
    /// Errors: `InvalidRequest` if that is less than a millisecond.
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], ttl: Duration) -> Result<()> {
        self.add_put(key, value, Some(Expiry::After(ttl_of(ttl)?)));
        Ok(())
    }

    /// Adds a put of a key that expires then, in milliseconds since 1970; if that has passed, it is as good as a delete.
    pub fn put_expiring_at(&mut self, key: &[u8], value: &[u8], expires_at: u64) {
        self.add_put(key, value, Some(Expiry::At(expires_at)));
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: &[u8]) {
        self.push(&Operation::Delete { key: key.into() }, key.len());
    }

    /// Adds `by` to the integer that the key holds, 0 if it is absent. If the value is no integer, or the sum does not fit,
    /// nothing of the batch is done.
    pub fn incr(&mut self, key: &[u8], by: i64) {
        self.push(&Operation::Incr { key: key.into(), by }, key.len());
    }

    /// Adds a delete of all keys of a range.
    ///
    /// Errors: `InvalidRequest` for a range that is open on one side.
    pub fn delete_range(&mut self, range: &Range) -> Result<()> {
        let (range, bytes) = match range {
            Range::All => (wire::Range::Prefix(b"".into()), 0),
            Range::Prefix(prefix) => (wire::Range::Prefix(prefix.into()), prefix.len()),
            Range::Between(Some(start), Some(end)) => {
                (wire::Range::Between(start.into(), end.into()), start.len() + end.len())
            }
            Range::Between(..) => return Err(half_open()),
        };
        self.push(&Operation::DeleteRange(range), bytes);
        Ok(())
    }

    /// Demands something of a key, before all operations, or else nothing of the batch is done.
    pub fn require(&mut self, key: &[u8], condition: Condition) {
        self.all.push(&Operation::Require { key: key.into(), demand: condition.demand() });
        self.bytes += key.len();
    }

    fn add_put(&mut self, key: &[u8], value: &[u8], expiry: Option<Expiry>) {
        let put = Operation::Put { key: key.into(), value: value.into(), expiry };
        self.push(&put, key.len() + value.len());
    }

    fn push(&mut self, operation: &Operation<'_>, bytes: usize) {
        self.all.push(operation);
        self.operations += 1;
        self.bytes += bytes;
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.operations
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// The bytes of keys and values together: what the server's `max_batch_bytes` bounds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// As the binary protocol has it.
    pub(crate) fn into_operations(self) -> Operations {
        self.all
    }

    /// As the HTTP API has it.
    pub(crate) fn into_json(self) -> Bytes {
        let (mut operations, mut conditions) = (br#"{"operations":["#.to_vec(), Vec::new());
        let mut is_first = true;
        for operation in self.all.iter() {
            match json_of(&operation) {
                Json::Operation(operation) => {
                    if !std::mem::take(&mut is_first) {
                        operations.push(b',');
                    }
                    write(&mut operations, &operation);
                }
                Json::Condition(condition) => {
                    conditions.push(b',');
                    write(&mut conditions, &condition);
                }
            }
        }
        operations.push(b']');
        if let Some((_, conditions)) = conditions.split_first() {
            operations.extend_from_slice(br#","if":["#);
            operations.extend_from_slice(conditions);
            operations.push(b']');
        }
        operations.push(b'}');
        operations.into()
    }
}

/// An operation as the HTTP API has it, or a condition.
enum Json<'a> {
    Operation(JsonOperation<'a>),
    Condition(JsonCondition<'a>),
}

fn json_of<'a>(operation: &'a Operation<'a>) -> Json<'a> {
    Json::Operation(match operation {
        Operation::Put { key, value, expiry } => {
            let put = JsonOperation::put(key, value);
            match *expiry {
                None => put,
                Some(Expiry::After(ttl)) => put.living(Some(ttl)),
                Some(Expiry::At(at)) => put.expiring(Some(at)),
            }
        }
        Operation::Delete { key } => JsonOperation::delete(key),
        Operation::Incr { key, by } => JsonOperation::incr(key, *by),
        Operation::DeleteRange(wire::Range::Prefix(prefix)) => JsonOperation::delete_prefix(prefix),
        Operation::DeleteRange(wire::Range::Between(start, end)) => JsonOperation::delete_between(start, end),
        Operation::Require { key, demand } => return Json::Condition(JsonCondition::new(key, *demand)),
    })
}

/// A range that is deleted has both ends: half of one would delete more than most callers mean.
pub(crate) fn half_open() -> Error {
    Error::invalid("a range is deleted by its prefix, or by its first and its last key")
}

fn write(json: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(json, value).expect("strings go into a vector without fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_documented_one() {
        let mut batch = Batch::new();
        assert_eq!(batch.clone().into_json(), r#"{"operations":[]}"#);
        batch.put(b"k", b"\xff");
        batch.delete(b"d");
        assert_eq!((batch.len(), batch.bytes()), (2, 3));
        let expected = r#"{"operations":[{"type":"put","key":"aw==","value":"/w==","encoding":"base64"},{"type":"delete","key":"d"}]}"#;
        assert_eq!(batch.clone().into_json(), expected);
    }

    #[test]
    fn conditions_come_behind() {
        let mut batch = Batch::new();
        batch.require(b"a", Condition::Absent);
        batch.put_expiring(b"k", b"v", Duration::from_secs(30)).unwrap();
        batch.require(b"b", Condition::Version(7));
        batch.delete_range(&Range::Prefix(b"p".to_vec())).unwrap();
        assert!(batch.delete_range(&Range::Between(Some(b"a".to_vec()), None)).is_err());
        assert!(batch.put_expiring(b"k", b"v", Duration::ZERO).is_err());
        let expected = r#"{"operations":[{"type":"put","key":"k","value":"v","ttl":"30s"},{"type":"delete_range","prefix":"p"}],"if":[{"key":"a","is":"absent"},{"key":"b","version":7}]}"#;
        assert_eq!((batch.len(), batch.into_json()), (2, expected.into()));
    }
}
