//! The engines, behind one trait: a file for each.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data::Key;

mod esker;
mod fjall;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(test)]
mod tests;

/// An open store. Every call may come from any thread.
pub trait Store: Send + Sync {
    /// Puts one key, as durably as the store was opened for.
    fn put(&self, key: &Key, value: &[u8]) -> Result<()>;

    /// Puts all of `batch`, atomically and as durably.
    fn write(&self, batch: &[(Key, Vec<u8>)]) -> Result<()>;

    /// The reading side, for one thread. Sees at least what was there when it was made or last refreshed.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;

    /// Brings everything to the disk and waits until nothing is left to be done in the background, so that no engine
    /// owes work when its bytes and processor time are counted.
    fn settle(&mut self) -> Result<()>;

    /// Brings the store into its best order for scans, if it has a way to: a major compaction or merge.
    fn compact(&mut self) -> Result<()>;

    /// Closes the store as its users are told to.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Reads, for one thread.
pub trait Reader {
    /// Makes what was written since visible.
    fn refresh(&mut self) -> Result<()>;

    /// Hands the value to `visit` where the engine has it, without a copy of the bench's; whether there is one.
    fn get(&mut self, key: &Key, visit: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Hands up to `limit` records from `from` on to `visit`, in key order; how many there were.
    fn scan(&mut self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Esker,
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    Fjall,
    Redb,
    Lmdb,
}

impl Engine {
    /// As its project writes it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Esker => "Esker",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "RocksDB",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Lmdb => "LMDB",
        }
    }

    /// The crate that is measured: its version is in the lock file.
    pub fn package(self) -> &'static str {
        match self {
            Self::Esker => "esker-engine",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "librocksdb-sys",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Lmdb => "heed",
        }
    }

    /// Opens the store in `dir`, or creates it.
    pub fn open(self, dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
        std::fs::create_dir_all(dir)?;
        match self {
            Self::Esker => esker::open(dir, settings),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => rocksdb::open(dir, settings),
            Self::Fjall => fjall::open(dir, settings),
            Self::Redb => redb::open(dir, settings),
            Self::Lmdb => lmdb::open(dir, settings),
        }
    }

    /// What differs from the engine's defaults, and why, in a sentence or two for the report.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Esker => esker::SETTINGS,
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => rocksdb::SETTINGS,
            Self::Fjall => fjall::SETTINGS,
            Self::Redb => redb::SETTINGS,
            Self::Lmdb => lmdb::SETTINGS,
        }
    }
}

/// How a store is opened: the same for all, as far as each has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Whether an acknowledged write survives a power failure, or only the process.
    pub synced: bool,
    /// Compression of values, where the engine has it.
    pub compression: Compression,
    /// Memory for the engine's own cache.
    pub cache_bytes: u64,
    /// A memtable's size, where there is one.
    pub memtable_bytes: u64,
    /// How long the values will be: engines that may store large ones apart do so if their manual says it pays.
    pub value_bytes: usize,
    /// Whether the data will be larger than memory.
    pub beyond_memory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Lz4,
}

impl Settings {
    /// Values from 4 KiB on are stored apart by the engines that can: below, both manuals see a loss for scans.
    fn large_values(&self) -> bool {
        self.value_bytes >= 4096
    }
}
