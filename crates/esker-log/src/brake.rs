//! Slows writers down while something behind them cannot keep up, so that they are late by a little each and not stopped all at
//! once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::signal::Signal;

/// A wait is taken when it comes to this: shorter ones cost more than they give.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Nobody waits for longer at a time. What is owed beyond that, those who come next pay: a group of many bytes is not stopped for
/// a second.
const WAIT_MAX: Duration = Duration::from_millis(25);
/// No more is ever owed: that much behind, a large batch is let off the rest.
const OWED_MAX: Duration = Duration::from_secs(2);

/// What writers pay for each byte, in time. Off until somebody sets a rate.
#[derive(Debug, Default)]
pub struct Brake {
    /// Nanoseconds for each KiB; 0: off.
    nanos_per_kib: AtomicU64,
    /// What is owed and was not waited for yet, in nanoseconds.
    owed: AtomicU64,
    /// All that was waited for since opening, in nanoseconds.
    waited: AtomicU64,
    /// Raised when it is let go.
    released: Signal,
}

impl Brake {
    /// From now on each KiB takes so long; zero lets go of who waits.
    pub fn set(&self, per_kib: Duration) {
        let nanos = u64::try_from(per_kib.as_nanos()).unwrap_or(u64::MAX);
        if self.nanos_per_kib.swap(nanos, Ordering::Relaxed) > 0 && nanos == 0 {
            self.owed.store(0, Ordering::Relaxed);
            self.released.raise();
        }
    }

    /// How long each KiB takes now.
    pub fn per_kib(&self) -> Duration {
        Duration::from_nanos(self.nanos_per_kib.load(Ordering::Relaxed))
    }

    /// All the time that was waited since opening.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// How long to wait for having written so many bytes; zero where it is not worth a wait yet. Whoever asks has to wait.
    pub fn owe(&self, bytes: impl FnOnce() -> usize) -> Duration {
        let per_kib = self.nanos_per_kib.load(Ordering::Relaxed);
        if per_kib == 0 {
            return Duration::ZERO;
        }
        let more = (bytes() as u64).saturating_mul(per_kib) / 1024;
        let mut wait = 0;
        let pay = |before: u64| {
            let owed = before.saturating_add(more).min(OWED_MAX.as_nanos() as u64);
            let is_worth_it = owed >= WAIT_MIN.as_nanos() as u64;
            wait = if is_worth_it { owed.min(WAIT_MAX.as_nanos() as u64) } else { 0 };
            Some(owed - wait)
        };
        let paid = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        debug_assert!(paid.is_ok(), "it never refuses");
        self.waited.fetch_add(wait, Ordering::Relaxed);
        Duration::from_nanos(wait)
    }

    /// Waits for having written so many bytes.
    pub fn wait(&self, bytes: impl FnOnce() -> usize) {
        let wait = self.owe(bytes);
        if !wait.is_zero() {
            self.released.wait(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_owed_until_it_is_worth_a_wait_and_much_is_paid_by_and_by() {
        let brake = Brake::default();
        assert_eq!(brake.owe(|| unreachable!("nobody counts while it is off")), Duration::ZERO);
        brake.set(Duration::from_micros(100));
        assert_eq!(brake.owe(|| 9 << 10), Duration::ZERO);
        assert_eq!(brake.owe(|| 3 << 10), Duration::from_micros(1200));
        // 51.2 ms.
        assert_eq!(brake.owe(|| 512 << 10), WAIT_MAX);
        assert_eq!(brake.owe(|| 0), WAIT_MAX);
        assert_eq!(brake.owe(|| 1 << 10), Duration::from_micros(1300));
        assert_eq!(brake.owe(|| 1 << 10), Duration::ZERO);
        assert_eq!(brake.waited(), Duration::from_micros(1200 + 1300) + 2 * WAIT_MAX);
        brake.owe(|| 1 << 40);
        let waits = (0..1000).take_while(|_| brake.owe(|| 0) == WAIT_MAX).count();
        assert_eq!(waits, 79, "two seconds");
    }

    #[test]
    fn letting_go_ends_the_wait() {
        let brake = Brake::default();
        brake.set(Duration::from_secs(1));
        brake.set(Duration::ZERO);
        // Nobody waited, so the next wait is spared.
        brake.released.wait(Duration::from_secs(3600));
        assert_eq!(brake.owe(|| 1 << 20), Duration::ZERO);
    }
}
