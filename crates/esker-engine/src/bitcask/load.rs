//! Loading the keydir from index files: a merge of sorted files into a tree that is built bottom-up, by several threads,
//! each with its own range of keys.
//!
//! A file that is missing or fails its checks is made anew from its segment where that can be done. It cannot where a
//! batch was judged: then the log is replayed from there on, and if a merge has put something newer in the place of what comes
//! behind, it is damage.

use std::{collections::BTreeMap, ops::Bound, thread};

use esker_log::{
    Error, GroupEnd, Opening, Position, Result, SegmentId,
    format::{FRAME_HEADER_LEN, PLACED_VERSION_LEN, SEGMENT_HEADER_LEN},
    is_merged,
    record::record_len,
    recovery::FoundSegment,
    scan::{FrameScanner, Step},
};

use super::{
    collect::{Judged, collect, every_entry},
    index_file::{IndexFile, IndexName, Place, Stretch},
    index_merge::{cover_of, merge_index},
    keydir::{Builder, Slot, Tree},
    liveness::Liveness,
    merge::beside::{Beside, Held},
    ranges::Cover,
};
use crate::{Loaded, Loading};

/// Below this many entries a second thread costs more than it saves.
const ENTRIES_PER_THREAD_MIN: u64 = 50_000;

/// Where a segment's frames begin.
const FIRST: u32 = SEGMENT_HEADER_LEN as u32;

/// The last log segment that a merge took out.
fn last_gone(opening: &Opening) -> Option<SegmentId> {
    opening.manifest().gone.last().map(|range| range.last)
}

/// What the index files say.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) tree: Tree<Slot>,
    pub(crate) live: Liveness,
    pub(crate) loaded: Loaded,
    /// How many files the rows of log segments have.
    pub(crate) rows: BTreeMap<SegmentId, usize>,
    pub(crate) beside: Beside,
}

/// Loads the index files of a store.
pub(crate) fn load(opening: &mut Opening, loading: Loading<'_>, threads: usize) -> Result<Index> {
    match loading {
        Loading::Whole => Whole::new(opening)?.load(opening, threads),
        Loading::Prefix { base, marks } => load_prefix(opening, base, marks, threads),
    }
}

/// The index files of one log segment, from its beginning on without a gap.
#[derive(Default)]
struct Row {
    files: Vec<IndexFile>,
    /// The byte behind what they cover.
    reach: u32,
}

impl Row {
    fn empty(first: u32) -> Self {
        Self { files: Vec::new(), reach: first }
    }

    fn of_hint(file: IndexFile) -> Self {
        Self { reach: file.stretch.to, files: vec![file] }
    }

    fn is_whole(&self, found: &FoundSegment) -> bool {
        found.sealed_end == Some(self.reach)
    }

    fn last(&self) -> Option<&IndexFile> {
        self.files.last()
    }
}

/// All index files of a store whose every frame counts.
struct Whole {
    names: Names,
    merged: Vec<IndexFile>,
    /// One for each log segment.
    rows: Vec<Row>,
    /// Segments whose hint was made anew just now: a disk that does not give back what was written would have us do it for ever.
    renewed: Vec<SegmentId>,
}

impl Whole {
    fn new(opening: &mut Opening) -> Result<Self> {
        let names = Names::new(opening)?;
        let mut merged = Vec::new();
        for at in 0..opening.merged().len() {
            merged.push(open_or_renew_merged(opening, at)?);
        }
        let mut rows = Vec::new();
        for at in 0..opening.segments().len() {
            rows.push(open_row(opening, &names, at, FIRST)?);
        }
        let mut whole = Self { names, merged, rows, renewed: Vec::new() };
        whole.close_gaps(opening)?;
        Ok(whole)
    }

    /// The first segment from which the log may be replayed: nothing from there on has been merged.
    fn replayable_from(opening: &Opening) -> SegmentId {
        last_gone(opening).map_or(1, |last| last + 1)
    }

    /// Up to the last index file there must be no gap. What is missing before is made anew, or the rest is replayed.
    fn close_gaps(&mut self, opening: &mut Opening) -> Result<()> {
        let replayable = Self::replayable_from(opening);
        let last_indexed = self.rows.iter().rposition(|row| !row.files.is_empty());
        for at in 0..self.rows.len() {
            let found = &opening.segments()[at];
            let is_last = last_indexed.is_none_or(|last| at >= last) && found.segment.id >= replayable;
            if self.rows[at].is_whole(found) || is_last {
                continue;
            }
            self.renew(opening, at)?;
        }
        Ok(())
    }

    /// Makes the hint of a sealed segment anew, or gives up all from there on to be replayed.
    fn renew(&mut self, opening: &mut Opening, at: usize) -> Result<()> {
        let segment = opening.segments()[at].segment.id;
        let path = opening.dir().join(IndexName::Hint(segment).to_string());
        if self.renewed.contains(&segment) {
            return Err(Error::damage(path, 0, "it was written just now and cannot be read"));
        }
        self.renewed.push(segment);
        if let Some(file) = renew_hint(opening, at)? {
            opening.notice(format!("{} was made anew from its segment", path.display()));
            self.rows[at] = Row::of_hint(file);
            return Ok(());
        }
        if segment < Self::replayable_from(opening) {
            let why = "it is missing or damaged, and what conditional writes came to was in it alone: repair the store";
            return Err(Error::damage(path, 0, why));
        }
        opening.notice(format!("{} cannot be made anew: the log is replayed from there", path.display()));
        self.rows[at] = Row::empty(FIRST);
        self.names.remove_from(opening, segment, FIRST)?;
        self.rows[at + 1..].iter_mut().for_each(|row| *row = Row::empty(FIRST));
        Ok(())
    }

    fn load(mut self, opening: &mut Opening, threads: usize) -> Result<Index> {
        loop {
            let loaded = self.reach(opening)?;
            let rows = self.row_lengths(opening);
            let mut files = std::mem::take(&mut self.merged);
            let merged = files.len();
            let counts: Vec<_> = self.rows.iter().map(|row| row.files.len()).collect();
            files.extend(self.rows.iter_mut().flat_map(|row| row.files.drain(..)));
            let damage = match merge_all(&files, threads) {
                Ok((tree, live, beside)) => return Ok(Index { tree, live, loaded, rows, beside }),
                Err(Error::Damage(damage)) => damage,
                Err(other) => return Err(other),
            };
            let bad = files.iter().position(|file| file.path == damage.path);
            let Some(bad) = bad else { return Err(damage.into()) };
            opening.notice(damage.to_string());
            let mut rest = files.into_iter();
            self.merged = rest.by_ref().take(merged).collect();
            for (row, count) in self.rows.iter_mut().zip(counts) {
                row.files = rest.by_ref().take(count).collect();
            }
            self.drop_damaged(opening, bad)?;
        }
    }

    /// File number `bad` of all cannot be read.
    fn drop_damaged(&mut self, opening: &mut Opening, bad: usize) -> Result<()> {
        if bad < self.merged.len() {
            let segment = self.merged[bad].stretch.segment;
            if self.renewed.contains(&segment) {
                let path = self.merged[bad].path.clone();
                return Err(Error::damage(path, 0, "it was written just now and cannot be read"));
            }
            self.renewed.push(segment);
            self.merged[bad] = renew_merged(opening, bad)?;
            return Ok(());
        }
        let mut number = bad - self.merged.len();
        let at = self.rows.iter().position(|row| {
            let is_here = number < row.files.len();
            number -= if is_here { 0 } else { row.files.len() };
            is_here
        });
        let at = at.expect("the file is one of them");
        let from = self.rows[at].files[number].stretch.from;
        self.rows[at].files.truncate(number);
        self.rows[at].reach = from;
        let segment = opening.segments()[at].segment.id;
        self.names.remove_from_in(opening, segment, from)?;
        self.close_gaps(opening)
    }

    /// Where replay begins: behind the last index file.
    fn reach(&self, opening: &Opening) -> Result<Loaded> {
        let mut from = Position::default();
        let mut last = None;
        for (row, found) in self.rows.iter().zip(opening.segments()) {
            let segment = found.segment.id;
            from = Position { segment, offset: row.reach };
            last = row.last().or(last);
            if !row.is_whole(found) {
                break;
            }
            from = Position { segment: segment + 1, offset: FIRST };
        }
        let last = match last {
            Some(file) => last_of(opening, file, from)?,
            None => end_before(opening, from)?,
        };
        Ok(Loaded { from, last })
    }

    fn row_lengths(&self, opening: &Opening) -> BTreeMap<SegmentId, usize> {
        let ids = opening.segments().iter().map(|found| found.segment.id);
        ids.zip(self.rows.iter().map(|row| row.files.len())).collect()
    }
}

/// The last frame before `from`, of which `file` is the last index file there is: unless segments behind that were merged.
fn last_of(opening: &Opening, file: &IndexFile, from: Position) -> Result<GroupEnd> {
    let mut gone = opening.manifest().gone.iter();
    match gone.any(|range| file.stretch.segment < range.first && range.last < from.segment) {
        true => end_before(opening, from),
        false => Ok(file.stretch.last),
    }
}

/// The last frame before `from`, where no index file tells: the segments before are gone, or there were none.
fn end_before(opening: &Opening, from: Position) -> Result<GroupEnd> {
    let judged = GroupEnd { index: opening.manifest().judged, term: 0 };
    let Some(found) = opening.segments().iter().find(|found| found.segment.id == from.segment) else {
        return Ok(judged);
    };
    let limit = found.sealed_end.map_or(found.file_len, u64::from);
    match FrameScanner::new(&found.segment, from.offset.into(), limit).step()? {
        Step::Frame(first) => {
            Ok(GroupEnd { index: first.header.index.saturating_sub(1), term: first.header.term })
        }
        // All that was ever written was applied, and merged, when a merge judged it.
        Step::End | Step::Bad(_) => Ok(judged),
    }
}

/// What merged segments hold beside records: a version before each, the headers of frames, and tombstones, of whose keys the
/// bytes in each file are given.
fn beside(files: &[IndexFile], tombstones: &[u64]) -> Beside {
    let of_merged = files.iter().zip(tombstones).filter(|(file, _)| is_merged(file.stretch.segment));
    Beside::loaded(of_merged.map(|(file, &tombstones)| {
        let frames = u64::from(file.stretch.to >> 20) + 1;
        let overhead = SEGMENT_HEADER_LEN as u64
            + file.entries * PLACED_VERSION_LEN as u64
            + frames * FRAME_HEADER_LEN as u64;
        (file.stretch.segment, Held::new(overhead, tombstones))
    }))
}

/// Opens the index files of a log segment: its hint, or as many checkpoints as join one another. Others are removed: left in
/// place, they would stand between the ones here and those to come.
fn open_row(opening: &mut Opening, names: &Names, at: usize, first: u32) -> Result<Row> {
    let found = &opening.segments()[at];
    let (segment, end) = (found.segment.id, found.sealed_end);
    if let Some(end) = end
        && let Some(hint) = open_index(opening, &IndexName::Hint(segment))?
        && hint.covers(segment, &(first..end))
    {
        names.remove_joined_row(opening, segment)?;
        return Ok(Row::of_hint(hint));
    }
    let mut row = Row::empty(first);
    for from in names.checkpoints_of(segment) {
        if from < row.reach {
            names.remove_joined(opening, segment, from)?;
            continue;
        }
        let file = open_index(opening, &IndexName::Checkpoint(segment, from))?;
        let joins = |file: &IndexFile| {
            let stretch = &file.stretch;
            (stretch.segment, stretch.from, from) == (segment, row.reach, row.reach)
                && end.is_none_or(|end| stretch.to <= end)
        };
        match file.filter(joins) {
            Some(file) => {
                row.reach = file.stretch.to;
                row.files.push(file);
            }
            None => {
                names.remove_from_in_row(opening, segment, from)?;
                break;
            }
        }
    }
    Ok(row)
}

/// Loads the index files that cover the log from `base` to one of `marks`. None of a log segment is made again: which frames
/// count is not known here. What is of no use is removed, so that it does not stand in the way of what will be written.
fn load_prefix(opening: &mut Opening, base: Position, marks: &[Position], threads: usize) -> Result<Index> {
    let names = Names::new(opening)?;
    for &mark in marks.iter().rev() {
        let Some(files) = open_chain(opening, &names, base, mark)? else { continue };
        match merge_all(&files, threads) {
            Ok((tree, live, beside)) => {
                names.remove_others(opening, &files)?;
                let of_log = files.iter().rfind(|file| !is_merged(file.stretch.segment));
                let last = of_log.map(|file| last_of(opening, file, mark)).transpose()?.unwrap_or_default();
                let mut rows = BTreeMap::new();
                for file in files.iter().filter(|file| !is_merged(file.stretch.segment)) {
                    *rows.entry(file.stretch.segment).or_default() += 1;
                }
                return Ok(Index { tree, live, loaded: Loaded { from: mark, last }, rows, beside });
            }
            Err(Error::Damage(damage)) => opening.notice(format!("{damage}: left out")),
            Err(other) => return Err(other),
        }
    }
    let dir = opening.dir().display().to_string();
    if last_gone(opening).is_some_and(|gone| gone >= base.segment) || !opening.merged().is_empty() {
        let why = "no index files reach a checkpoint, and the log before has been merged: wipe this node, it comes back \
                   from the others";
        return Err(Error::damage(opening.dir().to_owned(), 0, why));
    }
    if !marks.is_empty() {
        opening
            .notice(format!("{dir} has no index files that reach a checkpoint: the whole log is replayed"));
    }
    names.remove_others(opening, &[])?;
    let loaded = Loaded { from: base, last: GroupEnd::default() };
    Ok(Index { loaded, ..Index::default() })
}

/// The index files that cover the log from `base` to `mark`, if they are there and whole.
fn open_chain(
    opening: &mut Opening,
    names: &Names,
    base: Position,
    mark: Position,
) -> Result<Option<Vec<IndexFile>>> {
    let mut files = Vec::new();
    for at in 0..opening.merged().len() {
        files.push(open_or_renew_merged(opening, at)?);
    }
    let first_of = |segment| if segment == base.segment { base.offset } else { FIRST };
    let ends: Vec<_> = opening.segments().iter().map(|it| (it.segment.id, it.sealed_end)).collect();
    for (segment, end) in ends.into_iter().filter(|(id, _)| (base.segment..=mark.segment).contains(id)) {
        let end = match end {
            _ if segment == mark.segment => mark.offset,
            Some(end) => end,
            None => return Ok(None),
        };
        match open_row_to(opening, names, segment, first_of(segment), end)? {
            Some(row) => files.extend(row),
            None => return Ok(None),
        }
    }
    Ok(Some(files))
}

/// The index files that cover just these bytes of a segment.
fn open_row_to(
    opening: &mut Opening,
    names: &Names,
    segment: SegmentId,
    first: u32,
    end: u32,
) -> Result<Option<Vec<IndexFile>>> {
    if let Some(hint) = open_index(opening, &IndexName::Hint(segment))?
        && hint.covers(segment, &(first..end))
    {
        return Ok(Some(vec![hint]));
    }
    let (mut files, mut next) = (Vec::new(), first);
    while next < end && names.has_checkpoint(segment, next) {
        let Some(file) = open_index(opening, &IndexName::Checkpoint(segment, next))? else { break };
        let to = file.stretch.to;
        if !file.covers(segment, &(next..to)) || to <= next || to > end {
            break;
        }
        next = to;
        files.push(file);
    }
    Ok((next == end).then_some(files))
}

/// The index files in the directory, checked against the segments.
struct Names {
    hints: Vec<SegmentId>,
    /// Checkpoints: segment and first byte, ascending.
    checkpoints: Vec<(SegmentId, u32)>,
}

impl Names {
    fn new(opening: &Opening) -> Result<Self> {
        let last_segment = opening.segments().last().map_or(0, |found| found.segment.id);
        let first_segment = opening.segments().first().map_or(0, |found| found.segment.id);
        let (mut hints, mut checkpoints) = (Vec::new(), Vec::new());
        for name in opening.other_files() {
            let Some(parsed) = IndexName::parse(name) else { continue };
            let segment = parsed.segment();
            let is_there = if is_merged(segment) {
                opening.merged().iter().any(|found| found.segment.id == segment)
            } else {
                opening.segments().iter().any(|found| found.segment.id == segment)
            };
            // Of a segment that a merge or a snapshot took out, it was to be removed, or may never have been finished.
            let was_taken_out =
                is_merged(segment) || opening.manifest().is_gone(segment) || segment < first_segment;
            if !is_there && was_taken_out {
                // A crash may bring back what could not be removed.
                if !opening.left_behind().contains(&segment) {
                    remove(opening, &parsed)?;
                }
                continue;
            }
            // A hint is written only after its segment's successor was created durably.
            let needs = match parsed {
                _ if is_merged(segment) => 0,
                IndexName::Hint(segment) => segment.saturating_add(1),
                IndexName::Checkpoint(segment, _) => segment,
            };
            if needs > last_segment {
                let path = opening.dir().join(esker_log::segment::segment_name(needs));
                let what = format_args!("the segment is missing, but there is {name}");
                return Err(Error::damage(path, 0, what));
            }
            match parsed {
                IndexName::Checkpoint(segment, from) => checkpoints.push((segment, from)),
                IndexName::Hint(segment) => hints.push(segment),
            }
        }
        checkpoints.sort_unstable();
        Ok(Self { hints, checkpoints })
    }

    fn checkpoints_of(&self, segment: SegmentId) -> impl Iterator<Item = u32> {
        self.checkpoints.iter().filter(move |(id, _)| *id == segment).map(|(_, from)| *from)
    }

    fn has_checkpoint(&self, segment: SegmentId, from: u32) -> bool {
        self.checkpoints.binary_search(&(segment, from)).is_ok()
    }

    /// Removes a segment's checkpoints that begin at `from` or behind. If a crash undoes it, the next opening does it
    /// again.
    fn remove_from_in_row(&self, opening: &Opening, segment: SegmentId, from: u32) -> Result<()> {
        for found in self.checkpoints_of(segment).filter(|found| *found >= from) {
            remove(opening, &IndexName::Checkpoint(segment, found))?;
        }
        Ok(())
    }

    /// Removes the row of a segment that has a hint.
    fn remove_joined_row(&self, opening: &Opening, segment: SegmentId) -> Result<()> {
        if self.checkpoints_of(segment).next().is_none() {
            return Ok(());
        }
        sync_names(opening)?;
        self.remove_from_in_row(opening, segment, 0)
    }

    /// Removes a checkpoint that was joined into the one before.
    fn remove_joined(&self, opening: &Opening, segment: SegmentId, from: u32) -> Result<()> {
        sync_names(opening)?;
        remove(opening, &IndexName::Checkpoint(segment, from))
    }

    /// The same, and its hint.
    fn remove_from_in(&self, opening: &Opening, segment: SegmentId, from: u32) -> Result<()> {
        if self.hints.contains(&segment) {
            remove(opening, &IndexName::Hint(segment))?;
        }
        self.remove_from_in_row(opening, segment, from)
    }

    /// Removes all index files of log segments from a byte of one on.
    fn remove_from(&self, opening: &Opening, segment: SegmentId, from: u32) -> Result<()> {
        self.remove_from_in(opening, segment, from)?;
        let later = opening.segments().iter().map(|found| found.segment.id).filter(|id| *id > segment);
        for id in later {
            self.remove_from_in(opening, id, 0)?;
        }
        Ok(())
    }

    /// Removes all index files but `kept`.
    fn remove_others(&self, opening: &Opening, kept: &[IndexFile]) -> Result<()> {
        let hints = self.hints.iter().map(|&segment| IndexName::Hint(segment));
        let checkpoints =
            self.checkpoints.iter().map(|&(segment, from)| IndexName::Checkpoint(segment, from));
        let is_kept = |name: &IndexName| {
            let path = opening.dir().join(name.to_string());
            kept.iter().any(|file| file.path == path)
        };
        let mut others = hints.chain(checkpoints).filter(|name| !is_kept(name)).peekable();
        if others.peek().is_some() {
            sync_names(opening)?;
        }
        others.try_for_each(|name| remove(opening, &name))
    }
}

/// What took the place of the files that will be removed may so far have its name in the page cache only.
fn sync_names(opening: &Opening) -> Result<()> {
    let synced = opening.disk().sync_dir(opening.dir());
    synced.map_err(|e| Error::io(format_args!("syncing the names in {}", opening.dir().display()), e))
}

fn remove(opening: &Opening, name: &IndexName) -> Result<()> {
    let path = opening.dir().join(name.to_string());
    match opening.disk().remove(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format_args!("removing {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// An index file, if it is there and whole.
fn open_index(opening: &mut Opening, name: &IndexName) -> Result<Option<IndexFile>> {
    let name = name.to_string();
    if !opening.other_files().contains(&name) {
        return Ok(None);
    }
    let path = opening.dir().join(&name);
    match IndexFile::from_file(opening.pooled_file(&path), &path, opening.store()) {
        Ok(file) => Ok(Some(file)),
        Err(Error::Damage(damage)) => {
            opening.notice(format!("{damage}: left out"));
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

fn open_or_renew_merged(opening: &mut Opening, at: usize) -> Result<IndexFile> {
    let found = &opening.merged()[at];
    let (segment, end) = (found.segment.id, found.sealed_end.unwrap_or_default());
    match open_index(opening, &IndexName::Hint(segment))? {
        Some(file) if file.covers(segment, &(FIRST..end)) => Ok(file),
        _ => renew_merged(opening, at),
    }
}

/// Makes the hint of a merged segment, all of whose records count, anew.
fn renew_merged(opening: &mut Opening, at: usize) -> Result<IndexFile> {
    let file = renew(opening, |opening| &opening.merged()[at])?;
    let file = file.expect("nothing in a merged segment is judged");
    opening.notice(format!("{} was made anew from its segment", file.path.display()));
    Ok(file)
}

/// Makes the hint of a sealed log segment anew; `None` if something in it was judged.
fn renew_hint(opening: &mut Opening, at: usize) -> Result<Option<IndexFile>> {
    renew(opening, |opening| &opening.segments()[at])
}

/// Makes a hint from its segment. Where the disk has no room for it, it is kept in memory: a full disk must not hinder
/// reads, and a later opening writes it.
fn renew(opening: &mut Opening, find: impl Fn(&Opening) -> &FoundSegment) -> Result<Option<IndexFile>> {
    let found = find(opening);
    let collector = collect(GroupEnd::default(), &every_entry, &Judged::new(), |on_frame| {
        Opening::scan_sealed(found, on_frame)
    })?;
    let Some(collector) = collector else { return Ok(None) };
    let stretch = Stretch {
        segment: found.segment.id,
        group: 0,
        from: FIRST,
        to: found.sealed_end.unwrap_or_default(),
        last: collector.last(),
    };
    let name = IndexName::Hint(stretch.segment);
    let (disk, dir, store) = (opening.disk().as_ref(), opening.dir(), opening.store());
    let path = dir.join(name.to_string());
    let index = collector.into_index(store, stretch).encode(store);
    match index.write(disk, dir, &name) {
        Ok(_) => IndexFile::from_file(opening.pooled_file(&path), &path, store).map(Some),
        Err(Error::DiskFull) => {
            let file = IndexFile::from_file(index.into_memory(), &path, store)?;
            opening.notice(format!("the disk is full: {} could not be written", path.display()));
            Ok(Some(file))
        }
        Err(other) => Err(other),
    }
}

fn merge_all(files: &[IndexFile], threads: usize) -> Result<(Tree<Slot>, Liveness, Beside)> {
    let cover = cover_of(files);
    let entries: u64 = files.iter().map(|file| file.entries).sum();
    let parts = threads.min((entries / ENTRIES_PER_THREAD_MIN) as usize).max(1);
    if parts == 1 {
        let part = merge_range(files, &cover, Bound::Unbounded, Bound::Unbounded)?;
        return Ok((part.tree, part.live, beside(files, &part.tombstones)));
    }
    let splits = split_keys(files, parts);
    let ranges = (0..=splits.len()).map(|i| {
        let lower = if i == 0 { Bound::Unbounded } else { Bound::Included(splits[i - 1].as_slice()) };
        let upper = splits.get(i).map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        (lower, upper)
    });
    let cover = &cover;
    let merged: Result<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = ranges
            .map(|(lower, upper)| scope.spawn(move || merge_range(files, cover, lower, upper)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("merging does not panic")).collect()
    });
    let mut live = Liveness::default();
    let mut tombstones = vec![0; files.len()];
    let mut trees = Vec::new();
    for part in merged? {
        live.extend(&part.live);
        tombstones.iter_mut().zip(part.tombstones).for_each(|(sum, bytes)| *sum += bytes);
        trees.push(part.tree);
    }
    let tree = Tree::concat(trees).expect("the ranges ascend");
    Ok((tree, live, beside(files, &tombstones)))
}

/// Keys that divide the entries into `parts` of about the same size, by what the block directories say.
fn split_keys(files: &[IndexFile], parts: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<&[u8]> = files.iter().flat_map(IndexFile::block_keys).collect();
    keys.sort_unstable();
    let mut splits: Vec<Vec<u8>> =
        (1..parts).filter_map(|part| keys.get(part * keys.len() / parts)).map(|key| key.to_vec()).collect();
    splits.dedup();
    splits.retain(|key| !key.is_empty());
    splits
}

/// A part of the keys.
struct Part {
    tree: Tree<Slot>,
    live: Liveness,
    /// Of each file the bytes of tombstones that nothing newer took the place of.
    tombstones: Vec<u64>,
}

fn merge_range(files: &[IndexFile], cover: &Cover, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Result<Part> {
    let mut builder = Builder::new();
    let mut live = Liveness::default();
    let mut tombstones = vec![0; files.len()];
    merge_index(files, cover, lower, upper, |key, Place { slot, .. }, number| {
        let Some(slot) = slot else {
            tombstones[number] += record_len(key.len(), 0) as u64;
            return Ok(());
        };
        live.add(key.len(), slot);
        if slot.as_sum().is_some() {
            live.note_sum(files[number].stretch.segment);
        }
        let pushed = builder.push(key, slot);
        pushed.map_err(|_| Error::damage(&files[number].path, 0, "the keys do not ascend"))
    })?;
    Ok(Part { tree: builder.finish(), live, tombstones })
}
