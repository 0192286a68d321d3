//! Group commit: many writers, one append, one fdatasync.
//!
//! There is no commit thread on the way of a blocking writer and there are no timers. A writer that finds nobody
//! committing *leads*: it appends what is queued, syncs if any of it asks for that, has it applied, and answers. Writers
//! that come meanwhile queue up and form the next group. (LevelDB's writer queue, without its memtable.)
//!
//! ```text
//! write/submit ─▶ queue (bounded) ─▶ append + sync ─▶ apply, in log order ─▶ answer
//!                                    one leader        may overlap with the next group's sync
//! ```
//!
//! A leader whose group was synced goes on with the next group at once, so that the device is never idle, and has one of
//! the group's own waiting writers apply it and answer the others. (Passing on the lead instead would leave the device
//! idle for as long as a sleeping thread takes to wake; see `docs/benchmarks.md`.) After [`LEAD_SYNCED_MAX`]
//! groups it passes the lead on, so that its own answer is not late without bound.
//! Batches that came through [`GroupCommit::submit`] are led by one of [`COMMITTERS`] threads of the store's own,
//! because its caller must never block on the disk. Where nothing is to be waited for, which is an append to the page cache and
//! an insertion, [`GroupCommit::commit_or_submit`] leads at once: waking a committer would take longer ([`at_once`]).
//! Who has many to submit does so with [`GroupCommit::submit_all`], which makes one group of them, and syncs it where the disk is quick
//! ([`together`]).
//!
//! A defect must not leave writers waiting for ever: a panic while a group is appended or applied poisons the log and
//! is answered as such, and one in a callback stays with that callback.
//!
//! Invariants: `leading` is set from the moment a leader is named until it finds the queue empty; whoever is named
//! leader takes the queue's front; groups are applied in the order of their tickets, which is log order. A leader does not
//! die of a panic: the log is poisoned instead, and everybody is told.

mod at_once;
mod sync_time;
mod together;
mod turns;
mod waiter;

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

pub use self::together::Submission;
use self::{
    sync_time::SyncTime,
    turns::Turns,
    waiter::{Call, Waiter},
};
use crate::{
    Brake, Error, Log, Result, SyncPolicy,
    clock::Clock,
    format::{FRAME_HEADER_LEN, PAYLOAD_LEN_MAX},
    signal::Signal,
    writer::{Draft, Writer},
};

/// A group has at most this many batches.
const GROUP_BATCHES_MAX: usize = 1024;
/// A group has at most this many bytes, unless its first batch alone has more.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// So many unsynced groups a leader commits before it hands on, so that its own answer is not late without bound.
const LEAD_UNSYNCED_MAX: usize = 16;
/// The same for synced groups. With 8 writers, p99 was 2.3 ms with 16 and is 0.66 ms with 4.
const LEAD_SYNCED_MAX: usize = 4;
/// How often a writer that waits for an unsynced commit looks before it sleeps: about as long as one takes.
const LOOKS_MAX: usize = 64;
/// Threads that lead for submitted batches: one applies and answers while the other syncs.
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
    ///
    /// An error poisons the log: what was appended cannot be applied, so nothing behind it can.
    fn consume(&self, log: &Log, drafts: &[Draft], outcomes: &mut Vec<Self::Outcome>) -> Result<()>;
}

/// Called with the outcome of a submitted batch, by whichever thread leads: it must neither write nor block, or all
/// writers wait for it. To submit is fine.
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
    /// Whether to apply it needs nothing from the disk, for certain.
    is_quick: bool,
}

struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// Whether somebody leads, or has been told to.
    leading: bool,
    /// How many committers have been told to lead and have not begun.
    committers_called: usize,
    /// Groups that a committer shall apply and answer. They come before the lead: a leader may wait for them.
    unfinished: VecDeque<Persisted<T>>,
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
    /// Held by a writer that leads without a sync. There is nothing to wait for then but a copy and an insertion, so that to take
    /// turns is cheaper than to gather a group, which puts threads to sleep and wakes them: with four writers of 100 bytes, three
    /// times as many writes a second. Taken before `queue`.
    unsynced_turns: Turns,
    /// Signalled when entries leave the queue, and when it falls idle.
    space: Condvar,
    /// Signalled when a committer is called or the queue is closed.
    call: Condvar,
    /// Locked by the leader; also by maintenance, for a moment, while the disk is full.
    writer: Mutex<Writer>,
    /// Whose turn it is to be applied.
    turn: Mutex<Turn>,
    turn_passed: Condvar,
    /// When the oldest write under [`SyncPolicy::Every`] must be on the disk, in monotonic nanoseconds; `u64::MAX`: never.
    sync_due: AtomicU64,
    sync_time: SyncTime,
    /// Raised when `sync_due` is set.
    maintenance: Arc<Signal>,
    counters: CommitCounters,
    /// Makes leaders wait while what they write cannot be cleaned up as fast.
    brake: Brake,
}

#[derive(Default)]
struct Turn {
    /// The ticket of the group that may be applied now.
    ticket: u64,
    /// Whether a group before could not be applied: then none behind it may be.
    broken: bool,
}

/// A group on its way: drafts and what goes with each, in the same order.
struct Group<T> {
    ticket: u64,
    drafts: Vec<Draft>,
    syncs: SyncPolicy,
    replies: Vec<Reply<T>>,
}

/// A group that is in the log, as far as it could be.
struct Persisted<T> {
    group: Group<T>,
    /// How many of its batches are in.
    appended: usize,
    /// What befell the rest.
    error: Option<Error>,
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
            brake: Brake::new(Arc::clone(&clock)),
            clock,
            policy,
            limits,
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                bytes: 0,
                leading: false,
                committers_called: 0,
                unfinished: VecDeque::new(),
                next_ticket: 0,
                closed: false,
            }),
            unsynced_turns: Turns::default(),
            space: Condvar::new(),
            call: Condvar::new(),
            writer: Mutex::new(writer),
            turn: Mutex::default(),
            turn_passed: Condvar::new(),
            sync_due: AtomicU64::new(u64::MAX),
            sync_time: SyncTime::default(),
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

    /// What slows writers down: leaders wait before they append, with all that wait for them. Who submits a batch does not.
    pub fn brake(&self) -> &Brake {
        &self.brake
    }

    /// What may wait.
    pub fn limits(&self) -> QueueLimits {
        self.limits
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
        // Let go of only when the batch is committed, or when somebody else leads.
        let turn = (sync != SyncPolicy::Always).then(|| self.unsynced_turns.take());
        let mut queue = self.queue.lock();
        let turn = turn.filter(|_| !queue.leading);
        loop {
            if queue.closed {
                return Err(Error::Closed);
            }
            if !queue.leading {
                let group =
                    Self::group_of_one(&mut queue, Entry { draft, sync, reply: Reply::Own, is_quick: false });
                drop(queue);
                let outcome = self.lead_first(group);
                drop(turn);
                return outcome;
            }
            if self.has_room(&queue, draft.payload.len()) {
                break;
            }
            self.space.wait(&mut queue);
        }
        let waiter = Waiter::new();
        Self::enqueue(
            &mut queue,
            Entry { draft, sync, reply: Reply::Waiter(Arc::clone(&waiter)), is_quick: false },
        );
        drop(queue);
        self.wait_and_help(waiter, if sync == SyncPolicy::Always { 0 } else { LOOKS_MAX })
    }

    /// Leads with a group of the caller's own batch.
    fn lead_first(&self, group: Group<C::Outcome>) -> Result<C::Outcome> {
        let mut me = None;
        match (self.lead(group, &mut me), me) {
            (Some(outcome), _) => outcome,
            (None, Some(me)) => self.wait_and_help(me, 0),
            (None, None) => unreachable!("a leader's own batch is answered by itself or through its waiter"),
        }
    }

    /// Waits until the waiter's batch is answered, and does what it is told meanwhile.
    fn wait_and_help(&self, waiter: Arc<Waiter<C::Outcome>>, looks: usize) -> Result<C::Outcome> {
        let mut me = Some(waiter);
        while let Some(waiter) = &me {
            match waiter.wait(looks) {
                Call::Done(outcome) => return outcome,
                Call::Finish(persisted) => drop(self.finish(persisted)),
                Call::Lead => {
                    let group = self.take_group(&mut self.queue.lock());
                    self.lead(group, &mut me);
                }
            }
        }
        unreachable!("a waiter stays until its batch is answered")
    }

    /// Queues a batch; `done` is called on the thread of whoever leads. Never waits for the disk.
    ///
    /// Errors (`done` is dropped uncalled): `Busy`, `Closed`, `InvalidRequest`, `Poisoned`.
    pub fn submit(&self, draft: Draft, sync: Option<SyncPolicy>, done: Callback<C::Outcome>) -> Result<()> {
        let (sync, mut queue) = self.admit(&draft, sync)?;
        self.enqueue_submitted(
            &mut queue,
            Entry { draft, sync, reply: Reply::Callback(done), is_quick: false },
        );
        Ok(())
    }

    /// Looks whether a batch can be taken.
    fn admit(
        &self,
        draft: &Draft,
        sync: Option<SyncPolicy>,
    ) -> Result<(SyncPolicy, MutexGuard<'_, Queue<C::Outcome>>)> {
        let queue = self.queue.lock();
        self.check(draft, &queue)?;
        Ok((self.effective(sync), queue))
    }

    /// Whether a batch can be taken.
    fn check(&self, draft: &Draft, queue: &Queue<C::Outcome>) -> Result<()> {
        check_payload(draft)?;
        self.log.check_healthy()?;
        if queue.closed {
            return Err(Error::Closed);
        }
        if !self.has_room(queue, draft.payload.len()) {
            return Err(Error::Busy { retry_after: RETRY_AFTER });
        }
        Ok(())
    }

    /// Queues what nobody waits for with a thread of its own.
    fn enqueue_submitted(&self, queue: &mut Queue<C::Outcome>, entry: Entry<C::Outcome>) {
        Self::enqueue(queue, entry);
        self.call_if_nobody_leads(queue);
    }

    /// Names a committer the leader of what waits.
    fn call_if_nobody_leads(&self, queue: &mut Queue<C::Outcome>) {
        if !queue.leading && !queue.entries.is_empty() {
            queue.leading = true;
            self.call_committer(queue);
        }
    }

    /// The life of a committer thread: leads when called, returns when the queue is closed and empty.
    pub fn run_committer(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(persisted) = queue.unfinished.pop_front() {
                drop(queue);
                self.finish(persisted);
                queue = self.queue.lock();
            } else if queue.committers_called > 0 {
                queue.committers_called -= 1;
                let group = self.take_group(&mut queue);
                drop(queue);
                self.lead(group, &mut None);
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
        self.brake.release_for_good();
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
        // In this order: both grow meanwhile, and what is appended is never behind what is durable.
        let durable = self.log.durable();
        let appended = self.log.appended();
        if appended.segment == durable.segment { appended.offset - durable.offset } else { appended.offset }
    }

    /// What holds for a write that asks for this: the policy that the log was opened with counts where it is stronger.
    pub fn effective(&self, asked: Option<SyncPolicy>) -> SyncPolicy {
        asked.map_or(self.policy, |asked| asked.stronger(self.policy))
    }

    fn has_room(&self, queue: &Queue<C::Outcome>, bytes: usize) -> bool {
        queue.entries.is_empty()
            || (queue.entries.len() < self.limits.batches && queue.bytes + bytes <= self.limits.bytes)
    }

    fn group_of_one(queue: &mut Queue<C::Outcome>, entry: Entry<C::Outcome>) -> Group<C::Outcome> {
        queue.leading = true;
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        Group { ticket, drafts: vec![entry.draft], syncs: entry.sync, replies: vec![entry.reply] }
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

    /// Commits `group` and what has gathered meanwhile. `me` is the leader's waiter, if it has one. Gives the outcome of
    /// the leader's own batch, if no waiter is told it.
    fn lead(
        &self,
        mut group: Group<C::Outcome>,
        me: &mut Option<Arc<Waiter<C::Outcome>>>,
    ) -> Option<Result<C::Outcome>> {
        let mut own = None;
        for round in 1.. {
            let persisted = self.persist_group(group);
            let synced = persisted.group.syncs == SyncPolicy::Always;
            let rounds_max = if synced { LEAD_SYNCED_MAX } else { LEAD_UNSYNCED_MAX };
            let mut unfinished = Some(persisted);
            if !synced {
                // Quicker done than told to another.
                own = unfinished.take().and_then(|persisted| self.finish(persisted)).or(own);
            }
            let mut queue = self.queue.lock();
            if queue.entries.is_empty() || round >= rounds_max {
                self.hand_on(&mut queue);
                drop(queue);
                return unfinished.and_then(|persisted| self.finish(persisted)).or(own);
            }
            group = self.take_group(&mut queue);
            drop(queue);
            own = unfinished.and_then(|persisted| self.delegate(persisted, me)).or(own);
        }
        own
    }

    /// Has one of a group's other writers finish it, or a committer; a group of the leader's batch alone is finished here.
    fn delegate(
        &self,
        mut persisted: Persisted<C::Outcome>,
        me: &mut Option<Arc<Waiter<C::Outcome>>>,
    ) -> Option<Result<C::Outcome>> {
        if matches!(persisted.group.replies[..], [Reply::Own | Reply::Waiter(_)]) {
            return self.finish(persisted);
        }
        if let Some(own) = persisted.group.replies.iter_mut().find(|reply| matches!(reply, Reply::Own)) {
            *own = Reply::Waiter(Arc::clone(me.get_or_insert_with(Waiter::new)));
        }
        let is_other = |waiter: &Arc<Waiter<_>>| me.as_ref().is_none_or(|me| !Arc::ptr_eq(me, waiter));
        let helper = persisted.group.replies.iter().find_map(|reply| match reply {
            Reply::Waiter(waiter) if is_other(waiter) => Some(Arc::clone(waiter)),
            _ => None,
        });
        if let Some(helper) = helper {
            helper.tell(Call::Finish(persisted));
        } else {
            self.queue.lock().unfinished.push_back(persisted);
            self.call.notify_one();
        }
        None
    }

    fn persist_group(&self, mut group: Group<C::Outcome>) -> Persisted<C::Outcome> {
        self.brake.wait(|| group.drafts.iter().map(|draft| draft.payload.len()).sum());
        let persisted = self.unless_it_panics("appending", || self.persist(&mut group));
        let (appended, error) = persisted.unwrap_or_else(|error| (0, Some(error)));
        Persisted { group, appended, error }
    }

    /// Names the next leader, or nobody if nothing waits.
    fn hand_on(&self, queue: &mut MutexGuard<'_, Queue<C::Outcome>>) {
        match queue.entries.front().map(|entry| &entry.reply) {
            Some(Reply::Waiter(waiter)) => waiter.tell(Call::Lead),
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
                let began = self.clock.monotonic();
                if let Err(error) = self.log.sync() {
                    return (0, Some(error));
                }
                self.sync_time.note(self.clock.monotonic().saturating_sub(began));
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

    /// Applies a group when its turn has come, and answers.
    fn finish(&self, persisted: Persisted<C::Outcome>) -> Option<Result<C::Outcome>> {
        let Persisted { group, mut appended, mut error } = persisted;
        let mut outcomes = Vec::with_capacity(appended);
        let mut turn = self.turn.lock();
        while turn.ticket != group.ticket {
            self.turn_passed.wait(&mut turn);
        }
        let applied = if turn.broken {
            self.log.check_healthy()
        } else {
            let drafts = &group.drafts[..appended];
            let consume = || self.consumer.consume(&self.log, drafts, &mut outcomes);
            self.unless_it_panics("applying", consume).flatten().inspect_err(|e| self.log.poison_with(e))
        };
        if let Err(broken) = applied {
            turn.broken = true;
            outcomes.clear();
            (appended, error) = (0, Some(broken));
        }
        turn.ticket += 1;
        drop(turn);
        self.turn_passed.notify_all();
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
                Reply::Waiter(waiter) => waiter.tell(Call::Done(outcome)),
                Reply::Callback(done) => call_back(done, outcome),
            }
        }
        own
    }

    /// Does the part of the work that everybody waits for. Were the leader to die of a panic in it, all writers would
    /// wait for ever: the log is poisoned instead, which they are told.
    fn unless_it_panics<R>(&self, doing: &str, work: impl FnOnce() -> R) -> Result<R> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
            let error = Error::io(
                format_args!("{doing} a batch"),
                io::Error::other("it panicked: report this defect"),
            );
            self.log.poison_with(&error);
            Error::Poisoned(error.to_string().into())
        })
    }
}

thread_local! {
    static CALLS_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a [`Callback`]: to wait for the end of all commits is to wait for itself.
pub fn is_in_callback() -> bool {
    CALLS_BACK.get()
}

fn call_back<T>(done: Callback<T>, outcome: Result<T>) {
    let before = CALLS_BACK.replace(true);
    // Its panic, of which the panic hook has told, must not cost the others their answers.
    drop(catch_unwind(AssertUnwindSafe(|| done(outcome))));
    CALLS_BACK.set(before);
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
