//! How a Store is set up, and what it tells of itself.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use esker_engine::{Merged, Stats, Version};

use crate::Limits;

/// The settings of a Store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// This node's number in its cluster. Default 1.
    pub node_id: u64,
    /// How large requests may be.
    pub limits: Limits,
    /// Writes are refused with `Busy` while more than so many bytes of them wait for their commit. Default 128 MiB.
    pub write_bytes_under_way: usize,
    /// Threads that read what is not in memory. Default: twice the cores, at least 4: they mostly wait.
    pub io_threads: NonZeroUsize,
    /// Reads are refused with `Busy` while more than so many wait for such a thread. Default 4,096.
    pub io_queue: usize,
    /// Watchers beyond so many are refused with `Busy`. Default 10,000.
    pub max_watchers: usize,
    /// Where [`Store::backup`](super::Store::backup) makes backups; without it, it makes none. Default: none.
    pub backup_dir: Option<PathBuf>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            node_id: 1,
            limits: Limits::default(),
            write_bytes_under_way: 128 << 20,
            io_threads: NonZeroUsize::new((2 * cores).max(4)).expect("at least 4"),
            io_queue: 4096,
            max_watchers: 10_000,
            backup_dir: None,
        }
    }
}

/// What a node is and how it fares.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// This node's number.
    pub node_id: u64,
    /// The leader's number, if one is known.
    pub leader_id: Option<u64>,
    /// The present term; 0 outside Raft.
    pub term: u64,
    /// The version of the last committed write.
    pub commit_index: Version,
    /// Since the Store was opened.
    pub uptime: Duration,
    /// Why writes are refused, if they are; else what damage was met.
    pub trouble: Option<String>,
    /// The engine's figures.
    pub stats: Stats,
}

/// What a merge that was asked for came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// What was merged.
    pub merged: Merged,
    /// Bytes of the log before.
    pub before: u64,
    /// Bytes of the log after.
    pub after: u64,
}
