//! Walks over what a caller may read of a range.

use std::collections::VecDeque;

use esker_cluster::{Chunk, Result, ScanOptions};
use esker_engine::KeyRange;

use super::{Door, GuardedScan};

/// A scan over the parts of a range that a caller may read, one after another. Each part is read as it is when the walk comes to
/// it; whoever may read all of the range has one part, and so one instant.
pub(crate) struct Walk<'a> {
    door: &'a Door,
    parts: VecDeque<KeyRange>,
    options: ScanOptions,
    scan: Option<GuardedScan>,
}

impl<'a> Walk<'a> {
    /// `options.limit` holds for each part.
    pub(super) fn new(door: &'a Door, parts: Vec<KeyRange>, options: ScanOptions) -> Self {
        let mut parts = VecDeque::from(parts);
        if options.reverse {
            parts.make_contiguous().reverse();
        }
        Self { door, parts, options, scan: None }
    }

    /// The next items; never an empty chunk.
    pub(crate) async fn next_chunk(&mut self) -> Option<Result<Chunk>> {
        loop {
            if let Some(scan) = &mut self.scan
                && let Some(chunk) = scan.next_chunk().await
            {
                return Some(chunk);
            }
            let part = self.parts.pop_front()?;
            match self.door.scan(&part, self.options) {
                Ok(scan) => self.scan = Some(scan),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
