//! Watching: changes as they are committed, from a version on. `docs/watch.md` is the specification.
//!
//! A watch is a cursor: whoever has taken what it was given asks for the next page, which a job of the I/O pool reads back from the
//! log; where there is nothing new it waits for the next version to be applied. Nothing is queued for anybody, so a slow watcher
//! costs one page and slows nobody. Watches take half of the pool's threads at most, and take turns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

use esker_engine::{
    Db, Version,
    watch::{Change, ChangeCursor, ChangeFilter, Changes, ChangesRead},
};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::Instant,
};

use crate::{
    Error, Result,
    pool::Admission,
    scan::{Admit, Room, Workers},
};

/// A page of changes has about so many bytes.
const PAGE_BYTES: usize = 256 << 10;
/// A watcher that nothing concerns is told this often how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Where writes come fast, a watcher looks no oftener than this: many changes with one look cost little more than one.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// While there is no room for what a watcher is to be given, it is looked for this often, and so long.
const ROOM_EVERY: Duration = Duration::from_millis(50);
const ROOM_PATIENCE: Duration = Duration::from_secs(30);
/// When somebody for whom there is no room may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is to be watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Keys that begin so; all, if it is empty.
    pub prefix: Vec<u8>,
    /// The first version to be told; `None`: what is written from now on.
    pub from: Option<Version>,
    /// No values.
    pub keys_only: bool,
}

/// What a watcher is told.
#[derive(Debug)]
pub enum WatchEvent {
    /// Changes, in order, never none. Those of one version come one after another, and the last of them is marked.
    Changes(Vec<Change>),
    /// Everything up to this version was told, as far as it concerns the watcher.
    Progress(Version),
    /// What comes next is not to be had any more. Whoever reads what it watches anew, and then watches from `from` or any later
    /// version that is not behind what it read, misses nothing. Nothing follows.
    Resync {
        /// The first version from which on everything is there.
        from: Version,
        /// Why not from where it was wanted.
        why: &'static str,
    },
}

/// A watch under way: see the module's head. Dropping it ends it.
pub struct Watch {
    changes: Changes,
    filter: Arc<ChangeFilter>,
    workers: Workers,
    turns: Arc<Semaphore>,
    applied: watch::Receiver<Version>,
    closed: watch::Receiver<bool>,
    state: State,
    /// What is told first.
    opening: Option<WatchEvent>,
    /// Whether it was told that it has caught up with what was there when it began.
    has_caught_up: bool,
    /// When the last look began.
    looked: Option<Instant>,
    /// When it is told next how far it is.
    progress_at: Instant,
    /// Who is asked for room for a page; nobody, if that is the caller's business.
    admit: Option<Admit>,
    /// The room of the page that was given out last.
    room: Option<Room>,
    /// Since when there is no room for the next one.
    no_room_since: Option<Instant>,
    _seat: Seat,
}

/// What a watch is at.
enum State {
    Idle(Box<ChangeCursor>),
    /// A job looks on behind the cursor.
    Looking(oneshot::Receiver<Looked>),
    /// Nothing follows.
    Ended,
}

/// What a job gives back.
struct Looked {
    cursor: Box<ChangeCursor>,
    /// `None`: there is no room for what was read. The cursor has not moved.
    read: Result<Option<ChangesRead>>,
    room: Option<Room>,
}

impl Watch {
    /// What comes next; waits for it. `None`: nothing follows. A call whose future was dropped can be made again, and nothing
    /// is lost.
    ///
    /// Errors: `Closed` when the Store is; those of the engine. After one nothing follows.
    pub async fn next(&mut self) -> Option<Result<WatchEvent>> {
        if matches!(self.state, State::Ended) {
            return None;
        }
        let event = self.advance().await;
        match &event {
            Ok(WatchEvent::Changes(changes)) => self.metrics().watch_changes.add(changes.len() as u64),
            Ok(WatchEvent::Progress(_)) => {}
            Ok(WatchEvent::Resync { .. }) => self.metrics().watch_resyncs.add_one(),
            Err(_) => {}
        }
        if matches!(event, Ok(WatchEvent::Resync { .. }) | Err(_)) {
            self.state = State::Ended;
        }
        self.progress_at = Instant::now() + PROGRESS_EVERY;
        Some(event)
    }

    /// The same watch, which asks for room for each page as soon as it is read. While there is none the page is let go of, and read
    /// again a little later; if there is none for long, the watch ends with `Busy`.
    #[must_use]
    pub fn admitting(self, admit: Admit) -> Self {
        Self { admit: Some(admit), ..self }
    }

    /// The room of the page that was given out last, to be kept as long as that is.
    pub fn take_room(&mut self) -> Option<Room> {
        self.room.take()
    }

    fn metrics(&self) -> &crate::metrics::StoreMetrics {
        &self.workers.metrics
    }

    async fn advance(&mut self) -> Result<WatchEvent> {
        if let Some(first) = self.opening.take() {
            return Ok(first);
        }
        loop {
            let event = match &mut self.state {
                State::Idle(cursor) if cursor.next() > *self.applied.borrow() => {
                    let version = cursor.next() - 1;
                    if !std::mem::replace(&mut self.has_caught_up, true) {
                        return Ok(WatchEvent::Progress(version));
                    }
                    self.wait(version).await?
                }
                State::Idle(_) => {
                    self.look().await?;
                    None
                }
                State::Looking(looked) => {
                    let looked = looked.await.map_err(|_| Error::WorkerDied)?;
                    (self.state, self.room) = (State::Idle(looked.cursor), looked.room);
                    self.take(looked.read?)?
                }
                State::Ended => return Err(closed()),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// What is told of what was read, if anything is.
    ///
    /// Errors: `Busy` if there has been no room for long.
    fn take(&mut self, read: Option<ChangesRead>) -> Result<Option<WatchEvent>> {
        let State::Idle(cursor) = &self.state else { return Ok(None) };
        let Some(read) = read else {
            let since = *self.no_room_since.get_or_insert_with(Instant::now);
            let busy = esker_engine::Error::Busy { retry_after: RETRY_AFTER };
            return if since.elapsed() < ROOM_PATIENCE { Ok(None) } else { Err(Error::Engine(busy)) };
        };
        self.no_room_since = None;
        Ok(match read {
            ChangesRead::Page(changes) if changes.is_empty() => {
                let is_due = Instant::now() >= self.progress_at && !cursor.is_within();
                is_due.then(|| WatchEvent::Progress(cursor.next() - 1))
            }
            ChangesRead::Page(changes) => Some(WatchEvent::Changes(changes)),
            ChangesRead::CaughtUp => None,
            ChangesRead::Gone { from, why } => Some(WatchEvent::Resync { from, why }),
        })
    }

    /// Waits until something behind `version` was applied, or it is time to tell that nothing was.
    async fn wait(&mut self, version: Version) -> Result<Option<WatchEvent>> {
        tokio::select! {
            applied = self.applied.wait_for(|applied| *applied > version) => {
                applied.map(|_| None).map_err(|_| closed())
            }
            _closed = self.closed.wait_for(|closed| *closed) => Err(closed()),
            () = tokio::time::sleep_until(self.progress_at) => Ok(Some(WatchEvent::Progress(version))),
        }
    }

    /// Begins to look, when it is its turn.
    async fn look(&mut self) -> Result<()> {
        if let Some(last) = self.looked {
            let pause = if self.no_room_since.is_some() { ROOM_EVERY } else { LOOK_EVERY };
            tokio::time::sleep_until(last + pause).await;
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let State::Idle(cursor) = std::mem::replace(&mut self.state, State::Ended) else {
            return Err(closed());
        };
        self.looked = Some(Instant::now());
        let (changes, filter, admit) = (self.changes.clone(), Arc::clone(&self.filter), self.admit.clone());
        let (answer, looked) = oneshot::channel();
        self.workers.pool.run(Admission::Continued, move || {
            let looked = Looked::look(&changes, cursor, &filter, admit);
            // Not kept until somebody asks for what was read: that may take long.
            drop(turn);
            // The watcher may have gone away meanwhile.
            let _gone = answer.send(looked).is_err();
        })?;
        self.state = State::Looking(looked);
        Ok(())
    }
}

impl Looked {
    fn look(
        changes: &Changes,
        mut cursor: Box<ChangeCursor>,
        filter: &ChangeFilter,
        admit: Option<Admit>,
    ) -> Self {
        let before = cursor.clone();
        let read = changes.read(&mut cursor, filter, PAGE_BYTES);
        let page = match &read {
            Ok(ChangesRead::Page(page)) if !page.is_empty() => Some(page),
            _ => None,
        };
        let (Some(page), Some(admit)) = (page, admit) else {
            return Self { cursor, read: read.map(Some).map_err(Error::from), room: None };
        };
        match admit(page.iter().map(Change::bytes).sum()) {
            room @ Some(_) => Self { cursor, read: read.map(Some).map_err(Error::from), room },
            None => Self { cursor: before, read: Ok(None), room: None },
        }
    }
}

fn closed() -> Error {
    Error::Engine(esker_engine::Error::Closed)
}

/// What the watches of a Store share.
pub(crate) struct Watches {
    seats: Arc<AtomicUsize>,
    seats_max: usize,
    /// How many look at a time.
    turns: Arc<Semaphore>,
    applied: Applied,
    closed: watch::Sender<bool>,
}

/// Where it is learnt what was applied.
pub(crate) enum Applied {
    /// From the store itself, which is asked only while somebody watches.
    Single(Db, watch::Sender<Version>),
    /// From the consensus module's side, which tells it anyway.
    Raft(watch::Receiver<Version>),
}

impl Applied {
    /// Has a store tell what it applies.
    ///
    /// Errors: `InvalidRequest` if it tells somebody else already.
    pub(crate) fn of(db: &Db) -> Result<Self> {
        let sender = watch::Sender::new(0);
        let tell = sender.clone();
        let told = db.tell_applied(Box::new(move |version| {
            // Either this sees the watcher that has come, or that one sees the version.
            fence(Ordering::SeqCst);
            if tell.receiver_count() > 0 {
                raise(&tell, version);
            }
        }));
        match told {
            true => Ok(Self::Single(db.clone(), sender)),
            false => {
                let why = "there is a Store over this database already".to_owned();
                Err(Error::Engine(esker_engine::Error::InvalidRequest(why)))
            }
        }
    }

    fn subscribe(&self) -> watch::Receiver<Version> {
        match self {
            Self::Raft(receiver) => receiver.clone(),
            Self::Single(db, sender) => {
                let receiver = sender.subscribe();
                fence(Ordering::SeqCst);
                raise(sender, db.version());
                receiver
            }
        }
    }
}

fn raise(sender: &watch::Sender<Version>, version: Version) {
    sender.send_if_modified(|told| {
        let is_news = version > *told;
        *told = version.max(*told);
        is_news
    });
}

impl Watches {
    /// At most so many watches, which have `threads` of the pool's to themselves at most.
    pub(crate) fn new(applied: Applied, seats_max: usize, threads: usize) -> Self {
        let (seats, turns) = (Arc::default(), Arc::new(Semaphore::new(threads.max(1))));
        Self { seats, seats_max, turns, applied, closed: watch::Sender::new(false) }
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.seats.load(Ordering::Relaxed)
    }

    /// Ends all of them.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        self.turns.close();
    }

    /// Room for one more. Errors: `Busy`.
    pub(crate) fn seat(&self) -> Result<Seat> {
        let seat = Seat(Arc::clone(&self.seats));
        // The seat gives back what it has taken, also if it may not be kept.
        if self.seats.fetch_add(1, Ordering::Relaxed) >= self.seats_max {
            return Err(Error::Engine(esker_engine::Error::Busy { retry_after: RETRY_AFTER }));
        }
        Ok(seat)
    }

    /// Begins a watch at a moment at which everything up to `point` was applied.
    pub(crate) fn begin(
        &self,
        seat: Seat,
        changes: Changes,
        workers: Workers,
        point: Version,
        options: WatchOptions,
    ) -> Watch {
        let from = options.from.unwrap_or(point + 1).max(1);
        let opening = match from > point + 1 {
            // Nobody was ever told of what is behind this point.
            true => WatchEvent::Resync { from: point + 1, why: "the store has not come so far" },
            false => WatchEvent::Progress(from - 1),
        };
        Watch {
            changes,
            filter: Arc::new(ChangeFilter::new(options.prefix, options.keys_only)),
            workers,
            turns: Arc::clone(&self.turns),
            applied: self.applied.subscribe(),
            closed: self.closed.subscribe(),
            state: State::Idle(Box::new(ChangeCursor::at(from))),
            // Who begins here has nothing to catch up with.
            has_caught_up: from == point + 1,
            opening: Some(opening),
            looked: None,
            progress_at: Instant::now() + PROGRESS_EVERY,
            admit: None,
            room: None,
            no_room_since: None,
            _seat: seat,
        }
    }
}

/// A watch's place among those that there may be.
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
