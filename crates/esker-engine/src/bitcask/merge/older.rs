//! Whether something older lies outside a merge: what tombstones are kept for.
//!
//! All tombstones of a stretch of keys are looked for at once, in the index files of one segment after the other: so however many
//! segments a store has, one file is open, and each is read once in key order.

use std::{io, ops::Bound};

use esker_log::{Error, Log, Result};

use super::Inputs;
use crate::{
    Pace, Version,
    bitcask::{
        Bitcask,
        checkpoint::{RowNames, open_index_file},
        index_file::{IndexCursor, IndexFile, IndexName},
        ranges::RangeTombstone,
    },
};

/// Where so many entries were looked at, it is looked whether to go on.
const ENTRIES_BETWEEN_LOOKS: u64 = 4096;

/// A row may be joined while its files are read, one after the other, which are then looked for anew. That needs some checkpoints
/// between, so it does not happen so often.
const ROW_TRIES_MAX: u32 = 8;

/// The segments that are not among a merge's inputs.
pub(super) struct Outside<'a> {
    pub(super) engine: &'a Bitcask,
    pub(super) log: &'a Log,
    pub(super) inputs: &'a Inputs,
}

/// A tombstone that may be needed.
pub(super) struct Tombstone<'a> {
    key: &'a [u8],
    version: Version,
    /// Whether a put or sum of its key from before it lies outside.
    pub(super) is_needed: bool,
}

impl<'a> Tombstone<'a> {
    pub(super) fn new(key: &'a [u8], version: Version) -> Self {
        Self { key, version, is_needed: false }
    }
}

/// A deleted range that may be needed.
pub(super) struct DeletedRange<'a> {
    pub(super) range: &'a RangeTombstone,
    /// Whether anything that it covers, from before it, lies outside.
    pub(super) is_needed: bool,
}

impl<'a> DeletedRange<'a> {
    pub(super) fn new(range: &'a RangeTombstone) -> Self {
        Self { range, is_needed: false }
    }
}

impl Outside<'_> {
    /// Finds out which of the tombstones, whose keys ascend, are needed.
    ///
    /// Errors: `Damage`, `Io`, and what `pace` says.
    pub(super) fn judge(&self, tombstones: &mut [Tombstone<'_>], pace: &mut dyn Pace) -> Result<()> {
        if tombstones.is_empty() {
            return Ok(());
        }
        let mut looks = Looks::new(pace);
        self.for_each_file(&mut |file| {
            let mut open = tombstones.iter_mut().filter(|tombstone| !tombstone.is_needed).peekable();
            let Some(first) = open.peek() else { return Ok(false) };
            let mut cursor = IndexCursor::seek(file, first.key)?;
            for tombstone in open {
                cursor.seek_on(tombstone.key)?;
                let Some(place) = cursor.place() else { break };
                let is_older = place.slot.is_some() && place.version < tombstone.version;
                tombstone.is_needed = cursor.key() == tombstone.key && is_older;
                looks.note()?;
            }
            Ok(true)
        })
    }

    /// Finds out which of the deleted ranges are needed.
    ///
    /// Errors: `Damage`, `Io`, and what `pace` says.
    pub(super) fn judge_ranges(&self, ranges: &mut [DeletedRange<'_>], pace: &mut dyn Pace) -> Result<()> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut looks = Looks::new(pace);
        self.for_each_file(&mut |file| {
            let mut goes_on = false;
            for deleted in ranges.iter_mut().filter(|deleted| !deleted.is_needed) {
                deleted.is_needed = has_older_in(file, deleted.range, &mut looks)?;
                goes_on |= !deleted.is_needed;
            }
            Ok(goes_on)
        })
    }

    /// Calls `on_file` with the index files outside, until it says that it needs no more. It may see an entry twice.
    fn for_each_file(&self, on_file: &mut dyn FnMut(&IndexFile) -> Result<bool>) -> Result<()> {
        let segments = self.log.merged().into_iter().chain(self.log.segments());
        let mut names = self.names()?;
        for id in segments.map(|segment| segment.id).filter(|id| !self.inputs.contains(*id)) {
            let mut tries = 0;
            let goes_on = loop {
                match self.for_each_of_row(names.of(id), on_file) {
                    // The row was joined since: what it is now has all that it had.
                    Err(error) if is_missing(&error) && tries < ROW_TRIES_MAX => {
                        tries += 1;
                        names = self.names()?;
                    }
                    done => break done?,
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Opens one file after the other. Says whether `on_file` needs more.
    fn for_each_of_row(
        &self,
        row: &[IndexName],
        on_file: &mut dyn FnMut(&IndexFile) -> Result<bool>,
    ) -> Result<bool> {
        for name in row {
            if !on_file(&open_index_file(self.log, name)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn names(&self) -> Result<RowNames> {
        let _turn = self.engine.files_turn.lock();
        RowNames::list(self.log)
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn has_older_in(file: &IndexFile, range: &RangeTombstone, looks: &mut Looks<'_>) -> Result<bool> {
    let mut cursor = IndexCursor::seek(file, &range.start)?;
    while let Some(place) = cursor.place() {
        let is_behind = match &range.end {
            Bound::Unbounded => false,
            Bound::Included(end) => cursor.key() > end.as_slice(),
            Bound::Excluded(end) => cursor.key() >= end.as_slice(),
        };
        if is_behind {
            break;
        }
        if place.slot.is_some() && place.version < range.version {
            return Ok(true);
        }
        cursor.advance()?;
        looks.note()?;
    }
    Ok(false)
}

/// Looks now and then whether to go on.
struct Looks<'a> {
    pace: &'a mut dyn Pace,
    entries: u64,
}

impl<'a> Looks<'a> {
    fn new(pace: &'a mut dyn Pace) -> Self {
        Self { pace, entries: 0 }
    }

    fn note(&mut self) -> Result<()> {
        self.entries += 1;
        match self.entries.is_multiple_of(ENTRIES_BETWEEN_LOOKS) {
            true => self.pace.copied(0),
            false => Ok(()),
        }
    }
}
