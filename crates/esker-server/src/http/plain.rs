//! Reads and writes as the dialects have them: of the latest, and without conditions.

use esker_cluster::{Batch, Consistency, Scan, ScanOptions, WriteOptions};
use esker_engine::{Committed, Entry, KeyRange};
use http::{HeaderMap, header};

use super::{
    Front,
    ask::write_options,
    error::ApiError,
    query::{Query, refuse_conditions, refuse_content_encoding},
};

/// How a write is to be committed: as the server's settings say. A condition that would be passed over is refused.
pub(super) fn write_asked(headers: &HeaderMap) -> Result<WriteOptions, ApiError> {
    refuse_conditions(headers, &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    refuse_content_encoding(headers)?;
    write_options(&Query::default(), headers)
}

/// Reads a key.
pub(super) async fn get(front: &Front, key: &[u8]) -> Result<Option<Entry>, ApiError> {
    front.store.read_point(Consistency::Linearizable).await?;
    Ok(front.store.get(key).await?)
}

/// A batch that puts one key.
pub(super) fn put_batch(front: &Front, key: &[u8], value: &[u8]) -> Result<Batch, ApiError> {
    let mut batch = Batch::with_capacity(front.store.limits(), key.len() + value.len());
    batch.put(key, value)?;
    Ok(batch)
}

/// Deletes a key; [`Committed::existed`] says whether it was there.
pub(super) async fn delete(front: &Front, key: &[u8], options: WriteOptions) -> Result<Committed, ApiError> {
    let mut batch = Batch::with_capacity(front.store.limits(), key.len());
    batch.delete(key)?;
    write(front, batch, options).await
}

/// Commits a batch. An empty one is done as soon as it is asked for.
pub(super) async fn write(front: &Front, batch: Batch, options: WriteOptions) -> Result<Committed, ApiError> {
    if batch.is_empty() {
        return Ok(Committed::applied(0, 0));
    }
    Ok(front.store.write(batch, options).await?)
}

/// Reads a range as it is now.
pub(super) async fn scan(front: &Front, range: &KeyRange) -> Result<Scan, ApiError> {
    front.store.read_point(Consistency::Linearizable).await?;
    Ok(front.store.scan(range, ScanOptions::default()))
}
