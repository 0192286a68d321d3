//! Writing a history down while it happens.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Action, History, Moment, Operation, Outcome, Restart};

/// An operation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an operation that is not ended counts as of unknown outcome"]
pub struct OpId(usize);

/// Takes down calls and returns; clones write into the same history. Works in virtual and in real time, in one thread
/// and in many: a call is noted before it is made and a return after it came, so the noted order is one that happened.
#[derive(Debug, Clone)]
pub struct Recorder {
    start: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    history: History,
    order: u64,
    answered: u64,
}

impl Inner {
    fn moment(&mut self, at: Duration) -> Moment {
        self.order += 1;
        Moment { order: self.order, at }
    }
}

impl Recorder {
    /// An empty one; its times count from now.
    pub fn new() -> Self {
        Self { start: Instant::now(), inner: Arc::default() }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes the call of an operation.
    pub fn begin(&self, client: u32, node: Option<u64>, action: Action) -> OpId {
        let mut inner = self.inner.lock();
        let call = inner.moment(self.elapsed());
        let outcome = Outcome::Unknown("the run ended before the answer came".into());
        inner.history.operations.push(Operation { client, node, action, call, end: None, outcome });
        OpId(inner.history.operations.len() - 1)
    }

    /// Notes its end.
    pub fn end(&self, id: OpId, outcome: Outcome) {
        let mut inner = self.inner.lock();
        let end = inner.moment(self.elapsed());
        inner.answered += u64::from(!matches!(outcome, Outcome::Refused(_) | Outcome::Unknown(_)));
        let operation = &mut inner.history.operations[id.0];
        operation.end = Some(end);
        operation.outcome = outcome;
    }

    /// How many writes were acknowledged and reads answered so far.
    pub fn answered(&self) -> u64 {
        self.inner.lock().answered
    }

    /// Notes that a node is down: what it answers later is another run's.
    pub fn restarted(&self, node: u64) {
        let mut inner = self.inner.lock();
        let at = inner.moment(self.elapsed());
        inner.history.restarts.push(Restart { node, at });
    }

    /// What was noted so far.
    pub fn history(&self) -> History {
        self.inner.lock().history.clone()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}
