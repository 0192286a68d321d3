//! Whether something older lies outside a merge: what a tombstone is kept for.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashSet,
    ops::Bound,
    sync::Arc,
};

use esker_log::{Result, SegmentId};

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
    file: Arc<IndexFile>,
    /// Where the last key was looked for: they ascend.
    cursor: RefCell<IndexCursor<Arc<IndexFile>>>,
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
        let rows = (self.open)()?.into_iter().filter(|(segment, _)| !self.inputs.contains(segment));
        let files = rows.flat_map(|(_, row)| row).map(OutsideFile::new).collect::<Result<_>>()?;
        Ok(self.files.get_or_init(|| files))
    }

    /// Whether a put or sum of `key` from before `version` lies outside. Keys ascend from call to call.
    ///
    /// Errors: `Damage`, `Io`.
    pub(crate) fn has_older(&self, key: &[u8], version: Version) -> Result<bool> {
        for file in self.files()? {
            let mut cursor = file.cursor.borrow_mut();
            cursor.seek_on(key)?;
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
        for OutsideFile { file, .. } in self.files()? {
            let mut cursor = IndexCursor::seek(file.as_ref(), &range.start)?;
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

impl OutsideFile {
    fn new(file: IndexFile) -> Result<Self> {
        let file = Arc::new(file);
        Ok(Self { cursor: RefCell::new(IndexCursor::start(Arc::clone(&file))?), file })
    }
}
