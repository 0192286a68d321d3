//! What a store does behind its users' backs: periodic syncs, hints, checkpoints.

use std::{sync::atomic::Ordering, time::Duration};

use esker_log::Result;

use crate::db::Inner;

/// The maintenance thread looks at least this often.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

impl Inner {
    /// The life of the maintenance thread.
    pub(crate) fn run_maintenance(&self) {
        while !self.closing.load(Ordering::Acquire) {
            let pause = self.maintain();
            self.maintenance.wait(pause);
        }
    }

    /// Does what is due; says how long nothing will be, unless the signal is raised.
    ///
    /// A failed sync has poisoned the log, which every writer is told. A failed checkpoint costs time at the next
    /// opening, no data: it is kept for the status and tried again later.
    pub(crate) fn maintain(&self) -> Duration {
        let until_sync = self.commit.maintain_sync().ok().flatten();
        let now = self.clock.monotonic();
        let since = now.saturating_sub(*self.last_checkpoint.lock());
        let interval_passed = since >= self.checkpoint_interval;
        if self.checkpoint(interval_passed).is_err() || interval_passed {
            *self.last_checkpoint.lock() = now;
        }
        let since = now.saturating_sub(*self.last_checkpoint.lock());
        let until_checkpoint = self.checkpoint_interval.saturating_sub(since);
        until_sync.unwrap_or(LOOK_INTERVAL_MAX).min(until_checkpoint).min(LOOK_INTERVAL_MAX)
    }

    pub(crate) fn checkpoint(&self, all: bool) -> Result<()> {
        let result = self.engine.checkpoint(self.commit.log(), all);
        *self.checkpoint_error.lock() = result.as_ref().err().map(ToString::to_string);
        result
    }
}
