//! Reading several index files together, in key order, of each key the newest entry.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Bound,
};

use esker_log::Result;

use super::{
    index_file::{IndexCursor, IndexFile, Place},
    ranges::Cover,
};
use crate::Version;

/// What all the files say is deleted.
pub(crate) fn cover_of(files: &[IndexFile]) -> Cover {
    Cover::new(files.iter().flat_map(|file| &file.ranges).zip(0..))
}

/// Gives `on_entry` each key between the bounds once, with its newest entry (be it a tombstone) and the number of the
/// file that has it. What a range delete of another file covers is left out, what one of the same file does is not in it.
///
/// Errors: `Damage`, `Io`, and whatever `on_entry` says.
pub(crate) fn merge_index(
    files: &[IndexFile],
    cover: &Cover,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
    mut on_entry: impl FnMut(&[u8], Place, usize) -> Result<()>,
) -> Result<()> {
    // Boxed, for a heap moves what it holds about.
    let mut heap: BinaryHeap<Box<Source<'_>>> = BinaryHeap::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let cursor = match lower {
            Bound::Included(key) | Bound::Excluded(key) => IndexCursor::seek(file, key)?,
            Bound::Unbounded => IndexCursor::start(file)?,
        };
        if cursor.place().is_some() {
            heap.push(Box::new(Source { cursor, number }));
        }
    }
    let mut last_key: Vec<u8> = Vec::new();
    // The smallest key stands in the first source. That goes on where it is: as long as no other has a smaller key, it stays the first.
    while let Some(mut source) = heap.peek_mut() {
        let key = source.cursor.key();
        let Some(place) = source.cursor.place().filter(|_| !is_behind(upper, key)) else {
            PeekMut::pop(source);
            continue;
        };
        if key != last_key {
            let deleted = || cover.over(key).is_some_and(|(version, _)| place.version < version);
            if cover.is_empty() || !deleted() {
                on_entry(key, place, source.number)?;
            }
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        source.cursor.advance()?;
    }
    Ok(())
}

/// Whether a key is behind a range's upper bound, which is one that is not in the range, or none.
fn is_behind(upper: Bound<&[u8]>, key: &[u8]) -> bool {
    matches!(upper, Bound::Excluded(end) if key >= end)
}

/// One file on its way through a merge. Files are numbered from old to new.
struct Source<'a> {
    cursor: IndexCursor<&'a IndexFile>,
    number: usize,
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
