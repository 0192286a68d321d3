//! How long a sync takes, as far as those before tell.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A sync counts for a sixteenth of what is expected then: after some slow ones in a row nobody relies on a quick disk for a while.
const COUNTS: u64 = 16;

/// A sync of up to so many nanoseconds counts as twice what is expected at most: every disk has some such among many quick ones, and one
/// in fifteen takes a step of zeros along where these are written ahead. A longer one counts in full.
const USUAL_MAX: u64 = 2_000_000;
/// As if no less had been expected, in nanoseconds: after quick ones, or none at all, slow ones are to be noticed.
const USUAL_MIN: u64 = 50_000;

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
        let took = if took <= USUAL_MAX { took.min(2 * before.max(USUAL_MIN)) } else { took };
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
        time.note(Duration::from_millis(2));
        assert!(time.expected() < 2 * quick, "one is none");
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

    /// However quick the others were, and also where not every one is slow.
    #[test]
    fn a_disk_that_gets_slow_is_noticed() {
        let noticed = |quick: Duration, took: &[Duration]| {
            let time = SyncTime::default();
            (0..1000).for_each(|_| time.note(quick));
            let notes = took.iter().cycle().take_while(|took| {
                time.note(**took);
                time.expected() <= Duration::from_micros(500)
            });
            notes.take(1000).count()
        };
        for quick in [0, 500, 20_000, 100_000].map(Duration::from_nanos) {
            for (slow, most) in [(1, 60), (2, 60), (3, 4), (9, 1), (2000, 0)] {
                let syncs = noticed(quick, &[Duration::from_millis(slow)]);
                assert!(syncs <= most, "{syncs} syncs of {slow} ms after {quick:?}");
            }
            let often = [Duration::from_millis(9), quick, Duration::from_millis(9), quick, quick];
            assert!(noticed(quick, &often) <= 2, "{quick:?}");
        }
    }
}
