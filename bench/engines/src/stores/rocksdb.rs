//! RocksDB, tuned after its wiki ("Setup Options and Basic Tuning", "BlobDB").

use std::path::Path;

use anyhow::Result;
use rocksdb::{
    BlockBasedOptions, Cache, CompactOptions, DB, DBCompressionType, Options, ReadOptions,
    WaitForCompactOptions, WriteBatch, WriteOptions,
};

use super::{Compression, Reader, Settings, Store};
use crate::data::Key;

pub const SETTINGS: &str = "bloom filters of 10 bits a key; index and filter blocks in the block cache, those of level 0 pinned; \
    `bytes_per_sync` 1 MiB; as many background jobs as cores, but 2 at least; pipelined writes; values from 4 KiB on in blob files with \
    collection; LZ4 on all levels unless compression is off. Synced: `WriteOptions::sync`. Scans read ahead by themselves.";

pub fn open(dir: &Path, settings: &Settings) -> Result<Box<dyn Store>> {
    let db = DB::open(&options(settings), dir)?;
    let mut write_options = WriteOptions::default();
    write_options.set_sync(settings.synced);
    Ok(Box::new(Rocks { db, write_options }))
}

fn options(settings: &Settings) -> Options {
    let compression = match settings.compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
    };
    let cache = Cache::new_lru_cache(settings.cache_bytes as usize);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(compression);
    options.set_write_buffer_size(settings.memtable_bytes as usize);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get()) as i32;
    options.set_max_background_jobs(cores.max(2));
    options.set_bytes_per_sync(1 << 20);
    options.set_enable_pipelined_write(true);
    if settings.large_values() {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(4096);
        options.set_blob_compression_type(compression);
        options.set_enable_blob_gc(true);
    }
    options
}

struct Rocks {
    db: DB,
    write_options: WriteOptions,
}

impl Rocks {
    fn wait(&self) -> Result<()> {
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        Ok(self.db.wait_for_compact(&wait)?)
    }
}

impl Store for Rocks {
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write_options)?)
    }

    fn write(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut operations = WriteBatch::default();
        for (key, value) in batch {
            operations.put(key, value);
        }
        Ok(self.db.write_opt(operations, &self.write_options)?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RocksReader { db: &self.db, options: ReadOptions::default() }))
    }

    fn settle(&mut self) -> Result<()> {
        self.wait()
    }

    fn compact(&mut self) -> Result<()> {
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &CompactOptions::default());
        self.wait()
    }

    fn close(self: Box<Self>) -> Result<()> {
        drop(self);
        Ok(())
    }
}

struct RocksReader<'a> {
    db: &'a DB,
    options: ReadOptions,
}

impl Reader for RocksReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&mut self, key: &Key, visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned_opt(key, &self.options)?;
        Ok(value.inspect(|value| visit(value)).is_some())
    }

    fn scan(&mut self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut cursor = self.db.raw_iterator();
        cursor.seek(from);
        let mut found = 0;
        while found < limit
            && let Some((key, value)) = cursor.item()
        {
            visit(key, value);
            found += 1;
            cursor.next();
        }
        cursor.status()?;
        Ok(found)
    }
}
