//! Deleted ranges, as index files hold them: tombstones of many keys at once.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use crate::{KeyRange, Version};

/// A range that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeTombstone {
    /// The first key that it covers.
    pub(crate) start: Vec<u8>,
    /// Where it ends; never excludes all.
    pub(crate) end: Bound<Vec<u8>>,
    /// The version of the delete.
    pub(crate) version: Version,
}

impl RangeTombstone {
    /// The keys that it covers.
    pub(crate) fn range(&self) -> KeyRange {
        KeyRange { start: Bound::Included(self.start.clone()), end: self.end.clone() }
    }

    /// The first key behind it; `None`: there is none.
    fn behind(&self) -> Option<Vec<u8>> {
        match &self.end {
            Bound::Unbounded => None,
            Bound::Excluded(key) => Some(key.clone()),
            Bound::Included(key) => Some([key.as_slice(), &[0]].concat()),
        }
    }
}

/// When something was written: its version, and among those of one version the order in the log. Deletes of ranges may share one.
pub(crate) type Age = (Version, usize);

/// Which deletes cover a key, or rather the newest of them: for each stretch of keys between two ends of ranges, its age.
#[derive(Debug, Default)]
pub(crate) struct Cover {
    /// Where stretches begin, ascending, and the newest delete over each.
    stretches: Vec<(Vec<u8>, Option<Age>)>,
}

impl Cover {
    /// Of deletes, each with its place in the log's order.
    pub(crate) fn new<'a>(ranges: impl IntoIterator<Item = (&'a RangeTombstone, usize)>) -> Self {
        // At each end of a range: which ages begin there, and which end.
        let mut edges: BTreeMap<Vec<u8>, (Vec<Age>, Vec<Age>)> = BTreeMap::new();
        for (range, order) in ranges {
            let age = (range.version, order);
            edges.entry(range.start.clone()).or_default().0.push(age);
            if let Some(behind) = range.behind() {
                edges.entry(behind).or_default().1.push(age);
            }
        }
        // How many of each age are open: deletes of one batch between which nothing was written are of one.
        let mut open: BTreeMap<Age, usize> = BTreeMap::new();
        let stretches = edges
            .into_iter()
            .map(|(start, (begun, ended))| {
                begun.into_iter().for_each(|age| *open.entry(age).or_default() += 1);
                ended.into_iter().for_each(|age| close(&mut open, age));
                (start, open.last_key_value().map(|(age, _)| *age))
            })
            .collect();
        Self { stretches }
    }

    /// Whether nothing is covered.
    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// The newest delete that covers `key`.
    pub(crate) fn over(&self, key: &[u8]) -> Option<Age> {
        let at = self.stretches.partition_point(|(start, _)| start.as_slice() <= key);
        at.checked_sub(1).and_then(|at| self.stretches[at].1)
    }

    /// Whether newer deletes cover all that `range` does.
    pub(crate) fn supersedes(&self, range: &RangeTombstone) -> bool {
        let behind = range.behind();
        let at = self.stretches.partition_point(|(start, _)| start.as_slice() <= range.start.as_slice());
        let Some(first) = at.checked_sub(1) else { return false };
        let is_within = |start: &[u8]| behind.as_ref().is_none_or(|behind| start < behind.as_slice());
        let mut within = self.stretches[first..]
            .iter()
            .enumerate()
            .take_while(|(n, (start, _))| *n == 0 || is_within(start));
        within.all(|(_, (_, age))| age.is_some_and(|(version, _)| version > range.version))
    }
}

/// One delete of this age ends here.
fn close(open: &mut BTreeMap<Age, usize>, age: Age) {
    if let Entry::Occupied(mut count) = open.entry(age) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tombstone(start: u8, end: Bound<u8>, version: Version) -> RangeTombstone {
        RangeTombstone { start: vec![start], end: end.map(|end| vec![end]), version }
    }

    fn any_tombstone() -> impl Strategy<Value = RangeTombstone> {
        (0_u8..20, 0_u8..20, 0..3, 1_u64..6).prop_map(|(start, len, kind, version)| {
            let end = match kind {
                0 => Bound::Unbounded,
                1 => Bound::Included(start + len),
                _ => Bound::Excluded(start + len + 1),
            };
            tombstone(start, end, version)
        })
    }

    proptest! {
        /// Against looking at every range for every key. Ranges between which nothing was written are of one age.
        #[test]
        fn the_newest_over_a_key_is_found(
            all in proptest::collection::vec(any_tombstone(), 0..12),
            of_one_age in 1_usize..4,
        ) {
            let orders = || (0..).map(|at| at / of_one_age);
            let cover = Cover::new(all.iter().zip(orders()));
            for key in (0_u8..45).flat_map(|key| [vec![key], vec![key, 0], vec![key, 7]]) {
                let expected =
                    all.iter().zip(orders()).filter(|(it, _)| it.range().contains(&key)).map(|(it, at)| (it.version, at)).max();
                prop_assert_eq!(cover.over(&key), expected);
            }
            for range in &all {
                let covered = |key: &[u8]| cover.over(key).is_some_and(|(version, _)| version > range.version);
                let mut keys = (0_u8..45).flat_map(|key| [vec![key], vec![key, 0], vec![key, 7]]);
                let expected = keys.all(|key| !range.range().contains(&key) || covered(&key));
                prop_assert_eq!(cover.supersedes(range), expected);
            }
        }
    }
}
