//! How long a client may keep the server waiting.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::config::Timeouts;

/// After so much silence a connection gives back what it has no use for.
const SILENCE: Duration = Duration::from_secs(1);

/// Keeps the time while the server waits for a client. One timer a connection, which is moved only when it rings or is
/// needed sooner.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    has_rung: bool,
    /// Since when there has been nothing to read.
    since: Instant,
    /// Since when a request has been arriving, if one is.
    arriving_since: Option<Instant>,
    /// Whether there was a request yet.
    was_used: bool,
    /// How long there may be silence between requests.
    idle: Duration,
    /// Whether the silence was told.
    told_silence: bool,
}

/// What the timer rings for.
pub(super) enum Rang {
    /// The client has said nothing for a while.
    Silence,
    /// It should have.
    TimedOut,
}

impl Timer {
    /// `idle`: how long there may be silence between requests.
    pub(super) fn new(timeouts: &Timeouts, idle: Duration) -> Self {
        let now = Instant::now();
        Self {
            sleep: Box::pin(tokio::time::sleep_until(now + timeouts.idle.min(SILENCE))),
            has_rung: false,
            since: now,
            arriving_since: None,
            was_used: false,
            idle,
            told_silence: false,
        }
    }

    /// Another thread keeps the time from now on.
    pub(super) fn moved(&mut self) {
        self.sleep = Box::pin(tokio::time::sleep_until(self.sleep.deadline()));
    }

    /// A request was there.
    pub(super) fn commanded(&mut self) {
        self.was_used = true;
        self.arriving_since = None;
    }

    /// There is nothing more to read; perhaps within a request.
    pub(super) fn begin_waiting(&mut self, is_within: bool) {
        self.since = Instant::now();
        self.told_silence = false;
        match is_within {
            true => self.arriving_since = self.arriving_since.or(Some(self.since)),
            false => self.arriving_since = None,
        }
    }

    /// When the client has to have sent something. `received` is how much of a request is there.
    fn limit(&self, timeouts: &Timeouts, received: usize) -> Instant {
        match self.arriving_since {
            Some(arriving) => {
                let pace = timeouts.body_bytes_per_second.max(1);
                let earned = Duration::from_millis(received as u64 * 1000 / pace);
                (self.since + timeouts.body_stall).min(arriving + timeouts.body_grace + earned)
            }
            None if self.was_used => self.since + self.idle,
            None => self.since + timeouts.idle,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timeouts: &Timeouts, received: usize) -> Poll<Rang> {
        loop {
            let limit = self.limit(timeouts, received);
            let silence = (!self.told_silence).then_some(self.since + SILENCE);
            let next = silence.map_or(limit, |silence| silence.min(limit));
            if self.has_rung || next < self.sleep.deadline() {
                self.sleep.as_mut().reset(next);
                self.has_rung = false;
            }
            ready!(self.sleep.as_mut().poll(cx));
            self.has_rung = true;
            let now = Instant::now();
            if now >= limit {
                return Poll::Ready(Rang::TimedOut);
            }
            if silence.is_some_and(|silence| now >= silence) {
                self.told_silence = true;
                return Poll::Ready(Rang::Silence);
            }
        }
    }
}
