//! How long a peer that cannot be reached is left alone: twice as long after each failure, until it answers. A call of its
//! own ends the pause: whoever calls has most likely come back.
//!
//! The library's own pauses cannot be ended, and count per stream; these count per peer, so that heartbeats and
//! replication together cost a dead peer's neighbours one attempt per pause.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::runtime::random_fraction;

/// The pause after the first failure, and the least between two attempts whatever the peer does.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What is known of whether a peer can be reached.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    failing: Mutex<Option<Failing>>,
    /// The pause was shortened.
    called: Notify,
}

/// A peer that did not answer when it was tried last.
#[derive(Debug, Clone, Copy)]
struct Failing {
    failures: u32,
    since: Instant,
    until: Instant,
}

impl Contact {
    /// An attempt failed. Attempts that were under way together count as one.
    pub(crate) fn failed(&self) {
        let now = Instant::now();
        let mut failing = self.failing.lock();
        let failures = match *failing {
            Some(before) if now < before.until => return,
            Some(before) => before.failures.saturating_add(1),
            None => 1,
        };
        *failing = Some(Failing { failures, since: now, until: now + pause(failures, random_fraction()) });
    }

    /// The peer answered.
    pub(crate) fn answered(&self) {
        *self.failing.lock() = None;
    }

    /// The peer called: it is tried again soon. What failed before still counts, as it may hear nothing.
    pub(crate) fn heard(&self) {
        if let Some(failing) = &mut *self.failing.lock() {
            failing.until = failing.until.min(failing.since + PAUSE_MIN);
            self.called.notify_waiters();
        }
    }

    /// Waits until the peer may be tried.
    pub(crate) async fn wait(&self) {
        loop {
            let called = self.called.notified();
            let until = self.failing.lock().map(|failing| failing.until);
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
            tokio::select! {
                biased;
                () = called => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

/// The pause after so many failures: of the doubled ones, up to half is taken off at random, so that nodes do not knock in
/// step.
fn pause(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX).mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_lose_half_at_most() {
        let most: Vec<_> = (1..=7).map(|failures| pause(failures, 1.0).as_millis()).collect();
        assert_eq!(most, [20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(pause(u32::MAX, 0.0), PAUSE_MAX / 2);
    }

    /// How often a peer that never answers is tried in ten seconds, by two streams at once.
    async fn attempts(contact: &Contact) -> u32 {
        let end = Instant::now() + Duration::from_secs(10);
        let mut attempts = 0;
        while Instant::now() < end {
            contact.wait().await;
            attempts += 1;
            contact.failed();
            contact.failed();
        }
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_peer_is_tried_a_few_times_a_second() {
        let attempts = attempts(&Contact::default()).await;
        assert!((20..50).contains(&attempts), "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_the_peer_ends_the_pause_but_not_the_least_of_it() {
        let contact = Contact::default();
        attempts(&contact).await;
        let failed = Instant::now();
        let calling = async {
            tokio::task::yield_now().await;
            contact.heard();
        };
        tokio::join!(contact.wait(), calling);
        let waited = failed.elapsed();
        assert!(waited <= PAUSE_MIN + Duration::from_millis(1), "{waited:?}");
        contact.failed();
        assert!(contact.failing.lock().unwrap().failures > 5, "that it called does not say that it hears");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_answers_is_tried_at_once() {
        let contact = Contact::default();
        attempts(&contact).await;
        contact.answered();
        let before = Instant::now();
        contact.wait().await;
        assert_eq!(before, Instant::now());
    }
}
