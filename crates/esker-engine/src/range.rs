//! Ranges of keys.

use std::ops::Bound;

/// A range of keys in bytewise order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Vec<u8>>,
    /// Where it ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// `start` to `end`, both of them in the range.
    pub fn inclusive(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { start: Bound::Included(start.into()), end: Bound::Included(end.into()) }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let prefix = prefix.into();
        let end = prefix_end(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { start: Bound::Included(prefix), end }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        let after_start = match &self.start {
            Bound::Included(start) => key >= start.as_slice(),
            Bound::Excluded(start) => key > start.as_slice(),
            Bound::Unbounded => true,
        };
        let before_end = match &self.end {
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
            Bound::Unbounded => true,
        };
        after_start && before_end
    }

    /// The keys that are in both ranges.
    pub fn intersection(self, other: &Self) -> Self {
        Self {
            start: tighter(self.start, other.start.clone(), |left, right| right > left),
            end: tighter(self.end, other.end.clone(), |left, right| right < left),
        }
    }

    /// Whether no key can be in the range: it ends before it begins.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }
}

/// Whichever of two ends leaves fewer keys; `keeps` says whether the second does if they are of different keys.
fn tighter(a: Bound<Vec<u8>>, b: Bound<Vec<u8>>, keeps: fn(&[u8], &[u8]) -> bool) -> Bound<Vec<u8>> {
    match (&a, &b) {
        (Bound::Unbounded, _) => b,
        (_, Bound::Unbounded) => a,
        (Bound::Included(left) | Bound::Excluded(left), Bound::Included(right) | Bound::Excluded(right)) => {
            if left == right {
                if matches!(a, Bound::Excluded(_)) { a } else { b }
            } else if keeps(left, right) {
                b
            } else {
                a
            }
        }
    }
}

/// The first key after all that begin with `prefix`, if there is one.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

/// The first key of a range that is to be deleted, and what the record's value says of its end.
pub(crate) fn encode_deletion(range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    let start = match &range.start {
        Bound::Included(key) if !key.is_empty() => key.clone(),
        // The next key behind one is that with a zero byte more.
        Bound::Excluded(key) => [key.as_slice(), &[0]].concat(),
        // No key is before this one.
        Bound::Included(_) | Bound::Unbounded => vec![0],
    };
    let end = match &range.end {
        Bound::Unbounded => vec![0],
        Bound::Included(key) => [&[1][..], key].concat(),
        Bound::Excluded(key) => [&[2][..], key].concat(),
    };
    (start, end)
}

/// The end of a deleted range, as its record's value says it.
pub(crate) fn decode_deletion_end(value: &[u8]) -> Option<Bound<&[u8]>> {
    match value {
        [0] => Some(Bound::Unbounded),
        [1, key @ ..] => Some(Bound::Included(key)),
        [2, key @ ..] => Some(Bound::Excluded(key)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_they_should() {
        let range = KeyRange::prefix(*b"ab\xff");
        assert!(range.contains(b"ab\xff") && range.contains(b"ab\xff\xff\xff"));
        assert!(!range.contains(b"ab") && !range.contains(b"ac"));
        assert!(KeyRange::prefix(*b"\xff\xff").contains(b"\xff\xff\xff"));
        assert!(KeyRange::prefix(*b"").contains(b"\x00"));
    }

    #[test]
    fn deletions_survive_encoding() {
        let ranges = [
            KeyRange::all(),
            KeyRange::prefix(*b"ab"),
            KeyRange::inclusive(*b"a", *b"a"),
            KeyRange::prefix(*b""),
        ];
        for range in ranges {
            let (start, end) = encode_deletion(&range);
            let again = KeyRange {
                start: Bound::Included(start),
                end: decode_deletion_end(&end).unwrap().map(<[u8]>::to_vec),
            };
            for key in [&b"\0"[..], b"a", b"a\0", b"ab", b"abc", b"ac", b"\xff\xff"] {
                assert_eq!(again.contains(key), range.contains(key), "{range:?} {key:?}");
            }
        }
        assert!(decode_deletion_end(&[]).is_none() && decode_deletion_end(&[3]).is_none());
    }

    #[test]
    fn an_intersection_has_what_both_have() {
        let keys = [&b"\0"[..], b"a", b"a\0", b"ab", b"b", b"bb", b"\xff"];
        let bounds =
            |key: &[u8]| [Bound::Included(key.to_vec()), Bound::Excluded(key.to_vec()), Bound::Unbounded];
        let ends = || keys.iter().take(5).flat_map(|key| bounds(key));
        let ranges: Vec<_> =
            ends().flat_map(|start| ends().map(move |end| KeyRange { start: start.clone(), end })).collect();
        for a in ranges.iter().step_by(3) {
            for b in &ranges {
                let both = a.clone().intersection(b);
                let in_both = |key: &&&[u8]| a.contains(key) && b.contains(key);
                assert!(
                    keys.iter().filter(in_both).eq(keys.iter().filter(|key| both.contains(key))),
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn inverted_ranges_are_empty() {
        assert!(KeyRange::inclusive(*b"b", *b"a").is_empty());
        assert!(!KeyRange::inclusive(*b"a", *b"a").is_empty());
    }
}
