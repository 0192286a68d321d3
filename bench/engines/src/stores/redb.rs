//! redb, copy-on-write B-trees in Rust.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase as _, TableDefinition};

use super::{Reader, Settings, Store};
use crate::data::Key;

pub const SETTINGS: &str = "the cache of the run's size. Synced: durability `Immediate` (one phase). Not synced: `None`, and every 10,000th \
    commit `Immediate`, without which freed pages are not used again; a killed process loses what came after it, which with the others it does not. \
    Readers keep one transaction as long as nobody writes, otherwise each read has its own. No compression.";

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("bench");

/// How many commits without durability may stand one after another.
const COMMITS_UNSYNCED_MAX: u64 = 10_000;

pub fn open(dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
    let database =
        Database::builder().set_cache_size(settings.cache_bytes as usize).create(dir.join("bench.redb"))?;
    let store = Redb { database, synced: settings.synced, commits: AtomicU64::new(0) };
    // A table can be read only once it is there.
    store.commit(Durability::Immediate, std::iter::empty())?;
    Ok(Box::new(store))
}

struct Redb {
    database: Database,
    synced: bool,
    commits: AtomicU64,
}

impl Redb {
    fn durability(&self) -> Durability {
        let due =
            self.commits.fetch_add(1, Ordering::Relaxed) % COMMITS_UNSYNCED_MAX == COMMITS_UNSYNCED_MAX - 1;
        if self.synced || due { Durability::Immediate } else { Durability::None }
    }

    fn commit<'a>(
        &self,
        durability: Durability,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in records {
            table.insert(key, value)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }
}

impl Store for Redb {
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(self.durability(), std::iter::once((key.as_slice(), value)))
    }

    fn write(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        self.commit(self.durability(), batch.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let mut reader = RedbReader { database: &self.database, table: None };
        reader.refresh()?;
        Ok(Box::new(reader))
    }

    fn settle(&mut self) -> Result<()> {
        self.commit(Durability::Immediate, std::iter::empty())
    }

    fn compact(&mut self) -> Result<()> {
        self.settle()?;
        while self.database.compact()? {}
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.commit(Durability::Immediate, std::iter::empty())?;
        Ok(self.database.close()?)
    }
}

struct RedbReader<'a> {
    database: &'a Database,
    /// Keeps its transaction.
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl RedbReader<'_> {
    fn table(&self) -> Result<&ReadOnlyTable<&'static [u8], &'static [u8]>> {
        self.table.as_ref().context("the reader was refreshed")
    }
}

impl Reader for RedbReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.table = Some(self.database.begin_read()?.open_table(TABLE)?);
        Ok(())
    }

    fn get(&mut self, key: &Key, visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.table()?.get(key.as_slice())?;
        Ok(value.inspect(|value| visit(value.value())).is_some())
    }

    fn scan(&mut self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut found = 0;
        for item in self.table()?.range(from.as_slice()..)?.take(limit) {
            let (key, value) = item?;
            visit(key.value(), value.value());
            found += 1;
        }
        Ok(found)
    }
}
