//! A batch, encoded as it is filled.

use bytes::Bytes;
use esker_wire::batch::JsonOperation;

const HEAD: &[u8] = br#"{"operations":["#;
const TAIL: &[u8] = b"]}";

/// Puts and deletes that are done together or not at all. A later operation on a key wins over an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    json: Vec<u8>,
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
        self.push(&JsonOperation::put(key, value), key.len() + value.len());
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: &[u8]) {
        self.push(&JsonOperation::delete(key), key.len());
    }

    fn push(&mut self, operation: &JsonOperation<'_>, bytes: usize) {
        self.json.extend_from_slice(if self.operations == 0 { HEAD } else { b"," });
        serde_json::to_writer(&mut self.json, operation).expect("strings go into a vector without fail");
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

    pub(crate) fn into_body(mut self) -> Bytes {
        if self.operations == 0 {
            self.json.extend_from_slice(HEAD);
        }
        self.json.extend_from_slice(TAIL);
        self.json.into()
    }
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
        assert_eq!(batch.into_body(), expected);
    }
}
