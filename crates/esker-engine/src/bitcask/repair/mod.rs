//! Repair: every record of a damaged store that is whole goes into a new store; the damaged one is not changed.
//!
//! ```text
//! source.rs   which files there are, and what they say of themselves
//! salvage.rs  a segment, frame by frame, and record by record where a frame is damaged
//! state.rs    what the records come to
//! fresh.rs    the new store
//! ```
//!
//! Records are bound to their place, so that one is never taken for another, wherever it is found. Of each key the newest version
//! that is left counts. What came of judged batches is taken from index files, as far as those are whole; else the batches are
//! judged again, and reported, for what they were held against may have been merged or lost.

mod fresh;
mod salvage;
mod source;
mod state;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use esker_log::{Error, Result, disk::Disk, format::StoreId};

pub(crate) use self::fresh::FreshStore;
use self::{salvage::Salvage, source::Source};
use crate::{Options, Progress, Version};

/// A part of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPart {
    /// The file.
    pub path: PathBuf,
    /// The first byte of the damaged stretch.
    pub from: u64,
    /// The byte behind it.
    pub to: u64,
    /// What is wrong.
    pub what: String,
    /// Records in it that were whole all the same, and are saved.
    pub saved: u64,
}

/// A write that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostKey {
    /// The key.
    pub key: Vec<u8>,
    /// The version of the write.
    pub version: Version,
    /// The older version that the new store has in its place, if one is left.
    pub older: Option<Version>,
}

/// What a repair came to.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// Keys in the new store.
    pub keys: u64,
    /// Its version.
    pub version: Version,
    /// Damaged stretches.
    pub lost_parts: Vec<LostPart>,
    /// Writes that are known to be lost: index files name them. Of a stretch that none covers, nobody knows.
    pub lost_keys: Vec<LostKey>,
    /// Conditional and counting writes that were judged again, for want of an index file that says what they came to.
    pub judged_again: u64,
    /// What is more to be said, a sentence each.
    pub notices: Vec<String>,
}

impl RepairReport {
    /// Whether everything is as it was.
    pub fn is_lossless(&self) -> bool {
        self.lost_parts.is_empty() && self.lost_keys.is_empty()
    }
}

/// Saves what is whole of the store in `data_dir`, which nobody may have open, to a new store in `new_dir`, which must be absent or
/// empty. Memory is bounded by the keys.
///
/// Errors: `InvalidRequest` (no store, a node of a cluster, or `new_dir` is not empty), `Damage` if nothing says which store it is,
/// `UnsupportedFormat`, `DiskFull`, `Io`, and what `progress` says, which gets (bytes done, bytes in all).
pub fn repair(
    disk: &Arc<dyn Disk>,
    data_dir: impl AsRef<Path>,
    new_dir: impl AsRef<Path>,
    options: &Options,
    new_store: fn() -> io::Result<StoreId>,
    progress: Progress<'_>,
) -> Result<RepairReport> {
    let mut report = RepairReport::default();
    let source = Source::find(disk.as_ref(), data_dir.as_ref(), &mut report)?;
    let fresh = FreshStore::create(disk, new_dir.as_ref(), options.segment_max_bytes, new_store)?;
    let state = Salvage::new(&source, &mut report, progress).run()?;
    state.write(&source, fresh, &mut report)?;
    Ok(report)
}

/// A failure to read is a loss like any other: the rest is saved.
fn as_loss(error: Error) -> Result<String> {
    match error {
        Error::Damage(damage) => Ok(damage.what),
        Error::Io { source, .. } => Ok(source.to_string()),
        other => Err(other),
    }
}
