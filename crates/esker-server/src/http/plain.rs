//! Reads and writes as the dialects have them: of the latest, and without conditions.

use esker_cluster::{Batch, Consistency, ScanOptions, WriteOptions};
use esker_engine::{Committed, Entry, KeyRange};
use http::{HeaderMap, header};

use super::{
    ask::write_options,
    error::ApiError,
    query::{Query, refuse_conditions, refuse_content_encoding},
};
use crate::access::{Door, GuardedScan};

/// How a write is to be committed: as the server's settings say. A condition that would be passed over is refused.
pub(super) fn write_asked(headers: &HeaderMap) -> Result<WriteOptions, ApiError> {
    refuse_conditions(headers, &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    refuse_content_encoding(headers)?;
    write_options(&Query::default(), headers)
}

/// Reads a key.
pub(super) async fn get(door: &Door, key: &[u8]) -> Result<Option<Entry>, ApiError> {
    door.read_point(Consistency::Linearizable).await?;
    Ok(door.get(key).await?)
}

/// A batch that puts one key.
pub(super) fn put_batch(door: &Door, key: &[u8], value: &[u8]) -> Result<Batch, ApiError> {
    let mut batch = Batch::with_capacity(door.limits(), key.len() + value.len());
    batch.put(key, value)?;
    Ok(batch)
}

/// Deletes a key; [`Committed::existed`] says whether it was there.
pub(super) async fn delete(door: &Door, key: &[u8], options: WriteOptions) -> Result<Committed, ApiError> {
    let mut batch = Batch::with_capacity(door.limits(), key.len());
    batch.delete(key)?;
    write(door, batch, options).await
}

/// Commits a batch. An empty one is done as soon as it is asked for.
pub(super) async fn write(door: &Door, batch: Batch, options: WriteOptions) -> Result<Committed, ApiError> {
    if batch.is_empty() {
        return Ok(Committed::applied(0, 0));
    }
    Ok(door.write(batch, options).await?)
}

/// Reads a range as it is now.
pub(super) async fn scan(door: &Door, range: &KeyRange) -> Result<GuardedScan, ApiError> {
    door.read_point(Consistency::Linearizable).await?;
    Ok(door.scan(range, ScanOptions::default())?)
}
