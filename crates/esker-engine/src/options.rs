//! The settings of a store.

use std::time::Duration;

use esker_log::SyncPolicy;

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
            queue_max_bytes: 64 << 20,
            queue_max_batches: 65_536,
            open_threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
        }
    }
}
