//! A batch of writes, encoded once.

use esker_log::{
    Error, Result,
    record::{self, RecordKind},
};

use crate::RequestId;

/// Puts and deletes that commit together or not at all.
///
/// The operations are encoded into log records as they are added, so what a front builds is, byte for byte,
/// what the log stores. Within a batch a later operation on a key wins over an earlier one.
#[derive(Debug, Default, Clone)]
pub struct WriteBatch {
    payload: Vec<u8>,
    operations: u32,
    /// The operations, and the request id if there is one.
    records: u32,
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

    /// An empty batch with exactly the room for one operation.
    pub(crate) fn for_one(key: &[u8], value: &[u8]) -> Self {
        Self::with_capacity(record::record_len(key.len(), value.len()))
    }

    /// Adds a put. Errors: `InvalidRequest` for a key or value beyond the limits; the batch is unchanged.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.push(RecordKind::Put, key, value)
    }

    /// Adds a delete. Errors as for [`WriteBatch::put`].
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.push(RecordKind::Delete, key, &[])
    }

    /// Says which request this is, so that a retry of it is applied once. Comes before the first operation.
    ///
    /// Errors: `InvalidRequest` if it does not.
    pub fn request(&mut self, id: RequestId) -> Result<()> {
        if !self.payload.is_empty() {
            return Err(Error::InvalidRequest("a request id comes before the batch's operations".into()));
        }
        record::encode_record(&mut self.payload, RecordKind::Request, &id.to_bytes(), &[])?;
        self.records += 1;
        Ok(())
    }

    fn push(&mut self, kind: RecordKind, key: &[u8], value: &[u8]) -> Result<()> {
        record::encode_record(&mut self.payload, kind, key, value)?;
        self.operations += 1;
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

    /// The encoded records, and how many there are.
    pub fn into_payload(self) -> (Vec<u8>, u32) {
        (self.payload, self.records)
    }
}
