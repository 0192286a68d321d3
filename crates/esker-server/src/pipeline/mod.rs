//! Connections on which requests come one after the other without waiting for answers, and answers in their order.
//!
//! ```text
//! connection: bytes -> parse -> step, one request after another -> settle: writes that are under way -> answers -> one write
//! ```
//!
//! What the bytes mean is the business of whoever [`Speaks`]; what a connection may hold and how long it may take, of this
//! module.

mod connection;
mod foresight;
mod timer;
mod write;
mod writes;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use esker_cluster::{Error, metrics::Counter};
use esker_engine::Committed;

pub(crate) use self::{
    connection::serve,
    foresight::Foresight,
    writes::{Awaiting, Writes},
};
use crate::{
    access::Arrival,
    http::{Front, Share},
};

/// So many requests are taken out of the buffer at a time.
pub(crate) const REQUESTS_MAX: usize = 1024;
/// Answers up to this are not counted: more connections than there may be would hold little.
pub(crate) const ANSWER_BYTES_FREE: usize = 16 << 10;

/// A write under way.
pub(crate) type Commit = Pin<Box<dyn Future<Output = Result<Committed, Error>> + Send>>;

/// What becomes of the connection after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to do.
    GoOn,
    /// The same, but it may have to wait for memory that others hold: what was answered is written before, and gives back its own.
    Flush,
    /// All that was taken has been run.
    Done,
    /// What was answered is written, then it is closed.
    Close,
    /// It is closed at once.
    Abort,
}

/// Why a connection ends.
pub(crate) enum Ended {
    /// By the client.
    Closed,
    /// By the server; the client is to have the time to read what it was told.
    Told,
    /// The client kept the server waiting for a request, or the rest of one.
    Silent,
    /// The client did not take its answers.
    Stalled,
    /// It was no client of this protocol.
    Stranger,
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(e: io::Error) -> Self {
        Self::Broken(e)
    }
}

/// A request, for the log.
pub(crate) struct Told<'a> {
    /// Its name.
    pub(crate) operation: &'static str,
    /// Its first key, or where its range begins.
    pub(crate) key: Option<&'a [u8]>,
}

/// Answers that are not written to the socket yet.
pub(crate) struct Out {
    pub(crate) bytes: Vec<u8>,
    /// What they take of what all answers may take.
    pub(crate) share: Share,
    /// Whether a long answer was made and then not given, since somebody looked.
    pub(crate) was_refused: bool,
}

impl Out {
    pub(crate) fn new(front: &Front) -> Self {
        Self { bytes: Vec::new(), share: front.answer_budget.share(), was_refused: false }
    }

    /// Takes what a long answer, which begins at `mark`, holds from what all answers may hold; whether there is so much left.
    pub(crate) fn admit(&mut self, mark: usize) -> bool {
        let len = self.bytes.len() - mark;
        let has_room = len <= ANSWER_BYTES_FREE || self.share.grow(len);
        self.was_refused |= !has_room;
        has_room
    }
}

/// What a front makes of the bytes of one connection.
pub(crate) trait Speaks: Send {
    /// What all fronts share.
    fn front(&self) -> &Arc<Front>;

    /// How it came in.
    fn arrival(&self) -> &Arrival;

    /// Counts connections that were dropped because the client took nothing of an answer.
    fn stalled(&self) -> &Counter;

    /// How long the client may be silent between requests.
    fn idle_limit(&self) -> Duration;

    /// Takes whole requests off the front of the buffer, up to [`REQUESTS_MAX`]; says how many. What it comes upon that is none,
    /// it keeps in mind.
    fn parse(&mut self, input: &[u8]) -> usize;

    /// Does the next thing of what was taken: a request, or a part of one whose answer is long.
    fn step(&mut self, input: &[u8]) -> impl Future<Output = Step> + Send;

    /// Waits until all that was begun is answered.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;

    /// What was answered until now is written, though more was taken: that may have lasted as long as the client liked.
    fn written(&mut self) {}

    /// What was taken is done with, also where the client did not wait for all of it: it took so long from its arrival to its answers.
    fn answered(&mut self, took: Duration);

    /// Answers to what was no request; whether there was any. Nothing is read after it.
    fn refuse_malformed(&mut self) -> bool;

    /// Answers that what is being received takes more memory than there is for it.
    fn refuse_received(&mut self);

    /// Answers whoever has not said who it is, and sends much; whether it is such a one.
    fn refuse_stranger(&mut self) -> bool;

    /// All before this place of the buffer is done with.
    fn start(&self) -> usize;

    /// Whether there was a secret in it.
    fn has_shown(&self) -> bool;

    /// The caller has cut that off.
    fn forget(&mut self);

    /// Whether a request has begun to arrive.
    fn is_within(&self, input: &[u8]) -> bool;

    /// How many bytes it misses at least.
    fn missing(&self, input: &[u8]) -> usize;

    /// Bytes of memory that it takes besides the buffer: those that count only in numbers, and those that always count.
    fn held(&self) -> (usize, usize);

    /// What was answered.
    fn out(&mut self) -> &mut Out;

    /// The last request that was run, until [`Speaks::answered`].
    fn last<'a>(&'a self, input: &'a [u8]) -> Told<'a>;
}
