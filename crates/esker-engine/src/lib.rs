//! Esker's storage engines: an embeddable, crash-safe, ordered key/value store.

mod batch;
mod db;
mod entry;
mod options;
mod range;

pub use batch::WriteBatch;
pub use db::{ColdRead, Committed, Db, Lookup, OnCommit, OpenReport, Scan, Stats, VerifyReport};
pub use entry::{Entry, Item, Meta, Value, Version};
pub use esker_log::{Damage, Error, Result, SyncPolicy};
pub use options::Options;
pub use range::KeyRange;
