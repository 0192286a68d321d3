//! How many bytes of each segment live: what merging chooses by.

use std::collections::{BTreeSet, VecDeque};

use esker_log::SegmentId;

use super::keydir::{Slot, Tree};
use esker_log::record::record_len;

/// Where the numbers of merged segments begin.
const MERGED_FROM: SegmentId = 1 << 31;

/// Live bytes of the segments, those of whole records. A sum has no record and so no bytes.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    log: Row,
    merged: Row,
    total: u64,
    /// How many keys expire some time.
    expiring: u64,
    /// Log segments with adds: sums that no merge has made records of may be theirs.
    with_adds: BTreeSet<SegmentId>,
}

/// Live bytes of segments with numbers close to one another.
#[derive(Debug, Default)]
struct Row {
    first: SegmentId,
    bytes: VecDeque<u64>,
}

impl Row {
    fn at(&mut self, segment: SegmentId) -> &mut u64 {
        if self.bytes.is_empty() {
            self.first = segment;
        }
        while segment < self.first {
            self.bytes.push_front(0);
            self.first -= 1;
        }
        let at = (segment - self.first) as usize;
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, 0);
        }
        &mut self.bytes[at]
    }

    fn get(&self, segment: SegmentId) -> u64 {
        let at = segment.checked_sub(self.first);
        at.and_then(|at| self.bytes.get(at as usize)).copied().unwrap_or(0)
    }

    fn forget_before(&mut self, first: SegmentId) {
        while self.first < first && self.bytes.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Liveness {
    /// What lives in a tree.
    pub(crate) fn of(tree: &Tree<Slot>) -> Self {
        let mut all = Self::default();
        tree.iter().for_each(|(key, slot)| all.add(key.len(), slot));
        all
    }

    fn row(&mut self, segment: SegmentId) -> &mut Row {
        if segment < MERGED_FROM { &mut self.log } else { &mut self.merged }
    }

    /// A record came to live.
    pub(crate) fn add(&mut self, key_len: usize, slot: Slot) {
        self.expiring += u64::from(slot.expiry().is_some());
        if slot.as_sum().is_none() {
            let bytes = record_len(key_len, slot.value_len() as usize) as u64;
            *self.row(slot.segment()).at(slot.segment()) += bytes;
            self.total += bytes;
        }
    }

    /// A record died.
    pub(crate) fn remove(&mut self, key_len: usize, slot: Slot) {
        self.expiring -= u64::from(slot.expiry().is_some());
        if slot.as_sum().is_none() {
            let bytes = record_len(key_len, slot.value_len() as usize) as u64;
            *self.row(slot.segment()).at(slot.segment()) -= bytes;
            self.total -= bytes;
        }
    }

    /// An add in this segment came to a sum.
    pub(crate) fn note_sum(&mut self, segment: SegmentId) {
        self.with_adds.insert(segment);
    }

    /// Whether sums that live may come of this segment: it is not all dead then, whatever else is in it.
    pub(crate) fn may_have_sums(&self, segment: SegmentId) -> bool {
        self.with_adds.contains(&segment)
    }

    /// Counts something else in: both count disjoint records.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.with_adds.extend(&other.with_adds);
        for (row, of) in [(&other.log, &mut self.log), (&other.merged, &mut self.merged)] {
            for (segment, bytes) in (row.first..).zip(&row.bytes) {
                *of.at(segment) += bytes;
            }
        }
        self.total += other.total;
        self.expiring += other.expiring;
    }

    /// Counts something out that was counted in.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (row, of) in [(&other.log, &mut self.log), (&other.merged, &mut self.merged)] {
            for (segment, bytes) in (row.first..).zip(&row.bytes) {
                *of.at(segment) -= bytes;
            }
        }
        self.total -= other.total;
        self.expiring -= other.expiring;
    }

    /// What lives in a segment, in bytes.
    pub(crate) fn of_segment(&self, segment: SegmentId) -> u64 {
        if segment < MERGED_FROM { self.log.get(segment) } else { self.merged.get(segment) }
    }

    /// What lives in all of them, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Whether there is a key that expires some time.
    pub(crate) fn has_expiring(&self) -> bool {
        self.expiring > 0
    }

    /// Gives up the room of segments that are gone: those before the first that is there, of both kinds.
    pub(crate) fn forget_before(&mut self, first_log: SegmentId, first_merged: SegmentId) {
        self.with_adds = self.with_adds.split_off(&first_log);
        self.log.forget_before(first_log);
        self.merged.forget_before(first_merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_and_go_by_segment() {
        let mut live = Liveness::default();
        let slots = [Slot::new(7, 64, 10, 1), Slot::new(3, 64, 20, 2), Slot::new(MERGED_FROM + 1, 64, 30, 3)];
        slots.iter().for_each(|slot| live.add(4, *slot));
        live.add(4, Slot::sum(1, 4));
        assert_eq!([7, 3, MERGED_FROM + 1, 5, 99].map(|id| live.of_segment(id)), [26, 36, 46, 0, 0]);
        assert_eq!(live.total(), 26 + 36 + 46);
        live.remove(4, slots[1]);
        assert!(!live.has_expiring());
        live.add(4, Slot::sum(1, 5).expiring(Some(1)));
        assert!(live.has_expiring());
        live.remove(4, Slot::sum(1, 5).expiring(Some(1)));
        assert!(!live.has_expiring());
        [3, 7].into_iter().for_each(|id| live.note_sum(id));
        assert_eq!([3, 5, 7].map(|id| live.may_have_sums(id)), [true, false, true]);
        live.forget_before(7, MERGED_FROM);
        assert_eq!([3, 5, 7].map(|id| live.may_have_sums(id)), [false, false, true]);
        assert_eq!((live.of_segment(3), live.of_segment(7), live.total()), (0, 26, 26 + 46));
        let mut more = Liveness::default();
        more.add(4, slots[1]);
        live.extend(&more);
        assert_eq!((live.of_segment(3), live.total()), (36, 26 + 46 + 36));
        live.subtract(&more);
        assert_eq!((live.of_segment(3), live.total()), (0, 26 + 46));
    }
}
