//! Esker's storage engines: an embeddable, crash-safe, ordered key/value store.

mod backup;
mod batch;
pub mod bitcask;
mod compression;
mod compressor;
mod condition;
mod db;
mod engine;
mod entry;
mod judge;
mod maintenance;
mod memory;
mod merger;
mod merging;
mod once;
mod options;
mod outcome;
mod range;
mod reader;
pub mod replica;
mod report;
mod request;
mod requests;
mod stored;
mod touch;
mod varint;
mod verify;
pub mod watch;

#[cfg(fuzzing)]
pub use backup::fuzzing as backup_fuzzing;
pub use backup::{
    BackupArchive, BackupReport, Progress, RestoreReport, restore, restore_archive, unpack_archive,
    verify_archive,
};
pub use batch::WriteBatch;
pub use bitcask::repair::{LostKey, LostPart, RepairReport, repair};
pub use bitcask::{cache::CacheStats, held::SnapshotStats};
pub use compression::Compression;
pub use compressor::{CompressionStats, Compressor};
pub use condition::Condition;
pub use db::{Db, Environment, OnApplied, OnCommit};
pub use engine::{
    Applied, ColdRead, Engine, Loaded, Loading, Lookup, Saved, SavedFile, Scan, Settled, StoredScan, View,
};
pub use entry::{Entry, Item, Meta, StoredItem, Value, Version};
pub use esker_log::{Damage, Error, Result, SyncPolicy};
pub use judge::{Judgement, Sums, is_judged};
pub use memory::MemoryEngine;
pub use merging::{MergeStats, Merged, Merging, Pace};
#[cfg(fuzzing)]
pub use once::fuzz_requests;
pub use options::Options;
pub use outcome::{Committed, Outcome, Refusal};
pub use range::KeyRange;
pub use reader::Reader;
pub use replica::Replica;
pub use report::{DamageMet, EngineStats, OpenReport, Stats, VerifyReport};
pub use request::{InvalidRequestId, REQUEST_ID_LEN, RequestId};
pub use touch::Touch;
pub use verify::verify_dir;

/// Today one group has the whole log.
const GROUP: esker_log::GroupId = 0;
