//! When index files are written, and which.
//!
//! The log is covered from its beginning without a gap, each segment by a row of index files. What lies behind the last is
//! replayed at opening. A row that got long is joined into one file, the segment's hint, once the segment is sealed; before that,
//! its newest files are, so that a segment that fills slowly has few of them, too.

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
/// The row of a segment that is not sealed gets as long as this before files of it are joined.
const ACTIVE_ROW_FILES_MAX: usize = 16;

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

    /// The rows of these segments are not joined any more: a merge reads them. Gives those that would have been looked at, for
    /// [`Checkpoints::remember`].
    pub(crate) fn forget(&mut self, segments: &[SegmentId]) -> Vec<(SegmentId, usize)> {
        segments.iter().filter_map(|id| self.rows.remove_entry(id)).collect()
    }

    /// These rows may be joined after all.
    pub(crate) fn remember(&mut self, rows: Vec<(SegmentId, usize)>) {
        self.rows.extend(rows);
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
        before: Position,
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
        let upto = before.min(durable);
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

/// Joins the long rows. One that cannot be joined does not stand in the way of the others, and is tried again.
///
/// Errors: what was wrong with the first such.
fn join_rows(log: &Log, state: &mut Checkpoints) -> Result<()> {
    let active = state.covered.segment;
    let mut outcome = Ok(());
    let rows: Vec<_> = state.rows.iter().map(|(id, files)| (*id, *files)).collect();
    for (segment, files) in rows {
        let is_whole = segment < active;
        let joined = match is_whole {
            true if files > ROW_FILES_MAX => join_row(log, segment).map(|()| 1),
            false if files > ACTIVE_ROW_FILES_MAX => join_newest(log, segment),
            _ => Ok(files),
        };
        match joined {
            Ok(_) if is_whole => {
                state.rows.remove(&segment);
            }
            Ok(files) => {
                state.rows.insert(segment, files);
            }
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome
}

/// Makes one file of a segment's row. A crash before the old files are removed leaves files that the next opening removes.
fn join_row(log: &Log, segment: SegmentId) -> Result<()> {
    let files = RowNames::list(log)?.open_pooled(log, segment)?;
    join(log, &files, &IndexName::Hint(segment))?;
    remove_index_files(log, |name| matches!(name, IndexName::Checkpoint(id, _) if id == segment))
}

/// Makes one file of the newest of a row that will get longer, and says how many it has then. It takes the place of the first of
/// them. Those behind it, if they are not removed, lie within what it covers: so everybody knows that they do not count.
fn join_newest(log: &Log, segment: SegmentId) -> Result<usize> {
    let files = RowNames::list(log)?.open_pooled(log, segment)?;
    let entries: Vec<_> = files.iter().map(|file| file.entries + file.ranges.len() as u64).collect();
    let start = newest_to_join(&entries);
    let Some(first) = files.get(start) else { return Ok(0) };
    let from = first.stretch.from;
    join(log, &files[start..], &IndexName::Checkpoint(segment, from))?;
    remove_index_files(
        log,
        |name| matches!(name, IndexName::Checkpoint(id, at) if id == segment && at > from),
    )?;
    Ok(start + 1)
}

/// From which file of a row on to join, given how many entries each has: from the first that is not larger than all behind it
/// together. So entries come to lie in a file twice as large each time they are written again, which is seldom; at least two files.
fn newest_to_join(entries: &[u64]) -> usize {
    let mut behind: u64 = entries.iter().sum();
    let first = entries.iter().position(|&entries| {
        behind -= entries;
        entries <= behind
    });
    let last_two = entries.len().saturating_sub(2);
    first.map_or(last_two, |first| first.min(last_two))
}

/// Makes one file of this name of some that join one another.
fn join(log: &Log, files: &[IndexFile], name: &IndexName) -> Result<()> {
    let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(()) };
    let newest = files.iter().map(|file| file.stretch.last.index).max().unwrap_or_default();
    let stretch = Stretch {
        to: last.stretch.to,
        last: GroupEnd { index: newest, term: last.stretch.last.term },
        ..first.stretch
    };
    let mut writer = IndexWriter::new(log.store(), stretch);
    merge_index(files, &cover_of(files), Bound::Unbounded, Bound::Unbounded, |key, place, _| {
        writer.push(key, place);
        Ok(())
    })?;
    files.iter().flat_map(|file| &file.ranges).for_each(|range| writer.push_range(range));
    writer.finish(log.disk().as_ref(), log.dir(), log.store(), name)?;
    Ok(())
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

    /// Those of a segment, in order.
    pub(super) fn of(&self, segment: SegmentId) -> &[IndexName] {
        self.0.get(&segment).map_or(&[], Vec::as_slice)
    }

    /// The index files of a segment, in order, each open only while it is read, so that there may be more than a process may open.
    /// As long as they are in use, none may be joined.
    ///
    /// Errors: `Damage`, `Io`.
    pub(super) fn open_pooled(&self, log: &Log, segment: SegmentId) -> Result<Vec<IndexFile>> {
        let mut row: Vec<IndexFile> = Vec::new();
        for name in self.of(segment) {
            let path = log.dir().join(name.to_string());
            let file = IndexFile::from_file(log.pooled_file(&path), &path, log.store())?;
            // One that lies within the one before was joined into it, and could not be removed.
            if row.last().is_none_or(|last| file.stretch.from >= last.stretch.to) {
                row.push(file);
            }
        }
        Ok(row)
    }
}

/// Opens one index file. It can be read to its end whatever takes its place meanwhile.
///
/// Errors: `Damage`, `Io`.
pub(super) fn open_index_file(log: &Log, name: &IndexName) -> Result<IndexFile> {
    IndexFile::open(log.disk().as_ref(), &log.dir().join(name.to_string()), log.store())
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

#[cfg(test)]
mod tests {
    use esker_log::{clock::ManualClock, disk::sim::SimDisk, signal::Signal};

    use super::*;
    use crate::{Db, Engine, Environment, Merging, Options, Pace};

    const STORE: [u8; 16] = [7; 16];

    /// A store, and its engine.
    fn store(disk: &SimDisk) -> (Db, Arc<Bitcask>) {
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::<ManualClock>::default(),
            store_id: || Ok(STORE),
            threads: false,
        };
        let options = Options { segment_max_bytes: 4096, ..Options::default() };
        let maintenance = Arc::<Signal>::default();
        let engine =
            Arc::new(Bitcask::new(&options, Arc::clone(&environment.clock), Arc::clone(&maintenance)));
        let db = Db::open_engine(&environment, "/db", options, Arc::clone(&engine) as _, maintenance);
        (db.unwrap(), engine)
    }

    fn fill(db: &Db) {
        (0..40_u8).for_each(|n| {
            db.put(&[n], &[n; 300]).unwrap();
        });
        db.checkpoint().unwrap();
    }

    #[test]
    fn a_row_that_cannot_be_joined_does_not_stand_in_the_way_of_others() {
        let disk = SimDisk::new();
        let (db, engine) = store(&disk);
        fill(&db);
        let rows = || engine.checkpoints.lock().rows.keys().copied().collect::<Vec<_>>();
        let active = db.stats().active_segment;
        assert!(active > 3 && rows() == [active], "{:?}", rows());
        // As if these were rows that could not be joined until now.
        engine.checkpoints.lock().rows.extend([(1, 5), (2, 5), (3, 5)]);
        let hint = format!("/db/{}", IndexName::Hint(2));
        disk.flip_bit(&hint, 20, 3).unwrap();
        db.checkpoint().unwrap();
        assert_eq!(rows(), [2, active]);
        assert!(db.stats().checkpoint_error.is_some_and(|error| error.contains("0002.hint")));
        // It is tried again.
        disk.flip_bit(&hint, 20, 3).unwrap();
        db.checkpoint().unwrap();
        assert_eq!((rows(), db.stats().checkpoint_error), (vec![active], None));
    }

    #[test]
    fn rows_are_joined_again_after_a_merge_that_failed() {
        let disk = SimDisk::new();
        let (db, engine) = store(&disk);
        fill(&db);
        let rows = [(1, 3), (2, 4)];
        engine.checkpoints.lock().rows.extend(rows);
        let log = db.inner().commit.log();
        let merge = |pace: &mut dyn Pace| {
            let before = log.appended();
            engine.merge(log, &mut Merging { before, all: true, pace, save: &mut || Ok(()) })
        };
        let is_there = |(id, files)| engine.checkpoints.lock().rows.get(&id) == Some(&files);
        let cancelled = merge(&mut CopiesUpTo(0));
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
        assert!(rows.into_iter().all(is_there));
        merge(&mut CopiesUpTo(u64::MAX)).unwrap().unwrap();
        assert!(!rows.into_iter().any(is_there));
    }

    /// Ends a merge that copies so many bytes at once.
    struct CopiesUpTo(u64);

    impl Pace for CopiesUpTo {
        fn copied(&mut self, bytes: u64) -> Result<()> {
            if bytes > self.0 { Err(Error::Cancelled) } else { Ok(()) }
        }
    }

    #[test]
    fn what_is_joined_gets_twice_as_large() {
        assert_eq!(newest_to_join(&[1; 17]), 0);
        let mut with_large = vec![17];
        with_large.extend([1; 16]);
        assert_eq!(newest_to_join(&with_large), 1);
        assert_eq!(newest_to_join(&[1000, 100, 20, 5, 2, 1]), 4);
        assert_eq!([newest_to_join(&[3]), newest_to_join(&[])], [0, 0]);
        // However rows grow, few entries are written often.
        let (mut row, mut written) = (Vec::new(), 0);
        for n in 0..10_000_u64 {
            row.push(1 + n % 7);
            if row.len() > ACTIVE_ROW_FILES_MAX {
                let joined = row.drain(newest_to_join(&row)..).sum::<u64>();
                written += joined;
                row.push(joined);
            }
        }
        let entries: u64 = row.iter().sum();
        assert!(row.len() <= ACTIVE_ROW_FILES_MAX && written < 12 * entries, "{written} of {entries}");
    }
}
