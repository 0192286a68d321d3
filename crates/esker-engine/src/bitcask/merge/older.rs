//! Whether something older lies outside a merge: what a tombstone is kept for.

use std::{cell::OnceCell, collections::HashSet, ops::Bound};

use esker_log::{Result, SegmentId, is_merged};

use crate::{
    Version,
    bitcask::{
        index_file::{IndexCursor, IndexFile},
        ranges::RangeTombstone,
    },
};

/// The index files of the segments that are not among a merge's inputs. They are opened when the first is needed: most merges
/// meet no tombstone.
pub(crate) struct Outside<'a> {
    open: Box<dyn Fn() -> Result<Rows> + 'a>,
    inputs: &'a HashSet<SegmentId>,
    files: OnceCell<Vec<OutsideFile>>,
}

/// The index files of all segments, log segments in log order.
pub(crate) type Rows = Vec<(SegmentId, Vec<IndexFile>)>;

struct OutsideFile {
    file: IndexFile,
    /// All in it is newer than this.
    behind: Version,
}

impl<'a> Outside<'a> {
    /// `open` gives the index files of all segments, of which those of `inputs` are left out.
    pub(crate) fn new(inputs: &'a HashSet<SegmentId>, open: impl Fn() -> Result<Rows> + 'a) -> Self {
        Self { open: Box::new(open), inputs, files: OnceCell::new() }
    }

    fn files(&self) -> Result<&[OutsideFile]> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = self.leave_out_inputs((self.open)()?);
        Ok(self.files.get_or_init(|| files))
    }

    fn leave_out_inputs(&self, rows: Rows) -> Vec<OutsideFile> {
        let mut files = Vec::new();
        // A log segment holds nothing as old as what came before it in the log.
        let mut behind = 0;
        for (segment, row) in rows {
            let newest = row.iter().map(|file| file.stretch.last.index).max().unwrap_or(0);
            let behind_this = if is_merged(segment) { 0 } else { behind };
            if !self.inputs.contains(&segment) {
                files.extend(row.into_iter().map(|file| OutsideFile { file, behind: behind_this }));
            }
            if !is_merged(segment) {
                behind = behind.max(newest);
            }
        }
        files
    }

    /// Whether a put or sum of `key` from before `version` lies outside.
    ///
    /// Errors: `Damage`, `Io`.
    pub(crate) fn has_older(&self, key: &[u8], version: Version) -> Result<bool> {
        for OutsideFile { file, .. } in self.files()?.iter().filter(|it| it.behind < version) {
            let cursor = IndexCursor::seek(file, key)?;
            let is_older = cursor
                .place()
                .is_some_and(|place| cursor.key() == key && place.slot.is_some() && place.version < version);
            if is_older {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether anything that the range covers, from before it, lies outside.
    ///
    /// Errors: `Damage`, `Io`.
    pub(crate) fn has_older_in(&self, range: &RangeTombstone) -> Result<bool> {
        for OutsideFile { file, .. } in self.files()?.iter().filter(|it| it.behind < range.version) {
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
            }
        }
        Ok(false)
    }
}
