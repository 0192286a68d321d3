//! fjall, an LSM tree in Rust.

use std::{path::Path, time::Duration};

use anyhow::Result;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    config::CompressionPolicy,
};

use super::{Compression, Reader, Settings, Store};
use crate::data::Key;

pub const SETTINGS: &str = "the block cache of the run's size in place of 32 MiB; values from 4 KiB on separated; its default compression (LZ4 \
    from level 2 on, and of large journal entries) unless compression is off. Its defaults have bloom filters of 10 bits a key and more. Not synced: \
    each write goes to the operating system. Synced: batches of durability `SyncData`, also of one key.";

pub fn open(dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
    let mut builder = Database::builder(dir).cache_size(settings.cache_bytes);
    if settings.compression == Compression::None {
        builder = builder.journal_compression(CompressionType::None);
    }
    let database = builder.open()?;
    let keys = database.keyspace("bench", || options(settings))?;
    Ok(Box::new(Fjall { database, keys, synced: settings.synced }))
}

fn options(settings: &Settings) -> KeyspaceCreateOptions {
    let mut options = KeyspaceCreateOptions::default().max_memtable_size(settings.memtable_bytes);
    let mut apart = KvSeparationOptions::default().separation_threshold(4096);
    if settings.compression == Compression::None {
        options = options.data_block_compression_policy(CompressionPolicy::disabled());
        apart = apart.compression(CompressionType::None);
    }
    options.with_kv_separation(settings.large_values().then_some(apart))
}

struct Fjall {
    database: Database,
    keys: Keyspace,
    synced: bool,
}

impl Fjall {
    /// There is no call that waits for compactions, so this looks until nothing was under way for a while.
    fn wait(&self) {
        let mut idle = 0;
        while idle < 5 {
            std::thread::sleep(Duration::from_millis(10));
            let busy = self.database.outstanding_flushes() > 0
                || self.database.active_compactions() > 0
                || self.keys.sealed_memtable_count() > 0;
            idle = if busy { 0 } else { idle + 1 };
        }
    }
}

impl Store for Fjall {
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        if !self.synced {
            return Ok(self.keys.insert(key, value)?);
        }
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.keys, key.as_slice(), value);
        Ok(batch.commit()?)
    }

    fn write(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let durability = if self.synced { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut operations = self.database.batch().durability(Some(durability));
        for (key, value) in batch {
            operations.insert(&self.keys, key.as_slice(), value.as_slice());
        }
        Ok(operations.commit()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FjallReader(&self.keys)))
    }

    fn settle(&mut self) -> Result<()> {
        self.keys.rotate_memtable_and_wait()?;
        self.wait();
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn compact(&mut self) -> Result<()> {
        self.settle()?;
        self.keys.major_compact()?;
        self.wait();
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

struct FjallReader<'a>(&'a Keyspace);

impl Reader for FjallReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&mut self, key: &Key, visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        Ok(value.inspect(|value| visit(value)).is_some())
    }

    fn scan(&mut self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut found = 0;
        for guard in self.0.range(from.as_slice()..).take(limit) {
            let (key, value) = guard.into_inner()?;
            visit(&key, &value);
            found += 1;
        }
        Ok(found)
    }
}
