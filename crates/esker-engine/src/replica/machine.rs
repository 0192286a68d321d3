//! What applying committed entries changes, beside the engine: how far it went, the membership, the requests seen.

use std::collections::HashSet;

use esker_log::{
    GroupEnd, Position, Result,
    format::{FRAME_HEADER_LEN, FrameKind},
    record::{RecordKind, Records, decode_record},
    segments::Segments,
};

use super::{
    requests::Requests,
    state_file::{Mark, StoredMembership},
};
use crate::{Applied, Committed, Engine, RequestId, judge::stamp_of};

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
    /// Everything in the log before this is decided: applied or void.
    pub(super) settled: Position,
}

impl Machine {
    pub(super) fn at(mark: &Mark) -> Self {
        Self {
            applied: mark.applied,
            membership: mark.membership.clone(),
            requests: mark.requests.iter().copied().collect(),
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
            let request = request_of(entry);
            // A repeated request may stand in the run that is being gathered.
            if request.is_some_and(|id| !in_run.insert(id)) {
                self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
            }
            let known = request.and_then(|id| self.requests.get(&id));
            if let Some(outcome) = known {
                self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
                repeats.push(entry.position);
                outcomes.push(outcome);
            } else if entry.kind == FrameKind::Records {
                run.push(applied(entry));
                requests.push(request);
            } else {
                self.flush(engine, segments, &mut run, &mut requests, outcomes)?;
                outcomes.push(Committed::applied(entry.id.index, 0));
            }
            if entry.kind == FrameKind::Membership {
                self.membership = StoredMembership { at: entry.id, bytes: entry.payload.to_vec() };
            }
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

fn applied<'a>(entry: &CommittedEntry<'a>) -> Applied<'a> {
    Applied {
        version: entry.id.index,
        position: entry.position,
        payload: entry.payload,
        records: entry.records,
    }
}

/// The id of the client's request that an entry is, if it says.
fn request_of(entry: &CommittedEntry<'_>) -> Option<RequestId> {
    first_request(entry.kind, entry.payload).filter(|id| !id.is_comparison())
}

/// The id that an entry's records begin with, if they do.
pub(super) fn first_request(kind: FrameKind, payload: &[u8]) -> Option<RequestId> {
    if kind != FrameKind::Records {
        return None;
    }
    let (record, _) = decode_record(payload).ok()?;
    if record.kind == RecordKind::Request { RequestId::from_bytes(record.key) } else { None }
}

/// The time that an entry's stamp says; 0 if it has none.
pub(super) fn stamp_in(payload: &[u8]) -> u64 {
    let stamp =
        Records::new(payload).flatten().map(|(_, record)| record).find(|it| it.kind == RecordKind::Stamp);
    stamp.map_or(0, |record| stamp_of(&record))
}
