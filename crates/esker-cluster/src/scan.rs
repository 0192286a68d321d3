//! Scans as streams of chunks.
//!
//! Each chunk is one job of the I/O pool; the engine's iterator travels with the job. So a slow reader holds
//! memory for two chunks at most (the one it has and the one made ahead) but never a thread:
//!
//! ```text
//! poll: hand over chunk n, queue the job for chunk n + 1 -> pool thread fills it -> waits in a channel
//! ```
//!
//! Dropping the stream stops it: the job under way notices at its next item.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use esker_engine::{Item, KeyRange, Reader};
use esker_log::clock::Clock;
use tokio::sync::oneshot;

use crate::{
    Error, Result,
    metrics::StoreMetrics,
    pool::{Admission, IoPool},
};

/// A chunk is full beyond this many items.
const CHUNK_ITEMS: usize = 1024;
/// A chunk is full beyond this many bytes of keys and values (one value may overshoot it).
const CHUNK_BYTES: usize = 256 << 10;

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

/// A scan under way: see the module's head.
pub struct Scan {
    state: State,
    workers: Workers,
}

enum State {
    /// The next chunk has not been asked for.
    Idle(Box<Source>),
    /// A job fills the next chunk.
    Filling(oneshot::Receiver<Filled>),
    Done,
}

/// What a job sends back: the chunk, and the source if there may be more.
type Filled = (Result<Chunk>, Option<Box<Source>>);

#[derive(Clone)]
pub(crate) struct Workers {
    pub(crate) pool: Arc<IoPool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<StoreMetrics>,
}

/// Where items come from: the engine's iterator, which holds its snapshot.
struct Source {
    items: esker_engine::Scan,
    reverse: bool,
    left: u64,
}

impl Scan {
    /// Takes the snapshot now: opening an engine's iterator reads nothing from the disk.
    pub(crate) fn new(reader: &Reader, range: &KeyRange, options: ScanOptions, workers: Workers) -> Self {
        let ScanOptions { reverse, keys_only, limit } = options;
        let empty = range.is_empty() || limit == Some(0);
        let source =
            || Source { items: reader.scan(range, keys_only), reverse, left: limit.unwrap_or(u64::MAX) };
        Self { state: if empty { State::Done } else { State::Idle(Box::new(source())) }, workers }
    }

    /// The next chunk; `None` at the end. After an error there is no more.
    pub async fn next_chunk(&mut self) -> Option<Result<Chunk>> {
        std::future::poll_fn(|cx| self.poll_next_chunk(cx)).await
    }

    /// The same, polled.
    pub fn poll_next_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Idle(source) => match self.fill(Admission::New, source) {
                    Ok(()) => {}
                    Err(e) => return Poll::Ready(Some(Err(e))),
                },
                State::Filling(mut filled) => match Pin::new(&mut filled).poll(cx) {
                    Poll::Pending => {
                        self.state = State::Filling(filled);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(Error::WorkerDied))),
                    Poll::Ready(Ok(filled)) => return Poll::Ready(self.hand_over(filled)),
                },
            }
        }
    }

    /// Hands a chunk over, after asking for the next one.
    fn hand_over(&mut self, (chunk, source): Filled) -> Option<Result<Chunk>> {
        if let Some(source) = source
            && let Err(e) = self.fill(Admission::Continued, source)
        {
            return Some(Err(e));
        }
        match chunk {
            Ok(items) if items.is_empty() => None,
            chunk => Some(chunk),
        }
    }

    fn fill(&mut self, admission: Admission, source: Box<Source>) -> Result<()> {
        let (answer, filled) = oneshot::channel::<Filled>();
        let Workers { clock, metrics, .. } = self.workers.clone();
        let start = clock.monotonic();
        self.workers.pool.run(admission, move || {
            let result = source.fill(&|| answer.is_closed());
            metrics.scan_chunk.record(clock.monotonic().saturating_sub(start));
            // A stream dropped meanwhile wants neither chunk nor iterator.
            let _dropped = answer.send(result).is_err();
        })?;
        self.state = State::Filling(filled);
        Ok(())
    }
}

impl Source {
    fn fill(mut self, dropped: &dyn Fn() -> bool) -> Filled {
        let mut chunk = Chunk::new();
        let mut bytes = 0;
        while self.left > 0 && chunk.len() < CHUNK_ITEMS && bytes < CHUNK_BYTES && !dropped() {
            match if self.reverse { self.items.next_back() } else { self.items.next() } {
                None => self.left = 0,
                Some(Err(e)) => return (Err(e.into()), None),
                Some(Ok(item)) => {
                    bytes += item.key.len() + item.value.as_ref().map_or(0, |value| value.len());
                    chunk.push(item);
                    self.left -= 1;
                }
            }
        }
        let more = self.left > 0;
        (Ok(chunk), more.then(|| Box::new(self)))
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
