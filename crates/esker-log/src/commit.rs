//! Group commit: many writers, one append, one fdatasync.
//!
//! There is no commit thread on the way of a blocking writer and there are no timers. A writer that finds nobody
//! committing *leads*: it appends what is queued, syncs if any of it asks for that, has it applied, and answers. Writers
//! that come meanwhile queue up and form the next group. (LevelDB's writer queue, without its memtable.)
//!
//! ```text
//! write/submit ─▶ queue (bounded) ─▶ append + sync ─▶ apply, in log order ─▶ answer
//!                                    one leader        may overlap with the next leader's sync
//! ```
//!
//! A leader whose group was synced hands leadership on *before* it applies and answers, so that the device is never
//! idle while answers are given. A leader that did not sync goes on leading for a bounded number of groups: passing
//! leadership to another thread would cost more than the work.
//! Batches that came through [`GroupCommit::submit`] are led by one of [`COMMITTERS`] threads of the store's own,
//! because the submitter must never block on the disk.
//!
//! A defect must not leave writers waiting for ever: a panic while a group is appended or applied poisons the log and
//! is answered as such, and one in a callback stays with that callback.
//!
//! Invariants: `leading` is set from the moment a leader is named until it finds the queue empty; whoever is named
//! leader takes the queue's front; groups are applied in the order of their tickets, which is log order.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    Error, Log, Result, SyncPolicy,
    clock::Clock,
    format::{FRAME_HEADER_LEN, PAYLOAD_LEN_MAX},
    signal::Signal,
    writer::{Draft, Writer},
};

/// A group has at most this many batches.
const GROUP_BATCHES_MAX: usize = 1024;
/// A group has at most this many bytes, unless its first batch alone has more.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// So many groups an unsynced leader commits before it hands on, so that its own answer is not late without bound.
const LEAD_GROUPS_MAX: usize = 16;
/// How often a waiting writer looks before it sleeps: about as long as an unsynced commit takes.
const SPINS_MAX: usize = 64;
/// Threads that lead for submitted batches: one can apply and answer while the other syncs.
pub const COMMITTERS: usize = 2;
/// Beyond this many unsynced bytes the background syncs, whatever the policy: sealing a segment, for which
/// a writer waits, then finds little left to do.
const UNSYNCED_BYTES_MAX: u32 = 32 << 20;
/// What a refused writer is told to wait.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// What happens to a batch once it is in the log.
pub trait Consumer: Send + Sync + 'static {
    /// What the writer is told.
    type Outcome: Send + 'static;

    /// Applies appended drafts, in log order, and adds one outcome for each. Never called twice at once.
    fn consume(&self, drafts: &[Draft], outcomes: &mut Vec<Self::Outcome>);
}

/// Called with the outcome of a submitted batch.
pub type Callback<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// Limits of the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Batches that may wait.
    pub batches: usize,
    /// Bytes that may wait; a single larger batch is taken when nothing else waits.
    pub bytes: usize,
}

enum Reply<T> {
    /// The leader's own batch: the outcome is handed back by the function that leads.
    Own,
    Waiter(Arc<Waiter<T>>),
    Callback(Callback<T>),
}

struct Entry<T> {
    draft: Draft,
    sync: SyncPolicy,
    reply: Reply<T>,
}

const WAITING: u8 = 0;
const LEAD: u8 = 1;
const DONE: u8 = 2;

/// A thread that waits for its batch, and may be told to lead instead.
struct Waiter<T> {
    state: AtomicU8,
    outcome: Mutex<Option<Result<T>>>,
    thread: Thread,
}

impl<T> Waiter<T> {
    fn wait(&self) -> u8 {
        for _ in 0..SPINS_MAX {
            let state = self.state.load(Ordering::Acquire);
            if state != WAITING {
                return state;
            }
            std::hint::spin_loop();
        }
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state != WAITING {
                return state;
            }
            std::thread::park();
        }
    }

    fn wake(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.thread.unpark();
    }

    fn finish(&self, outcome: Result<T>) {
        *self.outcome.lock() = Some(outcome);
        self.wake(DONE);
    }
}

struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// Whether somebody leads, or has been told to.
    leading: bool,
    /// How many committers have been told to lead and have not begun.
    committers_called: usize,
    next_ticket: u64,
    closed: bool,
}

/// Counters since opening.
#[derive(Debug, Default)]
pub struct CommitCounters {
    /// Groups committed.
    pub groups: AtomicU64,
    /// Batches committed.
    pub batches: AtomicU64,
    /// Operations committed.
    pub operations: AtomicU64,
}

/// Shares a [`Writer`] among threads; see the module.
pub struct GroupCommit<C: Consumer> {
    log: Arc<Log>,
    consumer: C,
    clock: Arc<dyn Clock>,
    policy: SyncPolicy,
    limits: QueueLimits,
    queue: Mutex<Queue<C::Outcome>>,
    /// Signalled when entries leave the queue, and when it falls idle.
    space: Condvar,
    /// Signalled when a committer is called or the queue is closed.
    call: Condvar,
    /// Locked by the leader; also by maintenance, for a moment, while the disk is full.
    writer: Mutex<Writer>,
    turn: Mutex<Turn>,
    turn_passed: Condvar,
    /// When the oldest write under [`SyncPolicy::Every`] must be on the disk, in monotonic nanoseconds; `u64::MAX`: never.
    sync_due: AtomicU64,
    /// Raised when `sync_due` is set.
    maintenance: Arc<Signal>,
    counters: CommitCounters,
}

/// Who may apply.
#[derive(Default)]
struct Turn {
    /// The ticket of the group that may be applied now.
    ticket: u64,
    /// Whether the consumer panicked. It may have applied half a batch, so nothing is applied on top of that.
    consumer_died: bool,
}

/// A group on its way: drafts and what goes with each, in the same order.
struct Group<T> {
    ticket: u64,
    drafts: Vec<Draft>,
    syncs: SyncPolicy,
    replies: Vec<Reply<T>>,
}

impl<C: Consumer> GroupCommit<C> {
    /// Takes charge of `writer`. `maintenance` is raised when [`GroupCommit::maintain_sync`] will have something to do.
    pub fn new(
        writer: Writer,
        consumer: C,
        clock: Arc<dyn Clock>,
        policy: SyncPolicy,
        limits: QueueLimits,
        maintenance: Arc<Signal>,
    ) -> Self {
        Self {
            log: Arc::clone(writer.log()),
            consumer,
            clock,
            policy,
            limits,
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                bytes: 0,
                leading: false,
                committers_called: 0,
                next_ticket: 0,
                closed: false,
            }),
            space: Condvar::new(),
            call: Condvar::new(),
            writer: Mutex::new(writer),
            turn: Mutex::default(),
            turn_passed: Condvar::new(),
            sync_due: AtomicU64::new(u64::MAX),
            maintenance,
            counters: CommitCounters::default(),
        }
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// What applies the groups.
    pub fn consumer(&self) -> &C {
        &self.consumer
    }

    /// Counters since opening.
    pub fn counters(&self) -> &CommitCounters {
        &self.counters
    }

    /// Batches and bytes that wait.
    pub fn queued(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.entries.len(), queue.bytes)
    }

    /// Commits a batch and waits for the outcome; waits also for room in the queue.
    ///
    /// Errors: `Closed`, `InvalidRequest`, `DiskFull`, `Poisoned`.
    pub fn write(&self, draft: Draft, sync: Option<SyncPolicy>) -> Result<C::Outcome> {
        check_payload(&draft)?;
        let sync = self.effective(sync);
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return Err(Error::Closed);
            }
            if !queue.leading {
                let group = Self::group_of_one(&mut queue, draft, sync);
                drop(queue);
                return self.lead(group).expect("the leader's own batch is in its first group");
            }
            if self.has_room(&queue, draft.payload.len()) {
                break;
            }
            self.space.wait(&mut queue);
        }
        let waiter = Arc::new(Waiter {
            state: AtomicU8::new(WAITING),
            outcome: Mutex::new(None),
            thread: std::thread::current(),
        });
        Self::enqueue(&mut queue, Entry { draft, sync, reply: Reply::Waiter(Arc::clone(&waiter)) });
        drop(queue);
        if waiter.wait() == LEAD {
            let group = self.take_group(&mut self.queue.lock());
            self.lead(group);
            // Its own batch was at the front of the queue when it was called, so it is answered by now.
        }
        let outcome = waiter.outcome.lock().take();
        outcome.expect("a waiter that is done has its outcome")
    }

    /// Queues a batch; `done` is called on a committer's thread. Never waits for the disk.
    ///
    /// Errors (`done` is dropped uncalled): `Busy`, `Closed`, `InvalidRequest`, `Poisoned`.
    pub fn submit(&self, draft: Draft, sync: Option<SyncPolicy>, done: Callback<C::Outcome>) -> Result<()> {
        check_payload(&draft)?;
        self.log.check_healthy()?;
        let sync = self.effective(sync);
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Error::Closed);
        }
        if !self.has_room(&queue, draft.payload.len()) {
            return Err(Error::Busy { retry_after: RETRY_AFTER });
        }
        Self::enqueue(&mut queue, Entry { draft, sync, reply: Reply::Callback(done) });
        if !queue.leading {
            queue.leading = true;
            self.call_committer(&mut queue);
        }
        Ok(())
    }

    /// The life of a committer thread: leads when called, returns when the queue is closed and empty.
    pub fn run_committer(&self) {
        let mut queue = self.queue.lock();
        loop {
            if queue.committers_called > 0 {
                queue.committers_called -= 1;
                let group = self.take_group(&mut queue);
                drop(queue);
                self.lead(group);
                queue = self.queue.lock();
            } else if queue.closed && !queue.leading {
                return;
            } else {
                self.call.wait(&mut queue);
            }
        }
    }

    /// Takes no more batches and waits until those that were taken are answered. Committers return.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        self.space.notify_all();
        while queue.leading {
            self.space.wait(&mut queue);
        }
        let last_ticket = queue.next_ticket;
        self.call.notify_all();
        drop(queue);
        let mut turn = self.turn.lock();
        while turn.ticket < last_ticket {
            self.turn_passed.wait(&mut turn);
        }
    }

    /// Where the last append found the disk full: sees whether there is space by now, so that the store is known to
    /// take writes again before somebody tries one. Says whether the disk is still full.
    pub fn retry_full_disk(&self) -> bool {
        if self.log.is_disk_full()
            && let Some(mut writer) = self.writer.try_lock()
        {
            // Whatever else goes wrong has poisoned the log, which every writer is told.
            let _still_full = writer.probe_space().is_err();
        }
        self.log.is_disk_full()
    }

    /// Syncs if a write under [`SyncPolicy::Every`] is due, or if so much is unsynced that sealing the segment would take
    /// long; says how long until the next may be due. A failed sync has poisoned the log.
    pub fn maintain_sync(&self) -> Result<Option<Duration>> {
        if self.unsynced_bytes() >= UNSYNCED_BYTES_MAX {
            self.log.sync()?;
        }
        let due = self.sync_due.load(Ordering::Acquire);
        if due == u64::MAX {
            return Ok(None);
        }
        let now = nanos(self.clock.monotonic());
        if now < due {
            return Ok(Some(Duration::from_nanos(due - now)));
        }
        // Reset first: a write that comes during the sync sets it again.
        self.sync_due.store(u64::MAX, Ordering::Release);
        self.log.sync()?;
        Ok(None)
    }

    /// Bytes appended to the active segment that are not known to be durable.
    fn unsynced_bytes(&self) -> u32 {
        let (appended, durable) = (self.log.appended(), self.log.durable());
        if appended.segment == durable.segment { appended.offset - durable.offset } else { appended.offset }
    }

    fn effective(&self, asked: Option<SyncPolicy>) -> SyncPolicy {
        asked.map_or(self.policy, |asked| asked.stronger(self.policy))
    }

    fn has_room(&self, queue: &Queue<C::Outcome>, bytes: usize) -> bool {
        queue.entries.is_empty()
            || (queue.entries.len() < self.limits.batches && queue.bytes + bytes <= self.limits.bytes)
    }

    fn group_of_one(queue: &mut Queue<C::Outcome>, draft: Draft, syncs: SyncPolicy) -> Group<C::Outcome> {
        queue.leading = true;
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        Group { ticket, drafts: vec![draft], syncs, replies: vec![Reply::Own] }
    }

    fn enqueue(queue: &mut Queue<C::Outcome>, entry: Entry<C::Outcome>) {
        queue.bytes += entry.draft.payload.len();
        queue.entries.push_back(entry);
    }

    fn call_committer(&self, queue: &mut Queue<C::Outcome>) {
        queue.committers_called += 1;
        self.call.notify_one();
    }

    /// The queue's front, as much as one group may hold. The caller leads.
    fn take_group(&self, queue: &mut Queue<C::Outcome>) -> Group<C::Outcome> {
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        let room = queue.entries.len().min(GROUP_BATCHES_MAX);
        let mut group = Group {
            ticket,
            drafts: Vec::with_capacity(room),
            syncs: SyncPolicy::Never,
            replies: Vec::with_capacity(room),
        };
        let mut bytes = 0;
        while let Some(entry) = queue.entries.front() {
            bytes += FRAME_HEADER_LEN + entry.draft.payload.len();
            if !group.drafts.is_empty()
                && (bytes > GROUP_BYTES_MAX || group.drafts.len() == GROUP_BATCHES_MAX)
            {
                break;
            }
            let Some(entry) = queue.entries.pop_front() else { break };
            queue.bytes -= entry.draft.payload.len();
            group.syncs = group.syncs.stronger(entry.sync);
            group.drafts.push(entry.draft);
            group.replies.push(entry.reply);
        }
        self.space.notify_all();
        group
    }

    /// Commits `group`, and more if that is quicker than handing on. Returns the outcome of the leader's own batch.
    fn lead(&self, mut group: Group<C::Outcome>) -> Option<Result<C::Outcome>> {
        let mut own = None;
        for round in 1.. {
            let persisted = catch_unwind(AssertUnwindSafe(|| self.persist(&mut group)));
            let (appended, error) =
                persisted.unwrap_or_else(|_| (0, self.poison_by_defect("appending a batch").err()));
            let synced = group.syncs == SyncPolicy::Always;
            if synced {
                self.hand_on(&mut self.queue.lock());
            }
            own = self.apply_and_answer(group, appended, error).or(own);
            if synced {
                break;
            }
            let mut queue = self.queue.lock();
            if queue.entries.is_empty() || round == LEAD_GROUPS_MAX {
                self.hand_on(&mut queue);
                break;
            }
            group = self.take_group(&mut queue);
        }
        own
    }

    /// Names the next leader, or nobody if nothing waits.
    fn hand_on(&self, queue: &mut MutexGuard<'_, Queue<C::Outcome>>) {
        match queue.entries.front().map(|entry| &entry.reply) {
            Some(Reply::Waiter(waiter)) => waiter.wake(LEAD),
            Some(_) => self.call_committer(queue),
            None => {
                queue.leading = false;
                self.space.notify_all();
            }
        }
    }

    /// Appends a group and syncs it if asked; gives how many of its batches are in, and what befell the rest.
    fn persist(&self, group: &mut Group<C::Outcome>) -> (usize, Option<Error>) {
        let mut writer = self.writer.lock();
        let mut appended = 0;
        while appended < group.drafts.len() {
            match writer.append(&mut group.drafts[appended..]) {
                Ok(count) => appended += count,
                Err(error) => {
                    if matches!(error, Error::DiskFull) {
                        self.maintenance.raise();
                    }
                    return self.sync_group(group.syncs, appended, Some(error));
                }
            }
        }
        drop(writer);
        self.sync_group(group.syncs, appended, None)
    }

    fn sync_group(&self, syncs: SyncPolicy, appended: usize, error: Option<Error>) -> (usize, Option<Error>) {
        match syncs {
            _ if appended == 0 => {}
            SyncPolicy::Always => {
                if let Err(error) = self.log.sync() {
                    return (0, Some(error));
                }
            }
            SyncPolicy::Every(period) => {
                let due = nanos(self.clock.monotonic() + period);
                if self.sync_due.fetch_min(due, Ordering::AcqRel) > due {
                    self.maintenance.raise();
                }
            }
            SyncPolicy::Never => {}
        }
        if syncs != SyncPolicy::Always && self.unsynced_bytes() >= UNSYNCED_BYTES_MAX {
            self.maintenance.raise();
        }
        (appended, error)
    }

    fn apply_and_answer(
        &self,
        group: Group<C::Outcome>,
        appended: usize,
        error: Option<Error>,
    ) -> Option<Result<C::Outcome>> {
        let mut outcomes = Vec::with_capacity(appended);
        let mut turn = self.turn.lock();
        while turn.ticket != group.ticket {
            self.turn_passed.wait(&mut turn);
        }
        let applied = self.apply(&mut turn, &group.drafts[..appended], &mut outcomes);
        turn.ticket += 1;
        drop(turn);
        self.turn_passed.notify_all();
        let error = applied.err().or(error);
        let operations: u64 = group.drafts[..appended].iter().map(|draft| u64::from(draft.records)).sum();
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters.batches.fetch_add(appended as u64, Ordering::Relaxed);
        self.counters.operations.fetch_add(operations, Ordering::Relaxed);
        let mut outcomes = outcomes.into_iter();
        let mut own = None;
        for reply in group.replies {
            let outcome = outcomes.next().ok_or_else(|| error.clone().unwrap_or(Error::Closed));
            match reply {
                Reply::Own => own = Some(outcome),
                Reply::Waiter(waiter) => waiter.finish(outcome),
                // The panic itself has been printed by the hook; it is the submitter's, not the other writers'.
                Reply::Callback(done) => {
                    let _panicked = catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err();
                }
            }
        }
        own
    }

    /// Has the consumer apply what was appended. After a panic of it nothing is applied any more: reopening will.
    fn apply(&self, turn: &mut Turn, drafts: &[Draft], outcomes: &mut Vec<C::Outcome>) -> Result<()> {
        if turn.consumer_died {
            return self.log.check_healthy();
        }
        let consumed = catch_unwind(AssertUnwindSafe(|| self.consumer.consume(drafts, outcomes)));
        if consumed.is_ok() {
            return Ok(());
        }
        turn.consumer_died = true;
        outcomes.clear();
        self.poison_by_defect("applying a batch")
    }

    /// Always an error.
    fn poison_by_defect(&self, doing: &str) -> Result<()> {
        self.log.poison_with(&Error::io(doing, io::Error::other("it panicked: report this defect")));
        self.log.check_healthy()
    }
}

fn check_payload(draft: &Draft) -> Result<()> {
    let len = draft.payload.len();
    if len == 0 || len > PAYLOAD_LEN_MAX {
        return Err(Error::InvalidRequest(format!(
            "a batch has 1 to {PAYLOAD_LEN_MAX} encoded bytes, this one {len}"
        )));
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
