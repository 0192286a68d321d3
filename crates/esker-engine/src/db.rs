//! An open store: a log, an engine over it, and group commit between them.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, ThreadId},
    time::Duration,
};

use esker_log::{
    COMMITTERS, Consumer, Damage, Draft, Error, GroupCommit, Log, LogOptions, Opening, QueueLimits, Result,
    clock::{Clock, SystemClock},
    disk::{Disk, RealDisk},
    format::StoreId,
    manifest::MANIFEST_NAME,
    record::RECORD_HEADER_LEN,
    segments::FoundSegments,
    signal::Signal,
};
use parking_lot::Mutex;

use crate::{
    Applied, BackupArchive, BackupReport, Committed, Compressor, DamageMet, Engine, Entry, GROUP, KeyRange,
    Loading, Lookup, Merged, Meta, OpenReport, Options, Progress, Reader, Scan, SnapshotStats, Stats,
    SyncPolicy, VerifyReport, Version, WriteBatch,
    backup::{self, Source},
    bitcask::{Bitcask, wall_ms},
    compressor::SharedCompressor,
    merger::{Mergeable as _, Merger},
    verify,
};

/// What is answered once a submitted batch is committed or refused.
pub type OnCommit = Box<dyn FnOnce(Result<Committed>) + Send>;

/// What a store stands on: replaced in tests and simulation.
#[derive(Clone)]
pub struct Environment {
    /// Holds the files.
    pub disk: Arc<dyn Disk>,
    /// Gives the time for periodic syncs and checkpoints.
    pub clock: Arc<dyn Clock>,
    /// Draws the identity of a new store.
    pub store_id: fn() -> io::Result<StoreId>,
    /// Whether the store runs threads of its own for submitted batches and maintenance. Without,
    /// [`Db::submit`] commits on the caller's thread, and maintenance is done by [`Db::maintain`].
    pub threads: bool,
}

impl Default for Environment {
    /// The operating system's disk, clock and randomness, with threads.
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock::new()),
            store_id: esker_log::entropy::random_store_id,
            threads: true,
        }
    }
}

/// An open store. Cloning gives another handle to the same store.
///
/// All methods may be called from any thread; none needs an async runtime. A batch is atomic, also across a crash. What
/// an acknowledged write survives is up to its [`SyncPolicy`]; a killed process loses nothing under any.
///
/// ```
/// use esker_engine::{Db, KeyRange, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let db = Db::open(dir.path(), Options::default())?;
///
/// let version = db.put(b"lib/zstd", b"1.5")?;
/// let entry = db.get(b"lib/zstd")?.expect("just written");
/// assert_eq!((&*entry.value, entry.version), (b"1.5".as_slice(), version));
///
/// let mut batch = db.batch();
/// batch.put(b"lib/lz4", b"1.9")?;
/// batch.delete(b"lib/zstd")?;
/// db.write(batch, None)?;
///
/// for item in db.scan(&KeyRange::prefix(*b"lib/"), false) {
///     let item = item?;
///     println!("{} was written by {}", String::from_utf8_lossy(&item.key), item.version);
/// }
/// db.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
}

/// Closes the store when the last user's handle goes; the store's own threads hold only [`Inner`].
struct Handle {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Which threads these are: they cannot wait for themselves.
    own: Vec<ThreadId>,
}

pub(crate) struct Inner {
    pub(crate) commit: GroupCommit<Applier>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) maintenance: Arc<Signal>,
    pub(crate) checkpoint_interval: Duration,
    /// When the last checkpoint was written, in monotonic time.
    pub(crate) last_checkpoint: Mutex<Duration>,
    pub(crate) checkpoint_error: Mutex<Option<String>>,
    pub(crate) merger: Merger,
    /// Met since opening.
    pub(crate) damage: Mutex<DamageMet>,
    compressor: SharedCompressor,
    pub(crate) closing: AtomicBool,
    pub(crate) has_threads: bool,
    report: OpenReport,
}

/// Applies groups to the engine.
pub(crate) struct Applier {
    engine: Arc<dyn Engine>,
    version: AtomicU64,
    /// Keys and values, as they are stored.
    user_bytes: AtomicU64,
}

impl Consumer for Applier {
    type Outcome = Committed;

    fn consume(&self, log: &Log, drafts: &[Draft], outcomes: &mut Vec<Committed>) -> Result<()> {
        let Some(last) = drafts.last() else { return Ok(()) };
        if let [draft] = drafts {
            self.engine.apply(log, &[applied(draft)], outcomes)?;
        } else {
            let batches: Vec<_> = drafts.iter().map(applied).collect();
            self.engine.apply(log, &batches, outcomes)?;
        }
        self.version.store(last.appended_index, Ordering::Release);
        let bytes = drafts.iter().map(|draft| user_bytes(draft.payload.len(), draft.records)).sum();
        self.user_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Db {
    /// Opens the bitcask store in `dir`, or creates it.
    ///
    /// Errors: `Locked`, `Damage`, `UnsupportedFormat`, `InvalidRequest` for options out of range, `DiskFull`, `Io`.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_in(&Environment::default(), dir, options)
    }

    /// Like [`Db::open`], in another environment.
    pub fn open_in(environment: &Environment, dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        let maintenance = Arc::new(Signal::default());
        let clock = Arc::clone(&environment.clock);
        let engine = Arc::new(Bitcask::new(&options, clock, Arc::clone(&maintenance)));
        Self::open_engine(environment, dir, options, engine, maintenance)
    }

    /// Opens a store with an engine of the caller's. `maintenance` is what the engine raises when it wants
    /// [`Engine::checkpoint`] to be called.
    pub fn open_engine(
        environment: &Environment,
        dir: impl AsRef<Path>,
        options: Options,
        engine: Arc<dyn Engine>,
        maintenance: Arc<Signal>,
    ) -> Result<Self> {
        options.check()?;
        let began = environment.clock.monotonic();
        let log_options = LogOptions {
            segment_max_bytes: options.segment_max_bytes,
            max_files: options.max_files,
            ..LogOptions::default()
        };
        let disk = Arc::clone(&environment.disk);
        let mut opening = Opening::begin(disk, dir.as_ref(), log_options, environment.store_id)?;
        if opening.other_files().iter().any(|name| name == crate::replica::STATE_NAME) {
            return Err(Error::InvalidRequest(format!(
                "{} belongs to a node of a cluster: start it as one, or export from the cluster and import",
                dir.as_ref().display()
            )));
        }
        let loaded = engine.load(&mut opening, Loading::Whole)?;
        let (mut version, judged) = (loaded.last.index, opening.manifest().judged);
        let mut outcomes = Vec::new();
        let segments = FoundSegments::of(&opening);
        let recovered = opening.recover(loaded.from, [(GROUP, loaded.last)].into(), &mut |frame| {
            outcomes.clear();
            version = frame.header.index;
            let batch = Applied {
                version,
                position: frame.position,
                payload: frame.payload,
                records: frame.header.records,
                floor_ms: 0,
            };
            engine.apply(&segments, &[batch], &mut outcomes)
        })?;
        if version < judged {
            let what = format_args!(
                "the log ends at version {version}, but there was {judged} when segments were merged"
            );
            return Err(Error::damage(dir.as_ref().join(MANIFEST_NAME), 0, what));
        }
        let now = environment.clock.monotonic();
        let report = OpenReport {
            took: now.saturating_sub(began),
            replayed: recovered.replayed,
            notices: recovered.notices,
        };
        let limits = QueueLimits { batches: options.queue_max_batches, bytes: options.queue_max_bytes };
        let applier = Applier {
            engine: Arc::clone(&engine),
            version: AtomicU64::new(version),
            user_bytes: AtomicU64::new(0),
        };
        let clock = Arc::clone(&environment.clock);
        let commit = GroupCommit::new(
            recovered.writer,
            applier,
            clock,
            options.sync,
            limits,
            Arc::clone(&maintenance),
        );
        let inner = Arc::new(Inner {
            commit,
            engine,
            clock: Arc::clone(&environment.clock),
            maintenance,
            checkpoint_interval: options.checkpoint_interval,
            last_checkpoint: Mutex::new(now),
            checkpoint_error: Mutex::new(None),
            merger: Merger::new(&options),
            damage: Mutex::default(),
            compressor: SharedCompressor::new(options.compression),
            closing: AtomicBool::new(false),
            has_threads: environment.threads,
            report,
        });
        let mut threads = Vec::new();
        let started = if environment.threads { start_threads(&inner, &mut threads) } else { Ok(()) };
        let own = threads.iter().map(|thread| thread.thread().id()).collect();
        // If one could not be started, dropping the handle stops those that were.
        let db = Self { handle: Arc::new(Handle { inner, threads: Mutex::new(threads), own }) };
        started.map(|()| db)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.handle.inner
    }

    /// The reading side alone.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(self.inner().commit.log()), Arc::clone(&self.inner().engine))
    }

    /// What opening found.
    pub fn open_report(&self) -> OpenReport {
        self.inner().report.clone()
    }

    /// An empty batch that compresses values as the store is set to ([`Options::compression`]).
    pub fn batch(&self) -> WriteBatch {
        WriteBatch::compressing(self.compressor())
    }

    /// What a batch for this store compresses with; it knows which values paid lately.
    pub fn compressor(&self) -> Compressor {
        self.inner().compressor.get()
    }

    /// Puts one key and waits until it is committed.
    ///
    /// Errors as for [`Db::write`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        let mut batch = WriteBatch::for_one(self.compressor(), key, value);
        batch.put(key, value)?;
        Ok(self.write(batch, None)?.version)
    }

    /// Deletes one key; [`Committed::existed`] says whether it was present.
    ///
    /// Errors as for [`Db::write`].
    pub fn delete(&self, key: &[u8]) -> Result<Committed> {
        let mut batch = WriteBatch::for_one(Compressor::default(), key, &[]);
        batch.delete(key)?;
        self.write(batch, None)
    }

    /// Adds to the integer that a key holds, 0 if it is absent, and gives what it came to; see [`WriteBatch::add`].
    ///
    /// Errors: `InvalidRequest` if the value is no integer or the sum does not fit, and as for [`Db::write`].
    pub fn add(&self, key: &[u8], by: i64) -> Result<i64> {
        let mut batch = WriteBatch::new();
        batch.add(key, by)?;
        let committed = self.write(batch, None)?;
        let refused = committed.refusal().map(|refusal| Error::InvalidRequest(refusal.to_string()));
        committed.sum().ok_or_else(|| refused.unwrap_or(Error::Closed))
    }

    /// Deletes all keys of a range at once, at a cost that does not depend on how many they are;
    /// [`Committed::existed`] says how many.
    ///
    /// Errors as for [`Db::write`].
    pub fn delete_range(&self, range: &KeyRange) -> Result<Committed> {
        let mut batch = WriteBatch::new();
        batch.delete_range(range)?;
        self.write(batch, None)
    }

    fn check_memory(&self, batch: &WriteBatch) -> Result<()> {
        batch.check_memory(self.inner().engine.as_ref())
    }

    /// What is appended of a batch.
    fn draft(&self, mut batch: WriteBatch) -> Draft {
        if batch.wants_stamp() {
            batch.stamp(wall_ms(self.inner().clock.as_ref()));
        }
        let (compressor, compressed) = batch.learnt();
        self.inner().compressor.learn(compressor, compressed);
        let (payload, records) = batch.into_payload();
        Draft::next(GROUP, payload, records)
    }

    /// Commits a batch and waits for it; [`Committed::outcome`] says if its conditions held. `sync` may ask for a stronger policy than the store's.
    ///
    /// Errors: `InvalidRequest` (an empty batch), `MemoryFull`, `DiskFull`, `OutOfFiles`, `Poisoned`, `Closed`. After `Poisoned` the batch may or may
    /// not be there when the store is reopened; after the others it is not.
    pub fn write(&self, batch: WriteBatch, sync: Option<SyncPolicy>) -> Result<Committed> {
        self.check_memory(&batch)?;
        self.inner().commit.write(self.draft(batch), sync)
    }

    /// Queues a batch and returns at once; `done` is called, on another thread, when it is committed or failed.
    /// Never blocks on the disk.
    ///
    /// Errors (then `done` is not called): `Busy`, `MemoryFull`, `Poisoned`, `Closed`, `InvalidRequest`.
    pub fn submit(&self, batch: WriteBatch, sync: Option<SyncPolicy>, done: OnCommit) -> Result<()> {
        if self.inner().has_threads {
            self.check_memory(&batch)?;
            self.inner().commit.submit(self.draft(batch), sync, done)
        } else {
            done(self.write(batch, sync));
            Ok(())
        }
    }

    /// Reads a key, waiting for the disk if need be.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.inner().engine.get(self.inner().commit.log(), key)
    }

    /// Reads a key without ever waiting for the disk.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn try_get(&self, key: &[u8]) -> Result<Lookup> {
        self.inner().engine.lookup(self.inner().commit.log(), key)
    }

    /// A key's version and value length, from memory.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.inner().engine.meta(key)
    }

    /// Iterates over a range at one instant, from both ends, in constant memory. Reading a value may wait for the
    /// disk; with `keys_only` nothing is read from disk.
    pub fn scan(&self, range: &KeyRange, keys_only: bool) -> Scan {
        self.inner().engine.scan(self.inner().commit.log(), range, keys_only)
    }

    /// The version of the last committed write: [`Db::stats`] has it too, and costs more.
    pub fn version(&self) -> Version {
        self.inner().commit.consumer().version.load(Ordering::Acquire)
    }

    /// The store's figures.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let (log, commit, engine) = (inner.commit.log(), inner.commit.counters(), inner.engine.stats());
        let (queued_batches, queued_bytes) = inner.commit.queued();
        let appended = log.appended();
        let segments = log.segments();
        let merged = log.merged();
        let sealed = segments.iter().chain(&merged).filter_map(|segment| segment.sealed_end());
        let sealed: u64 = sealed.map(u64::from).sum();
        Stats {
            keys: engine.keys,
            version: inner.commit.consumer().version.load(Ordering::Acquire),
            index_bytes: engine.index_bytes,
            segments: segments.len() as u64,
            merged_segments: merged.len() as u64,
            active_segment: appended.segment,
            log_bytes: sealed + u64::from(appended.offset),
            live_bytes: engine.live_bytes,
            syncs: log.counters().syncs.load(Ordering::Relaxed),
            groups: commit.groups.load(Ordering::Relaxed),
            batches: commit.batches.load(Ordering::Relaxed),
            operations: commit.operations.load(Ordering::Relaxed),
            bytes_written: log.counters().bytes_written.load(Ordering::Relaxed) + engine.checkpoint_bytes,
            queued_batches: queued_batches as u64,
            queued_bytes: queued_bytes as u64,
            checkpoints: engine.checkpoints,
            cache: engine.cache,
            memory_full: engine.memory_full,
            snapshots: SnapshotStats { retired_bytes: log.retired_bytes(), ..engine.snapshots },
            throttled: inner.commit.brake().waited(),
            user_bytes: inner.commit.consumer().user_bytes.load(Ordering::Relaxed),
            compression: inner.compressor.stats(),
            poisoned: log.poison().map(|why| why.to_string()),
            disk_full: log.is_disk_full(),
            checkpoint_error: inner.checkpoint_error.lock().clone().or(engine.join_error),
            merges: engine.merges,
            merge_error: inner.merger.error.lock().clone(),
            damage: inner.damage.lock().clone(),
        }
    }

    /// Notes damage that a read or a verification came upon, for [`Stats::damage`]. What merges in the background meet is noted
    /// by itself.
    pub fn note_damage(&self, damage: &Damage) {
        self.inner().note_damage(damage);
    }

    /// Makes everything acknowledged durable. Errors: `Poisoned`.
    pub fn sync(&self) -> Result<()> {
        self.inner().commit.log().sync()
    }

    /// Syncs and writes a checkpoint, so that reopening replays nothing. Errors: `Poisoned`, `DiskFull`, `Io`.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner().checkpoint(true)
    }

    /// Does what is due of periodic syncs, hints and checkpoints; says when to come back. Only needed in an
    /// environment without threads.
    pub fn maintain(&self) -> Duration {
        self.inner().maintain()
    }

    /// Merges now what is worth it, or with `all` everything: then what lives lies in key order. Waits until it is done.
    ///
    /// Errors: `DiskFull`, `OutOfFiles`, `Io`, `Damage`, `Poisoned`, `Closed`. Nothing is lost; what was merged before stays so.
    pub fn merge(&self, all: bool) -> Result<Merged> {
        self.merge_with(all, &mut |_, _| Ok(()))
    }

    /// The same; `progress` gets (bytes copied, 0: it is not known before how many there will be).
    ///
    /// Errors: those of [`Db::merge`], and what `progress` says.
    pub fn merge_with(&self, all: bool, progress: Progress<'_>) -> Result<Merged> {
        let inner = self.inner();
        inner.merger.merge_now(inner, all, progress)
    }

    /// Makes a copy of the store in `dir` while it is in use, at the version that it has when this begins. What an earlier
    /// backup in `dir` has is kept, and files that never change are shared with the store if both are on one file system.
    /// A crash at any moment leaves the earlier backup or the new one.
    ///
    /// Errors: those of [`Db::checkpoint`]; `InvalidRequest` if `dir` holds something else; `Locked` if another backup
    /// goes there; `Damage`, and what `progress` says, which gets (bytes done, bytes in all).
    pub fn backup(&self, dir: impl AsRef<Path>, progress: Progress<'_>) -> Result<BackupReport> {
        backup::into_dir(self.inner().commit.log().disk(), &self.backup_source()?, dir.as_ref(), progress)
    }

    /// Makes ready a backup as one stream of bytes, at the version that the store has when this begins.
    ///
    /// Errors: those of [`Db::checkpoint`].
    pub fn backup_archive(&self) -> Result<BackupArchive> {
        Ok(backup::into_archive(self.backup_source()?))
    }

    /// Everything there is, held open.
    fn backup_source(&self) -> Result<Source> {
        self.checkpoint()?;
        let inner = self.inner();
        let log = inner.commit.log();
        Source::of(log, inner.engine.saved(log)?)
    }

    /// Reads and checks every byte of the store; `progress` gets (bytes done, bytes in all).
    ///
    /// Errors: `Io`, and what `progress` says. Damage is in the report.
    pub fn verify(&self, progress: Progress<'_>) -> Result<VerifyReport> {
        let log = self.inner().commit.log();
        verify::verify_open(log, self.inner().engine.as_ref(), progress)
    }

    /// Refuses new writes, commits what is queued, syncs, writes a checkpoint and stops the background threads.
    /// Dropping the last handle does the same but cannot say what failed.
    ///
    /// Errors: those of [`Db::checkpoint`]: the store is closed all the same. `InvalidRequest` in a callback of
    /// [`Db::submit`], which would wait for itself: the store stays open.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        if self.on_own_thread() {
            return Err(Error::InvalidRequest("a callback cannot close the store that calls it".into()));
        }
        // Held to the end: who comes second returns when the store is closed.
        let mut threads = self.threads.lock();
        close(&self.inner, std::mem::take(&mut *threads))
    }

    fn on_own_thread(&self) -> bool {
        self.own.contains(&std::thread::current().id())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let threads = std::mem::take(self.threads.get_mut());
        // What cannot be saved here is replayed at the next opening; `close` is there for those who want to know.
        if !self.on_own_thread() {
            drop(close(&self.inner, threads));
            return;
        }
        // A callback held the last handle, so another thread has to do it; if there is none to be had, the store stays
        // open until the process ends.
        let inner = Arc::clone(&self.inner);
        let closing = std::thread::Builder::new().name("esker-close".into());
        drop(closing.spawn(move || drop(close(&inner, threads))));
    }
}

fn close(inner: &Inner, threads: Vec<JoinHandle<()>>) -> Result<()> {
    if inner.closing.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    inner.commit.close();
    inner.maintenance.raise();
    inner.merger.wake();
    inner.commit.log().close_write_back();
    for thread in threads {
        thread.join().expect("the store's threads do not panic");
    }
    inner.checkpoint(true)
}

/// The bytes of keys and values in a payload of so many records.
pub(crate) fn user_bytes(payload_len: usize, records: u32) -> u64 {
    payload_len.saturating_sub(RECORD_HEADER_LEN * records as usize) as u64
}

fn applied(draft: &Draft) -> Applied<'_> {
    Applied {
        version: draft.appended_index,
        position: draft.position,
        payload: &draft.payload,
        records: draft.records,
        // Of what was written here, and judged once: a merge keeps what came of it.
        floor_ms: 0,
    }
}

fn start_threads(inner: &Arc<Inner>, threads: &mut Vec<JoinHandle<()>>) -> Result<()> {
    let mut start = |name: &str, run: fn(&Inner)| -> Result<()> {
        let inner = Arc::clone(inner);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&inner));
        threads.push(thread.map_err(|e| Error::io("starting a thread", e))?);
        Ok(())
    };
    for _ in 0..COMMITTERS {
        start("esker-commit", |inner| inner.commit.run_committer())?;
    }
    start("esker-write-out", |inner| inner.commit.log().run_write_back())?;
    start("esker-maintain", Inner::run_maintenance)?;
    start("esker-merge", Inner::run_merging)
}
