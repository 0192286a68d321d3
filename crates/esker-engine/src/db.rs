//! TEMPORARY in-memory stand-in with the final signatures, so that the layers above can be written meanwhile.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use esker_log::record::{RecordKind, Records};

use crate::{Entry, Item, KeyRange, Meta, Options, Result, SyncPolicy, Version, WriteBatch};

/// What a committed batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The version of every write in the batch.
    pub version: Version,
    /// How many of the batch's operations met a key that was present just before them.
    pub existed: u32,
}

/// A read that would have to wait for the disk: do it where blocking is allowed.
pub struct ColdRead(Entry);

impl ColdRead {
    /// Reads the value, waiting for the disk. Errors: `Damage`, `Io`.
    pub fn fetch(self) -> Result<Entry> {
        Ok(self.0)
    }
}

/// What a non-blocking read found.
pub enum Lookup {
    /// The key is absent.
    Absent,
    /// The value was in memory.
    Found(Entry),
    /// The value is on the disk.
    Cold(ColdRead),
}

/// Figures of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Keys present.
    pub keys: u64,
    /// The version of the last committed write; 0 in an empty store.
    pub version: Version,
    /// Memory held by the index, in bytes.
    pub index_bytes: u64,
    /// Segments of the log, the active one included.
    pub segments: u64,
    /// The active segment's number.
    pub active_segment: u32,
    /// Bytes of the log, without space reserved ahead.
    pub log_bytes: u64,
    /// Bytes of live records; the rest of the log is dead.
    pub live_bytes: u64,
    /// Calls of fdatasync on the log since opening.
    pub syncs: u64,
    /// Groups committed since opening; batches over groups is the mean group size.
    pub groups: u64,
    /// Batches committed since opening.
    pub batches: u64,
    /// Operations committed since opening.
    pub operations: u64,
    /// Bytes handed to the disk since opening: log, hints and checkpoints.
    pub bytes_written: u64,
    /// Batches waiting to be committed.
    pub queued_batches: u64,
    /// Bytes waiting to be committed.
    pub queued_bytes: u64,
    /// Checkpoints and hint files written since opening.
    pub checkpoints: u64,
    /// Why writes are refused, if a write or sync failed.
    pub poisoned: Option<String>,
    /// Whether the last write was refused because the disk is full.
    pub disk_full: bool,
}

/// What opening a store found and did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// How long it took.
    pub took: std::time::Duration,
    /// Operations replayed from the log behind the last checkpoint.
    pub replayed: u64,
    /// What was noticed and mended, a sentence each: torn tails cut, index files rebuilt.
    pub notices: Vec<String>,
}

/// What a verification read.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records whose checksum was verified.
    pub records: u64,
    /// Every damage found, with file and offset.
    pub damage: Vec<esker_log::Damage>,
}

/// What is answered once a submitted batch is committed or refused.
pub type OnCommit = Box<dyn FnOnce(Result<Committed>) + Send>;

/// An open store. Cloning gives another handle to the same store.
#[derive(Clone)]
pub struct Db {
    inner: Arc<RwLock<Inner>>,
    #[allow(dead_code)]
    dir: PathBuf,
}

#[derive(Default)]
struct Inner {
    map: BTreeMap<Vec<u8>, (Vec<u8>, Version)>,
    version: Version,
}

#[allow(clippy::unwrap_used)]
impl Db {
    /// Opens or creates the store in `dir`.
    pub fn open(dir: impl AsRef<Path>, _options: Options) -> Result<Self> {
        Ok(Self { inner: Arc::default(), dir: dir.as_ref().to_owned() })
    }

    /// What opening found.
    pub fn open_report(&self) -> OpenReport {
        OpenReport::default()
    }

    /// Puts one key; waits until it is committed. Embedded use.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        let mut batch = WriteBatch::new();
        batch.put(key, value)?;
        Ok(self.write(batch, None)?.version)
    }

    /// Deletes one key; says whether it was present (`existed`).
    pub fn delete(&self, key: &[u8]) -> Result<Committed> {
        let mut batch = WriteBatch::new();
        batch.delete(key)?;
        self.write(batch, None)
    }

    /// Commits a batch and waits for it. `sync` may ask for a stronger policy than the store's.
    pub fn write(&self, batch: WriteBatch, _sync: Option<SyncPolicy>) -> Result<Committed> {
        let mut inner = self.inner.write().unwrap();
        inner.version += 1;
        let version = inner.version;
        let mut existed = 0;
        let (payload, _) = batch.into_payload();
        for record in Records::new(&payload) {
            let (_, record) = record.map_err(|e| crate::Error::InvalidRequest(e.into()))?;
            let old = match record.kind {
                RecordKind::Put => inner.map.insert(record.key.to_vec(), (record.value.to_vec(), version)),
                RecordKind::Delete => inner.map.remove(record.key),
            };
            existed += u32::from(old.is_some());
        }
        Ok(Committed { version, existed })
    }

    /// Queues a batch and returns at once; `done` is called, on another thread, when it is committed or failed.
    /// Never blocks on the disk. Errors (then `done` is not called): `Busy`, `Poisoned`, `Closed`, `InvalidRequest`.
    pub fn submit(&self, batch: WriteBatch, sync: Option<SyncPolicy>, done: OnCommit) -> Result<()> {
        done(self.write(batch, sync));
        Ok(())
    }

    /// Reads a key, waiting for the disk if need be.
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        Ok(self
            .inner
            .read()
            .unwrap()
            .map
            .get(key)
            .map(|(value, version)| Entry { value: value.clone().into(), version: *version }))
    }

    /// Reads a key without ever waiting for the disk.
    pub fn try_get(&self, key: &[u8]) -> Result<Lookup> {
        Ok(self.get(key)?.map_or(Lookup::Absent, Lookup::Found))
    }

    /// A key's version and value length, from memory.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        let inner = self.inner.read().unwrap();
        inner.map.get(key).map(|(value, version)| Meta { version: *version, value_len: value.len() as u64 })
    }

    /// Iterates over a range at one instant, from both ends, in constant memory. Reading a value may wait for the
    /// disk; with `keys_only` nothing is read from disk.
    pub fn scan(&self, range: &KeyRange, keys_only: bool) -> Scan {
        let inner = self.inner.read().unwrap();
        let items: Vec<_> = inner
            .map
            .iter()
            .filter(|(key, _)| range.contains(key))
            .map(|(key, (value, version))| {
                Ok(Item { key: key.clone(), value: (!keys_only).then(|| value.clone().into()), version: *version })
            })
            .collect();
        Scan(items.into_iter())
    }

    /// The store's figures.
    pub fn stats(&self) -> Stats {
        let inner = self.inner.read().unwrap();
        Stats { keys: inner.map.len() as u64, version: inner.version, ..Stats::default() }
    }

    /// Makes everything acknowledged durable.
    pub fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Syncs and writes a checkpoint, so that reopening replays nothing.
    pub fn checkpoint(&self) -> Result<()> {
        Ok(())
    }

    /// Reads and checks every byte of the store; `progress` gets (bytes done, bytes in all).
    pub fn verify(&self, _progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport> {
        Ok(VerifyReport::default())
    }

    /// Refuses new writes, commits what is queued, syncs, writes a checkpoint and stops the background threads.
    /// Dropping the last handle does the same but cannot say what failed.
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// An iterator over a range at one instant; see [`Db::scan`].
pub struct Scan(std::vec::IntoIter<Result<Item>>);

impl Iterator for Scan {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}
