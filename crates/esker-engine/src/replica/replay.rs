//! Reading a replica's log back when it is opened: which entries there are, which of them are committed, and what the
//! committed ones did.
//!
//! Only what a commit mark vouches for is applied here. The rest stays in the log for the consensus module to
//! confirm or to cut off.

use std::{collections::VecDeque, sync::Arc};

use esker_log::{GroupEnd, Index, Position, Result, format::FrameKind, scan::Frame, segments::FoundSegments};

use super::{
    entries::{Entries, Held},
    machine::{CommittedEntry, Machine},
    state_file::{Base, Mark, State},
};
use crate::Engine;

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
    /// Where values are read that entries add to.
    segments: FoundSegments,
    pub(super) machine: Machine,
    pub(super) entries: Entries,
    pub(super) vote: Vec<u8>,
    pending: VecDeque<Pending>,
    committed: Index,
    base: Base,
    /// Whether the base's values are still to be read: without them nothing can be applied.
    awaits_values: bool,
}

impl Replay {
    /// Begins where the state on disk says, given where the engine's index files end. Gives also the mark to read from.
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        state: &State,
        reached: Position,
        segments: FoundSegments,
        cached_bytes_max: usize,
    ) -> (Self, Mark) {
        let mark = state.mark_at(reached);
        let awaits_values = mark.is_none() && state.base.installation > 0;
        if awaits_values {
            engine.begin_replacement();
        }
        let start = mark.unwrap_or(&state.base.mark).clone();
        engine.note_stamp(start.stamp_ms);
        let mut entries = Entries::new(start.applied, cached_bytes_max);
        entries.add_void(start.void.iter().copied());
        let replay = Self {
            engine,
            segments,
            machine: Machine::at(&start),
            entries,
            vote: state.vote.clone(),
            pending: VecDeque::new(),
            committed: start.applied.index,
            base: state.base.clone(),
            awaits_values,
        };
        (replay, start)
    }

    /// Takes in the next frame.
    pub(super) fn on_frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let id = GroupEnd { index: frame.header.index, term: frame.header.term };
        let counts = frame.position >= self.base.entries_from;
        match frame.header.kind {
            FrameKind::Vote => self.vote = frame.payload.to_vec(),
            FrameKind::Placed => return self.on_placed(frame),
            FrameKind::Commit => {
                self.committed = self.committed.max(id.index);
                self.apply_committed()?;
            }
            _ if !counts => {}
            FrameKind::Records | FrameKind::Blank | FrameKind::Membership => self.on_entry(frame, id),
            FrameKind::Truncate => self.cut(id),
            FrameKind::Base => {
                self.cut(id);
                self.entries.purge(id);
            }
        }
        Ok(())
    }

    fn cut(&mut self, last: GroupEnd) {
        self.entries.cut(last.index);
        self.entries.note_cut_written();
        while self.pending.pop_back_if(|entry| entry.id.index > last.index).is_some() {}
    }

    fn on_entry(&mut self, frame: &Frame<'_>, id: GroupEnd) {
        if id.behind(self.entries.last(), frame.header.kind).is_none() {
            // It came while a snapshot was put in place that holds it, or that has another entry before it.
            self.entries.add_void([frame.position]);
            return;
        }
        self.entries.push(Held::found(frame));
        self.pending.push_back(Pending {
            id,
            kind: frame.header.kind,
            position: frame.position,
            payload: frame.payload.to_vec(),
            records: frame.header.records,
        });
    }

    fn on_placed(&mut self, frame: &Frame<'_>) -> Result<()> {
        let (first, end) = self.base.placed;
        let is_ours = self.awaits_values
            && frame.header.index == self.base.installation
            && (first..end).contains(&frame.position);
        if !is_ours {
            // Of an installation that was never finished, or that was replaced.
            return Ok(());
        }
        self.engine.extend_replacement(frame.payload, frame.position)?;
        if frame.end() == end {
            self.engine.finish_replacement(self.base.mark.position);
            self.awaits_values = false;
            self.apply_committed()?;
        }
        Ok(())
    }

    fn apply_committed(&mut self) -> Result<()> {
        if self.awaits_values {
            return Ok(());
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
        let mut outcomes = Vec::with_capacity(entries.len());
        let repeats = self.machine.apply(self.engine.as_ref(), &self.segments, &entries, &mut outcomes)?;
        self.entries.add_void(repeats);
        Ok(())
    }

    /// Whether the base was read, if it was to be: without it nothing of the state is known.
    pub(super) fn is_whole(&self) -> bool {
        !self.awaits_values
    }
}
