//! How far a watcher is.

use esker_log::Position;

use crate::Version;

/// How far a watcher is: all there is to one between two reads.
#[derive(Debug, Clone)]
pub struct ChangeCursor {
    /// The version that it wants next.
    pub(super) next: Version,
    /// Where that is in the log, if that is known.
    pub(super) place: Option<Position>,
    /// How far it is within the batch of that version.
    pub(super) within: Within,
}

/// How far a watcher is within a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Within {
    /// Where in the payload the next record begins.
    pub(super) at: usize,
    /// How many adds came before it.
    pub(super) sums: usize,
}

impl ChangeCursor {
    /// At a version, which is the first to be shown.
    pub fn at(version: Version) -> Self {
        Self { next: version.max(1), place: None, within: Within::default() }
    }

    /// The version that comes next, or the rest of it.
    pub fn next(&self) -> Version {
        self.next
    }

    /// Whether it stands within a batch of which some was shown.
    pub fn is_within(&self) -> bool {
        self.within.at > 0
    }

    /// Moves behind a version.
    pub(super) fn pass(&mut self, version: Version, place: Option<Position>) {
        (self.next, self.place, self.within) = (version + 1, place, Within::default());
    }
}
