//! LMDB, through heed.

use std::path::Path;

use anyhow::{Context as _, Result};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls, types::Bytes};

use super::{Reader, Settings, Store};
use crate::data::Key;

pub const SETTINGS: &str = "a map of 64 GiB, no WRITEMAP. Synced: no flags. Not synced: NOSYNC, by which a killed process loses nothing. Data larger \
    than memory: NORDAHEAD, as its manual says. Readers keep one transaction as long as nobody writes, otherwise each read has its own. No compression; its cache \
    is the page cache, and counts as its memory.";

/// Larger than any workload's data.
const MAP_BYTES: usize = 64 << 30;

/// Threads that may read at the same time.
const READERS_MAX: u32 = 512;

pub fn open(dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
    let mut flags = EnvFlags::empty();
    flags.set(EnvFlags::NO_SYNC, !settings.synced);
    flags.set(EnvFlags::NO_READ_AHEAD, settings.beyond_memory);
    // SAFETY: the bench alone has this directory, and opens it once in a process; its files are changed by nobody else.
    // What NO_SYNC risks is a power failure, after which no run goes on.
    let env =
        unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).max_readers(READERS_MAX).flags(flags).open(dir)? };
    let transaction = env.write_txn()?;
    let keys = env
        .create_databases_and_commit(transaction, |databases, transaction| {
            databases.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit();
    Ok(Box::new(Lmdb { env, keys }))
}

struct Lmdb {
    env: Env,
    keys: Database<'static, Bytes, Bytes>,
}

impl Store for Lmdb {
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.keys.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn write(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in batch {
            self.keys.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let mut reader = LmdbReader { store: self, transaction: None };
        reader.refresh()?;
        Ok(Box::new(reader))
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    /// Copying into a new file is all that there is, and for another process to open.
    fn compact(&mut self) -> Result<()> {
        self.settle()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct LmdbReader<'a> {
    store: &'a Lmdb,
    transaction: Option<RoTxn<'a, WithTls>>,
}

impl LmdbReader<'_> {
    fn transaction(&self) -> Result<&RoTxn<'_, WithTls>> {
        self.transaction.as_ref().context("the reader was refreshed")
    }
}

impl Reader for LmdbReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        // A thread has one reading transaction at a time.
        self.transaction = None;
        self.transaction = Some(self.store.env.read_txn()?);
        Ok(())
    }

    fn get(&mut self, key: &Key, visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.store.keys.get(self.transaction()?, key)?;
        Ok(value.inspect(|value| visit(value)).is_some())
    }

    fn scan(&mut self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut found = 0;
        let range = (std::ops::Bound::Included(from.as_slice()), std::ops::Bound::Unbounded);
        for item in self.store.keys.range(self.transaction()?, &range)?.take(limit) {
            let (key, value) = item?;
            visit(key, value);
            found += 1;
        }
        Ok(found)
    }
}
