//! How long a sync takes, as far as those before tell.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A sync counts for a sixteenth of what is expected then: one that takes a few milliseconds among many quick ones, as every disk has
/// them, changes little; after one that takes longer, or some in a row, nobody relies on a quick disk for a while.
const COUNTS: u64 = 16;

/// What is expected before there was any, in nanoseconds: more than is quick.
const UNKNOWN: u64 = 1_000_000;

/// See the module. Written by whoever leads, in nanoseconds.
#[derive(Debug)]
pub(super) struct SyncTime(AtomicU64);

impl Default for SyncTime {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl SyncTime {
    /// A sync took so long.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        let expected = match took.checked_sub(before) {
            Some(more) => before + more.div_ceil(COUNTS),
            None => before - (before - took).div_ceil(COUNTS),
        };
        self.0.store(expected, Ordering::Relaxed);
    }

    /// How long the next one may take.
    pub(super) fn expected(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sync_is_remembered_for_some_dozens() {
        let time = SyncTime::default();
        let [quick, slow] = [Duration::from_micros(100), Duration::from_millis(20)];
        assert!(time.expected() > 5 * quick);
        (0..1000).for_each(|_| time.note(quick));
        assert_eq!(time.expected(), quick);
        time.note(Duration::from_millis(3));
        assert!(time.expected() < 4 * quick, "one is none");
        (0..1000).for_each(|_| time.note(quick));
        time.note(slow);
        assert!(time.expected() > slow / 20);
        let quick_again = (0..1000).take_while(|_| {
            time.note(quick);
            time.expected() > 5 * quick
        });
        assert!((10..60).contains(&quick_again.count()));
        (0..1000).for_each(|_| time.note(quick));
        assert_eq!(time.expected(), quick);
    }
}
