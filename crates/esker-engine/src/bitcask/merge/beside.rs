//! What a merged segment holds beside records that live.

use std::collections::HashMap;

use esker_log::SegmentId;

/// After so many merges it is looked again whether the tombstones of a segment are still needed.
const LOOK_AGAIN_AFTER: u64 = 8;

/// What merged segments hold that is not dead, and that no key leads to.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    segments: HashMap<SegmentId, Held>,
    /// Counts merges.
    merges: u64,
}

/// What one segment holds beside records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Versions before records and headers of frames, in bytes: they would be there again if it were merged.
    overhead: u64,
    /// Tombstones, in bytes: they were needed when the segment was made.
    tombstones: u64,
    /// The merge that made it.
    made_by: u64,
}

impl Held {
    pub(crate) fn new(overhead: u64, tombstones: u64) -> Self {
        Self { overhead, tombstones, made_by: 0 }
    }
}

impl Beside {
    /// What loading found.
    pub(crate) fn loaded(segments: impl IntoIterator<Item = (SegmentId, Held)>) -> Self {
        Self { segments: segments.into_iter().collect(), merges: 0 }
    }

    /// A merge took `inputs` out and made `outputs`.
    pub(crate) fn merged(
        &mut self,
        inputs: &[SegmentId],
        outputs: impl IntoIterator<Item = (SegmentId, Held)>,
    ) {
        self.merges += 1;
        inputs.iter().for_each(|id| {
            self.segments.remove(id);
        });
        let made_by = self.merges;
        self.segments.extend(outputs.into_iter().map(|(id, held)| (id, Held { made_by, ..held })));
    }

    /// What of a segment with so many live bytes is not to be gained by merging it.
    pub(crate) fn needed(&self, segment: SegmentId, live: u64) -> u64 {
        let Some(held) = self.segments.get(&segment) else { return live };
        let is_fresh = self.merges - held.made_by < LOOK_AGAIN_AFTER;
        let tombstones = if is_fresh { held.tombstones } else { 0 };
        if live + tombstones == 0 { 0 } else { live + tombstones + held.overhead }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_are_needed_until_much_was_merged() {
        let mut beside = Beside::loaded([(7, Held::new(10, 0)), (8, Held::new(10, 50))]);
        assert_eq!([7, 8, 9].map(|id| beside.needed(id, 0)), [0, 60, 0]);
        assert_eq!([7, 8, 9].map(|id| beside.needed(id, 100)), [110, 160, 100]);
        for _ in 0..LOOK_AGAIN_AFTER {
            beside.merged(&[7], [(6, Held::new(1, 1))]);
        }
        assert_eq!([6, 7, 8].map(|id| beside.needed(id, 0)), [2, 0, 0]);
        assert_eq!(beside.needed(8, 100), 110);
    }
}
