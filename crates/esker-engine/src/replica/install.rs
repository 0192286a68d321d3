//! Taking over a snapshot: its values are placed in the log, and become the state at one instant.
//!
//! ```text
//! placed frames (unsynced) ─▶ base frame, sync ─▶ REPLICA names the base, durably ─▶ swap in memory
//!                                                 └─ from here on the old state is gone, also after a crash
//! ```
//!
//! Until `REPLICA` is replaced, a crash leaves the old state as it was and some dead bytes in the log.

use std::sync::{Arc, atomic::Ordering};

use esker_log::{Draft, Error, GroupEnd, Result, format::FrameKind, record::encode_placed};

use super::{
    Inner, Replica, StoredMembership,
    machine::Machine,
    requests::Requests,
    state_file::{Mark, State},
};
use crate::{Committed, GROUP, RequestId, Version};

/// A placed frame has about so many bytes.
const PLACED_FRAME_BYTES: usize = 1 << 20;

/// The payload of a base frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BaseFrame {
    pub(super) installation: u64,
    /// The last entry that the snapshot holds.
    pub(super) last: GroupEnd,
}

impl BaseFrame {
    fn encode(self) -> Vec<u8> {
        [self.installation, self.last.index, self.last.term].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let [installation, index, term] = *numbers else { return None };
        rest.is_empty().then(|| Self {
            installation: u64::from_le_bytes(installation),
            last: GroupEnd { index: u64::from_le_bytes(index), term: u64::from_le_bytes(term) },
        })
    }
}

/// A snapshot on its way in. Dropping it leaves the state as it was.
pub struct Install {
    inner: Arc<Inner>,
    installation: u64,
    buffer: Vec<u8>,
    buffered: u32,
    items: u64,
}

impl Replica {
    /// Begins to take over a snapshot; ends one that was begun before.
    pub fn begin_install(&self) -> Install {
        let inner = Arc::clone(&self.inner);
        let installation = inner.installations.fetch_add(1, Ordering::AcqRel) + 1;
        inner.engine.begin_replacement();
        inner.shared.placing.lock().begin(installation);
        Install { inner, installation, buffer: Vec::new(), buffered: 0, items: 0 }
    }
}

impl Install {
    /// Adds a value. Keys ascend. Waits for the disk now and then.
    ///
    /// Errors: `InvalidRequest` (keys that do not ascend, lengths), `Poisoned`, `DiskFull`, `Closed`. After any of them
    /// the installation cannot go on.
    pub fn push(&mut self, key: &[u8], value: &[u8], version: Version) -> Result<()> {
        encode_placed(&mut self.buffer, version, key, value)?;
        self.buffered += 1;
        self.items += 1;
        if self.buffer.len() >= PLACED_FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    /// How many values were added.
    pub fn items(&self) -> u64 {
        self.items
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffered == 0 {
            return Ok(());
        }
        let (payload, records) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.buffered));
        let at = GroupEnd { index: self.installation, term: 0 };
        let draft = Draft::new(FrameKind::Placed, GROUP, at, payload, records);
        self.inner.append_and_wait(vec![draft], false)?;
        self.inner.shared.placing.lock().outcome(self.installation)
    }

    /// Puts the snapshot in place of the state. When it returns, the new state is durable; if it fails, the old one
    /// stands, also after a crash.
    ///
    /// Errors: as for [`Install::push`], `DiskFull`, `Io`.
    pub fn finish(
        mut self,
        last: GroupEnd,
        membership: StoredMembership,
        requests: impl IntoIterator<Item = (RequestId, Committed)>,
    ) -> Result<()> {
        self.flush()?;
        let inner = Arc::clone(&self.inner);
        // No checkpoint of the old state may come between.
        let _turn = inner.checkpoint_turn.lock();
        inner.append_base(BaseFrame { installation: self.installation, last })?;
        let placed = inner.shared.placing.lock().finish(self.installation)?;
        let requests: Requests = requests.into_iter().collect();
        let base = Mark {
            position: placed.first,
            log_end: placed.log_end_before,
            applied: last,
            membership,
            requests,
        };
        let mut state = inner.state.lock();
        let next = State {
            installation: self.installation,
            vote: inner.shared.vote().unwrap_or_default(),
            base: base.clone(),
            marks: Vec::new(),
        };
        next.write(inner.log().disk().as_ref(), inner.log().dir())?;
        *state = next;
        drop(state);
        inner.swap_in(&base, placed.end);
        inner.log().retire_before(placed.first.segment)
    }
}

impl Inner {
    /// Appends the base frame, and behind it once more the entries that the snapshot does not hold: what comes before a
    /// base is not looked at again.
    fn append_base(&self, frame: BaseFrame) -> Result<()> {
        let mut drafts = vec![Draft::new(FrameKind::Base, GROUP, frame.last, frame.encode(), 0)];
        let mut log_end = self.shared.log_end.lock();
        let tail = self.read(frame.last.index + 1..log_end.index + 1, usize::MAX)?;
        drafts.extend(
            tail.iter()
                .map(|entry| Draft::new(entry.kind, GROUP, entry.id, entry.payload.to_vec(), entry.records)),
        );
        let left = tail.iter().filter_map(|entry| self.position_of(entry.id.index));
        let left: Vec<_> = left.collect();
        let told = self.queue_and_tell(drafts, true);
        *log_end = tail.last().map_or(frame.last, |entry| entry.id);
        drop(log_end);
        self.wait(&told)?;
        self.machine.lock().void.extend(left);
        Ok(())
    }

    /// Makes the placed values the state. Only in memory: it is durable already.
    fn swap_in(&self, base: &Mark, settled: esker_log::Position) {
        let mut machine = self.machine.lock();
        let mut void = machine.void.clone();
        self.shared.with_entries(|entries| {
            for index in entries.range().start..=base.applied.index {
                void.extend(entries.get(index).and_then(|held| held.position));
            }
            entries.purge(base.applied);
        });
        void.retain(|position| *position >= base.position);
        self.engine.finish_replacement(base.position);
        *machine = Machine { settled, void, ..Machine::at(base) };
        drop(machine);
        // The base is a checkpoint: a restart begins there.
        self.checkpointed.fetch_max(base.applied.index, Ordering::AcqRel);
        self.shared.changed();
        self.maintenance.raise();
    }
}

/// Follows the frames of one installation into the log.
#[derive(Debug, Default)]
pub(super) struct Placing {
    installation: u64,
    first: Option<esker_log::Position>,
    log_end_before: GroupEnd,
    end: Option<esker_log::Position>,
    failed: Option<Error>,
}

/// Where an installation lies.
pub(super) struct Placed {
    first: esker_log::Position,
    log_end_before: GroupEnd,
    /// Behind the base frame.
    end: esker_log::Position,
}

impl Placing {
    fn begin(&mut self, installation: u64) {
        *self = Self { installation, ..Self::default() };
    }

    /// A frame of the installation was written.
    pub(super) fn note(&mut self, draft: &Draft, log_end: GroupEnd, outcome: Result<()>) {
        let is_base = draft.kind == FrameKind::Base;
        if !is_base && draft.appended_index != self.installation {
            return;
        }
        if self.first.is_none() {
            self.first = Some(draft.position);
            self.log_end_before = log_end;
        }
        if is_base {
            let len = (esker_log::format::FRAME_HEADER_LEN + draft.payload.len()) as u32;
            self.end = Some(esker_log::Position { offset: draft.position.offset + len, ..draft.position });
        }
        if let Err(error) = outcome {
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

    fn finish(&mut self, installation: u64) -> Result<Placed> {
        self.outcome(installation)?;
        let (first, end) = (self.first.take(), self.end.take());
        let (Some(first), Some(end)) = (first, end) else { return Err(Error::Closed) };
        Ok(Placed { first, log_end_before: self.log_end_before, end })
    }
}
