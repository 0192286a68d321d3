//! What applying committed entries changes, beside the engine: how far it went, the membership, the requests seen.

use std::collections::HashSet;

use esker_log::{
    GroupEnd, Position, Result,
    format::{FRAME_HEADER_LEN, FrameKind},
    record::{RecordKind, Records},
    segments::Segments,
};

use super::{
    history::Repeats,
    state_file::{Mark, StoredMembership},
};
use crate::{
    Applied, Committed, Engine, RequestId,
    judge::{floor_of, stamp_of},
    requests::Requests,
};

/// A committed entry on its way to be applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommittedEntry<'a> {
    pub(super) id: GroupEnd,
    pub(super) kind: FrameKind,
    /// Where its frame lies.
    pub(super) position: Position,
    /// Records with whatever checksums: they were verified.
    pub(super) payload: &'a [u8],
    pub(super) records: u32,
}

impl CommittedEntry<'_> {
    /// The first byte behind its frame.
    fn end(&self) -> Position {
        let Position { segment, offset } = self.position;
        Position { segment, offset: offset + (FRAME_HEADER_LEN + self.payload.len()) as u32 }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) applied: GroupEnd,
    pub(super) membership: StoredMembership,
    pub(super) requests: Requests,
    /// Those that came again, for who watches.
    pub(super) repeats: Repeats,
    /// The latest time that an entry said, in milliseconds since 1970.
    pub(super) stamp_ms: u64,
    /// Everything in the log before this is decided: applied or void.
    pub(super) settled: Position,
}

impl Machine {
    pub(super) fn at(mark: &Mark) -> Self {
        Self {
            applied: mark.applied,
            membership: mark.membership.clone(),
            requests: mark.requests.iter().copied().collect(),
            repeats: Repeats::behind(mark.applied.index),
            stamp_ms: mark.stamp_ms,
            settled: mark.position,
        }
    }

    /// Applies entries in index order and adds an outcome for each. Gives the positions of those that repeat a request:
    /// they do not count.
    ///
    /// Deterministic: depends on nothing but the entries and what was applied before. Errors: those of [`Engine::apply`].
    pub(super) fn apply(
        &mut self,
        engine: &dyn Engine,
        segments: &dyn Segments,
        entries: &[CommittedEntry<'_>],
        outcomes: &mut Vec<Committed>,
    ) -> Result<Vec<Position>> {
        let mut repeats = Vec::new();
        let mut run = Vec::with_capacity(entries.len());
        let mut requests = Vec::with_capacity(entries.len());
        let mut in_run = HashSet::new();
        for entry in entries {
            let head = Head::of(entry.kind, entry.payload);
            let request = head.request.filter(|id| !id.is_comparison());
            // A repeated request may stand in the run that is being gathered.
            if request.is_some_and(|id| !in_run.insert(id)) {
                self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
            }
            let known = request.and_then(|id| self.requests.get(&id));
            if let Some(outcome) = known {
                self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
                repeats.push(entry.position);
                self.repeats.note(entry.id.index);
                outcomes.push(outcome);
            } else if entry.kind == FrameKind::Records {
                run.push(applied(entry, floor_of(self.stamp_ms)));
                requests.push(request);
            } else {
                self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
                outcomes.push(Committed::applied(entry.id.index, 0));
            }
            if entry.kind == FrameKind::Membership {
                self.membership = StoredMembership { at: entry.id, bytes: entry.payload.to_vec() };
            }
            self.stamp_ms = self.stamp_ms.max(head.stamp_ms);
            self.applied = entry.id;
            self.settled = entry.end();
        }
        self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
        Ok(repeats)
    }

    /// Has the engine apply what was gathered.
    fn flush(
        &mut self,
        engine: &dyn Engine,
        segments: &dyn Segments,
        run: &mut Vec<Applied<'_>>,
        requests: &mut Vec<Option<RequestId>>,
        outcomes: &mut Vec<Committed>,
    ) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        let before = outcomes.len();
        engine.apply(segments, run, outcomes)?;
        for (request, outcome) in requests.drain(..).zip(&outcomes[before..]) {
            if let Some(id) = request {
                self.requests.insert(id, *outcome);
            }
        }
        run.clear();
        Ok(())
    }
}

fn applied<'a>(entry: &CommittedEntry<'a>, floor_ms: u64) -> Applied<'a> {
    Applied {
        version: entry.id.index,
        position: entry.position,
        payload: entry.payload,
        records: entry.records,
        floor_ms,
    }
}

/// What comes before the conditions and operations of an entry.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Head {
    /// The request's id, if it says.
    pub(super) request: Option<RequestId>,
    /// What time it says that it is, in milliseconds since 1970; 0: it does not.
    pub(super) stamp_ms: u64,
}

impl Head {
    pub(super) fn of(kind: FrameKind, payload: &[u8]) -> Self {
        let mut head = Self::default();
        if kind != FrameKind::Records {
            return head;
        }
        for (_, record) in Records::new(payload).flatten() {
            match record.kind {
                RecordKind::Request => head.request = RequestId::from_bytes(record.key),
                RecordKind::Stamp => head.stamp_ms = stamp_of(&record),
                _ => break,
            }
        }
        head
    }
}
