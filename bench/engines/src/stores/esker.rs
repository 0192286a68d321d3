//! Esker's own engine.

use std::path::Path;

use anyhow::Result;
use esker_engine::{Db, KeyRange, Options, SyncPolicy, WriteBatch};

use super::{Reader, Settings, Store};
use crate::data::{KEY_LEN, Key};

pub const SETTINGS: &str = "defaults, but a cache of the run's size; sync `always` or `never`. No compression, which is the default.";

pub fn open(dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
    Ok(Box::new(Esker { db: Db::open(dir, options(settings))? }))
}

fn options(settings: &Settings) -> Options {
    let mut options = Options::default();
    options.sync = if settings.synced { SyncPolicy::Always } else { SyncPolicy::Never };
    options.cache_max_bytes = settings.cache_bytes;
    options
}

struct Esker {
    db: Db,
}

impl Store for Esker {
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.db.put(key, value)?;
        Ok(())
    }

    fn write(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let bytes = batch.iter().map(|(_, value)| KEY_LEN + value.len() + 32).sum();
        let mut operations = WriteBatch::with_capacity(bytes);
        for (key, value) in batch {
            operations.put(key, value)?;
        }
        self.db.write(operations, None)?;
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(EskerReader(&self.db)))
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.db.checkpoint()?)
    }

    fn compact(&mut self) -> Result<()> {
        self.db.merge(true)?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

struct EskerReader<'a>(&'a Db);

impl Reader for EskerReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&mut self, key: &Key, visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let entry = self.0.get(key)?;
        Ok(entry.inspect(|entry| visit(&entry.value)).is_some())
    }

    fn scan(&mut self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let range = KeyRange::inclusive(*from, [0xff; KEY_LEN]);
        let mut found = 0;
        for item in self.0.scan(&range, false).take(limit) {
            let item = item?;
            visit(&item.key, item.value.as_deref().unwrap_or_default());
            found += 1;
        }
        Ok(found)
    }
}
