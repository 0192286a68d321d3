//! Everything that this front asks of the Store.

use std::sync::Arc;

use esker_cluster::{Batch, Consistency, MemberChange, ScanOptions, WatchOptions, WriteOptions};
use esker_engine::{Committed, Entry, KeyRange, Meta, Version};

use super::ask::Read;
use crate::{
    access::{Door, GuardedScan, GuardedWatch},
    http::{ApiError, Room, Share},
};

/// A new batch with room for so many bytes.
pub(super) fn batch(door: &Door, bytes: usize) -> Batch {
    Batch::with_capacity(door.limits(), bytes)
}

/// Commits a batch. Errors: it was not applied.
pub(super) async fn commit(door: &Door, batch: Batch, options: WriteOptions) -> Result<Committed, ApiError> {
    let committed = door.write(batch, options).await?;
    committed.refusal().map_or(Ok(committed), |refusal| Err(refusal.into()))
}

/// Waits until this node may answer; says what it had applied, where the read is to be content with that.
pub(super) async fn read_point(door: &Door, read: Read) -> Result<Option<Version>, ApiError> {
    match read {
        Read::Linearizable => {
            door.read_point(Consistency::Linearizable).await?;
            Ok(None)
        }
        Read::Stale => Ok(Some(door.read_point(Consistency::Stale).await?)),
    }
}

/// Reads a key.
pub(super) async fn get(door: &Door, key: &[u8]) -> Result<Option<Entry>, ApiError> {
    Ok(door.get(key).await?)
}

/// What is known of a key without reading its value.
pub(super) fn meta(door: &Door, key: &[u8]) -> Result<Option<Meta>, ApiError> {
    Ok(door.meta(key)?)
}

/// Reads many keys; their values have the share of the answers' budget.
pub(super) async fn multi_get(
    door: &Door,
    keys: Vec<Vec<u8>>,
) -> Result<(Vec<Option<Entry>>, Share), ApiError> {
    // What can be written in one batch can be read in one answer.
    let room = Arc::new(Room::new(door, door.limits().batch_bytes));
    let admit = Arc::clone(&room);
    let read = door.multi_get(keys, move |bytes| admit.take(bytes)).await;
    let (share, refusal) = room.close();
    let entries = read.map_err(|e| refusal.map_or_else(|| e.into(), |refusal| refusal.told(door)))?;
    Ok((entries, share))
}

/// Begins a scan.
pub(super) fn scan(door: &Door, range: &KeyRange, options: ScanOptions) -> Result<GuardedScan, ApiError> {
    Ok(door.scan(range, options)?)
}

/// Begins to watch.
pub(super) async fn watch(door: &Door, options: WatchOptions) -> Result<GuardedWatch, ApiError> {
    Ok(door.watch(options).await?)
}

/// Changes the membership.
pub(super) async fn change_members(door: &Door, change: MemberChange) -> Result<u64, ApiError> {
    // A state machine of many layers, and seldom.
    Ok(Box::pin(door.change_members(change)).await?)
}
