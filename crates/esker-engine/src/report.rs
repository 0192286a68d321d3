//! What a store says of itself.

use std::{fmt, time::Duration};

use esker_log::Damage;

use crate::{CacheStats, CompressionStats, MergeStats, SnapshotStats, Version};

/// An engine's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Keys present.
    pub keys: u64,
    /// Memory held by the index, in bytes.
    pub index_bytes: u64,
    /// Bytes of live records; the rest of the log is dead.
    pub live_bytes: u64,
    /// Checkpoints and hint files written since opening.
    pub checkpoints: u64,
    /// Bytes of checkpoints and hint files written since opening.
    pub checkpoint_bytes: u64,
    /// Why the last attempt to join index files failed, if it did. Nothing is lost: opening reads more files until it is
    /// done.
    pub join_error: Option<String>,
    /// What merges since opening came to.
    pub merges: MergeStats,
    /// What the cache came to since opening.
    pub cache: CacheStats,
    /// Whether keys that are new are refused, because the index has filled the memory budget.
    pub memory_full: bool,
    /// The snapshots that are held.
    pub snapshots: SnapshotStats,
}

/// A store's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Keys present.
    pub keys: u64,
    /// The version of the last committed write; 0 in an empty store.
    pub version: Version,
    /// Memory held by the index, in bytes.
    pub index_bytes: u64,
    /// Segments of the log, the active one included.
    pub segments: u64,
    /// The active segment's number.
    pub active_segment: u32,
    /// Merged segments.
    pub merged_segments: u64,
    /// Bytes of all segments, without space reserved ahead.
    pub log_bytes: u64,
    /// Bytes of live records; the rest of the log is dead.
    pub live_bytes: u64,
    /// Calls of fdatasync on the log since opening.
    pub syncs: u64,
    /// Groups committed since opening; batches over groups is the mean group size.
    pub groups: u64,
    /// Batches committed since opening.
    pub batches: u64,
    /// Operations committed since opening.
    pub operations: u64,
    /// Bytes handed to the disk since opening: log (zeros ahead of its end as well), hints and checkpoints.
    pub bytes_written: u64,
    /// Batches waiting to be committed.
    pub queued_batches: u64,
    /// Bytes waiting to be committed.
    pub queued_bytes: u64,
    /// Checkpoints and hint files written since opening.
    pub checkpoints: u64,
    /// What the cache came to since opening.
    pub cache: CacheStats,
    /// Whether keys that are new are refused, because the index has filled the memory budget.
    pub memory_full: bool,
    /// The snapshots that are held.
    pub snapshots: SnapshotStats,
    /// How long writers were made to wait since opening, because merging could not keep up.
    pub throttled: Duration,
    /// Bytes of keys and values committed since opening, as they are stored.
    pub user_bytes: u64,
    /// What compressing values came to since opening.
    pub compression: CompressionStats,
    /// Why writes are refused, if a write or sync failed.
    pub poisoned: Option<String>,
    /// Whether the last write was refused because the disk is full.
    pub disk_full: bool,
    /// Why the last attempt to write a checkpoint, or to join index files, failed, if it did. No data is at risk: reopening
    /// takes longer.
    pub checkpoint_error: Option<String>,
    /// What merges since opening came to.
    pub merges: MergeStats,
    /// Why the last merge failed, if it did. No data is at risk: it is tried again, and takes space until then.
    pub merge_error: Option<String>,
    /// Damage that was met since opening.
    pub damage: DamageMet,
}

/// Damage that was met in a store since it was opened: by merges, and by whatever its owner had it note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamageMet {
    /// How often; one place may have been met more than once.
    pub times: u64,
    /// What was met last.
    pub last: Option<Damage>,
}

impl DamageMet {
    pub(crate) fn note(&mut self, damage: &Damage) {
        self.times += 1;
        self.last = Some(damage.clone());
    }
}

/// For people, where there is any.
impl fmt::Display for DamageMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = &self.last else { return f.write_str("no damage was met") };
        match self.times {
            1 => write!(f, "{last} (damage was met once since the start)"),
            times => write!(f, "{last} (damage was met {times} times since the start)"),
        }
    }
}

impl Stats {
    /// Bytes of the segments that no live record takes.
    pub fn dead_bytes(&self) -> u64 {
        self.log_bytes.saturating_sub(self.live_bytes)
    }

    /// Bytes handed to the disk for each byte of keys and values, since opening; 0 before the first write.
    pub fn write_amplification(&self) -> f64 {
        if self.user_bytes == 0 { 0.0 } else { self.bytes_written as f64 / self.user_bytes as f64 }
    }
}

/// What opening a store found and did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// How long it took.
    pub took: Duration,
    /// Batches replayed from the log behind the last checkpoint.
    pub replayed: u64,
    /// What was noticed and mended, a sentence each: torn tails cut, index files rebuilt.
    pub notices: Vec<String>,
}

/// What a verification read.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records whose checksum was verified.
    pub records: u64,
    /// Every damage found, with file and offset.
    pub damage: Vec<Damage>,
    /// What opening the store would mend without loss, a sentence each.
    pub notices: Vec<String>,
}
