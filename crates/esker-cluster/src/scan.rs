//! Scans as streams of chunks.
//!
//! Each chunk is one job of the I/O pool; the engine's iterator travels with the job. So a slow reader holds
//! memory for two chunks at most (the one it has and the one made ahead) but never a thread:
//!
//! ```text
//! poll: hand over chunk n, queue the job for chunk n + 1 -> pool thread fills it -> waits in a channel
//! ```
//!
//! Who has to account for that memory gives an [`Admit`], which is asked about each chunk where it is made, also about the one
//! that is made ahead. A chunk for which there is no room is let go of. It is read again when there is, or the scan ends with
//! [`Error::NoRoom`].
//!
//! Dropping the stream stops it: the job under way notices at its next item.

use std::{
    any::Any,
    ops::Bound,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use esker_engine::{Item, KeyRange, Reader, View};
use esker_log::clock::Clock;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::{
    Error, Result,
    metrics::StoreMetrics,
    pool::{Admission, IoPool},
};

/// A chunk is full beyond this many items.
const CHUNK_ITEMS: usize = 1024;
/// A chunk is full beyond this many bytes of keys and values (one value may overshoot it).
const CHUNK_BYTES: usize = 256 << 10;
/// While there is no room for a chunk, it is looked for this often.
const ROOM_EVERY: Duration = Duration::from_millis(50);
/// When somebody for whom there is no room may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What holds memory to somebody's account, until it is dropped.
pub type Room = Box<dyn Any + Send>;
/// Asked for room for so many bytes.
pub type Admit = Arc<dyn Fn(usize) -> Option<Room> + Send + Sync>;

/// What a scan returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// From the end of the range to its start.
    pub reverse: bool,
    /// No values.
    pub keys_only: bool,
    /// At most so many items.
    pub limit: Option<u64>,
}

/// Some items in order, never none.
pub type Chunk = Vec<Item>;

/// A scan under way: see the module's head. It gives chunks, or what they are made into.
pub struct Scan<T = Chunk> {
    state: State<T>,
    workers: Workers,
    job: Job<T>,
    /// How long it waits for room once it has given something out.
    patience: Duration,
    has_begun: bool,
    /// The room of the chunk that was given out last.
    room: Option<Room>,
}

/// What is done with each chunk on the thread that reads it.
struct Job<T> {
    /// Makes of it what is wanted, and says how many bytes that holds.
    shape: Arc<dyn Fn(Chunk) -> (T, usize) + Send + Sync>,
    /// Who is asked for room; nobody, if that is the caller's business.
    admit: Option<Admit>,
}

impl<T> Clone for Job<T> {
    fn clone(&self) -> Self {
        Self { shape: Arc::clone(&self.shape), admit: self.admit.clone() }
    }
}

enum State<T> {
    /// The next chunk has not been asked for.
    Idle(Box<Source>),
    /// A job fills the next chunk.
    Filling(oneshot::Receiver<Filled<T>>),
    /// There is no room for the next chunk.
    Waiting(Box<Waiting>),
    Done,
}

/// A scan whose next chunk has so many bytes, for which there was no room.
struct Waiting {
    source: Source,
    bytes: usize,
    since: Instant,
    again: Pin<Box<Sleep>>,
}

/// What a job sends back: what it made, and the source if there may be more.
struct Filled<T> {
    made: Result<Made<T>>,
    source: Option<Box<Source>>,
}

enum Made<T> {
    Chunk(T, Option<Room>),
    /// There is no room for so many bytes; the source stands before them.
    NoRoom(usize),
    /// There was nothing.
    Nothing,
}

#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) pool: Arc<IoPool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<StoreMetrics>,
}

/// Where items come from: the engine's iterator, which holds its snapshot.
struct Source {
    items: esker_engine::Scan,
    range: KeyRange,
    options: ScanOptions,
    left: u64,
    /// The same snapshot, for who may have to read a chunk again.
    view: Option<View>,
}

impl Scan {
    /// Takes the snapshot now: opening an engine's iterator reads nothing from the disk.
    pub(crate) fn new(reader: &Reader, range: &KeyRange, options: ScanOptions, workers: Workers) -> Self {
        let state = match range.is_empty() || options.limit == Some(0) {
            true => State::Done,
            false => State::Idle(Box::new(Source::new(reader, range, options))),
        };
        let shape = |chunk: Chunk| {
            let bytes = chunk.iter().map(Item::memory).sum();
            (chunk, with_read_ahead(bytes))
        };
        let job = Job { shape: Arc::new(shape), admit: None };
        Self { state, workers, job, patience: Duration::ZERO, has_begun: false, room: None }
    }

    /// The same scan, which gives what `shape` makes of each chunk, with how many bytes that holds. It is made where the chunk is
    /// read: what takes long keeps nobody else waiting. Nothing of the scan may have been asked for.
    #[must_use]
    pub fn shaped<T: Send + 'static>(
        self,
        shape: impl Fn(Chunk) -> (T, usize) + Send + Sync + 'static,
    ) -> Scan<T> {
        let state = match self.state {
            State::Idle(source) => State::Idle(source),
            // An empty range; nothing else can be, before it was asked.
            _ => State::Done,
        };
        let Self { workers, job, patience, has_begun, room, .. } = self;
        let job = Job { shape: Arc::new(shape), admit: job.admit };
        Scan { state, workers, job, patience, has_begun, room }
    }
}

impl<T: Send + 'static> Scan<T> {
    /// The same scan, which asks for room for each chunk. The first one is there at once or not at all; later ones are waited for
    /// for at most `patience`. Whoever holds something that another one may wait for gives none.
    #[must_use]
    pub fn admitting(self, admit: Admit, patience: Duration) -> Self {
        Self { job: Job { admit: Some(admit), ..self.job }, patience, ..self }
    }

    /// The room of the chunk that was given out last, to be kept as long as that is.
    pub fn take_room(&mut self) -> Option<Room> {
        self.room.take()
    }

    /// The next chunk; `None` at the end. After an error there is no more.
    pub async fn next_chunk(&mut self) -> Option<Result<T>> {
        std::future::poll_fn(|cx| self.poll_next_chunk(cx)).await
    }

    /// The same, polled.
    pub fn poll_next_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Idle(mut source) => {
                    if self.job.admit.is_none() {
                        source.view = None;
                    }
                    if let Err(e) = self.fill(Admission::Long, source, None) {
                        return Poll::Ready(Some(Err(e)));
                    }
                }
                State::Filling(mut filled) => match Pin::new(&mut filled).poll(cx) {
                    Poll::Pending => {
                        self.state = State::Filling(filled);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(Error::WorkerDied))),
                    Poll::Ready(Ok(Filled { made: Ok(Made::NoRoom(bytes)), source: Some(source) })) => {
                        self.state = State::Waiting(Box::new(Waiting::new(*source, bytes)));
                    }
                    Poll::Ready(Ok(filled)) => return Poll::Ready(self.hand_over(filled)),
                },
                State::Waiting(mut waiting) => match self.look_for_room(&mut waiting, cx) {
                    Poll::Pending => {
                        self.state = State::Waiting(waiting);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Some(Err(e))),
                    Poll::Ready(Ok(room)) => {
                        let room = Some((waiting.bytes, room));
                        if let Err(e) = self.fill(Admission::Continued, Box::new(waiting.source), room) {
                            return Poll::Ready(Some(Err(e)));
                        }
                    }
                },
            }
        }
    }

    /// Hands a chunk over, after asking for the next one.
    fn hand_over(&mut self, Filled { made, source }: Filled<T>) -> Option<Result<T>> {
        self.has_begun = true;
        if let Some(source) = source
            && let Err(e) = self.fill(Admission::Continued, source, None)
        {
            return Some(Err(e));
        }
        match made {
            Ok(Made::Chunk(chunk, room)) => {
                self.room = room;
                Some(Ok(chunk))
            }
            Ok(Made::Nothing | Made::NoRoom(_)) => None,
            Err(e) => Some(Err(e)),
        }
    }

    /// Room for what waits. The first look is at once: the chunk may have been refused long ago, when it was made ahead.
    fn look_for_room(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<Result<Room>> {
        let no_room = || Err(Error::NoRoom { retry_after: RETRY_AFTER });
        let Some(admit) = &self.job.admit else { return Poll::Ready(no_room()) };
        loop {
            ready!(waiting.again.as_mut().poll(cx));
            if let Some(room) = admit(waiting.bytes) {
                return Poll::Ready(Ok(room));
            }
            let now = Instant::now();
            if !self.has_begun || now - waiting.since >= self.patience {
                return Poll::Ready(no_room());
            }
            waiting.again.as_mut().reset(now + ROOM_EVERY);
        }
    }

    fn fill(&mut self, admission: Admission, source: Box<Source>, room: Option<(usize, Room)>) -> Result<()> {
        let (answer, filled) = oneshot::channel::<Filled<T>>();
        let (Workers { clock, metrics, .. }, job) = (self.workers.clone(), self.job.clone());
        let start = clock.monotonic();
        self.workers.pool.run(admission, move || {
            let result = job.run(source, room, &|| answer.is_closed());
            metrics.scan_chunk.record(clock.monotonic().saturating_sub(start));
            // A stream dropped meanwhile wants neither chunk nor iterator.
            let _dropped = answer.send(result).is_err();
        })?;
        self.state = State::Filling(filled);
        Ok(())
    }
}

impl<T> Job<T> {
    /// The next chunk of the source, in the room that there is for it already, or else in new room.
    fn run(
        &self,
        mut source: Box<Source>,
        room: Option<(usize, Room)>,
        dropped: &dyn Fn() -> bool,
    ) -> Filled<T> {
        let left = source.left;
        let chunk = match source.fill(dropped) {
            Ok(chunk) => chunk,
            Err(e) => return Filled { made: Err(e), source: None },
        };
        let first = self.admit.as_ref().and_then(|_| chunk.first()).map(|item| item.key.clone());
        let made = match chunk.is_empty() {
            true => Made::Nothing,
            false => self.make(chunk, room),
        };
        if let (Made::NoRoom(_), Some(first)) = (&made, first) {
            source.rewind(first, left);
        }
        let more = source.left > 0;
        Filled { made: Ok(made), source: more.then_some(source) }
    }

    fn make(&self, chunk: Chunk, room: Option<(usize, Room)>) -> Made<T> {
        let (made, bytes) = (self.shape)(chunk);
        let Some(admit) = &self.admit else { return Made::Chunk(made, None) };
        match room {
            Some((admitted, room)) if admitted >= bytes => Made::Chunk(made, Some(room)),
            other => {
                drop(other);
                match admit(bytes) {
                    room @ Some(_) => Made::Chunk(made, room),
                    None => Made::NoRoom(bytes),
                }
            }
        }
    }
}

impl Waiting {
    fn new(source: Source, bytes: usize) -> Self {
        let now = Instant::now();
        Self { source, bytes, since: now, again: Box::pin(tokio::time::sleep_until(now)) }
    }
}

/// So many bytes of items, and what the iterator behind them holds of the log: values are parts of that, or come next.
pub fn with_read_ahead(bytes: usize) -> usize {
    /// It reads so much ahead at most, and at first not more than was asked for.
    const READ_AHEAD_BYTES: usize = 128 << 10;
    bytes + bytes.min(READ_AHEAD_BYTES)
}

/// What an item counts for: its key and its value.
fn item_bytes(item: &Item) -> usize {
    item.key.len() + item.value.as_ref().map_or(0, |value| value.len())
}

impl Source {
    fn new(reader: &Reader, range: &KeyRange, options: ScanOptions) -> Self {
        let view = reader.view();
        let items = view.scan(range, options.keys_only);
        let left = options.limit.unwrap_or(u64::MAX);
        Self { items, range: range.clone(), options, left, view: Some(view) }
    }

    /// The next items, none at the end.
    fn fill(&mut self, dropped: &dyn Fn() -> bool) -> Result<Chunk> {
        let mut chunk = Chunk::new();
        let mut bytes = 0;
        while self.left > 0 && chunk.len() < CHUNK_ITEMS && bytes < CHUNK_BYTES && !dropped() {
            match if self.options.reverse { self.items.next_back() } else { self.items.next() } {
                None => self.left = 0,
                Some(Err(e)) => return Err(e.into()),
                Some(Ok(item)) => {
                    bytes += item_bytes(&item);
                    chunk.push(item);
                    self.left -= 1;
                }
            }
        }
        Ok(chunk)
    }

    /// Goes back to where `first` comes next, and so many items are left.
    fn rewind(&mut self, first: Vec<u8>, left: u64) {
        let Some(view) = &self.view else { return };
        let end = if self.options.reverse { &mut self.range.end } else { &mut self.range.start };
        *end = Bound::Included(first);
        self.items = view.scan(&self.range, self.options.keys_only);
        self.left = left;
    }
}

/// Runs `read` on the pool and waits for what it returns.
pub(crate) async fn on_pool<T: Send + 'static>(
    workers: &Workers,
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    workers.pool.run(Admission::New, move || {
        // Whoever asked may have gone away meanwhile.
        let _gone = answer.send(read()).is_err();
    })?;
    answered.await.map_err(|_| Error::WorkerDied)?
}

#[cfg(test)]
mod tests;
