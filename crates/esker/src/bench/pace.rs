//! When an operation should begin.

use std::time::Duration;

/// tokio's timer counts whole milliseconds; what is left is waited for by yielding.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// One connection's share of the rate, in even steps. The connections' steps interleave.
#[derive(Debug)]
pub(super) struct Pace {
    first: Duration,
    step: Duration,
    taken: u32,
}

impl Pace {
    /// The pace of `connection` of `connections` that make `rate` operations a second, from `start` on.
    pub(super) fn new(start: Duration, rate: u64, connection: u32, connections: u32) -> Self {
        let step = Duration::from_secs_f64(f64::from(connections) / rate as f64);
        Self { first: start + step * connection / connections, step, taken: 0 }
    }

    /// When the next operation should begin: the schedule does not wait for a slow server.
    pub(super) fn next(&mut self) -> Duration {
        let due = self.first + self.step * self.taken;
        self.taken += 1;
        due
    }
}

/// Waits until `due` on the clock that `now` reads.
pub(super) async fn wait_until(due: Duration, now: impl Fn() -> Duration) {
    let left = due.saturating_sub(now());
    if left > TIMER_GRAIN {
        tokio::time::sleep(left - TIMER_GRAIN).await;
    }
    while now() < due {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_rate_evenly() {
        let start = Duration::from_secs(1);
        let mut due: Vec<_> = (0..4)
            .flat_map(|connection| {
                let mut pace = Pace::new(start, 100, connection, 4);
                (0..25).map(move |_| pace.next()).collect::<Vec<_>>()
            })
            .collect();
        due.sort();
        let expected: Vec<_> = (0..100).map(|at| start + Duration::from_millis(10) * at).collect();
        assert_eq!(due, expected);
    }
}
