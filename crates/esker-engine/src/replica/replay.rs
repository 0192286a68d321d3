//! Reading a replica's log back when it is opened: which entries there are, which of them are committed, and what the
//! committed ones did.
//!
//! Only what a commit mark vouches for is applied here. The rest stays in the log for the consensus module to
//! confirm or to cut off.

use std::{collections::VecDeque, sync::Arc};

use esker_log::{Error, GroupEnd, Index, Position, Result, format::FrameKind, scan::Frame};

use super::{
    entries::{Entries, Held},
    install::BaseFrame,
    machine::{CommittedEntry, Machine},
    state_file::{Mark, State},
};
use crate::{Engine, Loaded};

/// An entry that was read and is not known to be committed.
struct Pending {
    id: GroupEnd,
    kind: FrameKind,
    position: Position,
    payload: Vec<u8>,
    records: u32,
}

/// See the module.
pub(super) struct Replay {
    engine: Arc<dyn Engine>,
    pub(super) machine: Machine,
    pub(super) entries: Entries,
    pub(super) vote: Vec<u8>,
    /// The last entry frame read, in log order.
    pub(super) log_end: GroupEnd,
    pending: VecDeque<Pending>,
    committed: Index,
    /// The last entry that the engine has from its index files.
    in_engine: Index,
    installation: u64,
    /// The base, until its frame is met; then everything before it is replaced.
    base: Option<Mark>,
}

impl Replay {
    /// Begins where the state on disk says, given how far the engine's index files reached. Gives also the position to
    /// read from.
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        state: &State,
        loaded: &Loaded,
        cached_bytes_max: usize,
    ) -> (Self, Position) {
        let (start, in_engine, base) = match state.mark_within(loaded.from) {
            Some(mark) => (mark, loaded.last.index, None),
            // From the base on, nothing is known of what comes before an installed snapshot.
            None if state.installation > 0 => (&state.base, 0, Some(state.base.clone())),
            None => (&state.base, loaded.last.index, None),
        };
        let mut machine = Machine::at(start);
        if base.is_some() {
            engine.begin_replacement();
            machine = Machine::default();
        }
        let purged = if base.is_some() { start.log_end } else { start.applied };
        let replay = Self {
            engine,
            machine,
            entries: Entries::new(purged, cached_bytes_max),
            vote: state.vote.clone(),
            log_end: start.log_end,
            pending: VecDeque::new(),
            committed: start.applied.index,
            in_engine,
            installation: state.installation,
            base,
        };
        (replay, start.position)
    }

    /// Takes in the next frame.
    pub(super) fn on_frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let header = &frame.header;
        let id = GroupEnd { index: header.index, term: header.term };
        self.log_end = id.behind(self.log_end, header.kind).unwrap_or(id);
        match header.kind {
            FrameKind::Records | FrameKind::Blank | FrameKind::Membership => self.on_entry(frame, id),
            FrameKind::Truncate => {
                self.machine.void.extend(self.entries.truncate(id.index));
                while self.pending.pop_back_if(|entry| entry.id.index > id.index).is_some() {}
            }
            FrameKind::Commit => {
                self.committed = self.committed.max(id.index);
                self.apply_committed();
            }
            FrameKind::Vote => self.vote = frame.payload.to_vec(),
            FrameKind::Placed if self.base.is_some() && header.index == self.installation => {
                self.engine.extend_replacement(frame.payload, frame.position)?;
            }
            FrameKind::Base => self.on_base(frame)?,
            // Of an installation that was never finished, or that index files cover.
            FrameKind::Placed => {}
        }
        Ok(())
    }

    fn on_entry(&mut self, frame: &Frame<'_>, id: GroupEnd) {
        let header = &frame.header;
        if id.index != self.entries.last().index + 1 {
            // Up to where the mark is, what lies before the base, or what a snapshot of an unfinished installation skipped.
            return;
        }
        self.entries.push(Held {
            term: id.term,
            kind: header.kind,
            records: header.records,
            payload_len: header.payload_len,
            position: Some(frame.position),
            payload: None,
        });
        self.pending.push_back(Pending {
            id,
            kind: header.kind,
            position: frame.position,
            payload: frame.payload.to_vec(),
            records: header.records,
        });
    }

    fn on_base(&mut self, frame: &Frame<'_>) -> Result<()> {
        let found = BaseFrame::decode(frame.payload)
            .ok_or_else(|| Error::InvalidRequest("a base frame is of an unknown form".into()))?;
        if found.installation != self.installation {
            return Ok(());
        }
        let Some(base) = self.base.take() else { return Ok(()) };
        let end = frame.end();
        self.engine.finish_replacement(base.position);
        self.machine = Machine { settled: end, ..Machine::at(&base) };
        // Entries that came while the values were placed and are in the snapshot do not count.
        let covered = self.pending.iter().filter(|entry| entry.id.index <= base.applied.index);
        self.machine.void.extend(covered.map(|entry| entry.position));
        self.pending.retain(|entry| entry.id.index > base.applied.index);
        self.entries.purge(base.applied);
        self.committed = self.committed.max(base.applied.index);
        self.apply_committed();
        Ok(())
    }

    fn apply_committed(&mut self) {
        if self.base.is_some() {
            return;
        }
        let count = self.pending.iter().take_while(|entry| entry.id.index <= self.committed).count();
        let ready: Vec<_> = self.pending.drain(..count).collect();
        let entries: Vec<_> = ready
            .iter()
            .map(|entry| CommittedEntry {
                id: entry.id,
                kind: entry.kind,
                position: entry.position,
                payload: &entry.payload,
                records: entry.records,
            })
            .collect();
        let in_engine = self.in_engine;
        let mut outcomes = Vec::with_capacity(entries.len());
        self.machine.apply(self.engine.as_ref(), &entries, |id| id.index <= in_engine, &mut outcomes);
    }

    /// Whether the base was read, if it was to be: without it nothing of the state is known.
    pub(super) fn is_whole(&self) -> bool {
        self.base.is_none()
    }
}
