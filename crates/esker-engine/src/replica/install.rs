//! Taking over a snapshot: its values are placed in the log, and become the state at one instant.
//!
//! ```text
//! placed frames (unsynced) ─▶ the last one, sync ─▶ REPLICA names the base, durably ─▶ swap in memory ─▶ base frame
//!                                                   └─ from here on the old state is gone, also after a crash
//! ```
//!
//! Until `REPLICA` is replaced, a crash leaves the old state as it was and some dead bytes in the log. Entries that the
//! snapshot does not hold stay where they are in the log, before its values, between them or behind: the base says from
//! where on entries count. If there is none, the log goes on behind the snapshot's last entry, which the base frame says.
//! It comes with the next append; if it is lost, the next opening writes it again.
//!
//! A full disk holds an installation up and does not end it: every step can be taken again once there is space.

use std::sync::{Arc, atomic::Ordering, mpsc};

use esker_log::{
    Draft, Error, GroupEnd, Position, Result,
    format::{FRAME_HEADER_LEN, FrameKind},
    record::{RecordKind, encode_placed},
};

use super::{
    Inner, Replica, Saved, StoredMembership,
    machine::Machine,
    state_file::{Base, Mark, State},
};
use crate::{Committed, Engine, GROUP, RequestId, Version, stored::Stored};

/// A placed frame has about so many bytes.
const PLACED_FRAME_BYTES: usize = 1 << 20;

/// A snapshot on its way in. Dropping it leaves the state as it was.
pub struct Install {
    inner: Arc<Inner>,
    installation: u64,
    buffer: Vec<u8>,
    buffered: u32,
    items: u64,
    /// A frame that was queued, and not yet heard of. At most one: a full disk must not gather them in memory.
    queued: Option<mpsc::Receiver<Result<()>>>,
    /// Whether everything that was added is durable.
    sealed: bool,
    /// Why it cannot go on.
    failed: Option<Error>,
}

impl Replica {
    /// Begins to take over a snapshot; ends one that was begun before.
    pub fn begin_install(&self) -> Install {
        let inner = Arc::clone(&self.inner);
        // Not while another is put in place.
        let turn = inner.saved.lock();
        let installation = inner.installations.fetch_add(1, Ordering::AcqRel) + 1;
        inner.shared.placing.lock().begin(installation, inner.engine.as_ref());
        drop(turn);
        Install {
            inner,
            installation,
            buffer: Vec::new(),
            buffered: 0,
            items: 0,
            queued: None,
            sealed: false,
            failed: None,
        }
    }
}

impl Install {
    /// Adds a value as it is stored: `flags` say what it begins with. Keys ascend. Waits for the disk now and then.
    ///
    /// Errors: `DiskFull`: the value was not added; add it again when there is space. `InvalidRequest` (keys that do not
    /// ascend, lengths, another installation was begun), `Poisoned`, `Closed`: the installation cannot go on.
    pub fn push(&mut self, key: &[u8], flags: u8, stored: &[u8], version: Version) -> Result<()> {
        self.check()?;
        self.keep_failure(Stored::new(flags, stored).map(drop))?;
        if self.buffer.len() >= PLACED_FRAME_BYTES {
            self.flush(false)?;
        }
        let added = encode_placed(&mut self.buffer, version, RecordKind::Put, flags, key, stored);
        self.keep_failure(added)?;
        self.buffered += 1;
        self.items += 1;
        self.sealed = false;
        Ok(())
    }

    /// Makes all that was added durable, so that [`Install::finish`] needs next to no space.
    ///
    /// Errors: `DiskFull`: try again when there is space. All others: the installation cannot go on.
    pub fn seal(&mut self) -> Result<()> {
        self.check()?;
        if !self.sealed {
            self.flush(true)?;
            self.sealed = true;
        }
        Ok(())
    }

    /// How many values were added.
    pub fn items(&self) -> u64 {
        self.items
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn keep_failure(&mut self, result: Result<()>) -> Result<()> {
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Appends what is buffered, be it nothing. After `DiskFull` the buffer may be queued, or still be there.
    fn flush(&mut self, sync: bool) -> Result<()> {
        self.settle()?;
        let (payload, records) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.buffered));
        let at = GroupEnd { index: self.installation, term: 0 };
        let draft = Draft::new(FrameKind::Placed, GROUP, at, payload, records);
        self.queued = Some(self.inner.queue_and_tell(vec![draft], sync));
        self.settle()
    }

    /// Waits for the frame that was queued last.
    fn settle(&mut self) -> Result<()> {
        let Some(told) = &self.queued else { return Ok(()) };
        let appended = self.inner.wait(told);
        if matches!(appended, Err(Error::DiskFull)) {
            return appended;
        }
        self.queued = None;
        let appended = appended.and_then(|()| self.inner.shared.placing.lock().outcome(self.installation));
        self.keep_failure(appended)
    }

    /// Puts the snapshot in place of the state; `stamp_ms` as in [`Snapshot`](super::Snapshot). When it returns, the new state is durable; if it fails, the old one
    /// stands, also after a crash. Nothing may be applied meanwhile. To be called once, but for a full disk; then there is
    /// nothing more to do here.
    ///
    /// Errors: as for [`Install::seal`], `InvalidRequest` (older than the state), `Io`.
    pub fn finish(
        &mut self,
        last: GroupEnd,
        membership: StoredMembership,
        requests: impl IntoIterator<Item = (RequestId, Committed)>,
        stamp_ms: u64,
    ) -> Result<()> {
        self.check()?;
        let inner = Arc::clone(&self.inner);
        // No checkpoint of the old state may come between.
        let mut saved = inner.saved.lock();
        if inner.machine.lock().applied.index > last.index {
            let why = format!("the snapshot ends at {}, behind which entries were applied", last.index);
            return Err(Error::InvalidRequest(why));
        }
        self.seal()?;
        let placed = inner.shared.placing.lock().placed(self.installation)?;
        let entries_from = inner.entries_behind(last).map_or(placed.end, |at| at.min(placed.end));
        let log_end = if entries_from < placed.first { last } else { placed.log_end_before };
        let mark = Mark {
            position: entries_from.min(placed.first),
            log_end,
            applied: last,
            membership,
            requests: requests.into_iter().collect(),
            stamp_ms,
            void: Arc::default(),
        };
        let base =
            Base { installation: self.installation, mark, placed: (placed.first, placed.end), entries_from };
        let state = State { vote: inner.shared.vote().unwrap_or_default(), base, marks: Vec::new() };
        state.write(inner.log().disk().as_ref(), inner.log().dir())?;
        inner.swap_in(&state.base.mark);
        let first = state.base.mark.position;
        *saved = Saved { state, reached: first };
        // From here on the base keeps what was placed.
        inner.shared.placing.lock().end(self.installation, inner.engine.as_ref());
        drop(saved);
        inner.retire_before(first, self.installation);
        Ok(())
    }
}

impl Drop for Install {
    fn drop(&mut self) {
        self.inner.shared.placing.lock().end(self.installation, self.inner.engine.as_ref());
    }
}

impl Inner {
    /// Where the entry behind `last` lies, if it is written, and stands behind just this one.
    fn entries_behind(&self, last: GroupEnd) -> Option<Position> {
        self.shared.with_entries(|entries| {
            let next = entries.get(last.index + 1).filter(|_| entries.contains(last));
            next.and_then(|held| held.position)
        })
    }

    /// Makes the placed values the state. Only in memory: it is durable already.
    fn swap_in(&self, base: &Mark) {
        let last = base.applied;
        let mut log_end = self.shared.log_end.lock();
        let mut machine = self.machine.lock();
        let goes_on = self.shared.with_entries(|entries| entries.install(last));
        self.engine.finish_replacement(base.position);
        *machine = Machine::at(base);
        self.engine.note_stamp(base.stamp_ms);
        drop(machine);
        if !goes_on {
            *log_end = last;
            self.queue_lazily(FrameKind::Base, last);
        }
        drop(log_end);
        self.note_queued();
        // The base is a checkpoint: a restart begins there.
        *self.checkpointed.lock() = (last, base.membership.clone());
        (self.shared.hooks.written)(last.index);
        self.maintenance.raise();
    }

    /// Removes the log before the base, and what was merged of it. What is left, the next opening removes.
    fn retire_before(&self, first: Position, installation: u64) {
        self.log().begin_generation(installation);
        self.log().retire_before(first.segment);
        if let Some(why) = self.log().failed_removal() {
            *self.checkpoint_error.lock() = Some(why.to_string());
        }
    }
}

/// Follows the frames of one installation into the log.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// The installation that is under way; 0: none.
    installation: u64,
    placed: Option<Placed>,
    failed: Option<Error>,
}

/// Where an installation lies.
#[derive(Debug, Clone, Copy)]
struct Placed {
    first: Position,
    /// Where the log ended before the first frame.
    log_end_before: GroupEnd,
    /// Behind the last frame.
    end: Position,
}

impl Placing {
    fn begin(&mut self, installation: u64, engine: &dyn Engine) {
        *self = Self { installation, ..Self::default() };
        engine.begin_replacement();
    }

    /// The installation is over, if it is still the one: frees what was gathered.
    fn end(&mut self, installation: u64, engine: &dyn Engine) {
        if self.installation == installation {
            self.begin(0, engine);
        }
    }

    /// A placed frame was written; `log_end` is where the log ended before.
    pub(super) fn note(&mut self, draft: &Draft, log_end: GroupEnd, engine: &dyn Engine) {
        if draft.appended_index != self.installation {
            // Of one that was given up.
            return;
        }
        let at = draft.position;
        let len = (FRAME_HEADER_LEN + draft.payload.len()) as u32;
        let end = Position { offset: at.offset + len, ..at };
        let placed = self.placed.get_or_insert(Placed { first: at, log_end_before: log_end, end });
        placed.end = end;
        if let Err(error) = engine.extend_replacement(&draft.payload, at) {
            self.failed = Some(error);
        }
    }

    /// Whether all went well so far, for the installation that is under way.
    fn outcome(&self, installation: u64) -> Result<()> {
        if self.installation != installation {
            return Err(Error::InvalidRequest("another snapshot is being installed".into()));
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Where the first frame lies of the installation that is under way, if one was written.
    pub(super) fn first(&self) -> Option<Position> {
        self.placed.map(|placed| placed.first)
    }

    fn placed(&self, installation: u64) -> Result<Placed> {
        self.outcome(installation)?;
        self.placed.ok_or(Error::Closed)
    }
}
