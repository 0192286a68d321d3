//! The writes of a thread that serves many connections: committed together, answered together.
//!
//! Such a thread runs one task after another: whatever is ready has its *turn*, then it waits for more. Each write by itself would
//! cost a wake of the thread that commits, and another one back, which is a system call each; and the first of a turn would be
//! synced alone. So a turn's writes are gathered, and submitted together behind the tasks that were ready;
//! and what is decided elsewhere is laid down here, with one wake for all that came since the thread looked.
//!
//! What is gathered when the Store is closed is told that it is.
//!
//! ```text
//! tasks of the thread:  write a   write b   write c   [home: commit what was submitted]   ...   [home: answer a, b, c]
//! threads of the store:                               one group, one sync, decided: ring once ─────▶
//! ```
//!
//! Where the disk is quick the thread syncs the group itself, and answers at once; before that, it looks whether more has come.
//! Was something else in its way, and a thread of the store has taken the group, the next one waits for its answers: were it to queue up behind, that thread would go on for ever, with a wake for each. It
//! does so anyway where others write as well: then nothing is gained, and nothing waits.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use esker_engine::{Committed, Db, OnCommit, SyncPolicy, WriteBatch};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{Result, single::Accounts};

thread_local! {
    static HERE: RefCell<Option<Arc<Home>>> = const { RefCell::new(None) };
}

/// Whoever waits for a write.
pub(crate) type Answer = oneshot::Sender<Result<Committed>>;

/// So many writes, or bytes of them, do not wait for the end of a turn; fewer if the store's queue holds fewer.
const BATCHES_MAX: usize = 1024;
const BYTES_MAX: usize = 1 << 20;

/// For so many syncs' time it is looked before a sync whether more has come.
const LOOK_SYNCS_MAX: u32 = 8;

/// A write that is decided, and whoever waits for it.
type Decided = (Answer, Result<Committed>);

/// What was submitted in a turn, or in some.
#[derive(Default)]
struct Submitted {
    batches: Vec<(WriteBatch, Option<SyncPolicy>, OnCommit)>,
    bytes: usize,
    /// How many of them ask for a sync.
    synced: usize,
    /// Whether the home's task will look at it.
    is_told: bool,
}

/// See the module.
pub(crate) struct Home {
    db: Db,
    /// Of the Store whose writes it takes.
    accounts: Arc<Accounts>,
    batches_max: usize,
    bytes_max: usize,
    /// The writes of this turn.
    submitted: Mutex<Submitted>,
    /// How many were submitted to the store and are not decided. Less of them by other threads only while they hold `decided`.
    under_way: AtomicUsize,
    /// What other threads decided, and this one has not told yet; `None` once it has ended.
    decided: Mutex<Option<Vec<Decided>>>,
    /// Rung when there is something to do.
    bell: Notify,
}

impl Home {
    pub(crate) fn new(db: Db, accounts: Arc<Accounts>) -> Self {
        let (submitted, decided, bell) = (Mutex::default(), Mutex::new(Some(Vec::new())), Notify::new());
        let limits = db.queue_limits();
        let (batches_max, bytes_max) = (limits.batches.min(BATCHES_MAX), limits.bytes.min(BYTES_MAX));
        let under_way = AtomicUsize::new(0);
        Self { db, accounts, batches_max, bytes_max, submitted, under_way, decided, bell }
    }

    /// This thread's, if it is one for that Store.
    pub(crate) fn here(accounts: &Arc<Accounts>) -> Option<Arc<Self>> {
        HERE.with_borrow(|here| here.as_ref().filter(|home| Arc::ptr_eq(&home.accounts, accounts)).cloned())
    }

    /// Whether this thread is this home.
    fn is_here(&self) -> bool {
        HERE.with_borrow(|here| here.as_ref().is_some_and(|home| std::ptr::eq(&raw const **home, self)))
    }

    /// Takes a write of this thread, which is committed after its turn, with what has come by then.
    pub(crate) fn submit(&self, batch: WriteBatch, sync: Option<SyncPolicy>, done: OnCommit) {
        let bytes = batch.encoded_len();
        let mut submitted = self.submitted.lock();
        if submitted.bytes + bytes > self.bytes_max {
            // There might be no room for it behind the others.
            drop(submitted);
            self.commit(true);
            submitted = self.submitted.lock();
        }
        submitted.bytes += bytes;
        submitted.synced += usize::from(self.db.sync_policy(sync) == SyncPolicy::Always);
        submitted.batches.push((batch, sync, done));
        let (len, bytes) = (submitted.batches.len(), submitted.bytes);
        let is_first = !std::mem::replace(&mut submitted.is_told, true);
        drop(submitted);
        if len >= self.batches_max || bytes >= self.bytes_max {
            self.commit(true);
        } else if is_first {
            // Puts the home's task behind all that are ready.
            self.bell.notify_one();
        }
    }

    /// Whether there are writes of this turn.
    pub(crate) fn has_gathered(&self) -> bool {
        !self.submitted.lock().batches.is_empty()
    }

    /// Has committed what was submitted; by this very call, with a quick sync, if it `may_sync`.
    pub(crate) fn commit(&self, may_sync: bool) {
        let submitted = std::mem::take(&mut *self.submitted.lock());
        if !submitted.batches.is_empty() {
            self.under_way.fetch_add(submitted.batches.len(), Ordering::Relaxed);
            self.db.submit_all(submitted.batches, may_sync);
        }
    }

    /// For a write that is about to be submitted.
    pub(crate) fn undecided(self: Arc<Self>, answer: Answer) -> Undecided {
        Undecided { home: self, answer: Some(answer) }
    }

    /// A write of this home is decided, by another thread; or nobody will decide it.
    fn lay_down(&self, decided: Option<Decided>) {
        let mut guard = self.decided.lock();
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let Some(waiting) = &mut *guard else {
            drop(guard);
            return decided.into_iter().for_each(|(answer, decided)| tell(answer, decided));
        };
        let rings = waiting.is_empty();
        waiting.extend(decided);
        drop(guard);
        if rings {
            self.bell.notify_one();
        }
    }

    /// Makes the thread that polls this a home until it is dropped, which is to be on the same thread.
    pub(crate) async fn run(self: Arc<Self>) {
        let _here = Here::enter(&self);
        let mut spare = Vec::new();
        loop {
            self.bell.notified().await;
            self.tell_decided(&mut spare);
            self.gather().await;
            // More may have been decided meanwhile, or submitted for want of room.
            let waits = self.tell_decided(&mut spare);
            if waits && self.db.syncs_quickly() && self.db.is_queue_empty() {
                // The next turn looks again.
                self.submitted.lock().is_told = false;
            } else {
                self.commit(true);
            }
        }
    }

    /// Tells what other threads have decided; says whether they have something of this home's to decide still.
    fn tell_decided(&self, spare: &mut Vec<Decided>) -> bool {
        let waits = {
            let mut decided = self.decided.lock();
            if let Some(decided) = &mut *decided {
                std::mem::swap(decided, spare);
            }
            // As seen with the lock held: whoever decides what is still under way rings.
            self.under_way.load(Ordering::Relaxed) > 0
        };
        spare.drain(..).for_each(|(answer, decided)| tell(answer, decided));
        waits
    }

    /// Lets what has come since this turn began have its turn before a sync, as long as that brings more writes: while the thread waits
    /// for the disk, nothing is read, and what is already there would wait for this sync and another one. Begins no look after
    /// [`LOOK_SYNCS_MAX`] syncs' time, and none where another would sync: then this thread goes on meanwhile. What asks for no sync waits
    /// with the others.
    async fn gather(&self) {
        let clock = &self.accounts.clock;
        let mut begun = None;
        let mut before = 0;
        loop {
            let now = self.to_sync_here();
            if now <= before {
                return;
            }
            let at = clock.monotonic();
            let looked = at.saturating_sub(*begun.get_or_insert(at));
            if looked > LOOK_SYNCS_MAX * self.db.expected_sync() {
                return;
            }
            before = now;
            // Asks the kernel what is ready, and comes behind it.
            tokio::task::yield_now().await;
        }
    }

    /// How many writes of this turn are to be synced, if this thread would do it.
    fn to_sync_here(&self) -> usize {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return 0;
        }
        let submitted = self.submitted.lock();
        let (bytes, batches) = (submitted.bytes, submitted.batches.len());
        if submitted.synced > 0 && self.db.would_sync(bytes, batches) { submitted.synced } else { 0 }
    }
}

/// A write of a home that was submitted or will be. It has to be decided, on any thread.
pub(crate) struct Undecided {
    home: Arc<Home>,
    /// `None` once it is decided.
    answer: Option<Answer>,
}

impl Undecided {
    /// Tells whoever waits for it.
    pub(crate) fn decide(mut self, decided: Result<Committed>) {
        let Some(answer) = self.answer.take() else { return };
        if self.home.is_here() {
            self.home.under_way.fetch_sub(1, Ordering::Relaxed);
            tell(answer, decided);
        } else {
            self.home.lay_down(Some((answer, decided)));
        }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        // Of a panic. Whoever waits for it is told by this that nobody will.
        if self.answer.take().is_some() {
            self.home.lay_down(None);
        }
    }
}

fn tell(answer: Answer, decided: Result<Committed>) {
    // Nobody may be waiting any more: the write is committed all the same.
    let _gone = answer.send(decided).is_err();
}

/// Set while a thread is a home.
struct Here<'a>(&'a Arc<Home>);

impl<'a> Here<'a> {
    fn enter(home: &'a Arc<Home>) -> Self {
        HERE.set(Some(Arc::clone(home)));
        Self(home)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        // Tasks that end after this one submit for themselves, and who decides tells.
        HERE.set(None);
        self.0.commit(false);
        let decided = self.0.decided.lock().take();
        decided.into_iter().flatten().for_each(|(answer, decided)| tell(answer, decided));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use esker_engine::{Environment, Options};
    use esker_log::{clock::ManualClock, disk::sim::SimDisk};

    use super::*;

    fn home() -> Arc<Home> {
        let environment = Environment { disk: Arc::new(SimDisk::new()), ..Environment::default() };
        let db = Db::open_in(&environment, "/d", Options::default()).unwrap();
        let accounts = Accounts::new(1, Arc::new(ManualClock::default()), Arc::default());
        Arc::new(Home::new(db, Arc::new(accounts)))
    }

    async fn put(home: Arc<Home>, key: &[u8]) -> Result<Committed> {
        let (answer, answered) = oneshot::channel();
        let undecided = Arc::clone(&home).undecided(answer);
        let mut batch = WriteBatch::new();
        batch.put(key, b"value").unwrap();
        let done =
            |committed: esker_engine::Result<Committed>| undecided.decide(committed.map_err(Into::into));
        home.submit(batch, None, Box::new(done));
        answered.await.unwrap()
    }

    /// What has come before a sync begins, and nobody has looked at yet, is synced with what was there.
    #[test]
    fn before_a_sync_it_is_looked_what_else_has_come() {
        let home = home();
        let quick = (0..1000).take_while(|_| !home.db.syncs_quickly());
        let before = quick.map(|_| home.db.put(b"key", b"value").unwrap()).last().unwrap();
        assert!(home.db.would_sync(1, 1));
        let (groups, batches) = (home.db.stats().groups, home.db.stats().batches);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            tokio::spawn(Arc::clone(&home).run());
            let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            let far = tokio::net::UnixStream::from_std(far).unwrap();
            let second_home = Arc::clone(&home);
            let second = tokio::spawn(async move {
                far.readable().await.unwrap();
                put(second_home, b"second").await
            });
            tokio::task::yield_now().await;
            // Only the kernel knows of it as yet.
            near.write_all(b"request").unwrap();
            let first = put(Arc::clone(&home), b"first");
            let (first, second) = tokio::join!(first, second);
            assert_eq!([first.unwrap().version, second.unwrap().unwrap().version], [before + 1, before + 2]);
        });
        let stats = home.db.stats();
        assert_eq!((stats.groups - groups, stats.batches - batches), (1, 2));
    }

    /// A write that nobody can decide any more keeps no others waiting, and whoever waits for it is told.
    #[test]
    fn what_will_not_be_decided_is_not_under_way() {
        let home = home();
        let (answer, mut answered) = oneshot::channel();
        let undecided = Arc::clone(&home).undecided(answer);
        home.under_way.store(1, Ordering::Relaxed);
        drop(undecided);
        assert_eq!(home.under_way.load(Ordering::Relaxed), 0);
        assert_eq!(answered.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
    }
}
