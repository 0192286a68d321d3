//! When to send a request again, and how long to wait before.

use std::time::Duration;

use crate::Error;

/// How long and when requests are sent again; see the crate's head.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// No retry begins later than this after the first attempt. Default 10 s, which covers the election of a new leader
    /// many times over; zero turns retries off.
    pub within: Duration,
    /// Whether to retry where no connection can be made to any server: for servers that restart. Default true. Of several
    /// servers, the others are tried in any case.
    pub unreachable: bool,
    /// Whether writes are sent again when nobody knows whether the first copy was done. Default true.
    pub resend_writes: bool,
    /// The first pause, doubled from round to round. Default 20 ms.
    pub pause_min: Duration,
    /// The longest pause, but where a server asks for a longer one. Default 500 ms.
    pub pause_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(10),
            unreachable: true,
            resend_writes: true,
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_millis(500),
        }
    }
}

impl Retry {
    /// Every request is sent once.
    pub fn never() -> Self {
        Self { within: Duration::ZERO, ..Self::default() }
    }

    /// Whether a request may be sent again after `error`. `others` says that there are servers which were not asked yet.
    pub(crate) fn wants(&self, error: &Error, is_write: bool, others: bool) -> bool {
        match error {
            Error::RetryLater { .. } | Error::NotLeader { .. } => true,
            Error::Unreachable { .. } => self.unreachable || others,
            Error::Interrupted { .. } | Error::TimedOut { .. } | Error::OutcomeUnknown { .. } => {
                self.resends(is_write)
            }
            error => others && error.is_of_one_node(),
        }
    }

    /// Whether what nobody knows the outcome of is sent again.
    pub(crate) fn resends(&self, is_write: bool) -> bool {
        !is_write || self.resend_writes
    }

    /// The pause before the next attempt, if there is time for one: `elapsed` since the first attempt, in the `round`-th
    /// round (from 1) over the servers. `random` is uniform in 0..1. `others` as in [`Retry::wants`].
    pub(crate) fn pause(
        &self,
        error: &Error,
        others: bool,
        elapsed: Duration,
        round: u32,
        random: f64,
    ) -> Option<Duration> {
        let pause = match others && error.is_of_one_node() {
            true => Duration::ZERO,
            false => self.back_off(error, round, random),
        };
        // Without retries not even a free one is made.
        (!self.within.is_zero() && elapsed + pause <= self.within).then_some(pause)
    }

    /// Half of it at random, so that clients turned away together do not come back together; never earlier than the
    /// server asked for.
    fn back_off(&self, error: &Error, round: u32, random: f64) -> Duration {
        let doubled = self.pause_min.saturating_mul(1 << round.saturating_sub(1).min(16));
        let asked = error.retry_after().unwrap_or_default();
        doubled.min(self.pause_max).mul_f64(0.5 + random / 2.0).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use esker_wire::ErrorCode;

    use super::*;

    fn later(code: ErrorCode, millis: u64) -> Error {
        Error::RetryLater { code, message: String::new(), retry_after: Duration::from_millis(millis) }
    }

    fn busy(millis: u64) -> Error {
        later(ErrorCode::Busy, millis)
    }

    const LATE: Error = Error::TimedOut { after: Duration::ZERO };

    #[test]
    fn pauses_grow_and_heed_the_server() {
        let retry = Retry::default();
        let pause =
            |error: &Error, round| retry.pause(error, false, Duration::ZERO, round, 1.0).unwrap().as_millis();
        assert_eq!(pause(&LATE, 1), 20);
        assert_eq!(pause(&LATE, 3), 80);
        assert_eq!(pause(&LATE, 40), retry.pause_max.as_millis());
        assert_eq!(pause(&busy(1700), 1), 1700);
        assert_eq!(retry.pause(&LATE, false, Duration::ZERO, 1, 0.0), Some(Duration::from_millis(10)));
    }

    /// What one node's death or leaving costs is one attempt.
    #[test]
    fn another_node_is_asked_at_once_unless_all_would_say_the_same() {
        let retry = Retry::default();
        let pause = |error: &Error, others| retry.pause(error, others, Duration::ZERO, 1, 1.0).unwrap();
        for code in [ErrorCode::Draining, ErrorCode::TooManyConnections, ErrorCode::Unavailable] {
            assert_eq!(pause(&later(code, 1000), true), Duration::ZERO, "{code}");
            assert_eq!(pause(&later(code, 1000), false), Duration::from_secs(1), "{code}");
        }
        assert_eq!(pause(&LATE, true), Duration::ZERO);
        assert_eq!(pause(&later(ErrorCode::NoLeader, 70), true), Duration::from_millis(70));
    }

    #[test]
    fn the_time_is_bounded() {
        let retry = Retry::default();
        assert_eq!(retry.pause(&busy(1), false, retry.within, 1, 0.5), None);
        assert_eq!(retry.pause(&busy(60_000), false, Duration::ZERO, 1, 0.5), None);
        assert_eq!(Retry::never().pause(&busy(1), false, Duration::ZERO, 1, 0.5), None);
        assert_eq!(Retry::never().pause(&LATE, true, Duration::ZERO, 1, 0.5), None);
    }

    #[test]
    fn writes_are_resent_only_where_allowed() {
        let careful = Retry { resend_writes: false, ..Retry::default() };
        let unknown = Error::OutcomeUnknown { message: String::new(), retry_after: Duration::ZERO };
        for error in [&LATE, &unknown] {
            assert!(!careful.wants(error, true, true));
            assert!(careful.wants(error, false, false) && Retry::default().wants(error, true, false));
        }
        assert!(careful.wants(&busy(1), true, false));
        assert!(!Retry::default().wants(&Error::invalid("x"), false, true));
    }

    #[test]
    fn a_store_that_refuses_writes_for_good_is_worth_a_look_at_the_others() {
        let code = ErrorCode::WritesRefused;
        let refused = Error::Server { status: 503, code, message: String::new() };
        let retry = Retry::default();
        assert!(retry.wants(&refused, true, true) && !retry.wants(&refused, true, false));
    }
}
