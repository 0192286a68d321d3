//! A replica: a log whose order a consensus module decides, and an engine that applies what it says is committed.
//!
//! ```text
//! open.rs        opening and closing
//! append.rs      votes, entries, cuts and marks on their way into the log
//! read.rs        entries out of it
//! entries.rs     the numbered entries: where they lie, the newest in memory
//! machine.rs     applying committed entries, each request once
//! history.rs     what watchers are shown
//! replay.rs      opening: reading the log back, as far as commit marks vouch for it
//! install.rs     a snapshot takes the place of the state
//! comparison.rs  what replicas compare
//! copy.rs        the state as a single store
//! checkpoint.rs  saving how far it got
//! state_file.rs  the file that says where replay begins
//! ```
//!
//! Nothing here knows the consensus module, votes and memberships are its bytes. What it may rely on:
//!
//! * What was submitted is appended in that order, or nothing of it is. A callback comes when it is durable.
//! * An entry can be read as soon as [`Replica::append`] returns, and applied as soon as it is written
//!   ([`Replica::is_written`]), durable or not: an entry may be committed by others before this disk has it. Index files
//!   cover durable bytes only, all the same.
//! * Applying is deterministic, and a request is applied once, also across restarts and snapshots.
//! * A crash at any moment leaves a log and a state that some moment since the last durable callback had.

mod append;
mod checkpoint;
mod comparison;
mod copy;
mod entries;
#[cfg(fuzzing)]
pub mod fuzzing;
mod history;
mod install;
mod machine;
mod open;
mod read;
mod replay;
mod state_file;

use std::{
    ops::{Bound, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use esker_log::{
    AppendQueue, Brake, Damage, Error, GroupEnd, Index, Log, Position, Result, Wait, clock::Clock,
    signal::Signal,
};
use parking_lot::Mutex;

pub(crate) use self::history::{Fate, HeldEntry};
pub(crate) use self::state_file::{LogBounds, STATE_NAME, read_log_bounds};
pub use self::{
    comparison::{Comparison, RANGES, Summary},
    entries::LogEntry,
    install::Install,
    state_file::StoredMembership,
};
use self::{
    entries::Entries,
    install::Placing,
    machine::{CommittedEntry, Head, Machine},
    state_file::State,
};
pub use crate::requests::REQUESTS_MAX;
use crate::{
    Committed, Compressor, DamageMet, Engine, KeyRange, Merged, OpenReport, Progress, Reader, RequestId,
    Scan, SnapshotStats, Stats, StoredScan, View, WriteBatch,
    bitcask::wall_ms,
    compressor::SharedCompressor,
    judge::floor_of,
    merger::{Mergeable as _, Merger},
    requests::RequestList,
};

/// So many bytes of the newest entries' payloads are kept in memory for followers that are almost up to date.
const CACHED_BYTES_MAX: usize = 64 << 20;

/// What is wrong with a log that does not reach as far as the state file says.
pub(crate) const TOO_SHORT: &str = "the log ends before this, but REPLICA says that it reaches so far";

/// What a replica tells whoever drives it. Called from the thread that appends: must not block.
pub struct Hooks {
    /// Entries up to this index are written, or a snapshot up to it was installed.
    pub written: Box<dyn Fn(Index) + Send + Sync>,
    /// Something was queued and nobody appends it by itself: call [`Replica::pump`]. Only without threads.
    pub queued: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { written: Box::new(|_| ()), queued: None }
    }
}

/// See the module. Cloning gives another handle; the last one closes it.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
    _threads: Arc<Threads>,
}

/// Ends the threads when the last handle goes.
struct Threads {
    inner: Arc<Inner>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) struct Inner {
    queue: AppendQueue<Tracker>,
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    machine: Mutex<Machine>,
    /// Numbers the installations that were begun.
    installations: AtomicU64,
    /// Locked by a checkpoint or an installation for as long as it takes: one at a time.
    saved: Mutex<Saved>,
    clock: Arc<dyn Clock>,
    maintenance: Arc<Signal>,
    checkpoint_interval: Duration,
    last_checkpoint: Mutex<Duration>,
    checkpoint_error: Mutex<Option<String>>,
    merger: Merger,
    /// Met since opening.
    damage: Mutex<DamageMet>,
    compressor: SharedCompressor,
    /// Slows those who propose here while merging cannot keep up.
    brake: Brake,
    /// The last entry that a checkpoint covers, and the membership then.
    checkpointed: Mutex<(GroupEnd, StoredMembership)>,
    closing: AtomicBool,
    has_threads: bool,
    report: OpenReport,
    appended_entries: AtomicU64,
    /// Keys and values in them, as they are stored.
    appended_bytes: AtomicU64,
    applied_operations: AtomicU64,
    /// The state at the last mark of a comparison, until somebody takes it.
    comparison: Mutex<Option<Comparison>>,
}

/// What is on the disk beside the log.
struct Saved {
    /// What `REPLICA` holds.
    state: State,
    /// How far index files reach: to a mark or the base.
    reached: Position,
}

/// What the appending thread and the others share. Locks are taken in this order: `log_end`, the machine's, `entries`.
struct Shared {
    entries: Mutex<Entries>,
    /// Where the log ends in the order of submission: what the next entry must follow.
    log_end: Mutex<GroupEnd>,
    vote: Mutex<Option<Vec<u8>>>,
    placing: Mutex<Placing>,
    hooks: Hooks,
}

impl Shared {
    fn with_entries<R>(&self, work: impl FnOnce(&mut Entries) -> R) -> R {
        work(&mut self.entries.lock())
    }

    fn log_end(&self) -> GroupEnd {
        *self.log_end.lock()
    }

    fn vote(&self) -> Option<Vec<u8>> {
        self.vote.lock().clone()
    }
}

/// Learns where frames went.
struct Tracker {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    /// Where the log ends in the order of writing.
    log_end: Mutex<GroupEnd>,
}

/// The state at one instant, to be sent to another replica.
pub struct Snapshot {
    /// The last entry it holds.
    pub last: GroupEnd,
    /// The membership at that entry.
    pub membership: StoredMembership,
    /// The latest time that an entry up to there said, in milliseconds since 1970.
    pub stamp_ms: u64,
    view: View,
    requests: RequestList,
}

impl Snapshot {
    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.view.keys()
    }

    /// Keys, versions and values as they are stored, in key order, behind `key`; an empty one is before all others. Reading
    /// waits for the disk.
    pub fn items_behind(&self, key: &[u8]) -> StoredScan {
        let start = Bound::Excluded(key.to_vec());
        self.view.stored(&KeyRange { start, ..KeyRange::all() }, false)
    }

    /// Keys, values and versions of what is present, in key order. Reading waits for the disk.
    pub fn items(&self) -> Scan {
        self.view.scan(&KeyRange::all(), false)
    }

    /// The requests applied lately, from old to new.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, Committed)> {
        self.requests.iter().copied()
    }
}

impl Replica {
    /// The reading side.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(self.inner.log()), Arc::clone(&self.inner.engine))
    }

    /// The log below.
    pub fn log(&self) -> &Arc<Log> {
        self.inner.log()
    }

    /// What opening found.
    pub fn open_report(&self) -> OpenReport {
        self.inner.report.clone()
    }

    /// The last vote that was saved.
    pub fn vote(&self) -> Option<Vec<u8>> {
        self.inner.shared.vote()
    }

    /// Where the log ends in the order of submission.
    pub fn log_end(&self) -> GroupEnd {
        self.inner.shared.log_end()
    }

    /// The entry before the first that can be read.
    pub fn purged(&self) -> GroupEnd {
        self.inner.shared.with_entries(|entries| entries.purged())
    }

    /// The last entry; the purged one if there is none behind it.
    pub fn last(&self) -> GroupEnd {
        self.inner.shared.with_entries(|entries| entries.last())
    }

    /// Whether the entry is written, so that it can be applied.
    pub fn is_written(&self, index: Index) -> bool {
        self.inner.shared.with_entries(|entries| {
            entries.get(index).map_or(index <= entries.purged().index, |held| held.position.is_some())
        })
    }

    /// The bytes of payload between two indexes, as far as those entries are held.
    pub fn bytes_between(&self, range: Range<Index>) -> u64 {
        self.inner.shared.with_entries(|entries| {
            let held = range.start.max(entries.range().start)..range.end.min(entries.range().end);
            held.filter_map(|index| entries.get(index)).map(|held| u64::from(held.payload_len)).sum()
        })
    }

    /// The last entry that has to go if no more than so many bytes and entries are to be held; 0 if none has to. Entries
    /// behind `upto` stay.
    pub fn surplus(&self, bytes_max: u64, entries_max: u64, upto: Index) -> Index {
        self.inner.shared.with_entries(|entries| entries.surplus(bytes_max, entries_max, upto))
    }

    /// The last entry that a checkpoint covers, and the membership then.
    pub fn saved(&self) -> (GroupEnd, StoredMembership) {
        self.inner.checkpointed.lock().clone()
    }

    /// Applies committed entries, in order, each once; gives an outcome for each. All must be written.
    ///
    /// Errors: `InvalidRequest` if one is not written or not the next; `Damage`, `Io` if a value cannot be read that an
    /// entry adds to: the replica is poisoned then.
    pub fn apply(&self, entries: &[LogEntry]) -> Result<Vec<Committed>> {
        let inner = &self.inner;
        let positions: Option<Vec<_>> = inner.shared.with_entries(|held| {
            let position = |entry: &LogEntry| {
                let held = held.get(entry.id.index).filter(|held| held.term == entry.id.term);
                held.and_then(|held| held.position)
            };
            entries.iter().map(position).collect()
        });
        let positions = positions
            .ok_or_else(|| Error::InvalidRequest("an entry that is not written cannot be applied".into()))?;
        let committed: Vec<_> = entries
            .iter()
            .zip(positions)
            .map(|(entry, position)| CommittedEntry {
                id: entry.id,
                kind: entry.kind,
                position,
                payload: &entry.payload,
                records: entry.records,
            })
            .collect();
        let mut machine = inner.machine.lock();
        if entries.iter().zip(machine.applied.index + 1..).any(|(entry, next)| entry.id.index != next) {
            return Err(Error::InvalidRequest("entries are applied one after another".into()));
        }
        let mut outcomes = Vec::with_capacity(entries.len());
        let is_comparison = |entry: &CommittedEntry<'_>| {
            Head::of(entry.kind, entry.payload).request.is_some_and(|id| id.is_comparison())
        };
        for part in committed.split_inclusive(is_comparison) {
            let applied = machine.apply(inner.engine.as_ref(), inner.log().as_ref(), part, &mut outcomes);
            // Half of it may be applied: whoever goes on would go another way than the other replicas.
            let repeats = applied.inspect_err(|error| inner.log().poison_with(error))?;
            if !repeats.is_empty() {
                inner.shared.with_entries(|held| held.add_void(repeats));
            }
            if let Some(last) = part.last().filter(|last| is_comparison(last)) {
                let keys = inner.engine.view(inner.log()).stored(&KeyRange::all(), true);
                let now_ms = Head::of(last.kind, last.payload).stamp_ms.max(floor_of(machine.stamp_ms));
                *inner.comparison.lock() = Some(Comparison { at: last.id.index, keys, now_ms });
            }
        }
        drop(machine);
        let operations = entries.iter().map(|entry| u64::from(entry.records)).sum();
        inner.applied_operations.fetch_add(operations, Ordering::Relaxed);
        Ok(outcomes)
    }

    /// The state at the last mark of a comparison that was applied, if nobody has taken it yet.
    pub fn take_comparison(&self) -> Option<Comparison> {
        self.inner.comparison.lock().take()
    }

    /// The time of day in milliseconds since 1970, by this replica's clock: for stamps.
    pub fn now_ms(&self) -> u64 {
        wall_ms(self.inner.clock.as_ref())
    }

    /// The last entry applied.
    pub fn applied(&self) -> GroupEnd {
        self.inner.machine.lock().applied
    }

    /// The membership at the last entry applied.
    pub fn membership(&self) -> StoredMembership {
        self.inner.machine.lock().membership.clone()
    }

    /// What a batch for this replica compresses with; it knows which values paid lately.
    pub fn compressor(&self) -> Compressor {
        self.inner.compressor.get()
    }

    /// Refuses a batch that would add keys where the index has filled the memory budget. To be asked before it is proposed: what
    /// is committed is applied.
    ///
    /// Errors: `MemoryFull`.
    pub fn check_memory(&self, batch: &WriteBatch) -> Result<()> {
        batch.check_memory(self.inner.engine.as_ref())
    }

    /// How long to wait before a batch of so many bytes is proposed, because merging cannot keep up. Appending itself never waits:
    /// votes and heartbeats are behind it.
    pub fn drag(&self, bytes: usize) -> Wait {
        self.inner.brake.owe(|| bytes)
    }

    /// Whether who waits so need not any more: merging has caught up, or has ended.
    pub fn is_released(&self, wait: &Wait) -> bool {
        self.inner.brake.is_released(wait)
    }

    /// Learns from a batch that was made here what its values compressed to.
    pub fn learn(&self, batch: &WriteBatch) {
        let (compressor, compressed) = batch.learnt();
        self.inner.compressor.learn(compressor, compressed);
    }

    /// What a request came to, if it was applied lately.
    pub fn outcome_of(&self, request: &RequestId) -> Option<Committed> {
        self.inner.machine.lock().requests.get(request)
    }

    /// The state at this instant.
    pub fn snapshot(&self) -> Snapshot {
        let machine = self.inner.machine.lock();
        Snapshot {
            last: machine.applied,
            membership: machine.membership.clone(),
            view: self.inner.engine.view(self.inner.log()),
            requests: machine.requests.to_list(),
            stamp_ms: machine.stamp_ms,
        }
    }

    /// The figures of log and engine.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Notes damage, as [`Db::note_damage`](crate::Db::note_damage) does.
    pub fn note_damage(&self, damage: &Damage) {
        self.inner.note_damage(damage);
    }

    /// Tells of damage, as [`Db::on_merge_damage`](crate::Db::on_merge_damage) does.
    pub fn on_merge_damage(&self, tell: impl Fn(&Damage) + Send + 'static) {
        self.inner.merger.on_damage(tell);
    }

    /// Does one turn of appending. Only needed without threads. False if the disk is full.
    pub fn pump(&self) -> bool {
        self.inner.queue.pump()
    }

    /// Does what is due of checkpoints; says when to come back. Only needed without threads.
    pub fn maintain(&self) -> Duration {
        self.inner.maintain()
    }

    /// Merges now what is worth it, or with `all` everything that no other node may still need. Waits until it is done.
    ///
    /// Errors: as for [`Db::merge`](crate::Db::merge).
    pub fn merge(&self, all: bool) -> Result<Merged> {
        self.merge_with(all, &mut |_, _| Ok(()))
    }

    /// The same; `progress` as for [`Db::merge_with`](crate::Db::merge_with).
    ///
    /// Errors: those of [`Replica::merge`], and what `progress` says.
    pub fn merge_with(&self, all: bool, progress: Progress<'_>) -> Result<Merged> {
        self.inner.merger.merge_now(self.inner.as_ref(), all, progress)
    }

    /// Appends what is queued, writes a checkpoint and stops the threads.
    ///
    /// Errors: those of [`Replica::checkpoint`]: it is closed all the same.
    pub fn close(&self) -> Result<()> {
        self._threads.close()
    }
}

impl Inner {
    pub(crate) fn log(&self) -> &Arc<Log> {
        self.queue.log()
    }

    fn stats(&self) -> Stats {
        let (log, engine) = (self.log(), self.engine.stats());
        let appended = log.appended();
        let segments = log.segments();
        let merged = log.merged();
        let sealed = segments.iter().chain(&merged).filter_map(|segment| segment.sealed_end());
        let sealed: u64 = sealed.map(u64::from).sum();
        let entries = self.appended_entries.load(Ordering::Relaxed);
        Stats {
            keys: engine.keys,
            version: self.machine.lock().applied.index,
            index_bytes: engine.index_bytes,
            segments: segments.len() as u64,
            merged_segments: merged.len() as u64,
            active_segment: appended.segment,
            log_bytes: sealed + u64::from(appended.offset),
            live_bytes: engine.live_bytes,
            syncs: log.counters().syncs.load(Ordering::Relaxed),
            groups: log.counters().syncs.load(Ordering::Relaxed),
            batches: entries,
            operations: self.applied_operations.load(Ordering::Relaxed),
            bytes_written: log.counters().bytes_written.load(Ordering::Relaxed) + engine.checkpoint_bytes,
            queued_batches: 0,
            queued_bytes: self.queue.queued_bytes() as u64,
            checkpoints: engine.checkpoints,
            cache: engine.cache,
            memory_full: engine.memory_full,
            snapshots: SnapshotStats { retired_bytes: log.retired_bytes(), ..engine.snapshots },
            throttled: self.brake.waited(),
            user_bytes: self.appended_bytes.load(Ordering::Relaxed),
            compression: self.compressor.stats(),
            poisoned: log.poison().map(|why| why.to_string()),
            disk_full: log.is_disk_full(),
            checkpoint_error: self.checkpoint_error.lock().clone().or(engine.join_error),
            merges: engine.merges,
            merge_error: self.merger.error.lock().clone(),
            damage: self.damage.lock().clone(),
        }
    }
}
