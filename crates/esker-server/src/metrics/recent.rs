//! How busy the server has been lately: the difference between what was counted now and a little while ago.

use std::{collections::VecDeque, time::Duration};

/// What was counted until some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) nanos: u64,
}

/// How busy the server has been in the last [`Recent::SPAN`], or since it started if that is less.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Lately {
    pub(crate) requests_per_second: f64,
    /// 0 if there were none.
    pub(crate) mean_latency: Duration,
}

/// What was counted at some moments, the oldest first; never more of them than [`Recent::KEPT`].
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<(Duration, Totals)>);

impl Recent {
    /// How often it is to be noted what was counted.
    pub(crate) const EVERY: Duration = Duration::from_secs(1);
    /// What counts as lately.
    pub(crate) const SPAN: Duration = Duration::from_secs(10);
    const KEPT: usize = 12;

    /// Keeps what was counted until now.
    pub(crate) fn note(&mut self, now: Duration, totals: Totals) {
        // The one before the span begins is kept: from it the span is measured.
        while self.0.len() >= Self::KEPT || self.0.get(1).is_some_and(|(at, _)| *at + Self::SPAN <= now) {
            self.0.pop_front();
        }
        self.0.push_back((now, totals));
    }

    /// What has come since the beginning of the span.
    pub(crate) fn lately(&self, now: Duration, totals: Totals) -> Lately {
        let (since, before) = self.0.front().copied().unwrap_or_default();
        let seconds = now.saturating_sub(since).as_secs_f64();
        let requests = totals.requests.saturating_sub(before.requests);
        let nanos = totals.nanos.saturating_sub(before.nanos);
        Lately {
            requests_per_second: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
            mean_latency: Duration::from_nanos(nanos.checked_div(requests).unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn totals(requests: u64) -> Totals {
        Totals { requests, nanos: requests * 3000 }
    }

    #[test]
    fn what_is_long_past_counts_no_more() {
        let mut recent = Recent::default();
        // 5 a second for a minute, then nothing.
        (0..=60).for_each(|second| recent.note(at(second), totals(second * 5)));
        let busy = recent.lately(at(60), totals(300));
        assert_eq!((busy.requests_per_second, busy.mean_latency), (5.0, Duration::from_micros(3)));
        (61..=100).for_each(|second| recent.note(at(second), totals(300)));
        assert_eq!(recent.lately(at(100), totals(300)), Lately::default());
    }

    #[test]
    fn the_first_seconds_count_from_the_start() {
        let mut recent = Recent::default();
        recent.note(at(7), totals(0));
        assert_eq!(recent.lately(at(7), totals(0)), Lately::default());
        assert_eq!(recent.lately(at(9), totals(4)).requests_per_second, 2.0);
    }

    /// A pause, as of a machine that slept, is measured as long as it was.
    #[test]
    fn what_was_not_noted_in_time_is_a_longer_span() {
        let mut recent = Recent::default();
        recent.note(at(0), totals(0));
        recent.note(at(100), totals(100));
        assert_eq!(recent.lately(at(100), totals(100)).requests_per_second, 1.0);
        recent.note(at(101), totals(100));
        assert!(recent.0.len() <= Recent::KEPT);
    }
}
