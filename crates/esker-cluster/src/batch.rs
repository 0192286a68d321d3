//! Batches within limits: what a front builds and the Store takes.

use std::ops::Bound;

use esker_engine::{Compressor, Condition, KeyRange, Touch, WriteBatch};

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
    /// How values are compressed; the Store says so ([`Store::limits`](crate::Store::limits)). Default: not at all.
    pub compressor: Compressor,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 16 << 20,
            batch_ops: 100_000,
            batch_bytes: 64 << 20,
            compressor: Compressor::default(),
        }
    }
}

/// Writes that commit together or not at all, checked against the limits as they are added. If a condition does not hold, or
/// an add cannot be made, nothing is applied: [`Committed::refusal`](esker_engine::Committed::refusal) says so.
#[derive(Debug)]
pub struct Batch {
    /// Apart from the operations, so that they may come in any order.
    conditions: WriteBatch,
    operations: WriteBatch,
    limits: Limits,
    /// Conditions and operations.
    count: usize,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new(limits: Limits) -> Self {
        Self {
            conditions: WriteBatch::new(),
            operations: WriteBatch::compressing(limits.compressor),
            limits,
            count: 0,
            bytes: 0,
        }
    }

    /// An empty batch with room for `bytes` of keys and values.
    pub fn with_capacity(limits: Limits, bytes: usize) -> Self {
        /// More than the record header takes, for the usual single operation.
        const HEADROOM: usize = 16;
        Self {
            operations: WriteBatch::compressing_with_capacity(limits.compressor, bytes + HEADROOM),
            ..Self::new(limits)
        }
    }

    /// Adds a put. After an error the batch is unchanged.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_value(value)?;
        self.add_operation(key.len() + value.len(), |batch| batch.put(key, value))
    }

    /// Adds a put of a key that is absent again from a time on, in milliseconds since 1970. After an error the batch is
    /// unchanged.
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], expires_at_ms: u64) -> Result<()> {
        self.check_value(value)?;
        self.add_operation(key.len() + value.len(), |batch| batch.put_expiring(key, value, expires_at_ms))
    }

    /// Adds a delete. After an error the batch is unchanged.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.add_operation(key.len(), |batch| batch.delete(key))
    }

    /// Adds `by` to the integer that the key holds, 0 if it is absent. After an error the batch is unchanged.
    pub fn add(&mut self, key: &[u8], by: i64) -> Result<()> {
        self.add_operation(key.len() + size_of::<i64>(), |batch| batch.add(key, by))
    }

    /// Deletes all keys of a range: one operation, however many there are. After an error the batch is unchanged.
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<()> {
        let len = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.len(),
            Bound::Unbounded => 0,
        };
        self.add_operation(len(&range.start) + len(&range.end), |batch| batch.delete_range(range))
    }

    /// Demands something of a key, before all operations, or else nothing of the batch is applied. Counts as an operation
    /// does. After an error the batch is unchanged.
    pub fn require(&mut self, key: &[u8], condition: Condition) -> Result<()> {
        self.make_room(key.len())?;
        self.conditions.require(key, condition)?;
        self.added(key.len());
        Ok(())
    }

    fn add_operation(
        &mut self,
        bytes: usize,
        add: impl FnOnce(&mut WriteBatch) -> esker_engine::Result<()>,
    ) -> Result<()> {
        self.make_room(bytes)?;
        add(&mut self.operations)?;
        self.added(bytes);
        Ok(())
    }

    fn added(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn check_value(&self, value: &[u8]) -> Result<()> {
        let (got, limit) = (value.len(), self.limits.value_bytes);
        match got > limit {
            true => Err(Error::TooLarge(format!("the value has {got} bytes, the limit is {limit}"))),
            false => Ok(()),
        }
    }

    fn make_room(&self, bytes: usize) -> Result<()> {
        if self.count >= self.limits.batch_ops {
            let limit = self.limits.batch_ops;
            return Err(Error::TooLarge(format!("the batch has more than {limit} operations: split it")));
        }
        // A single operation is bounded by the limits of key and value.
        if self.count > 0 && self.bytes.saturating_add(bytes) > self.limits.batch_bytes {
            let limit = self.limits.batch_bytes;
            return Err(Error::TooLarge(format!("the batch has more than {limit} bytes: split it")));
        }
        Ok(())
    }

    /// How many operations it holds, without the conditions.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it holds no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// What its conditions and operations touch: who guards the Store asks before it is written.
    pub fn touches(&self) -> impl Iterator<Item = Touch<'_>> {
        self.conditions.touches().chain(self.operations.touches())
    }

    /// Whether something is demanded of keys.
    pub(crate) fn is_conditional(&self) -> bool {
        // Conditions are no operations, by which a batch is empty or not.
        self.conditions.encoded_len() > 0
    }

    /// Errors: `InvalidRequest` if it holds no operation.
    pub(crate) fn into_encoded(self) -> Result<WriteBatch> {
        if self.is_empty() {
            let why = "a batch has at least one operation".into();
            return Err(esker_engine::Error::InvalidRequest(why).into());
        }
        let mut whole = self.conditions;
        whole.append(self.operations)?;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_holds_and_leaves_the_batch_unchanged() {
        let mut batch =
            Batch::new(Limits { value_bytes: 4, batch_ops: 3, batch_bytes: 9, ..Limits::default() });
        assert!(matches!(batch.put(b"k", b"12345"), Err(Error::TooLarge(_))));
        batch.put(b"k", b"1234").unwrap();
        assert!(matches!(batch.put(b"k", b"1234"), Err(Error::TooLarge(_))));
        batch.put(b"k", b"123").unwrap();
        assert!(matches!(batch.delete(b""), Err(Error::Engine(esker_engine::Error::InvalidRequest(_)))));
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn operations_are_counted() {
        let limits = Limits { batch_ops: 1, ..Limits::default() };
        let fills: [fn(&mut Batch) -> Result<()>; 6] = [
            |batch| batch.put(b"k", b"v"),
            |batch| batch.put_expiring(b"k", b"v", 1),
            |batch| batch.delete(b"k"),
            |batch| batch.add(b"k", 1),
            |batch| batch.delete_range(&KeyRange::all()),
            |batch| batch.require(b"k", Condition::Absent),
        ];
        for first in fills {
            let mut batch = Batch::new(limits);
            first(&mut batch).unwrap();
            for second in fills {
                assert!(matches!(second(&mut batch), Err(Error::TooLarge(_))));
            }
        }
    }

    /// Conditions alone are no batch, and may come behind operations.
    #[test]
    fn conditions_come_at_any_time_and_are_no_operations() {
        let mut batch = Batch::new(Limits::default());
        batch.require(b"k", Condition::Absent).unwrap();
        assert!(batch.is_empty() && batch.into_encoded().is_err());
        let encoded = |conditions_first: bool| {
            let mut batch = Batch::new(Limits::default());
            let require = |batch: &mut Batch| batch.require(b"k", Condition::Present).unwrap();
            if conditions_first {
                require(&mut batch);
            }
            batch.delete(b"k").unwrap();
            if !conditions_first {
                require(&mut batch);
            }
            batch.into_encoded().unwrap().into_payload()
        };
        assert_eq!(encoded(true), encoded(false));
    }
}
