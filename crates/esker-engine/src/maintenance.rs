//! What a store does behind its users' backs: periodic syncs, hints, checkpoints.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use esker_log::{Brake, Damage, Error, Log, Position, Result};

use crate::{Engine, db::Inner, merger::Mergeable};

/// A full disk is looked at this often.
const FULL_DISK_INTERVAL: Duration = Duration::from_secs(1);
/// The maintenance thread looks at least this often.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

impl Inner {
    /// The life of the maintenance thread. Were it to die in silence, `every:<ms>` would be `never`.
    pub(crate) fn run_maintenance(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.maintain_until_closing())).is_err() {
            let why = io::Error::other("it panicked: report this defect");
            self.commit.log().poison_with(&Error::io("maintenance", why));
        }
    }

    fn maintain_until_closing(&self) {
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
        let until_look = if self.commit.retry_full_disk() { FULL_DISK_INTERVAL } else { LOOK_INTERVAL_MAX };
        self.merger.size_segments(self);
        if self.has_threads {
            self.merger.wake();
        } else {
            self.merger.merge_due(self, false);
        }
        until_sync.unwrap_or(until_look).min(until_checkpoint).min(until_look)
    }

    /// The life of the merging thread. Were it to die in silence, dead records would stay for ever.
    pub(crate) fn run_merging(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.merger.run(self))).is_err() {
            let why = io::Error::other("merging panicked: report this defect");
            self.commit.log().poison_with(&Error::io("maintenance", why));
        }
    }

    pub(crate) fn checkpoint(&self, all: bool) -> Result<()> {
        let result = self.save_state(all);
        *self.checkpoint_error.lock() = result.as_ref().err().map(ToString::to_string);
        result
    }

    /// First what came of requests, then the engine's index files, which must not reach further: what they cover is not
    /// replayed.
    fn save_state(&self, all: bool) -> Result<()> {
        let due = all || self.engine.is_checkpoint_due();
        let before = self.once().save(self.commit.log(), self.applied_to(), due)?;
        self.engine.checkpoint(self.commit.log(), all, before, None).map(|_covered| ())
    }
}

impl Mergeable for Inner {
    fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    fn log(&self) -> &Arc<Log> {
        self.commit.log()
    }

    fn merge_before(&self) -> Position {
        // What the engine's index files do not cover, it knows best.
        self.log().appended()
    }

    fn save(&self) -> Result<()> {
        self.checkpoint(true)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn brake(&self) -> &Brake {
        self.commit.brake()
    }

    fn note_damage(&self, damage: &Damage) {
        self.damage.lock().note(damage);
    }
}
