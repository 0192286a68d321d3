//! What a user may do: prefixes of keys that may be read and written, and what is beside the keys.
//!
//! A right to a prefix covers every key that begins with it and every range within it. A range is covered by one prefix or
//! not at all: that two rights happen to meet without a gap is not looked for.

use std::ops::Bound;

use esker_engine::KeyRange;

/// What one may do to keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Read,
    Write,
}

impl Right {
    /// The word for it in a sentence.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a user may do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    read: Prefixes,
    write: Prefixes,
    /// Everything, whatever else is said.
    admin: bool,
    metrics: bool,
}

impl Rights {
    /// The rights to these prefixes, each with whether it may be read and written.
    pub(crate) fn new(
        rules: impl IntoIterator<Item = (Vec<u8>, bool, bool)>,
        admin: bool,
        metrics: bool,
    ) -> Self {
        let rules: Vec<_> = rules.into_iter().collect();
        let read = rules.iter().filter(|(_, read, _)| *read).map(|(prefix, ..)| prefix.clone());
        let write = rules.iter().filter(|(.., write)| *write).map(|(prefix, ..)| prefix.clone());
        Self { read: Prefixes::new(read.collect()), write: Prefixes::new(write.collect()), admin, metrics }
    }

    /// The right to everything.
    pub(crate) fn all() -> Self {
        Self { admin: true, ..Self::default() }
    }

    fn prefixes(&self, right: Right) -> &Prefixes {
        match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
        }
    }

    /// Whether the right covers a key.
    pub(crate) fn cover_key(&self, right: Right, key: &[u8]) -> bool {
        self.admin || self.prefixes(right).prefix_of(key).is_some()
    }

    /// Whether the right covers all of a range.
    pub(crate) fn cover(&self, right: Right, range: &KeyRange) -> bool {
        self.admin || self.prefixes(right).cover(range)
    }

    /// The parts of a range that the right covers, in key order.
    pub(crate) fn parts(&self, right: Right, range: &KeyRange) -> Vec<KeyRange> {
        match self.admin {
            true => vec![range.clone()],
            false => self.prefixes(right).parts(range),
        }
    }

    /// Whether the node and its cluster may be looked after.
    pub(crate) fn admin(&self) -> bool {
        self.admin
    }

    /// Whether what is counted may be read.
    pub(crate) fn metrics(&self) -> bool {
        self.admin || self.metrics
    }

    /// Each prefix with whether it may be read and written, in key order.
    pub(crate) fn rules(&self) -> Vec<(&[u8], bool, bool)> {
        let mut all: Vec<&[u8]> = self.read.0.iter().chain(&self.write.0).map(Vec::as_slice).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
            .map(|prefix| {
                let reads = self.cover_key(Right::Read, prefix);
                (prefix, reads, self.cover_key(Right::Write, prefix))
            })
            .collect()
    }
}

/// Prefixes in key order, none of which begins with another: one that does adds nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Prefixes(Vec<Vec<u8>>);

impl Prefixes {
    fn new(mut all: Vec<Vec<u8>>) -> Self {
        all.sort_unstable();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for prefix in all {
            // What begins with a kept one follows it directly.
            if kept.last().is_none_or(|last| !prefix.starts_with(last)) {
                kept.push(prefix);
            }
        }
        Self(kept)
    }

    /// The prefix that the key begins with. It is the last one that does not lie behind the key: another one between the two
    /// would begin with it.
    fn prefix_of(&self, key: &[u8]) -> Option<&[u8]> {
        let behind = self.0.partition_point(|prefix| prefix.as_slice() <= key);
        let candidate = self.0[..behind].last()?;
        key.starts_with(candidate).then_some(candidate)
    }

    fn cover(&self, range: &KeyRange) -> bool {
        let start = match &range.start {
            Bound::Included(start) | Bound::Excluded(start) => start.as_slice(),
            Bound::Unbounded => &[],
        };
        self.prefix_of(start).is_some_and(|prefix| match (&range.end, KeyRange::prefix(prefix).end) {
            (_, Bound::Unbounded) => true,
            (Bound::Included(end), Bound::Excluded(behind)) => *end < behind,
            (Bound::Excluded(end), Bound::Excluded(behind)) => *end <= behind,
            (Bound::Unbounded, _) | (_, Bound::Included(_)) => false,
        })
    }

    fn parts(&self, range: &KeyRange) -> Vec<KeyRange> {
        let parts = self.0.iter().map(|prefix| intersection(range, KeyRange::prefix(prefix.as_slice())));
        parts.filter(|part| !part.is_empty()).collect()
    }
}

/// What two ranges have in common, of which the second is that of a prefix.
fn intersection(range: &KeyRange, prefix: KeyRange) -> KeyRange {
    let start = match (&range.start, prefix.start) {
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b)) if *a >= b => range.start.clone(),
        (_, start) => start,
    };
    let end = match (&range.end, prefix.end) {
        (Bound::Included(a), Bound::Excluded(b)) if *a < b => range.end.clone(),
        (Bound::Excluded(a), Bound::Excluded(b)) if *a <= b => range.end.clone(),
        (Bound::Included(_) | Bound::Excluded(_), Bound::Unbounded) => range.end.clone(),
        (_, end) => end,
    };
    KeyRange { start, end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader(prefixes: &[&[u8]]) -> Rights {
        Rights::new(prefixes.iter().map(|prefix| (prefix.to_vec(), true, false)), false, false)
    }

    #[test]
    fn a_prefix_covers_its_keys_and_the_ranges_within() {
        let rights = reader(&[b"a/", b"b/x", b"b/", b"\xff"]);
        for (key, covered) in [
            (&b"a/"[..], true),
            (b"a/1", true),
            (b"a", false),
            (b"a0", false),
            (b"b/", true),
            (b"b/y", true),
            (b"", false),
            (b"\xff\xff", true),
        ] {
            assert_eq!(rights.cover_key(Right::Read, key), covered, "{}", key.escape_ascii());
            assert!(!rights.cover_key(Right::Write, key));
        }
        let open_behind = KeyRange { start: Bound::Included(b"\xff0".to_vec()), end: Bound::Unbounded };
        for (range, covered) in [
            (KeyRange::prefix(*b"a/"), true),
            (KeyRange::prefix(*b"a/b"), true),
            (KeyRange::prefix(*b"a"), false),
            (KeyRange::all(), false),
            (KeyRange::inclusive(*b"a/1", *b"a/9"), true),
            (KeyRange::inclusive(*b"a/1", *b"a0"), false),
            (KeyRange::inclusive(*b"a/1", *b"b/1"), false),
            (open_behind, true),
        ] {
            assert_eq!(rights.cover(Right::Read, &range), covered, "{range:?}");
        }
        assert!(reader(&[b""]).cover(Right::Read, &KeyRange::all()));
        assert!(Rights::all().cover(Right::Write, &KeyRange::all()));
    }

    proptest! {
        /// Against the plain meaning, over keys of few letters so that they collide.
        #[test]
        fn rights_mean_what_they_say(
            prefixes in prop::collection::vec(prop::collection::vec(0xfd_u8..=0xff, 0..3), 0..5),
            start in prop::collection::vec(0xfd_u8..=0xff, 0..4),
            end in prop::collection::vec(0xfd_u8..=0xff, 0..4),
            key in prop::collection::vec(0xfd_u8..=0xff, 1..5),
        ) {
            let rights = Rights::new(prefixes.iter().map(|p| (p.clone(), true, false)), false, false);
            let covered = prefixes.iter().any(|prefix| key.starts_with(prefix));
            prop_assert_eq!(rights.cover_key(Right::Read, &key), covered);
            let range = KeyRange::inclusive(start, end);
            let parts = rights.parts(Right::Read, &range);
            let within = parts.iter().filter(|part| part.contains(&key)).count();
            prop_assert_eq!(within, usize::from(covered && range.contains(&key)));
            if rights.cover(Right::Read, &range) && range.contains(&key) {
                prop_assert!(covered);
            }
        }
    }
}
