//! A replica: a log whose order a consensus module decides, and an engine that applies what it says is committed.
//!
//! ```text
//! entries.rs     the numbered entries: where they lie, the newest in memory
//! machine.rs     applying committed entries, each request once
//! requests.rs    the requests seen lately
//! replay.rs      opening: reading the log back, as far as commit marks vouch for it
//! install.rs     a snapshot takes the place of the state
//! comparison.rs  what replicas compare
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

mod checkpoint;
mod comparison;
mod entries;
#[cfg(fuzzing)]
pub mod fuzzing;
mod install;
mod machine;
mod replay;
mod requests;
mod state_file;

use std::{
    ops::{Bound, Range},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use esker_log::{
    Append, AppendQueue, Draft, Error, GroupEnd, Index, LockedDir, Log, LogOptions, OnAppended, Opening,
    Position, Result, Written,
    clock::Clock,
    disk::Disk,
    format::{FrameKind, PAYLOAD_LEN_MAX},
    segment::segment_name,
    signal::Signal,
};
use parking_lot::Mutex;

use self::requests::RequestList;
pub(crate) use self::state_file::{LogBounds, STATE_NAME, read_log_bounds};
pub use self::{
    comparison::{Comparison, RANGES, Summary},
    entries::LogEntry,
    install::Install,
    requests::REQUESTS_MAX,
    state_file::StoredMembership,
};
use self::{
    entries::{Entries, Held},
    install::Placing,
    machine::{CommittedEntry, Machine, first_request},
    replay::Replay,
    state_file::State,
};
use crate::{
    Committed, Engine, Environment, GROUP, KeyRange, Loading, OpenReport, Options, Reader, RequestId, Scan,
    Stats, View, bitcask::Bitcask,
};

/// So many bytes of the newest entries' payloads are kept in memory for followers that are almost up to date.
const CACHED_BYTES_MAX: usize = 64 << 20;

/// What is wrong with a log that does not reach as far as the state file says.
pub(crate) const TOO_SHORT: &str = "the log ends before this, but REPLICA says that it reaches so far";

/// Who waits for an append looks this often whether the disk is full.
const STALL_LOOK_INTERVAL: Duration = Duration::from_millis(100);

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

struct Inner {
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
    /// The last entry that a checkpoint covers, and the membership then.
    checkpointed: Mutex<(GroupEnd, StoredMembership)>,
    closing: AtomicBool,
    has_threads: bool,
    report: OpenReport,
    appended_entries: AtomicU64,
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

impl Written for Tracker {
    fn written(&self, drafts: &[Draft]) {
        let mut log_end = self.log_end.lock();
        let mut last = None;
        for draft in drafts {
            let id = GroupEnd { index: draft.appended_index, term: draft.term };
            match draft.kind {
                kind if kind.is_entry() => {
                    let is_held = self.shared.with_entries(|held| held.note_written(id, draft.position));
                    last = is_held.then_some(id.index).or(last);
                }
                FrameKind::Truncate | FrameKind::Base => self.shared.with_entries(Entries::note_cut_written),
                FrameKind::Placed => {
                    self.shared.placing.lock().note(draft, *log_end, self.engine.as_ref());
                }
                _ => {}
            }
            *log_end = id.behind(*log_end, draft.kind).unwrap_or(*log_end);
        }
        if let Some(last) = last {
            (self.shared.hooks.written)(last);
        }
    }
}

/// The state at one instant, to be sent to another replica.
pub struct Snapshot {
    /// The last entry it holds.
    pub last: GroupEnd,
    /// The membership at that entry.
    pub membership: StoredMembership,
    view: View,
    requests: RequestList,
}

impl Snapshot {
    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.view.keys()
    }

    /// Keys, values and versions in key order, behind `key`; an empty one is before all others. Reading waits for the
    /// disk.
    pub fn items_behind(&self, key: &[u8]) -> Scan {
        let start = Bound::Excluded(key.to_vec());
        self.view.scan(&KeyRange { start, ..KeyRange::all() }, false)
    }

    /// Keys, values and versions in key order. Reading waits for the disk.
    pub fn items(&self) -> Scan {
        self.view.scan(&KeyRange::all(), false)
    }

    /// The requests applied lately, from old to new.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, Committed)> {
        self.requests.iter().copied()
    }
}

impl Replica {
    /// Opens the replica in `dir`, or creates it.
    ///
    /// Errors: `Locked`, `Damage`, `UnsupportedFormat`, `InvalidRequest` (options out of range; a store that is no
    /// replica's), `DiskFull`, `Io`.
    pub fn open(
        environment: &Environment,
        dir: impl AsRef<Path>,
        options: Options,
        hooks: Hooks,
    ) -> Result<Self> {
        let maintenance = Arc::new(Signal::default());
        let engine = Arc::new(Bitcask::new(&options, Arc::clone(&maintenance)));
        Self::open_engine(environment, dir, options, engine, maintenance, hooks)
    }

    /// The same with an engine of the caller's.
    pub fn open_engine(
        environment: &Environment,
        dir: impl AsRef<Path>,
        options: Options,
        engine: Arc<dyn Engine>,
        maintenance: Arc<Signal>,
        hooks: Hooks,
    ) -> Result<Self> {
        options.check()?;
        let (dir, disk) = (dir.as_ref(), &environment.disk);
        let began = environment.clock.monotonic();
        let locked = LockedDir::new(Arc::clone(disk), dir)?;
        let found = State::read(disk.as_ref(), dir)?;
        let is_new = found.is_none();
        let state = found.unwrap_or_default();
        let log_options = LogOptions {
            segment_max_bytes: options.segment_max_bytes,
            first_segment: state.base.mark.position.segment,
            ..LogOptions::default()
        };
        let mut opening = Opening::begin_in(locked, log_options, environment.store_id)?;
        if is_new {
            create(disk.as_ref(), dir, &opening, &state)?;
        } else if opening.has_dead_segments() {
            // That they are dead may so far be written in the page cache only.
            state.write(disk.as_ref(), dir)?;
            opening.remove_dead_segments()?;
        }
        let (base, marks) = (state.base.mark.position, state.mark_positions());
        let reached = engine.load(&mut opening, Loading::Prefix { base, marks: &marks })?.from;
        let (mut replay, start) = Replay::new(Arc::clone(&engine), &state, reached, CACHED_BYTES_MAX);
        let ends = [(GROUP, start.log_end)].into();
        let recovered = opening.recover(start.position, ends, &mut |frame| replay.on_frame(&frame))?;
        check_reach(recovered.writer.log(), &state, replay.is_whole())?;
        let (written_end, log_end) = (recovered.writer.group_end(GROUP), replay.entries.last());
        let now = environment.clock.monotonic();
        let shared = Arc::new(Shared {
            entries: Mutex::new(replay.entries),
            log_end: Mutex::new(log_end),
            vote: Mutex::new(Some(replay.vote).filter(|vote| !vote.is_empty())),
            placing: Mutex::default(),
            hooks,
        });
        let tracker = Tracker {
            shared: Arc::clone(&shared),
            engine: Arc::clone(&engine),
            log_end: Mutex::new(written_end),
        };
        let inner = Arc::new(Inner {
            queue: AppendQueue::new(recovered.writer, tracker),
            shared,
            engine,
            machine: Mutex::new(replay.machine),
            installations: AtomicU64::new(state.base.installation),
            checkpointed: Mutex::new((start.applied, start.membership.clone())),
            saved: Mutex::new(Saved { state, reached }),
            clock: Arc::clone(&environment.clock),
            maintenance,
            checkpoint_interval: options.checkpoint_interval,
            last_checkpoint: Mutex::new(now),
            checkpoint_error: Mutex::new(None),
            closing: AtomicBool::new(false),
            has_threads: environment.threads,
            report: OpenReport {
                took: now.saturating_sub(began),
                replayed: recovered.replayed,
                notices: recovered.notices,
            },
            appended_entries: AtomicU64::new(0),
            applied_operations: AtomicU64::new(0),
            comparison: Mutex::new(None),
        });
        if written_end != log_end {
            // The frame that says so was lost, or never written.
            inner.shared.with_entries(|entries| entries.cut(log_end.index));
            inner.queue_lazily(FrameKind::Base, log_end);
            inner.note_queued();
        }
        let mut handles = Vec::new();
        let started = if environment.threads { start_threads(&inner, &mut handles) } else { Ok(()) };
        if started.is_err() {
            // Closing would wait for a thread that is not there.
            inner.closing.store(true, Ordering::Release);
            inner.queue.close();
            inner.maintenance.raise();
        }
        let threads = Arc::new(Threads { inner: Arc::clone(&inner), handles: Mutex::new(handles) });
        let replica = Self { inner, _threads: threads };
        started.map(|()| replica)
    }

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

    /// Saves a vote; `done` is called when it is durable. [`Replica::vote`] gives it at once.
    pub fn save_vote(&self, vote: Vec<u8>, done: OnAppended) {
        *self.inner.shared.vote.lock() = Some(vote.clone());
        let draft = Draft::new(FrameKind::Vote, GROUP, GroupEnd::default(), vote, 0);
        self.inner.submit(Append { drafts: vec![draft], sync: true, done });
    }

    /// Appends entries, each behind the last; `done` is called when they are durable. They can be read at once.
    ///
    /// Errors (then `done` is not called): `InvalidRequest` if they do not follow the last entry.
    pub fn append(&self, entries: &[LogEntry], done: OnAppended) -> Result<()> {
        let inner = &self.inner;
        if !entries.iter().all(|entry| entry.kind.is_entry() && entry.payload.len() <= PAYLOAD_LEN_MAX) {
            return Err(Error::InvalidRequest("only entries of bounded length are appended".into()));
        }
        let draft =
            |entry: &LogEntry| Draft::new(entry.kind, GROUP, entry.id, entry.payload.to_vec(), entry.records);
        // Copied before the locks are taken.
        let drafts: Vec<_> = entries.iter().map(draft).collect();
        let mut log_end = inner.shared.log_end.lock();
        let mut last = *log_end;
        for entry in entries {
            last = entry.id.behind(last, entry.kind).ok_or_else(|| {
                Error::InvalidRequest(format!("entry {:?} does not follow {last:?}", entry.id))
            })?;
        }
        inner.shared.with_entries(|held| entries.iter().for_each(|entry| held.push(Held::unwritten(entry))));
        *log_end = last;
        inner.appended_entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        // Still under the lock: the order of submission is the order of the indexes.
        inner.queue.submit(Append { drafts, sync: true, done });
        drop(log_end);
        inner.note_queued();
        Ok(())
    }

    /// Where the log ends in the order of submission.
    pub fn log_end(&self) -> GroupEnd {
        self.inner.shared.log_end()
    }

    /// Cuts off the entries behind `last`, which must not be committed. Appends that come later follow `last`. Durable
    /// with whatever is appended next: until then a crash may bring the entries back, which does no harm.
    pub fn truncate_after(&self, last: GroupEnd) {
        let inner = &self.inner;
        let mut log_end = inner.shared.log_end.lock();
        if last.index >= log_end.index {
            return;
        }
        if last.index < inner.machine.lock().applied.index {
            let why =
                std::io::Error::other("entries that were applied were to be cut off: report this defect");
            inner.log().poison_with(&Error::io("truncating the log", why));
            return;
        }
        inner.shared.with_entries(|entries| entries.cut(last.index));
        *log_end = last;
        inner.queue_lazily(FrameKind::Truncate, last);
        drop(log_end);
        inner.note_queued();
    }

    /// Forgets entries up to `upto`, which should be covered by a checkpoint ([`Replica::checkpointed`]): a restart
    /// brings back those that are not. The bytes stay: values are read from them. If the log ends before `upto`, it goes
    /// on behind it.
    pub fn purge(&self, upto: GroupEnd) {
        let inner = &self.inner;
        let mut log_end = inner.shared.log_end.lock();
        if upto.index > log_end.index {
            inner.shared.with_entries(|entries| entries.cut(upto.index));
            *log_end = upto;
            inner.queue_lazily(FrameKind::Base, upto);
        }
        inner.shared.with_entries(|entries| entries.purge(upto));
        drop(log_end);
        inner.note_queued();
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

    /// Reads entries from the front of `range`, at least one if there is one, up to about `bytes_max` of payload. Waits for
    /// the disk where they are not in memory.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn read(&self, range: Range<Index>, bytes_max: usize) -> Result<Vec<LogEntry>> {
        self.inner.read(range, bytes_max)
    }

    /// Like [`Replica::read`], without ever waiting for the disk; `None` where that would be needed.
    pub fn read_cached(&self, range: Range<Index>, bytes_max: usize) -> Option<Vec<LogEntry>> {
        self.inner.shared.with_entries(|entries| {
            let range = range.start.max(entries.range().start)..range.end.min(entries.range().end);
            let (mut found, mut bytes) = (Vec::new(), 0);
            for index in range {
                let Some(held) = entries.get(index) else { break };
                bytes += held.payload_len as usize;
                if !found.is_empty() && bytes > bytes_max {
                    break;
                }
                let payload = Arc::clone(held.payload.as_ref()?);
                let id = GroupEnd { index, term: held.term };
                found.push(LogEntry { id, kind: held.kind, payload, records: held.records });
            }
            Some(found)
        })
    }

    /// The last entry that a checkpoint covers, and the membership then.
    pub fn saved(&self) -> (GroupEnd, StoredMembership) {
        self.inner.checkpointed.lock().clone()
    }

    /// Notes in the log that everything up to `last` is committed, so that a restart applies it without asking. Not
    /// synced: what of it is lost is learnt again.
    pub fn note_committed(&self, last: GroupEnd) {
        self.inner.queue_lazily(FrameKind::Commit, last);
        self.inner.note_queued();
    }

    /// Applies committed entries, in order, each once; gives an outcome for each. All must be written.
    ///
    /// Errors: `InvalidRequest` if one is not written or not the next.
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
            first_request(entry.kind, entry.payload).is_some_and(|id| id.is_comparison())
        };
        for part in committed.split_inclusive(is_comparison) {
            let repeats = machine.apply(inner.engine.as_ref(), part, &mut outcomes);
            if !repeats.is_empty() {
                inner.shared.with_entries(|held| held.add_void(repeats));
            }
            if let Some(last) = part.last().filter(|last| is_comparison(last)) {
                let keys = inner.engine.scan(inner.log(), &KeyRange::all(), true);
                *inner.comparison.lock() = Some(Comparison { at: last.id.index, keys });
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

    /// The last entry applied.
    pub fn applied(&self) -> GroupEnd {
        self.inner.machine.lock().applied
    }

    /// The membership at the last entry applied.
    pub fn membership(&self) -> StoredMembership {
        self.inner.machine.lock().membership.clone()
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
        }
    }

    /// The figures of log and engine.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Does one turn of appending. Only needed without threads. False if the disk is full.
    pub fn pump(&self) -> bool {
        self.inner.queue.pump()
    }

    /// Does what is due of checkpoints; says when to come back. Only needed without threads.
    pub fn maintain(&self) -> Duration {
        self.inner.maintain()
    }

    /// Appends what is queued, writes a checkpoint and stops the threads.
    ///
    /// Errors: those of [`Replica::checkpoint`]: it is closed all the same.
    pub fn close(&self) -> Result<()> {
        self._threads.close()
    }
}

/// The first thing of a new replica: without the file, the directory would pass for a store that is no replica's.
fn create(disk: &dyn Disk, dir: &Path, opening: &Opening, state: &State) -> Result<()> {
    if !opening.segments().is_empty() {
        return Err(Error::InvalidRequest(format!(
            "{} holds the store of a single node (or has lost its file {STATE_NAME}): export it and import it into the \
             cluster",
            dir.display()
        )));
    }
    state.write(disk, dir)
}

/// The log must have what the state file says that it has.
fn check_reach(log: &Log, state: &State, is_whole: bool) -> Result<()> {
    let reach = state.reach();
    if is_whole && log.appended() >= reach {
        return Ok(());
    }
    let path = log.dir().join(segment_name(reach.segment));
    Err(Error::damage(path, reach.offset.into(), TOO_SHORT))
}

impl Inner {
    fn log(&self) -> &Arc<Log> {
        self.queue.log()
    }

    fn submit(&self, append: Append) {
        self.queue.submit(append);
        self.note_queued();
    }

    /// Queues a mark that takes effect at once and is durable with whatever comes behind it.
    fn queue_lazily(&self, kind: FrameKind, at: GroupEnd) {
        let draft = Draft::new(kind, GROUP, at, Vec::new(), 0);
        // If it is not written, nothing later will be either, and that is told.
        let done = Box::new(|_told_to_the_next| ());
        self.queue.submit(Append { drafts: vec![draft], sync: false, done });
    }

    /// Without a thread of its own, what is queued is appended by whoever was asked to, or here.
    fn note_queued(&self) {
        if self.has_threads {
            return;
        }
        match &self.shared.hooks.queued {
            Some(queued) => queued(),
            None => drop(self.queue.pump()),
        }
    }

    /// Appends and waits. After `DiskFull` it is still queued: it may be written later.
    fn append_and_wait(&self, drafts: Vec<Draft>, sync: bool) -> Result<()> {
        let told = self.queue_and_tell(drafts, sync);
        self.wait(&told)
    }

    fn queue_and_tell(&self, drafts: Vec<Draft>, sync: bool) -> mpsc::Receiver<Result<()>> {
        let (tell, told) = mpsc::channel();
        let done = Box::new(move |outcome| drop(tell.send(outcome)));
        self.queue.submit(Append { drafts, sync, done });
        told
    }

    fn wait(&self, told: &mpsc::Receiver<Result<()>>) -> Result<()> {
        if !self.has_threads {
            // Waiting would be for ever: there is only this thread.
            while self.queue.queued_bytes() > 0 && self.queue.pump() {}
            return told.try_recv().unwrap_or_else(|e| match e {
                mpsc::TryRecvError::Empty => Err(Error::DiskFull),
                mpsc::TryRecvError::Disconnected => Err(Error::Closed),
            });
        }
        loop {
            match told.recv_timeout(STALL_LOOK_INTERVAL) {
                Err(mpsc::RecvTimeoutError::Timeout) if self.queue.is_stalled() => {
                    return Err(Error::DiskFull);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Error::Closed),
                Ok(outcome) => return outcome,
            }
        }
    }

    /// See [`Replica::read`].
    fn read(&self, range: Range<Index>, bytes_max: usize) -> Result<Vec<LogEntry>> {
        let mut found = Vec::new();
        // A snapshot that is put in place meanwhile retires segments.
        let _pin = self.log().pin();
        self.shared.with_entries(|entries| {
            let range = range.start.max(entries.range().start)..range.end.min(entries.range().end);
            let mut bytes = 0;
            for index in range {
                let Some(held) = entries.get(index) else { break };
                bytes += held.payload_len as usize;
                if !found.is_empty() && bytes > bytes_max {
                    break;
                }
                found.push((GroupEnd { index, term: held.term }, held.clone()));
            }
        });
        found.into_iter().map(|(id, held)| self.read_entry(id, held)).collect()
    }

    fn read_entry(&self, id: GroupEnd, held: Held) -> Result<LogEntry> {
        let Held { kind, records, payload_len, position, payload, .. } = held;
        let payload = match (payload, position) {
            (Some(payload), _) => payload,
            (None, Some(position)) => self.read_payload(id, position, payload_len)?,
            (None, None) => unreachable!("an entry that is not written keeps its payload"),
        };
        Ok(LogEntry { id, kind, payload, records })
    }

    fn read_payload(&self, id: GroupEnd, position: Position, payload_len: u32) -> Result<Arc<[u8]>> {
        let (header, payload) = self.log().read_frame(position, payload_len)?;
        if (GroupEnd { index: header.index, term: header.term }) == id {
            return Ok(payload.into());
        }
        let path = self.log().dir().join(segment_name(position.segment));
        Err(Error::damage(path, u64::from(position.offset), "the frame is another entry's"))
    }

    fn stats(&self) -> Stats {
        let (log, engine) = (self.log(), self.engine.stats());
        let appended = log.appended();
        let segments = log.segments();
        let sealed: u64 = segments.iter().filter_map(|segment| segment.sealed_end()).map(u64::from).sum();
        let entries = self.appended_entries.load(Ordering::Relaxed);
        Stats {
            keys: engine.keys,
            version: self.machine.lock().applied.index,
            index_bytes: engine.index_bytes,
            segments: segments.len() as u64,
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
            poisoned: log.poison().map(|why| why.to_string()),
            disk_full: log.is_disk_full(),
            checkpoint_error: self.checkpoint_error.lock().clone(),
        }
    }
}

impl Threads {
    fn close(&self) -> Result<()> {
        let handles = std::mem::take(&mut *self.handles.lock());
        if self.inner.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let saved = self.inner.checkpoint(true);
        self.inner.queue.close();
        self.inner.maintenance.raise();
        for handle in handles {
            handle.join().expect("a replica's threads do not panic");
        }
        saved
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // What cannot be saved here is replayed at the next opening; `close` is there for those who want to know.
        drop(self.close());
    }
}

fn start_threads(inner: &Arc<Inner>, handles: &mut Vec<JoinHandle<()>>) -> Result<()> {
    let mut start = |name: &str, run: fn(&Inner)| -> Result<()> {
        let inner = Arc::clone(inner);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&inner));
        handles.push(thread.map_err(|e| Error::io("starting a thread", e))?);
        Ok(())
    };
    start("esker-append", |inner| inner.queue.run())?;
    start("esker-maintain", Inner::run_maintenance)
}
