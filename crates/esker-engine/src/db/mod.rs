//! An open store: a log, an engine over it, and group commit between them.

mod applier;
mod care;
mod handle;
mod open;
mod write;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use esker_log::{
    GroupCommit, Position, Result,
    clock::{Clock, SystemClock},
    disk::{Disk, RealDisk},
    format::StoreId,
    signal::Signal,
};
use parking_lot::Mutex;

use self::{applier::Applier, handle::Handle};
use crate::{
    Committed, DamageMet, Engine, Entry, KeyRange, Lookup, Meta, OpenReport, Reader, Scan, Version,
    compressor::SharedCompressor,
    merger::Merger,
    once::Once,
    watch::{Changes, SingleLog},
};

pub(crate) use self::applier::user_bytes;

/// What is answered once a submitted batch is committed or refused.
pub type OnCommit = Box<dyn FnOnce(Result<Committed>) + Send>;

/// What is told each version that was applied, or the last of some: by whichever thread leads, so it must not block.
pub type OnApplied = Box<dyn Fn(Version) + Send + Sync>;

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
/// an acknowledged write survives is up to its [`SyncPolicy`](crate::SyncPolicy); a killed process loses nothing under any.
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

impl Db {
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

    /// What was changed, to be read from any version on that is still in the log.
    pub fn changes(&self) -> Changes {
        Changes::new(SingleLog::new(Arc::clone(&self.handle.inner)))
    }

    /// Has `told` be told what was applied, from now on. False: somebody else is told already.
    pub fn tell_applied(&self, told: OnApplied) -> bool {
        self.inner().commit.consumer().told.set(told).is_ok()
    }
}

impl Inner {
    /// The last version that was applied, and a place behind it such that everything before is applied.
    pub(crate) fn applied(&self) -> (Version, Position) {
        let applier = self.commit.consumer();
        let version = applier.version.load(Ordering::Acquire);
        (version, Position::unpack(applier.end.load(Ordering::Acquire)))
    }

    /// Whether it is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn once(&self) -> &Arc<Once> {
        &self.commit.consumer().once
    }

    /// The first byte behind what was applied, and whose requests are known.
    pub(crate) fn applied_to(&self) -> Position {
        let applier = self.commit.consumer();
        let _turn = applier.applying.lock();
        Position::unpack(applier.end.load(Ordering::Acquire))
    }
}
