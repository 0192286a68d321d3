//! The longest time in which nothing succeeded: what a failover costs those who come during it.
//!
//! Over all connections together, and for each kind of operation by itself: reads that go on must not hide that no write
//! succeeds.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::workload::Kind;

/// One kind's gap. Times are nanoseconds of the run's clock.
#[derive(Debug, Default)]
struct Gap {
    last: AtomicU64,
    longest: AtomicU64,
}

/// Every kind's gap.
#[derive(Debug, Default)]
pub(super) struct Gaps([Gap; Kind::ALL.len()]);

impl Gaps {
    /// From now on gaps count.
    pub(super) fn begin(&self, at: Duration) {
        self.0.iter().for_each(|gap| {
            gap.last.fetch_max(nanos(at), Ordering::Relaxed);
        });
    }

    /// An operation ended well.
    pub(super) fn succeeded(&self, kind: Kind, at: Duration) {
        self.0[kind as usize].until(at);
    }

    /// The longest gap of a kind, of a run that ended so.
    pub(super) fn longest(&self, kind: Kind, end: Duration) -> Duration {
        let gap = &self.0[kind as usize];
        gap.until(end);
        Duration::from_nanos(gap.longest.load(Ordering::Relaxed))
    }
}

impl Gap {
    fn until(&self, at: Duration) {
        let at = nanos(at);
        // Whoever comes late with an earlier time finds that there was no gap.
        let gap = at.saturating_sub(self.last.fetch_max(at, Ordering::Relaxed));
        self.longest.fetch_max(gap, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_found_wherever_it_is() {
        let ms = Duration::from_millis;
        let run = |successes: &[u64]| {
            let gaps = Gaps::default();
            gaps.begin(ms(1000));
            successes.iter().for_each(|at| gaps.succeeded(Kind::Update, ms(*at)));
            gaps.longest(Kind::Update, ms(2000)).as_millis()
        };
        assert_eq!(run(&[1010, 1500, 1490, 1990]), 490);
        assert_eq!(run(&[1900, 1990]), 900, "at the beginning");
        assert_eq!(run(&[1100]), 900, "at the end");
        assert_eq!(run(&[]), 1000);
    }

    #[test]
    fn reads_do_not_fill_the_gaps_of_writes() {
        let gaps = Gaps::default();
        gaps.begin(Duration::ZERO);
        gaps.succeeded(Kind::Read, Duration::from_secs(1));
        let end = Duration::from_secs(2);
        assert_eq!(gaps.longest(Kind::Update, end), end);
        assert_eq!(gaps.longest(Kind::Read, end), Duration::from_secs(1));
    }
}
