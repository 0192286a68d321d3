//! The contract between a store and its engine.
//!
//! The log is the database; an engine is what makes it answer reads: state derived from the log that can be rebuilt
//! from it. A [`Db`](crate::Db) appends to the log, has the engine apply what was committed, and asks it to read.
//!
//! Every engine keeps to this, and `tests/conformance.rs` holds every engine to it:
//!
//! * **Order.** Batches are applied in index order, each exactly once, by one thread at a time. Applying is
//!   deterministic: the same log gives the same state on every replica.
//! * **Atomicity.** A reader sees all of a batch or nothing of it.
//! * **Snapshots.** A scan sees the one instant at which it began, however long it takes, and hinders no writer; all reads
//!   of a view see one instant.
//! * **Durability.** An engine need not sync: the log was synced first, as far as the writer asked. What it
//!   saves of its own ([`Engine::checkpoint`]) refers to synced parts of the log only.

use std::{fmt, sync::Arc};

use esker_log::{
    Damage, GroupEnd, Log, Opening, Position, Result,
    disk::{File, FileIdentity},
    format::FrameKind,
    manifest::Manifest,
    scan::Frame,
    segment::Pin,
    segments::Segments,
};

use crate::{
    Committed, Entry, Item, Judgement, KeyRange, Merged, Merging, Meta, StoredItem, Version,
    report::EngineStats,
};

/// A committed batch, as the log holds it.
#[derive(Debug, Clone, Copy)]
pub struct Applied<'a> {
    /// The version of every write in the batch.
    pub version: Version,
    /// Where its frame begins in the log.
    pub position: Position,
    /// Its records.
    pub payload: &'a [u8],
    /// How many records.
    pub records: u32,
    /// In milliseconds since 1970: what expired by then is absent for this batch, whatever time it says itself. Replicas have
    /// it of the log (`judge::floor_of`); 0 where no other replica has to come to the same.
    pub floor_ms: u64,
}

/// A read that would have to wait for the disk: do it where blocking is allowed.
pub struct ColdRead(Box<dyn FnOnce() -> Result<Entry> + Send>);

impl ColdRead {
    /// A read that `fetch` carries out.
    pub fn new(fetch: impl FnOnce() -> Result<Entry> + Send + 'static) -> Self {
        Self(Box::new(fetch))
    }

    /// Reads the value, waiting for the disk. Errors: `Damage`, `Io`.
    pub fn fetch(self) -> Result<Entry> {
        (self.0)()
    }
}

impl fmt::Debug for ColdRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ColdRead")
    }
}

/// What a non-blocking read found.
#[derive(Debug)]
pub enum Lookup {
    /// The key is absent.
    Absent,
    /// The value was in memory.
    Found(Entry),
    /// The value is on the disk.
    Cold(ColdRead),
}

/// A range at one instant, from both ends, in constant memory. Each step may wait for the disk; after an error the
/// scan goes on behind the item that could not be read.
pub struct Scan(Box<dyn DoubleEndedIterator<Item = Result<Item>> + Send>);

impl Scan {
    /// A scan over `items`, which come in key order.
    pub fn new(items: impl DoubleEndedIterator<Item = Result<Item>> + Send + 'static) -> Self {
        Self(Box::new(items))
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scan")
    }
}

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

/// A range at one instant for other replicas: values as they are stored, and also what has expired, for their clocks
/// may say otherwise. Each step may wait for the disk.
pub struct StoredScan(Box<dyn Iterator<Item = Result<StoredItem>> + Send>);

impl StoredScan {
    /// A scan over `items`, which come in key order.
    pub fn new(items: impl Iterator<Item = Result<StoredItem>> + Send + 'static) -> Self {
        Self(Box::new(items))
    }
}

impl fmt::Debug for StoredScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredScan")
    }
}

impl Iterator for StoredScan {
    type Item = Result<StoredItem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// What a view does when it is asked for a key.
type GetView = dyn Fn(&[u8]) -> Result<Lookup> + Send + Sync;
/// What a view does when it is scanned: the range, and whether only keys are wanted.
type ScanView<S> = dyn Fn(&KeyRange, bool) -> S + Send + Sync;

/// The state at one instant, for reads and scans that begin later and all see that instant. Holds on to what of the state
/// has changed since.
pub struct View {
    keys: u64,
    get: Box<GetView>,
    scan: Box<ScanView<Scan>>,
    stored: Box<ScanView<StoredScan>>,
}

impl View {
    /// A view of so many keys, of which `get` gives one, and `scan` and `stored` give ranges.
    pub fn new(
        keys: u64,
        get: impl Fn(&[u8]) -> Result<Lookup> + Send + Sync + 'static,
        scan: impl Fn(&KeyRange, bool) -> Scan + Send + Sync + 'static,
        stored: impl Fn(&KeyRange, bool) -> StoredScan + Send + Sync + 'static,
    ) -> Self {
        Self { keys, get: Box::new(get), scan: Box::new(scan), stored: Box::new(stored) }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The value of a key, as [`Engine::lookup`].
    ///
    /// Errors: `Damage`, `Io`.
    pub fn get(&self, key: &[u8]) -> Result<Lookup> {
        (self.get)(key)
    }

    /// A range. With `keys_only` nothing is read from the disk.
    pub fn scan(&self, range: &KeyRange, keys_only: bool) -> Scan {
        (self.scan)(range, keys_only)
    }

    /// A range for another replica. With `keys_only` nothing is read from the disk, and values are empty.
    pub fn stored(&self, range: &KeyRange, keys_only: bool) -> StoredScan {
        (self.stored)(range, keys_only)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View of {} keys", self.keys)
    }
}

/// How far an engine's saved state reaches: the log is replayed from there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loaded {
    /// The first byte that the saved state does not cover; the default is the beginning of the log.
    pub from: Position,
    /// The last frame that it covers.
    pub last: GroupEnd,
}

/// How an engine takes up its saved state.
#[derive(Debug, Clone, Copy)]
pub enum Loading<'a> {
    /// Every frame of the log counts, so that what is missing of the saved state is made again from the log.
    Whole,
    /// Which frames count is decided elsewhere (Raft): only saved state is taken, and discarded where it does not serve.
    Prefix {
        /// The first byte of the log that counts: where a snapshot was put in place of all before, or the beginning.
        base: Position,
        /// Ascending: saved state that covers the log from the base to exactly one of these is taken, to the last if
        /// there is a choice.
        marks: &'a [Position],
    },
}

/// Which frames of the log count, where not all do.
#[derive(Clone, Copy)]
pub struct Settled<'a> {
    /// Entries that do not count: cut off by a new leader, or a repeated request.
    pub is_void: &'a dyn Fn(Position) -> bool,
    /// Entries before this do not count: a snapshot holds them.
    pub entries_from: Position,
    /// The number of the installation whose placed values count,
    pub installation: u64,
    /// and where they are.
    pub placed: (Position, Position),
}

impl Settled<'_> {
    /// Whether what the frame holds is part of the state.
    pub(crate) fn counts(&self, frame: &Frame<'_>) -> bool {
        match frame.header.kind {
            FrameKind::Records => frame.position >= self.entries_from && !(self.is_void)(frame.position),
            FrameKind::Placed => {
                let (first, end) = self.placed;
                frame.header.index == self.installation && (first..end).contains(&frame.position)
            }
            _ => false,
        }
    }
}

/// What an engine has saved, all of one instant: with the log up to `end`, a copy of the store.
pub struct Saved {
    /// How far it reaches: everything before is durable.
    pub end: Position,
    /// The version of the last write before `end`.
    pub version: Version,
    /// Which segments belong to it.
    pub manifest: Manifest,
    /// Keeps these.
    pub pin: Pin,
    /// The engine's own files.
    pub files: Vec<SavedFile>,
}

/// An open file of an engine. Its name may go while it is read.
pub struct SavedFile {
    /// Its name.
    pub name: String,
    /// The file, which never changes.
    pub file: Arc<dyn File>,
    /// Its length in bytes.
    pub len: u64,
    /// Which file it is.
    pub identity: FileIdentity,
}

/// See the module.
pub trait Engine: Send + Sync + 'static {
    /// The engine's name, as in the configuration.
    fn name(&self) -> &'static str;

    /// Loads what was saved. Missing or damaged index files are rebuilt from the log, or given up where that is not
    /// possible, and noticed.
    ///
    /// Errors: `Damage` (of the log), `Io`, `UnsupportedFormat`.
    fn load(&self, opening: &mut Opening, loading: Loading<'_>) -> Result<Loaded>;

    /// Applies committed batches and adds one outcome for each. Whether the log has reached the disk does not matter. Adds
    /// read the values that they add to from `segments`.
    ///
    /// Errors: `Damage`, `Io`, if such a value cannot be read. Then what the batch comes to is not known, and nothing may be
    /// applied any more.
    fn apply(
        &self,
        segments: &dyn Segments,
        batches: &[Applied<'_>],
        outcomes: &mut Vec<Committed>,
    ) -> Result<()>;

    /// What came of an applied batch, as far as it is remembered. Of one that is judged an engine may forget it at any time, and
    /// says so.
    fn judgement(&self, version: Version) -> Judgement;

    /// Says how late it was in what was applied so far, in milliseconds since 1970, where that is not known of batches applied
    /// here: after an opening, and when a snapshot has come.
    fn note_stamp(&self, stamp_ms: u64);

    /// Some of these keys are looked up next: what that reads of memory may be asked for already, of all at once. Changes nothing.
    fn prefetch(&self, keys: &[&[u8]]);

    /// The present value of a key. `Absent` and `Found` at once; `Cold` only if the value is not in memory.
    ///
    /// Errors: `Damage`, `Io`.
    fn lookup(&self, log: &Arc<Log>, key: &[u8]) -> Result<Lookup>;

    /// The present value of a key, waiting for the disk if need be.
    ///
    /// Errors: `Damage`, `Io`.
    fn get(&self, log: &Arc<Log>, key: &[u8]) -> Result<Option<Entry>>;

    /// A key's version and value length, without a read from the disk.
    fn meta(&self, key: &[u8]) -> Option<Meta>;

    /// A range at this instant. With `keys_only` nothing is read from the disk.
    fn scan(&self, log: &Arc<Log>, range: &KeyRange, keys_only: bool) -> Scan;

    /// The state at this instant.
    fn view(&self, log: &Arc<Log>) -> View;

    /// Saves state, so that reopening replays less. With `all` it covers everything applied so far; without, only
    /// what is due. Does nothing if there is nothing to save. The log is synced first, as far as needed. Nothing from
    /// `before` on is covered: of every frame before that it is decided whether it counts, and those that do are applied. Without
    /// `settled`, all count. Says how far the saved state reaches now.
    ///
    /// Errors: `Poisoned`, `DiskFull`, `Io`. No data is at risk; a later call may succeed.
    fn checkpoint(
        &self,
        log: &Arc<Log>,
        all: bool,
        before: Position,
        settled: Option<&Settled<'_>>,
    ) -> Result<Position>;

    /// Whether so much was applied since the last checkpoint that one is due.
    fn is_checkpoint_due(&self) -> bool;

    /// What is saved now, to be copied while the store is in use. Every frame of the log counts.
    ///
    /// Errors: `Damage`, `Io`, `InvalidRequest` if the engine saves nothing.
    fn saved(&self, log: &Arc<Log>) -> Result<Saved>;

    /// Merges what is due to be, or with `all` everything it may; `None` if there is nothing. Blocks for as long as it takes; reads
    /// and writes go on.
    ///
    /// Errors: `DiskFull`, `OutOfFiles`, `Io`, `Damage` (a record that cannot be read), and what [`Merging::pace`] and
    /// [`Merging::save`] say. Nothing is lost, and a later call may succeed.
    fn merge(&self, log: &Arc<Log>, merging: &mut Merging<'_>) -> Result<Option<Merged>>;

    /// Whether [`Engine::merge`] would find something to do. Only what lies before `before` may be merged.
    fn is_merge_due(&self, log: &Log, before: Position) -> bool;

    /// Whether the index takes so much memory that nothing should be added to it. What is committed is applied all the same.
    fn is_memory_full(&self) -> bool;

    /// Begins to gather a state that will take the place of the present one; drops one begun before.
    fn begin_replacement(&self);

    /// Adds the values of a placed frame, whose keys ascend from call to call.
    ///
    /// Errors: `InvalidRequest` if they do not.
    fn extend_replacement(&self, payload: &[u8], position: Position) -> Result<()>;

    /// Puts what was gathered in place of the present state, at once; `base` is where its first frame lies. Scans that
    /// began before go on over the old state.
    fn finish_replacement(&self, base: Position);

    /// Reads and checks every byte of the engine's own files; `on_read` gets the bytes of each piece read.
    ///
    /// Errors: `Io`, and what `on_read` says. Damage is collected, not returned.
    fn verify(
        &self,
        log: &Arc<Log>,
        on_read: &mut dyn FnMut(u64) -> Result<()>,
        damage: &mut Vec<Damage>,
    ) -> Result<u64>;

    /// The engine's figures.
    fn stats(&self) -> EngineStats;
}
