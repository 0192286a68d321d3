//! Loading the keydir from index files: a merge of sorted files into a tree that is built bottom-up, by several threads,
//! each with its own range of keys.
//!
//! A file that fails its checks here is rebuilt from the log (a hint) or left out and replayed (a checkpoint), with a
//! notice; the load then begins anew.

use std::{cmp::Ordering, collections::BinaryHeap, ops::Bound, thread};

use esker_log::{
    Error, GroupEnd, Opening, Position, Result, format::SEGMENT_HEADER_LEN, record::record_len,
    recovery::FoundSegment,
};

use super::{
    collect::{collect, every_entry},
    index_file::{IndexCursor, IndexFile, IndexName, Place, Stretch},
    keydir::{Builder, Slot, Tree},
};
use crate::{Loaded, Loading, Version};

/// Below this many entries a second thread costs more than it saves.
const ENTRIES_PER_THREAD_MIN: u64 = 50_000;

/// What the index files say.
pub(crate) struct Index {
    pub(crate) tree: Tree<Slot>,
    pub(crate) live_bytes: u64,
    pub(crate) loaded: Loaded,
}

/// Loads the index files of a store.
pub(crate) fn load(opening: &mut Opening, loading: Loading<'_>, threads: usize) -> Result<Index> {
    match loading {
        Loading::Whole => load_whole(opening, threads),
        Loading::Prefix { base, marks } => load_prefix(opening, base, marks, threads),
    }
}

/// Loads all index files, rebuilding those that are missing or damaged.
fn load_whole(opening: &mut Opening, threads: usize) -> Result<Index> {
    let found = FoundFiles::new(opening)?;
    found.remove_superseded(opening)?;
    let mut files = Vec::new();
    for at in 0..opening.segments().len() {
        if opening.segments()[at].sealed_end.is_some() {
            files.push(open_or_rebuild_hint(opening, at)?);
        }
    }
    let sealed = files.len();
    let mut rebuilt = vec![false; sealed];
    if let Some(active) = opening.segments().last().map(|found| found.segment.id) {
        files.extend(open_checkpoints(opening, &found, active)?);
    }
    loop {
        match merge_all(&files, threads) {
            Ok((tree, live_bytes)) => {
                return Ok(Index { tree, live_bytes, loaded: reach(&files, sealed) });
            }
            Err(Error::Damage(damage)) => {
                let Some(bad) = files.iter().position(|file| file.path == damage.path) else {
                    return Err(damage.into());
                };
                // A disk that does not give back what was just written would have us rebuild for ever.
                if bad < sealed && std::mem::replace(&mut rebuilt[bad], true) {
                    return Err(damage.into());
                }
                opening.notice(format!("{damage}: rebuilt from the log"));
                if bad < sealed {
                    files[bad] = rebuild_hint(opening, bad)?;
                } else {
                    let Stretch { segment, from, .. } = files[bad].stretch;
                    found.remove_checkpoints(opening, segment, from)?;
                    files.truncate(bad);
                }
            }
            Err(other) => return Err(other),
        }
    }
}

/// Loads the index files that cover the log from `base` to one of `marks`. None is made again: which frames count is not
/// known here. What is of no use is removed, so that it does not stand in the way of what will be written.
fn load_prefix(opening: &mut Opening, base: Position, marks: &[Position], threads: usize) -> Result<Index> {
    let found = FoundFiles::new(opening)?;
    for &mark in marks.iter().rev() {
        let Some(files) = open_chain(opening, base, mark)? else { continue };
        match merge_all(&files, threads) {
            Ok((tree, live_bytes)) => {
                found.remove_others(opening, &files)?;
                let last = files.last().map_or(GroupEnd::default(), |file| file.stretch.last);
                return Ok(Index { tree, live_bytes, loaded: Loaded { from: mark, last } });
            }
            Err(Error::Damage(damage)) => opening.notice(format!("{damage}: left out")),
            Err(other) => return Err(other),
        }
    }
    if !marks.is_empty() {
        let dir = opening.dir().display();
        opening
            .notice(format!("{dir} has no index files that reach a checkpoint: the whole log is replayed"));
    }
    found.remove_others(opening, &[])?;
    let loaded = Loaded { from: base, last: GroupEnd::default() };
    Ok(Index { tree: Tree::default(), live_bytes: 0, loaded })
}

/// The index files that cover the log from `base` to `mark`, if they are there and whole: hints, and of the segment that
/// the mark is in, checkpoints.
fn open_chain(opening: &mut Opening, base: Position, mark: Position) -> Result<Option<Vec<IndexFile>>> {
    let mut files = Vec::new();
    let first_of = |segment| if segment == base.segment { base.offset } else { SEGMENT_HEADER_LEN as u32 };
    let ends: Vec<_> = opening.segments().iter().map(|it| (it.segment.id, it.sealed_end)).collect();
    for (segment, end) in ends.into_iter().filter(|(id, _)| (base.segment..mark.segment).contains(id)) {
        let Some(end) = end else { return Ok(None) };
        let stretch = first_of(segment)..end;
        match open_index(opening, &IndexName::Hint(segment))? {
            Some(file) if file.covers(segment, &stretch) => files.push(file),
            _ => return Ok(None),
        }
    }
    let mut next = first_of(mark.segment);
    while next < mark.offset {
        let Some(file) = open_index(opening, &IndexName::Checkpoint(mark.segment, next))? else {
            return Ok(None);
        };
        let to = file.stretch.to;
        if !file.covers(mark.segment, &(next..to)) || to <= next || to > mark.offset {
            return Ok(None);
        }
        next = to;
        files.push(file);
    }
    Ok(Some(files))
}

/// The index files in the directory, checked against the segments.
struct FoundFiles {
    hints: Vec<u32>,
    /// Checkpoints: segment and first byte, ascending.
    checkpoints: Vec<(u32, u32)>,
    last_segment: u32,
}

impl FoundFiles {
    fn new(opening: &Opening) -> Result<Self> {
        let last_segment = opening.segments().last().map_or(0, |found| found.segment.id);
        let (mut hints, mut checkpoints) = (Vec::new(), Vec::new());
        for name in opening.other_files() {
            let Some(parsed) = IndexName::parse(name) else { continue };
            // A hint is written only after its segment's successor was created durably.
            let needs = match parsed {
                IndexName::Hint(segment) => segment.saturating_add(1),
                IndexName::Checkpoint(segment, _) => segment,
            };
            if needs > last_segment {
                let path = opening.dir().join(esker_log::segment::segment_name(needs));
                return Err(Error::damage(
                    path,
                    0,
                    format_args!("the segment is missing, but there is {name}"),
                ));
            }
            match parsed {
                IndexName::Checkpoint(segment, from) => checkpoints.push((segment, from)),
                IndexName::Hint(segment) => hints.push(segment),
            }
        }
        checkpoints.sort_unstable();
        Ok(Self { hints, checkpoints, last_segment })
    }

    /// Checkpoints of a sealed segment are superseded by its hint.
    fn remove_superseded(&self, opening: &Opening) -> Result<()> {
        let superseded = self.checkpoints.iter().filter(|(segment, _)| *segment != self.last_segment);
        for &(segment, from) in superseded {
            remove(opening, IndexName::Checkpoint(segment, from))?;
        }
        Ok(())
    }

    /// Removes a segment's checkpoints that begin at `from` or behind. If a crash undoes it, the next opening does it
    /// again.
    fn remove_checkpoints(&self, opening: &Opening, segment: u32, from: u32) -> Result<()> {
        let behind = self.checkpoints.iter().filter(|(id, found)| *id == segment && *found >= from);
        for &(segment, from) in behind {
            remove(opening, IndexName::Checkpoint(segment, from))?;
        }
        Ok(())
    }

    /// Removes all index files but `kept`.
    fn remove_others(&self, opening: &Opening, kept: &[IndexFile]) -> Result<()> {
        let hints = self.hints.iter().map(|&segment| IndexName::Hint(segment));
        let checkpoints =
            self.checkpoints.iter().map(|&(segment, from)| IndexName::Checkpoint(segment, from));
        for name in hints.chain(checkpoints) {
            let path = opening.dir().join(name.to_string());
            if kept.iter().all(|file| file.path != path) {
                remove(opening, name)?;
            }
        }
        Ok(())
    }
}

fn remove(opening: &Opening, name: IndexName) -> Result<()> {
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
    match IndexFile::open(opening.disk().as_ref(), &opening.dir().join(&name), opening.store()) {
        Ok(file) => Ok(Some(file)),
        Err(Error::Damage(damage)) => {
            opening.notice(format!("{damage}: left out"));
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

fn open_or_rebuild_hint(opening: &mut Opening, at: usize) -> Result<IndexFile> {
    let found = &opening.segments()[at];
    let (segment, end) = (found.segment.id, found.sealed_end);
    let name = IndexName::Hint(segment).to_string();
    if opening.other_files().contains(&name) {
        match IndexFile::open(opening.disk().as_ref(), &opening.dir().join(&name), opening.store()) {
            Ok(file) if is_whole(&file.stretch, segment, end) => return Ok(file),
            Ok(file) => opening.notice(format!("{} is of another segment: rebuilt", file.path.display())),
            Err(Error::Damage(damage)) => opening.notice(format!("{damage}: rebuilt from the log")),
            Err(other) => return Err(other),
        }
    }
    rebuild_hint(opening, at)
}

fn is_whole(stretch: &Stretch, segment: u32, end: Option<u32>) -> bool {
    stretch.segment == segment && stretch.from as usize == SEGMENT_HEADER_LEN && Some(stretch.to) == end
}

/// Makes a hint from its segment. Where the disk has no room for it, it is kept in memory: a full disk must not hinder
/// reads, and a later opening writes it.
fn rebuild_hint(opening: &mut Opening, at: usize) -> Result<IndexFile> {
    let found: &FoundSegment = &opening.segments()[at];
    let collector =
        collect(GroupEnd::default(), &every_entry, |on_frame| Opening::scan_sealed(found, on_frame))?;
    let stretch = Stretch {
        segment: found.segment.id,
        group: 0,
        from: SEGMENT_HEADER_LEN as u32,
        to: found.sealed_end.unwrap_or_default(),
        last: collector.last(),
    };
    let name = IndexName::Hint(stretch.segment);
    let (disk, dir, store) = (opening.disk().as_ref(), opening.dir(), opening.store());
    let path = dir.join(name.to_string());
    let index = collector.into_index(store, stretch).encode(store);
    match index.write(disk, dir, &name) {
        Ok(_) => IndexFile::open(disk, &path, store),
        Err(Error::DiskFull) => {
            let file = IndexFile::from_file(index.into_memory(), &path, store)?;
            opening.notice(format!("the disk is full: {} could not be written", path.display()));
            Ok(file)
        }
        Err(other) => Err(other),
    }
}

/// The checkpoints of a segment that join one another without a gap. Others are removed: left in place, they would stand
/// between the ones here and those to come.
fn open_checkpoints(opening: &mut Opening, found: &FoundFiles, segment: u32) -> Result<Vec<IndexFile>> {
    let mut files: Vec<IndexFile> = Vec::new();
    let mut next = SEGMENT_HEADER_LEN as u32;
    for &(_, from) in found.checkpoints.iter().filter(|(id, _)| *id == segment) {
        let path = opening.dir().join(IndexName::Checkpoint(segment, from).to_string());
        match IndexFile::open(opening.disk().as_ref(), &path, opening.store()) {
            Ok(file) if file.stretch.segment == segment && file.stretch.from == next && from == next => {
                next = file.stretch.to;
                files.push(file);
            }
            Ok(_) => {
                opening.notice(format!(
                    "{} does not join the checkpoint before it: replaying instead",
                    path.display()
                ));
                found.remove_checkpoints(opening, segment, from)?;
                break;
            }
            Err(Error::Damage(damage)) => {
                opening.notice(format!("{damage}: replaying the log instead"));
                found.remove_checkpoints(opening, segment, from)?;
                break;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(files)
}

/// Where replay begins: behind the last index file. The first `hints` of them are of whole segments.
fn reach(files: &[IndexFile], hints: usize) -> Loaded {
    let Some(last) = files.last() else { return Loaded::default() };
    let from = if files.len() > hints {
        Position { segment: last.stretch.segment, offset: last.stretch.to }
    } else {
        Position { segment: last.stretch.segment + 1, offset: SEGMENT_HEADER_LEN as u32 }
    };
    Loaded { from, last: last.stretch.last }
}

fn merge_all(files: &[IndexFile], threads: usize) -> Result<(Tree<Slot>, u64)> {
    let entries: u64 = files.iter().map(|file| file.entries).sum();
    let parts = threads.min((entries / ENTRIES_PER_THREAD_MIN) as usize).max(1);
    if parts == 1 {
        return merge_range(files, Bound::Unbounded, Bound::Unbounded);
    }
    let splits = split_keys(files, parts);
    let ranges = (0..=splits.len()).map(|i| {
        let lower = if i == 0 { Bound::Unbounded } else { Bound::Included(splits[i - 1].as_slice()) };
        let upper = splits.get(i).map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        (lower, upper)
    });
    let merged: Result<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> =
            ranges.map(|(lower, upper)| scope.spawn(move || merge_range(files, lower, upper))).collect();
        threads.into_iter().map(|thread| thread.join().expect("merging does not panic")).collect()
    });
    let (trees, live): (Vec<_>, Vec<u64>) = merged?.into_iter().unzip();
    let tree = Tree::concat(trees).expect("the ranges ascend");
    Ok((tree, live.iter().sum()))
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

/// One file on its way through a merge. Files are numbered from old to new.
struct Source<'a> {
    cursor: IndexCursor<'a>,
    number: usize,
    segment: u32,
}

impl Source<'_> {
    /// Of the entries of one key, the one with the highest age counts. It is not always the last in the log: behind
    /// entries that a snapshot does not hold may come the snapshot's values.
    fn age(&self) -> (Option<Version>, usize) {
        (self.cursor.place().map(|place| place.version), self.number)
    }
}

/// The heap's greatest is the smallest key, and of equal keys the newest.
impl Ord for Source<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.cursor.key().cmp(self.cursor.key()).then_with(|| self.age().cmp(&other.age()))
    }
}

impl PartialOrd for Source<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Source<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Source<'_> {}

fn merge_range(files: &[IndexFile], lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Result<(Tree<Slot>, u64)> {
    let mut heap = BinaryHeap::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let cursor = match lower {
            Bound::Included(key) | Bound::Excluded(key) => IndexCursor::seek(file, key)?,
            Bound::Unbounded => IndexCursor::start(file)?,
        };
        if cursor.place().is_some() {
            heap.push(Source { cursor, number, segment: file.stretch.segment });
        }
    }
    let mut builder = Builder::new();
    let mut live_bytes = 0;
    let mut last_key: Vec<u8> = Vec::new();
    while let Some(mut source) = heap.pop() {
        // The smallest key stands in this source; it goes on with it as long as no other source has a smaller one.
        loop {
            let key = source.cursor.key();
            let Some(place) = source.cursor.place() else { break };
            if matches!(upper, Bound::Excluded(end) if key >= end) {
                break;
            }
            if key != last_key {
                live_bytes += push(&mut builder, key, place, source.segment, &files[source.number])?;
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            source.cursor.advance()?;
            if source.cursor.place().is_none() {
                break;
            }
            if heap.peek().is_some_and(|other| *other > source) {
                heap.push(source);
                break;
            }
        }
    }
    Ok((builder.finish(), live_bytes))
}

/// Adds a live entry; gives the bytes of its record.
fn push(
    builder: &mut Builder<Slot>,
    key: &[u8],
    place: Place,
    segment: u32,
    file: &IndexFile,
) -> Result<u64> {
    let Some(value_len) = place.value_len else { return Ok(0) };
    builder
        .push(key, Slot::new(segment, place.offset, value_len, place.version))
        .map_err(|_| Error::damage(&file.path, 0, "the keys do not ascend"))?;
    Ok(record_len(key.len(), value_len as usize) as u64)
}
