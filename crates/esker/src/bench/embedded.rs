//! The engine in this process: what the network and the protocol cost is the difference to this.

use std::{
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use esker_engine::{Db, KeyRange, Options, SyncPolicy, WriteBatch};

use crate::exit::Failure;

/// An open store.
#[derive(Clone)]
pub(super) struct Embedded {
    db: Db,
    dir: Arc<Path>,
}

impl Embedded {
    /// Opens or creates the store in `dir`, with this sync policy.
    pub(super) fn open(dir: PathBuf, sync: SyncPolicy) -> Result<Self, Failure> {
        let mut options = Options::default();
        options.sync = sync;
        Ok(Self { db: Db::open(&dir, options)?, dir: dir.into() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn close(&self) -> Result<(), Failure> {
        Ok(self.db.close()?)
    }

    pub(super) fn read(&self, key: &[u8]) -> Result<bool, String> {
        Ok(self.db.get(key).map_err(|e| e.to_string())?.is_some())
    }

    pub(super) fn write(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.db.put(key, value).map(|_| ()).map_err(|e| e.to_string())
    }

    pub(super) fn write_batch(&self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        let mut batch = WriteBatch::new();
        pairs.iter().try_for_each(|(key, value)| batch.put(key, value)).map_err(|e| e.to_string())?;
        self.db.write(batch, None).map(|_| ()).map_err(|e| e.to_string())
    }

    pub(super) fn scan(&self, start: &[u8], limit: u64) -> Result<(), String> {
        let range = KeyRange { start: Bound::Included(start.to_vec()), end: Bound::Unbounded };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.db
            .scan(&range, false)
            .take(limit)
            .try_for_each(|item| item.map(|_| ()))
            .map_err(|e| e.to_string())
    }
}
