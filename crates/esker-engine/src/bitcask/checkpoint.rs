//! When index files are written, and which.
//!
//! The log is covered from its beginning without a gap, each segment by a row of index files. What lies behind the last is
//! replayed at opening. A row that got long is joined into one file, the segment's hint, once the segment is sealed.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::{Arc, atomic::Ordering},
};

use esker_log::{
    Error, GroupEnd, Log, Position, Result, SegmentId,
    disk::OpenMode,
    format::SEGMENT_HEADER_LEN,
    is_merged,
    scan::{Frame, scan_stretch},
    segment::Segment,
};

use super::{
    Bitcask,
    collect::{Judged, collect, every_entry},
    index_file::{IndexFile, IndexName, IndexWriter, Stretch},
    index_merge::{cover_of, merge_index},
};
use crate::{Loaded, Saved, SavedFile, Settled};

/// A longer row of index files is joined into one: every file costs an opening a look, every joining costs the bytes once more.
const ROW_FILES_MAX: usize = 4;

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
    /// How many files the rows of segments have, as far as they are not joined.
    rows: BTreeMap<SegmentId, usize>,
}

impl Checkpoints {
    pub(crate) fn new(base: Position, loaded: Loaded, rows: BTreeMap<SegmentId, usize>) -> Self {
        let covered = loaded.from.max(base);
        Self { base, covered, last: loaded.last, has_old_files: false, rows }
    }

    /// The first byte that no index file covers.
    pub(crate) fn covered(&self) -> Position {
        self.covered
    }

    /// The rows of these segments are not joined any more: a merge reads them.
    pub(crate) fn forget(&mut self, segments: &[SegmentId]) {
        segments.iter().for_each(|id| {
            self.rows.remove(id);
        });
    }

    /// When a state was put in place that nothing covers, and whose first frame lies at `base`.
    pub(crate) fn replacing(base: Position) -> Self {
        let loaded = Loaded { from: base, last: GroupEnd::default() };
        Self { has_old_files: true, ..Self::new(base, loaded, BTreeMap::new()) }
    }

    /// Where the coverage of a segment begins.
    fn first(&self, segment: u32) -> u32 {
        if segment == self.base.segment { self.base.offset } else { SEGMENT_HEADER_LEN as u32 }
    }
}

impl Bitcask {
    /// Covers what is sealed, and everything if a checkpoint is due or `all` is asked for; says how far index files
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
        // What is durable may not be applied yet, and only of what is applied it is known what it came to.
        let upto = settled.map_or_else(|| *self.applied_to.lock(), |settled| settled.before).min(durable);
        let counts = |frame: &Frame<'_>| settled.map_or(every_entry(frame), |settled| settled.counts(frame));
        if std::mem::take(&mut state.has_old_files) {
            remove_index_files(log, |_| true).inspect_err(|_| state.has_old_files = true)?;
        }
        while state.covered.segment < upto.segment || (due && state.covered < upto) {
            self.cover_next(log, &mut state, upto, &counts)?;
        }
        self.judged.lock().retain(|at, _| *at >= state.covered);
        // Not before: until the last file is there, it may be the row that reaches what a replica's state file names.
        // What could not be joined is told, and tried again the next time; what is covered is covered.
        let joined = join_rows(log, &mut state);
        *self.join_error.lock() = joined.err().map(|error| error.to_string());
        Ok(state.covered)
    }

    /// Adds a file to the row of the first segment that is not covered, up to the segment's end or `upto`.
    fn cover_next(
        &self,
        log: &Log,
        state: &mut Checkpoints,
        upto: Position,
        counts: &Counts<'_>,
    ) -> Result<()> {
        let segment = log.segment(state.covered.segment)?;
        let is_whole = segment.id < upto.segment;
        let end = if is_whole { segment.sealed_end().ok_or(Error::Closed)? } else { upto.offset };
        let from = state.covered.offset;
        // Taken before the log is read: what is applied meanwhile counts towards the next.
        let covered_ops = self.uncovered_ops.load(Ordering::Relaxed);
        if from < end {
            let name = match is_whole && from == state.first(segment.id) {
                true => IndexName::Hint(segment.id),
                false => IndexName::Checkpoint(segment.id, from),
            };
            self.write_index_file(log, &segment, from..end, state, &name, counts)?;
            *state.rows.entry(segment.id).or_default() += 1;
        }
        if is_whole {
            state.covered = Position { segment: segment.id + 1, offset: SEGMENT_HEADER_LEN as u32 };
        } else {
            self.uncovered_ops.fetch_sub(covered_ops, Ordering::Relaxed);
            state.covered.offset = end;
        }
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
        let judged = self.judged_between(segment.id, from..to);
        let scan = |on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>| {
            scan_stretch(segment, from.into(), to.into(), on_frame)
        };
        let collector = collect(state.last, counts, &judged, scan)?;
        let collector = collector.expect("what was judged since the last checkpoint is remembered");
        let last = collector.last();
        let stretch = Stretch { segment: segment.id, group: 0, from, to, last };
        let index = collector.into_index(log.store(), stretch);
        let bytes = index.finish(log.disk().as_ref(), log.dir(), log.store(), name)?;
        state.last = last;
        self.files_written.fetch_add(1, Ordering::Relaxed);
        self.file_bytes_written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// See [`Engine::saved`](crate::Engine::saved).
    pub(super) fn saved_state(&self, log: &Arc<Log>) -> Result<Saved> {
        // No index file is written, joined or removed meanwhile, and so no segment is retired.
        let _turn = self.files_turn.lock();
        let pin = log.pin();
        let manifest = log.manifest();
        let (end, version) = {
            let state = self.checkpoints.lock();
            (state.covered, state.last.index)
        };
        let belongs = |id: SegmentId| match is_merged(id) {
            true => manifest.merged(id).is_some(),
            false => id <= end.segment && !manifest.is_gone(id),
        };
        let names = RowNames::list(log)?;
        let rows = names.0.iter().filter(|(id, _)| belongs(**id));
        let files = rows.flat_map(|(_, row)| row).map(|name| saved_file(log, name)).collect::<Result<_>>()?;
        Ok(Saved { end, version, manifest, pin, files })
    }

    /// What came of the judged batches in a stretch.
    fn judged_between(&self, segment: SegmentId, bytes: Range<u32>) -> Judged {
        let [from, to] = [bytes.start, bytes.end].map(|offset| Position { segment, offset });
        let judged = self.judged.lock();
        judged.range(from..to).map(|(at, verdict)| (*at, verdict.clone())).collect()
    }
}

/// Opens an index file, whose name may go while it is read.
pub(super) fn saved_file(log: &Log, name: &IndexName) -> Result<SavedFile> {
    let name = name.to_string();
    let path = log.dir().join(&name);
    let doing = |e| Error::io(format_args!("opening {}", path.display()), e);
    let file = log.disk().open(&path, OpenMode::Read).map_err(doing)?;
    let (len, identity) = (file.len().map_err(doing)?, log.disk().identity(&path).map_err(doing)?);
    Ok(SavedFile { name, file, len, identity })
}

/// Joins the long rows of segments that are covered to their ends.
fn join_rows(log: &Log, state: &mut Checkpoints) -> Result<()> {
    let active = state.covered.segment;
    let whole: Vec<_> = state.rows.range(..active).map(|(id, files)| (*id, *files)).collect();
    for (segment, files) in whole {
        if files > ROW_FILES_MAX {
            join_row(log, segment)?;
        }
        state.rows.remove(&segment);
    }
    Ok(())
}

/// Makes one file of a segment's row. A crash before the old files are removed leaves files that the next opening removes.
fn join_row(log: &Log, segment: SegmentId) -> Result<()> {
    let files = RowNames::list(log)?.open(log, segment)?;
    let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(()) };
    let newest = files.iter().map(|file| file.stretch.last.index).max().unwrap_or_default();
    let stretch = Stretch {
        to: last.stretch.to,
        last: GroupEnd { index: newest, term: last.stretch.last.term },
        ..first.stretch
    };
    let mut writer = IndexWriter::new(log.store(), stretch);
    merge_index(&files, &cover_of(&files), Bound::Unbounded, Bound::Unbounded, |key, place, _| {
        writer.push(key, place);
        Ok(())
    })?;
    files.iter().flat_map(|file| &file.ranges).for_each(|range| writer.push_range(range));
    writer.finish(log.disk().as_ref(), log.dir(), log.store(), &IndexName::Hint(segment))?;
    remove_index_files(log, |name| matches!(name, IndexName::Checkpoint(id, _) if id == segment))
}

/// The names of the index files in the directory, by segment.
pub(super) struct RowNames(BTreeMap<SegmentId, Vec<IndexName>>);

impl RowNames {
    /// Errors: `Io`.
    pub(super) fn list(log: &Log) -> Result<Self> {
        let found = log.disk().list(log.dir()).map_err(|e| Error::io("listing index files", e))?;
        let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for name in found.iter().filter_map(|found| IndexName::parse(&found.name)) {
            rows.entry(name.segment()).or_default().push(name);
        }
        for row in rows.values_mut() {
            row.sort_by_key(IndexName::from);
            // A hint that joined a row counts alone, should the row's files be left.
            let hint = row.iter().position(|name| matches!(name, IndexName::Hint(_)));
            if let Some(hint) = hint {
                *row = vec![row.swap_remove(hint)];
            }
        }
        Ok(Self(rows))
    }

    /// Opens the index files of a segment, in order.
    ///
    /// Errors: `Damage`, `Io`.
    pub(super) fn open(&self, log: &Log, segment: SegmentId) -> Result<Vec<IndexFile>> {
        let open = |name: &IndexName| {
            IndexFile::open(log.disk().as_ref(), &log.dir().join(name.to_string()), log.store())
        };
        self.0.get(&segment).into_iter().flatten().map(open).collect()
    }

    /// The same, each open only while it is read, so that there may be more than a process may open.
    ///
    /// Errors: `Damage`, `Io`.
    pub(super) fn open_pooled(&self, log: &Log, segment: SegmentId) -> Result<Vec<IndexFile>> {
        let open = |name: &IndexName| {
            let path = log.dir().join(name.to_string());
            IndexFile::from_file(log.pooled_file(&path), &path, log.store())
        };
        self.0.get(&segment).into_iter().flatten().map(open).collect()
    }
}

/// Removes the index files that `is_old` says yes to. If a crash undoes it, the next opening does it again.
pub(super) fn remove_index_files(log: &Log, is_old: impl Fn(IndexName) -> bool) -> Result<()> {
    let doing = |e| Error::io("removing superseded index files", e);
    for found in log.disk().list(log.dir()).map_err(doing)? {
        if IndexName::parse(&found.name).is_some_and(&is_old) {
            log.disk().remove(&log.dir().join(&found.name)).map_err(doing)?;
        }
    }
    Ok(())
}
