//! When index files are written, and which.
//!
//! The log is covered from its beginning without a gap: sealed segments by one hint each, the active one by a row of
//! checkpoints. What lies behind the last is replayed at opening. When a segment has been sealed, its hint replaces its
//! checkpoints.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use esker_log::{
    Error, GroupEnd, Log, Position, Result,
    format::SEGMENT_HEADER_LEN,
    scan::{Frame, scan_stretch},
    segment::Segment,
};

use super::{
    Bitcask,
    collect::{collect, every_entry},
    index_file::{IndexName, Stretch},
};
use crate::{Loaded, Settled};

/// Whether what a frame holds is part of the state.
type Counts<'a> = dyn Fn(&Frame<'_>) -> bool + 'a;

/// How far index files reach.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// The first byte that is to be covered.
    base: Position,
    /// The first byte that none covers.
    covered: Position,
    /// The last frame that one covers.
    last: GroupEnd,
    /// Index files of a state that was replaced may be left; they must be gone before new ones come to stand beside them.
    has_old_files: bool,
    /// Checkpoints of segments before this one have been removed.
    swept: u32,
}

impl Checkpoints {
    pub(crate) fn new(base: Position, loaded: Loaded) -> Self {
        let covered = loaded.from.max(base);
        Self { base, covered, last: loaded.last, has_old_files: false, swept: 0 }
    }

    /// When a state was put in place that nothing covers, and whose first frame lies at `base`.
    pub(crate) fn replacing(base: Position) -> Self {
        Self { has_old_files: true, ..Self::new(base, Loaded { from: base, last: GroupEnd::default() }) }
    }

    /// Where the coverage of a segment begins.
    fn first(&self, segment: u32) -> u32 {
        if segment == self.base.segment { self.base.offset } else { SEGMENT_HEADER_LEN as u32 }
    }
}

impl Bitcask {
    /// Writes hints for sealed segments, and a checkpoint if one is due or `all` is asked for; says how far index files
    /// reach now.
    pub(super) fn write_checkpoints(
        &self,
        log: &Arc<Log>,
        all: bool,
        settled: Option<&Settled<'_>>,
    ) -> Result<Position> {
        let _turn = self.files_turn.lock();
        let mut state = self.checkpoints.lock();
        let due = all || self.uncovered_ops.load(Ordering::Relaxed) >= self.checkpoint_ops;
        if due {
            // An index file points at durable bytes only.
            log.sync()?;
        }
        let durable = log.durable();
        let upto = settled.map_or(durable, |settled| settled.before.min(durable));
        let counts = |frame: &Frame<'_>| settled.map_or(every_entry(frame), |settled| settled.counts(frame));
        if std::mem::take(&mut state.has_old_files) {
            remove_index_files(log, |_| true).inspect_err(|_| state.has_old_files = true)?;
        }
        while state.covered.segment < upto.segment {
            self.write_hint(log, &mut state, &counts)?;
        }
        if due && state.covered < upto {
            self.write_checkpoint(log, &mut state, upto.offset, &counts)?;
        }
        // Not before: until the last file is there, it may be the checkpoints that reach what a replica's state file names.
        let first_needed = state.covered.segment;
        if state.swept < first_needed {
            remove_index_files(
                log,
                |name| matches!(name, IndexName::Checkpoint(id, _) if id < first_needed),
            )?;
            state.swept = first_needed;
        }
        Ok(state.covered)
    }

    fn write_hint(&self, log: &Log, state: &mut Checkpoints, counts: &Counts<'_>) -> Result<()> {
        let segment = log.segment(state.covered.segment)?;
        let end = segment.sealed_end().ok_or(Error::Closed)?;
        let (first, name) = (state.first(segment.id), IndexName::Hint(segment.id));
        self.write_index_file(log, &segment, first..end, state, &name, counts)?;
        state.covered = Position { segment: segment.id + 1, offset: SEGMENT_HEADER_LEN as u32 };
        Ok(())
    }

    fn write_checkpoint(
        &self,
        log: &Log,
        state: &mut Checkpoints,
        to: u32,
        counts: &Counts<'_>,
    ) -> Result<()> {
        let segment = log.segment(state.covered.segment)?;
        let from = state.covered.offset;
        // Taken before the log is read: what is applied meanwhile counts towards the next.
        let covered_ops = self.uncovered_ops.load(Ordering::Relaxed);
        let name = IndexName::Checkpoint(segment.id, from);
        self.write_index_file(log, &segment, from..to, state, &name, counts)?;
        self.uncovered_ops.fetch_sub(covered_ops, Ordering::Relaxed);
        state.covered.offset = to;
        Ok(())
    }

    fn write_index_file(
        &self,
        log: &Log,
        segment: &Segment,
        bytes: Range<u32>,
        state: &mut Checkpoints,
        name: &IndexName,
        counts: &Counts<'_>,
    ) -> Result<()> {
        let Range { start: from, end: to } = bytes;
        let scan = |on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>| {
            scan_stretch(segment, from.into(), to.into(), on_frame)
        };
        let collector = collect(state.last, counts, scan)?;
        let last = collector.last();
        let stretch = Stretch { segment: segment.id, group: 0, from, to, last };
        let index = collector.into_index(log.store(), stretch);
        let bytes = index.finish(log.disk().as_ref(), log.dir(), log.store(), name)?;
        state.last = last;
        self.files_written.fetch_add(1, Ordering::Relaxed);
        self.file_bytes_written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Removes the index files that `is_old` says yes to. If a crash undoes it, the next opening does it again.
fn remove_index_files(log: &Log, is_old: impl Fn(IndexName) -> bool) -> Result<()> {
    let doing = |e| Error::io("removing superseded index files", e);
    for found in log.disk().list(log.dir()).map_err(doing)? {
        if IndexName::parse(&found.name).is_some_and(&is_old) {
            log.disk().remove(&log.dir().join(&found.name)).map_err(doing)?;
        }
    }
    Ok(())
}
