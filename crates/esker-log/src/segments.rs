//! Where segments are found by their number, in an open log and in one that is being opened.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use crate::{
    Error, Log, Opening, Result, SegmentId,
    segment::{Segment, segment_name},
};

/// Finds segments.
pub trait Segments {
    /// An open segment. Errors: `Damage` if there is none of this number.
    fn segment(&self, id: SegmentId) -> Result<Arc<Segment>>;
}

impl Segments for Log {
    fn segment(&self, id: SegmentId) -> Result<Arc<Segment>> {
        Log::segment(self, id)
    }
}

/// The segments of a log that is being opened.
pub struct FoundSegments {
    dir: PathBuf,
    segments: HashMap<SegmentId, Arc<Segment>>,
}

impl FoundSegments {
    /// Those that `opening` has found.
    pub fn of(opening: &Opening) -> Self {
        let all = opening.segments().iter().chain(opening.merged());
        let segments = all.map(|found| (found.segment.id, Arc::clone(&found.segment))).collect();
        Self { dir: opening.dir().to_owned(), segments }
    }
}

impl Segments for FoundSegments {
    fn segment(&self, id: SegmentId) -> Result<Arc<Segment>> {
        let found = self.segments.get(&id).cloned();
        found.ok_or_else(|| Error::damage(self.dir.join(segment_name(id)), 0, "the segment is missing"))
    }
}
