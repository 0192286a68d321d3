//! Saving how far a replica got, so that a restart replays little.
//!
//! In this order, each step durable before the next: a commit mark in the log, the mark in `REPLICA`, the engine's index
//! files. A crash between the last two leaves index files that reach the mark before; both are kept. Index files that end
//! between two marks are of no use: what requests came to is known at marks only.

use std::{
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use esker_log::{Brake, Damage, Draft, Error, Index, Log, Position, Result, format::FrameKind};

use super::{Inner, Replica, state_file::Mark};
use crate::{Engine, GROUP, Settled, merger::Mergeable};

/// A full disk is looked at this often.
const FULL_DISK_INTERVAL: Duration = Duration::from_secs(1);
/// The maintenance thread looks at least this often.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(60);

impl Replica {
    /// Saves everything applied so far. Errors: `Poisoned`, `DiskFull`, `Io`; no data is at risk.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.checkpoint(true)
    }

    /// The last entry that a checkpoint covers: the log before it is not needed for a restart.
    pub fn checkpointed(&self) -> Index {
        self.inner.checkpointed.lock().0.index
    }
}

impl Inner {
    /// The life of the maintenance thread.
    pub(super) fn run_maintenance(&self) {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            while !self.closing.load(Ordering::Acquire) {
                let pause = self.maintain();
                self.maintenance.wait(pause);
            }
        }));
        if lived.is_err() {
            let why = io::Error::other("it panicked: report this defect");
            self.log().poison_with(&Error::io("maintenance", why));
        }
    }

    /// Does what is due; says how long nothing will be, unless the signal is raised. A failed checkpoint costs time at
    /// the next opening, no data: it is kept for the status and tried again later.
    pub(super) fn maintain(&self) -> Duration {
        let now = self.clock.monotonic();
        let since = now.saturating_sub(*self.last_checkpoint.lock());
        let interval_passed = since >= self.checkpoint_interval;
        // The signal says that many operations were applied, or that a segment was sealed.
        if self.checkpoint(interval_passed).is_err() || interval_passed {
            *self.last_checkpoint.lock() = now;
        }
        let since = now.saturating_sub(*self.last_checkpoint.lock());
        let until_checkpoint = self.checkpoint_interval.saturating_sub(since);
        let until_look = if self.queue.retry_full_disk() { FULL_DISK_INTERVAL } else { LOOK_INTERVAL_MAX };
        self.merger.size_segments(self);
        if self.has_threads {
            self.merger.wake();
        } else {
            self.merger.merge_due(self, false);
        }
        until_checkpoint.min(until_look)
    }

    /// The life of the merging thread.
    pub(super) fn run_merging(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.merger.run(self))).is_err() {
            let why = io::Error::other("merging panicked: report this defect");
            self.log().poison_with(&Error::io("maintenance", why));
        }
    }

    /// With `all`, saves everything applied so far; without, only if the engine has much that is not saved.
    pub(super) fn checkpoint(&self, all: bool) -> Result<()> {
        let result = self.save(all);
        *self.checkpoint_error.lock() = result.as_ref().err().map(ToString::to_string);
        result
    }

    fn save(&self, all: bool) -> Result<()> {
        let mut saved = self.saved.lock();
        if !all && !self.engine.is_checkpoint_due() {
            return Ok(());
        }
        let (mark, void) = self.mark();
        let (position, applied, membership) = (mark.position, mark.applied, mark.membership.clone());
        // Short of the end of an installed snapshot, its base is as good as any checkpoint.
        if position == saved.reached || position < saved.state.base.placed.1 {
            return Ok(());
        }
        let draft = Draft::new(FrameKind::Commit, GROUP, applied, Vec::new(), 0);
        self.append_and_wait(vec![draft], true)?;
        let mut next = saved.state.clone();
        next.vote = self.shared.vote().unwrap_or_default();
        next.push_mark(mark, saved.reached);
        next.write(self.log().disk().as_ref(), self.log().dir())?;
        saved.state = next;
        let base = &saved.state.base;
        let settled = Settled {
            is_void: &|position| void.contains(&position),
            entries_from: base.entries_from,
            installation: base.installation,
            placed: base.placed,
        };
        self.engine.checkpoint(self.log(), true, position, Some(&settled))?;
        saved.reached = position;
        self.shared.with_entries(|entries| entries.forget_void_before(position.segment));
        *self.checkpointed.lock() = (applied, membership);
        Ok(())
    }

    /// How far everything before is decided, and what of it does not count.
    fn mark(&self) -> (Mark, BTreeSet<Position>) {
        let machine = self.machine.lock();
        let void = self.shared.with_entries(|entries| entries.void().clone());
        let in_segment = Position { offset: 0, ..machine.settled }..machine.settled;
        let mark = Mark {
            position: machine.settled,
            log_end: machine.applied,
            applied: machine.applied,
            membership: machine.membership.clone(),
            requests: machine.requests.to_list(),
            stamp_ms: machine.stamp_ms,
            void: void.range(in_segment).copied().collect(),
        };
        (mark, void)
    }
}

impl Mergeable for Inner {
    fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    fn log(&self) -> &Arc<Log> {
        self.log()
    }

    fn merge_before(&self) -> Position {
        let saved = self.saved.lock();
        if saved.reached < saved.state.base.placed.1 {
            // A restart would read the snapshot's values, and they may lie anywhere.
            return Position::default();
        }
        let kept = self.shared.with_entries(|entries| entries.first_position());
        // What an arriving snapshot has placed seems dead until it is installed, and is all there is from then on.
        let placed = self.shared.placing.lock().first();
        // An older mark is of use only until the index files reach the newer one, and they do.
        kept.into_iter().chain(placed).fold(saved.reached, Ord::min)
    }

    fn save(&self) -> Result<()> {
        self.checkpoint(true)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn brake(&self) -> &Brake {
        &self.brake
    }

    fn note_damage(&self, damage: &Damage) {
        self.damage.lock().note(damage);
    }
}
