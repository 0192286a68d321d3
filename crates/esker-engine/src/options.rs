//! The settings of a store.

use std::time::Duration;

use esker_log::{Error, Result, SyncPolicy, format::SEGMENT_LEN_MAX};

use crate::Compression;

/// The settings of a store. Every default suits a laptop; none affects what is safe after a crash but
/// [`Options::sync`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// When an acknowledged write is on the disk. Default [`SyncPolicy::Always`].
    pub sync: SyncPolicy,
    /// A segment is sealed before it grows beyond this many bytes (a larger batch gets a segment of its own).
    /// Default 256 MiB: large enough that sealing is rare, small enough that rewriting one is quick.
    pub segment_max_bytes: u64,
    /// A checkpoint is written after this many operations, which bounds what a reopening replays.
    /// Default 500,000: about a quarter of a second of replay.
    pub checkpoint_ops: u64,
    /// A checkpoint is written when there were writes and this long has passed. Default 60 s.
    pub checkpoint_interval: Duration,
    /// Merging begins when so much of the store is dead, in parts of one. Default 0.3: in the steady state of overwriting, the
    /// store takes about one and a half times what lives, and a byte written is copied about once more. Higher: less is
    /// copied, more space is taken. A store that is smaller than a full segment counts as one: dead bytes up to such a part of
    /// [`Options::segment_max_bytes`] are left alone.
    pub merge_trigger_ratio: f64,
    /// Merging begins, too, when so many bytes are dead, whatever part of the store they are; `None`: the part alone counts. Default
    /// `None`. Set it to bound what is dead in a store of terabytes, of which a third is much; more is copied.
    pub merge_trigger_bytes: Option<u64>,
    /// A merge pauses for so long after each MiB that it copies, while there is little to gain: the more is dead, the shorter,
    /// and not at all when a quarter more is dead than makes merging begin. Default 16 ms, which makes for some 60 MiB/s.
    pub merge_throttle: Duration,
    /// How values are compressed that are written from now on; what is stored says how it was. Default [`Compression::None`].
    pub compression: Compression,
    /// Values that are read are kept in memory, up to so many bytes; once it is full, those that are read again. 0: none are.
    /// Default: an eighth of what the machine or its control group has.
    pub cache_max_bytes: u64,
    /// A value is kept for so long at most, and then read from the disk anew; `None`: there is no need to, since what is kept
    /// is never stale. Default `None`.
    pub cache_ttl: Option<Duration>,
    /// What index, cache, queue and merges may take together, in bytes. The cache gives way to the index; when the index alone is too
    /// large, puts of new keys are refused ([`Error::MemoryFull`](crate::Error::MemoryFull)). Default: half of what the machine or
    /// its control group has.
    pub memory_budget: u64,
    /// So many files of segments are open at a time; the others are opened when they are read. Default 1,024.
    pub max_files: usize,
    /// Writes wait or are refused ([`Error::Busy`](crate::Error::Busy)) beyond this many queued bytes.
    /// Default 64 MiB.
    pub queue_max_bytes: usize,
    /// The same for the number of queued batches. Default 65,536.
    pub queue_max_batches: usize,
    /// Threads that load the index when the store opens. Default: the machine's cores, at most 8.
    pub open_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Always,
            segment_max_bytes: 256 << 20,
            checkpoint_ops: 500_000,
            checkpoint_interval: Duration::from_secs(60),
            merge_trigger_ratio: 0.3,
            merge_trigger_bytes: None,
            merge_throttle: Duration::from_millis(16),
            compression: Compression::None,
            cache_max_bytes: esker_log::machine::memory_bytes() / 8,
            cache_ttl: None,
            memory_budget: esker_log::machine::memory_bytes() / 2,
            max_files: 1024,
            queue_max_bytes: 64 << 20,
            queue_max_batches: 65_536,
            open_threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
        }
    }
}

/// What a merge reads at a time is at most this, and such a part of the memory budget. A larger buffer makes for fewer passes over
/// inputs that are not in key order.
const MERGE_BUFFER_BYTES_MAX: u64 = 64 << 20;
const MERGE_BUFFER_PART: u64 = 16;

/// The smallest segment, in bytes: room for the header and some frames.
const SEGMENT_BYTES_MIN: u64 = 4096;

/// The smallest memory budget, in bytes: an index of some thousand keys.
const MEMORY_BUDGET_MIN: u64 = 1 << 20;

/// The fewest open files: one to write, some to read and to merge.
const MAX_FILES_MIN: usize = 8;

impl Options {
    /// How much of the memory budget a merge reads its inputs into, in bytes.
    pub(crate) fn merge_buffer_bytes(&self) -> u64 {
        (self.memory_budget / MERGE_BUFFER_PART).min(MERGE_BUFFER_BYTES_MAX)
    }

    /// Errors with `InvalidRequest` if an option is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse =
            |name: &str, allowed: &str| Err(Error::InvalidRequest(format!("{name} must be {allowed}")));
        if !(SEGMENT_BYTES_MIN..=SEGMENT_LEN_MAX).contains(&self.segment_max_bytes) {
            return refuse("segment_max_bytes", &format!("{SEGMENT_BYTES_MIN} to {SEGMENT_LEN_MAX}"));
        }
        if self.checkpoint_ops == 0 {
            return refuse("checkpoint_ops", "1 or more");
        }
        if !(0.05..=0.95).contains(&self.merge_trigger_ratio) {
            return refuse("merge_trigger_ratio", "0.05 to 0.95");
        }
        if self.merge_trigger_bytes == Some(0) {
            return refuse("merge_trigger_bytes", "1 or more");
        }
        self.compression.check()?;
        if self.memory_budget < MEMORY_BUDGET_MIN {
            return refuse("memory_budget", &format!("{MEMORY_BUDGET_MIN} or more"));
        }
        if self.max_files < MAX_FILES_MIN {
            return refuse("max_files", &format!("{MAX_FILES_MIN} or more"));
        }
        if self.cache_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return refuse("cache_ttl", "more than zero");
        }
        if self.checkpoint_interval.is_zero() {
            return refuse("checkpoint_interval", "more than zero");
        }
        if self.queue_max_bytes == 0 || self.queue_max_batches == 0 {
            return refuse("queue_max_bytes and queue_max_batches", "1 or more");
        }
        if self.open_threads == 0 {
            return refuse("open_threads", "1 or more");
        }
        Ok(())
    }
}
