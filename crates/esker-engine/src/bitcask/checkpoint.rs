//! When index files are written, and which.
//!
//! The log is covered from its beginning without a gap: sealed segments by one hint each, the active one by a row of
//! checkpoints. What lies behind the last is replayed at opening. When a segment has been sealed, its hint replaces its
//! checkpoints.

use std::sync::{Arc, atomic::Ordering};

use esker_log::{
    Error, GroupEnd, Log, Position, Result, format::SEGMENT_HEADER_LEN, scan::scan_stretch, segment::Segment,
};

use super::{
    Bitcask,
    collect::collect,
    index_file::{IndexName, Stretch},
};
use crate::Loaded;

/// How far index files reach.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// The first byte that none covers.
    covered: Position,
    /// The last frame that one covers.
    last: GroupEnd,
}

impl Checkpoints {
    pub(crate) fn new(loaded: Loaded) -> Self {
        let first = Position { segment: 1, offset: SEGMENT_HEADER_LEN as u32 };
        Self { covered: loaded.from.max(first), last: loaded.last }
    }
}

impl Bitcask {
    /// Writes hints for sealed segments, and a checkpoint if one is due or `all` is asked for.
    pub(super) fn write_checkpoints(&self, log: &Arc<Log>, all: bool) -> Result<()> {
        let mut state = self.checkpoints.lock();
        let due = all || self.uncovered_ops.load(Ordering::Relaxed) >= self.checkpoint_ops;
        if due {
            // An index file points at durable bytes only.
            log.sync()?;
        }
        let durable = log.durable();
        while state.covered.segment < durable.segment {
            self.write_hint(log, &mut state)?;
        }
        if due && state.covered < durable {
            self.write_checkpoint(log, &mut state, durable.offset)?;
        }
        Ok(())
    }

    fn write_hint(&self, log: &Log, state: &mut Checkpoints) -> Result<()> {
        let segment = log.segment(state.covered.segment)?;
        let end = segment.sealed_end().ok_or(Error::Closed)?;
        let first = SEGMENT_HEADER_LEN as u32;
        self.write_index_file(log, &segment, first, end, state, &IndexName::Hint(segment.id))?;
        state.covered = Position { segment: segment.id + 1, offset: first };
        remove_checkpoints(log, &segment)
    }

    fn write_checkpoint(&self, log: &Log, state: &mut Checkpoints, to: u32) -> Result<()> {
        let segment = log.segment(state.covered.segment)?;
        let from = state.covered.offset;
        // Taken before the log is read: what is applied meanwhile counts towards the next.
        let covered_ops = self.uncovered_ops.load(Ordering::Relaxed);
        self.write_index_file(log, &segment, from, to, state, &IndexName::Checkpoint(segment.id, from))?;
        self.uncovered_ops.fetch_sub(covered_ops, Ordering::Relaxed);
        state.covered.offset = to;
        Ok(())
    }

    fn write_index_file(
        &self,
        log: &Log,
        segment: &Segment,
        from: u32,
        to: u32,
        state: &mut Checkpoints,
        name: &IndexName,
    ) -> Result<()> {
        let collector = collect(|on_frame| scan_stretch(segment, from.into(), to.into(), on_frame))?;
        let last = if collector.last() == GroupEnd::default() { state.last } else { collector.last() };
        let stretch = Stretch { segment: segment.id, group: 0, from, to, last };
        let index = collector.into_index(log.store(), stretch);
        let bytes = index.finish(log.disk().as_ref(), log.dir(), log.store(), name)?;
        state.last = last;
        self.files_written.fetch_add(1, Ordering::Relaxed);
        self.file_bytes_written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Removes the checkpoints of a segment that has its hint. If a crash undoes it, the next opening does it again.
fn remove_checkpoints(log: &Log, segment: &Segment) -> Result<()> {
    let doing = |e| Error::io("removing superseded checkpoints", e);
    for found in log.disk().list(log.dir()).map_err(doing)? {
        if matches!(IndexName::parse(&found.name), Some(IndexName::Checkpoint(id, _)) if id == segment.id) {
            log.disk().remove(&log.dir().join(&found.name)).map_err(doing)?;
        }
    }
    Ok(())
}
