//! The clock as Esker sees it. [`SystemClock`] is the only place that asks the operating system for the time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Time since the Unix epoch; may jump.
    fn wall(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the one home of the real clock")]
impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one home of the real clock")]
impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Duration {
        // A wall clock set before 1970 reads as the epoch: no caller can do better with a negative time.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// The wall clock of [`ManualClock`] begins here, 2026-01-01: expiry times lie where they do in life.
pub const MANUAL_START: Duration = Duration::from_secs(1_767_225_600);

/// A clock that stands still until told otherwise, for tests and simulation. Its wall time begins at [`MANUAL_START`].
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Duration {
        MANUAL_START + self.monotonic()
    }
}
