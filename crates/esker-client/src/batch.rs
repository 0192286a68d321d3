//! A batch, encoded as it is filled.

use std::time::Duration;

use bytes::Bytes;
use esker_wire::batch::{JsonCondition, JsonOperation};

use crate::{Condition, Error, Range, Result, types::ttl_of};

const HEAD: &[u8] = br#"{"operations":["#;
const CONDITIONS: &[u8] = br#"],"if":["#;
const TAIL: &[u8] = b"]}";

/// Writes that are done together or not at all. A later operation on a key wins over an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    json: Vec<u8>,
    conditions: Vec<u8>,
    operations: usize,
    bytes: usize,
    /// Whether it must not be done twice: it has increments or conditions.
    exact: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.push(&JsonOperation::put(key, value), key.len() + value.len());
    }

    /// Adds a put of a key that is to live so long from when the batch is taken on.
    ///
    /// Errors: `InvalidRequest` if that is less than a millisecond.
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], ttl: Duration) -> Result<()> {
        let operation = JsonOperation::put(key, value).living(Some(ttl_of(ttl)?));
        self.push(&operation, key.len() + value.len());
        Ok(())
    }

    /// Adds a put of a key that expires then, in milliseconds since 1970; if that has passed, it is as good as a delete.
    pub fn put_expiring_at(&mut self, key: &[u8], value: &[u8], expires_at: u64) {
        let operation = JsonOperation::put(key, value).expiring(Some(expires_at));
        self.push(&operation, key.len() + value.len());
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: &[u8]) {
        self.push(&JsonOperation::delete(key), key.len());
    }

    /// Adds `by` to the integer that the key holds, 0 if it is absent. If the value is no integer, or the sum does not fit,
    /// nothing of the batch is done.
    pub fn incr(&mut self, key: &[u8], by: i64) {
        self.exact = true;
        self.push(&JsonOperation::incr(key, by), key.len());
    }

    /// Adds a delete of all keys of a range.
    ///
    /// Errors: `InvalidRequest` for a range that is open on one side.
    pub fn delete_range(&mut self, range: &Range) -> Result<()> {
        match range {
            Range::All => self.push(&JsonOperation::delete_prefix(b""), 0),
            Range::Prefix(prefix) => self.push(&JsonOperation::delete_prefix(prefix), prefix.len()),
            Range::Between(Some(start), Some(end)) => {
                self.push(&JsonOperation::delete_between(start, end), start.len() + end.len());
            }
            Range::Between(..) => return Err(half_open()),
        }
        Ok(())
    }

    /// Demands something of a key, before all operations, or else nothing of the batch is done.
    pub fn require(&mut self, key: &[u8], condition: Condition) {
        self.exact = true;
        if !self.conditions.is_empty() {
            self.conditions.push(b',');
        }
        write(&mut self.conditions, &JsonCondition::new(key, condition.demand()));
        self.bytes += key.len();
    }

    fn push(&mut self, operation: &JsonOperation<'_>, bytes: usize) {
        self.json.extend_from_slice(if self.operations == 0 { HEAD } else { b"," });
        write(&mut self.json, operation);
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

    pub(crate) fn is_exact(&self) -> bool {
        self.exact
    }

    pub(crate) fn into_body(mut self) -> Bytes {
        if self.operations == 0 {
            self.json.extend_from_slice(HEAD);
        }
        if !self.conditions.is_empty() {
            self.json.extend_from_slice(CONDITIONS);
            self.json.append(&mut self.conditions);
        }
        self.json.extend_from_slice(TAIL);
        self.json.into()
    }
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
        assert_eq!(batch.clone().into_body(), r#"{"operations":[]}"#);
        batch.put(b"k", b"\xff");
        batch.delete(b"d");
        assert_eq!((batch.len(), batch.bytes()), (2, 3));
        let expected = r#"{"operations":[{"type":"put","key":"aw==","value":"/w==","encoding":"base64"},{"type":"delete","key":"d"}]}"#;
        assert_eq!(batch.clone().into_body(), expected);
        assert!(!batch.is_exact());
    }

    #[test]
    fn conditions_come_behind_and_make_it_exact() {
        let mut batch = Batch::new();
        batch.require(b"a", Condition::Absent);
        batch.put_expiring(b"k", b"v", Duration::from_secs(30)).unwrap();
        batch.require(b"b", Condition::Version(7));
        batch.delete_range(&Range::Prefix(b"p".to_vec())).unwrap();
        assert!(batch.delete_range(&Range::Between(Some(b"a".to_vec()), None)).is_err());
        assert!(batch.put_expiring(b"k", b"v", Duration::ZERO).is_err());
        assert!(batch.is_exact());
        let expected = r#"{"operations":[{"type":"put","key":"k","value":"v","ttl":"30s"},{"type":"delete_range","prefix":"p"}],"if":[{"key":"a","is":"absent"},{"key":"b","version":7}]}"#;
        assert_eq!((batch.len(), batch.into_body()), (2, expected.into()));
    }
}
