//! When to send a request again, and how long to wait before.

use std::time::Duration;

use crate::Error;

/// How long and when requests are sent again; see the crate's head.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// No retry begins later than this after the first attempt. Default 5 s; zero turns retries off.
    pub within: Duration,
    /// Whether to retry where no connection can be made: for servers that restart. Default true.
    pub unreachable: bool,
    /// Whether writes are sent again when nobody knows whether the first copy was done. Default true.
    pub resend_writes: bool,
    /// The first pause, doubled from retry to retry. Default 20 ms.
    pub pause_min: Duration,
    /// The longest pause. Default 2 s.
    pub pause_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(5),
            unreachable: true,
            resend_writes: true,
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
        }
    }
}

impl Retry {
    /// Every request is sent once.
    pub fn never() -> Self {
        Self { within: Duration::ZERO, ..Self::default() }
    }

    /// The pause before the next attempt, if there is to be one: `elapsed` since the first attempt, after
    /// `attempts` of them. `random` is uniform in 0..1.
    pub(crate) fn pause(
        &self,
        error: &Error,
        is_write: bool,
        elapsed: Duration,
        attempts: u32,
        random: f64,
    ) -> Option<Duration> {
        let wanted = match error {
            Error::RetryLater { .. } => true,
            Error::Unreachable { .. } => self.unreachable,
            Error::Interrupted { .. } | Error::TimedOut { .. } => !is_write || self.resend_writes,
            _ => false,
        };
        let doubled = self.pause_min.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        let asked = match error {
            Error::RetryLater { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        };
        // Half of it at random, so that clients turned away together do not come back together; never earlier
        // than the server asked for, never later than the longest pause.
        let pause = doubled.min(self.pause_max).mul_f64(0.5 + random / 2.0).max(asked.min(self.pause_max));
        (wanted && elapsed + pause <= self.within).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use esker_wire::ErrorCode;

    use super::*;

    fn busy(millis: u64) -> Error {
        let retry_after = Duration::from_millis(millis);
        Error::RetryLater { code: ErrorCode::Busy, message: String::new(), retry_after }
    }

    const LATE: Error = Error::TimedOut { after: Duration::ZERO };

    #[test]
    fn pauses_grow_and_heed_the_server() {
        let retry = Retry::default();
        let pause =
            |error: &Error, attempts| retry.pause(error, false, Duration::ZERO, attempts, 1.0).unwrap();
        assert_eq!(pause(&LATE, 1), Duration::from_millis(20));
        assert_eq!(pause(&LATE, 3), Duration::from_millis(80));
        assert_eq!(pause(&LATE, 40), retry.pause_max);
        assert_eq!(pause(&busy(700), 1), Duration::from_millis(700));
        assert_eq!(retry.pause(&LATE, false, Duration::ZERO, 1, 0.0), Some(Duration::from_millis(10)));
    }

    #[test]
    fn the_time_is_bounded() {
        let retry = Retry::default();
        assert_eq!(retry.pause(&busy(1), false, Duration::from_secs(5), 1, 0.5), None);
        assert_eq!(Retry::never().pause(&busy(1), false, Duration::ZERO, 1, 0.5), None);
    }

    #[test]
    fn writes_are_resent_only_where_allowed() {
        let careful = Retry { resend_writes: false, ..Retry::default() };
        assert!(careful.pause(&LATE, true, Duration::ZERO, 1, 0.5).is_none());
        assert!(careful.pause(&LATE, false, Duration::ZERO, 1, 0.5).is_some());
        assert!(careful.pause(&busy(1), true, Duration::ZERO, 1, 0.5).is_some());
        let wrong = Error::invalid("x");
        assert!(Retry::default().pause(&wrong, false, Duration::ZERO, 1, 0.5).is_none());
    }
}
