//! A batch of writes, encoded once.

use esker_log::{
    Error, Result,
    record::{self, RecordKind, flags},
};

use crate::{
    CompressionStats, Compressor, Condition, Engine, KeyRange, RequestId, Touch, bitcask::keydir::Slot,
    range, request::request_of,
};

/// Writes that commit together or not at all.
///
/// The operations are encoded into log records as they are added, so what a front builds is, byte for byte,
/// what the log stores. Within a batch a later operation on a key wins over an earlier one.
///
/// In this order: a request id, a stamp, conditions, operations. Only operations need be there.
#[derive(Debug, Default, Clone)]
pub struct WriteBatch {
    payload: Vec<u8>,
    /// Where a stamp goes: behind the request id.
    stamp_at: usize,
    operations: u32,
    /// The operations, and what comes before them.
    records: u32,
    last: Part,
    is_stamped: bool,
    /// Whether what comes of the batch depends on the time.
    is_timed: bool,
    /// Whether to apply it may take long: a value has to be read, or many keys are looked at.
    may_take_long: bool,
    compressor: Compressor,
    compressed: CompressionStats,
}

/// What a batch is made of, in this order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    #[default]
    Nothing,
    Request,
    Condition,
    Operation,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `bytes` of encoded operations.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { payload: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// An empty batch whose values are compressed where it pays. [`Db::batch`](crate::Db::batch) gives one with the store's
    /// setting.
    pub fn compressing(compressor: impl Into<Compressor>) -> Self {
        Self { compressor: compressor.into(), ..Self::default() }
    }

    /// The same with room for `bytes` of encoded operations.
    pub fn compressing_with_capacity(compressor: impl Into<Compressor>, bytes: usize) -> Self {
        Self { compressor: compressor.into(), ..Self::with_capacity(bytes) }
    }

    /// An empty batch with exactly the room for one operation.
    pub(crate) fn for_one(compressor: Compressor, key: &[u8], value: &[u8]) -> Self {
        Self::compressing_with_capacity(compressor, record::record_len(key.len(), value.len()))
    }

    /// Adds a put. Errors: `InvalidRequest` for a key or value beyond the limits; the batch is unchanged.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_value(0, key, &[], value)
    }

    /// Adds a put of a key that is absent again from a time on, in milliseconds since 1970. Errors as for
    /// [`WriteBatch::put`], and `InvalidRequest` for a time after [`Slot::EXPIRY_MS_MAX`], in 2054.
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], expires_at_ms: u64) -> Result<()> {
        if expires_at_ms > Slot::EXPIRY_MS_MAX {
            return Err(Error::InvalidRequest("the latest time at which a key can expire is in 2054".into()));
        }
        self.put_value(flags::EXPIRES, key, &expires_at_ms.to_le_bytes(), value)?;
        // Merges tell by the stamps of what is applied what has expired.
        self.is_timed = true;
        Ok(())
    }

    fn put_value(&mut self, record_flags: u8, key: &[u8], before: &[u8], value: &[u8]) -> Result<()> {
        if value.len() > record::VALUE_LEN_MAX {
            // As it would be refused if it were not compressed.
            return self.operation(RecordKind::Put, record_flags, key, &[before, value]);
        }
        let mut compressor = self.compressor;
        let compressed = compressor.compress(value, |method, body| {
            let record_flags = record_flags | method << flags::COMPRESSION_SHIFT;
            let put = self.operation(RecordKind::Put, record_flags, key, &[before, body]);
            put.map(|()| body.len())
        });
        let stored = match compressed {
            Some(stored) => stored?,
            None => {
                self.operation(RecordKind::Put, record_flags, key, &[before, value])?;
                value.len()
            }
        };
        self.compressor = compressor;
        self.compressed.add(value.len(), stored);
        Ok(())
    }

    /// Adds a delete. Errors as for [`WriteBatch::put`].
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.operation(RecordKind::Delete, 0, key, &[])?;
        self.is_timed = true;
        Ok(())
    }

    /// Adds `by` to the decimal integer that the key holds, 0 if it is absent; keeps when it expires. Where the value is no
    /// integer, or the sum does not fit, the batch is void. Errors as for [`WriteBatch::put`].
    pub fn add(&mut self, key: &[u8], by: i64) -> Result<()> {
        self.operation(RecordKind::Add, 0, key, &[&by.to_le_bytes()])?;
        self.is_timed = true;
        self.may_take_long = true;
        Ok(())
    }

    /// Deletes every key in the range, at a cost that does not depend on how many there are. Errors as for
    /// [`WriteBatch::put`], of the range's ends.
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<()> {
        if range.is_empty() {
            return Err(Error::InvalidRequest("the range to delete ends before it begins".into()));
        }
        let (start, end) = range::encode_deletion(range);
        self.operation(RecordKind::DeleteRange, 0, &start, &[&end])?;
        self.may_take_long = true;
        Ok(())
    }

    /// Demands something of a key, or else the batch is void. Conditions are looked at before all operations.
    ///
    /// Errors: `InvalidRequest` for a bad key, or if there is an operation already.
    pub fn require(&mut self, key: &[u8], condition: Condition) -> Result<()> {
        self.begin(Part::Condition)?;
        self.push(RecordKind::Condition, 0, key, &[&condition.encode()])?;
        self.is_timed = true;
        Ok(())
    }

    /// Says which request this is, so that a retry of it is applied once. Comes before all else.
    ///
    /// Errors: `InvalidRequest` if it does not.
    pub fn request(&mut self, id: RequestId) -> Result<()> {
        if self.last != Part::Nothing || self.is_stamped {
            return Err(Error::InvalidRequest("a request id comes before the batch's operations".into()));
        }
        self.begin(Part::Request)?;
        self.push(RecordKind::Request, 0, &id.to_bytes(), &[])?;
        self.stamp_at = self.payload.len();
        Ok(())
    }

    /// The same batch as a request of this id.
    ///
    /// Errors: `InvalidRequest` if it has an id or a stamp.
    pub fn identified(mut self, id: RequestId) -> Result<Self> {
        let mut head = Self::default();
        head.request(id)?;
        if self.stamp_at > 0 || self.is_stamped {
            return Err(Error::InvalidRequest("the batch is a request already".into()));
        }
        self.stamp_at = head.payload.len();
        self.payload.splice(..0, head.payload);
        self.records += head.records;
        self.last = self.last.max(Part::Request);
        Ok(self)
    }

    /// Which request it is, if it says.
    pub(crate) fn request_id(&self) -> Option<RequestId> {
        request_of(&self.payload)
    }

    /// Says what time it is, in milliseconds since 1970: by it is judged what has expired. May come at any time, and
    /// is best known last; only the first counts. The engine does it where nobody else did.
    pub fn stamp(&mut self, now_ms: u64) {
        if self.is_stamped {
            return;
        }
        let mut stamp = Vec::with_capacity(record::record_len(8, 0));
        record::encode_record(&mut stamp, RecordKind::Stamp, &now_ms.to_be_bytes(), &[])
            .expect("eight bytes are a key");
        self.payload.splice(self.stamp_at..self.stamp_at, stamp);
        self.records += 1;
        self.is_stamped = true;
    }

    /// Whether what comes of the batch depends on the time, and nobody said yet what it is.
    pub fn wants_stamp(&self) -> bool {
        self.is_timed && !self.is_stamped
    }

    /// Whether to apply the batch may take long: a value is read, maybe from the disk, or a range is gone through for what has expired.
    pub(crate) fn may_take_long(&self) -> bool {
        self.may_take_long
    }

    /// Adds the operations of another batch, which has nothing else.
    ///
    /// Errors: `InvalidRequest` if it has.
    pub fn append(&mut self, operations: Self) -> Result<()> {
        if operations.records != operations.operations {
            return Err(Error::InvalidRequest("only operations are added to a batch".into()));
        }
        if operations.is_empty() {
            return Ok(());
        }
        if self.payload.is_empty() {
            self.payload = operations.payload;
        } else {
            self.payload.extend_from_slice(&operations.payload);
        }
        self.operations += operations.operations;
        self.records += operations.records;
        self.is_timed |= operations.is_timed;
        self.may_take_long |= operations.may_take_long;
        self.compressor = operations.compressor;
        self.compressed.bytes_given += operations.compressed.bytes_given;
        self.compressed.bytes_stored += operations.compressed.bytes_stored;
        self.last = Part::Operation;
        Ok(())
    }

    fn operation(&mut self, kind: RecordKind, flags: u8, key: &[u8], value: &[&[u8]]) -> Result<()> {
        let last = std::mem::replace(&mut self.last, Part::Operation);
        self.push(kind, flags, key, value).inspect_err(|_| self.last = last)?;
        self.operations += 1;
        Ok(())
    }

    fn begin(&mut self, part: Part) -> Result<()> {
        if self.last > part {
            return Err(Error::InvalidRequest("a batch's conditions come before its operations".into()));
        }
        self.last = part;
        Ok(())
    }

    fn push(&mut self, kind: RecordKind, flags: u8, key: &[u8], value: &[&[u8]]) -> Result<()> {
        record::encode_record_of(&mut self.payload, kind, flags, key, value)?;
        self.records += 1;
        Ok(())
    }

    /// How many operations the batch holds.
    pub fn len(&self) -> usize {
        self.operations as usize
    }

    /// Whether the batch holds no operation.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// The size of the encoded operations in bytes.
    pub fn encoded_len(&self) -> usize {
        self.payload.len()
    }

    /// Refuses the batch if it would add keys to an engine that has no memory for them.
    ///
    /// Errors: `MemoryFull`.
    pub(crate) fn check_memory(&self, engine: &dyn Engine) -> Result<()> {
        if !engine.is_memory_full() {
            return Ok(());
        }
        let records =
            record::Records::new(&self.payload).map(|record| record.expect("the batch encoded it").1);
        let mut added = records.filter(|it| matches!(it.kind, RecordKind::Put | RecordKind::Add));
        if added.any(|put| engine.meta(put.key).is_none()) { Err(Error::MemoryFull) } else { Ok(()) }
    }

    /// What the store learns from the batch when it is committed.
    pub(crate) fn learnt(&self) -> (Compressor, CompressionStats) {
        (self.compressor, self.compressed)
    }

    /// What its records touch.
    pub fn touches(&self) -> impl Iterator<Item = Touch<'_>> {
        let records =
            record::Records::new(&self.payload).map(|record| record.expect("the batch encoded it").1);
        records.filter_map(Touch::of)
    }

    /// The encoded records, and how many there are.
    pub fn into_payload(self) -> (Vec<u8>, u32) {
        (self.payload, self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_the_operations_of_another_and_nothing_else() {
        let mut operations = WriteBatch::new();
        operations.put(b"k", b"v").unwrap();
        operations.delete(b"d").unwrap();
        let mut whole = WriteBatch::new();
        whole.require(b"k", Condition::Absent).unwrap();
        let mut at_once = whole.clone();
        at_once.put(b"k", b"v").unwrap();
        at_once.delete(b"d").unwrap();
        whole.append(operations).unwrap();
        assert_eq!((whole.len(), whole.wants_stamp()), (2, true));
        assert!(whole.require(b"k", Condition::Absent).is_err(), "operations came already");
        let mut conditions = WriteBatch::new();
        conditions.require(b"k", Condition::Absent).unwrap();
        assert!(whole.append(conditions).is_err());
        assert_eq!(whole.into_payload(), at_once.into_payload());
    }

    #[test]
    fn what_would_expire_too_late_is_refused() {
        let mut batch = WriteBatch::new();
        assert!(batch.put_expiring(b"k", b"v", Slot::EXPIRY_MS_MAX + 1).is_err() && batch.is_empty());
        batch.put_expiring(b"k", b"v", Slot::EXPIRY_MS_MAX).unwrap();
    }
}
