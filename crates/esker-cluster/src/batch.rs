//! Batches within limits: what a front builds and the Store takes.

use esker_engine::WriteBatch;

use crate::{Error, Result};

/// How large requests may be. The longest key is fixed at 65,535 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest value, in bytes. Default 16 MiB. A value is held in memory while it is read or written.
    pub value_bytes: usize,
    /// The most operations in a batch. Default 100,000.
    pub batch_ops: usize,
    /// The most bytes of keys and values in a batch. Default 64 MiB. Larger batches make other writers wait.
    pub batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { value_bytes: 16 << 20, batch_ops: 100_000, batch_bytes: 64 << 20 }
    }
}

/// Puts and deletes that commit together or not at all, checked against the limits as they are added.
#[derive(Debug)]
pub struct Batch {
    encoded: WriteBatch,
    limits: Limits,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new(limits: Limits) -> Self {
        Self { encoded: WriteBatch::new(), limits, bytes: 0 }
    }

    /// An empty batch with room for `bytes` of keys and values.
    pub fn with_capacity(limits: Limits, bytes: usize) -> Self {
        /// More than the record header takes, for the usual single operation.
        const HEADROOM: usize = 16;
        Self { encoded: WriteBatch::with_capacity(bytes + HEADROOM), limits, bytes: 0 }
    }

    /// Adds a put. After an error the batch is unchanged.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if value.len() > self.limits.value_bytes {
            let (got, limit) = (value.len(), self.limits.value_bytes);
            return Err(Error::TooLarge(format!("the value has {got} bytes, the limit is {limit}")));
        }
        self.make_room(key.len() + value.len())?;
        self.encoded.put(key, value)?;
        self.bytes += key.len() + value.len();
        Ok(())
    }

    /// Adds a delete. After an error the batch is unchanged.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.make_room(key.len())?;
        self.encoded.delete(key)?;
        self.bytes += key.len();
        Ok(())
    }

    fn make_room(&self, bytes: usize) -> Result<()> {
        if self.encoded.len() >= self.limits.batch_ops {
            let limit = self.limits.batch_ops;
            return Err(Error::TooLarge(format!("the batch has more than {limit} operations: split it")));
        }
        // A single operation is bounded by the limits of key and value.
        if !self.encoded.is_empty() && self.bytes.saturating_add(bytes) > self.limits.batch_bytes {
            let limit = self.limits.batch_bytes;
            return Err(Error::TooLarge(format!("the batch has more than {limit} bytes: split it")));
        }
        Ok(())
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    pub(crate) fn into_encoded(self) -> WriteBatch {
        self.encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_holds_and_leaves_the_batch_unchanged() {
        let mut batch = Batch::new(Limits { value_bytes: 4, batch_ops: 3, batch_bytes: 9 });
        assert!(matches!(batch.put(b"k", b"12345"), Err(Error::TooLarge(_))));
        batch.put(b"k", b"1234").unwrap();
        assert!(matches!(batch.put(b"k", b"1234"), Err(Error::TooLarge(_))));
        batch.put(b"k", b"123").unwrap();
        assert!(matches!(batch.delete(b""), Err(Error::Engine(esker_engine::Error::InvalidRequest(_)))));
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn operations_are_counted() {
        let mut batch = Batch::new(Limits { batch_ops: 1, ..Limits::default() });
        batch.delete(b"k").unwrap();
        assert!(matches!(batch.delete(b"k"), Err(Error::TooLarge(_))));
    }
}
