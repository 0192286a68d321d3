//! What a watcher is told: changes, and which of them concern it.

use std::ops::Bound;

use esker_log::{
    Result,
    record::{Record, RecordKind},
};

use crate::{
    KeyRange, Value, Version,
    judge::{Sum, deleted_range},
    stored::Stored,
};

/// One change that a committed batch made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The batch's version: all changes of one batch have one.
    pub version: Version,
    /// Whether it is the last one of its version that the watcher is told: whoever goes on behind this version misses and repeats
    /// nothing.
    pub is_last: bool,
    /// What changed.
    pub kind: ChangeKind,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// A key has another value, by a put or an add.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value; `None` for who watches keys only.
        value: Option<Value>,
        /// From when on the key is absent, in milliseconds since 1970; `None`: it stays. That it expires is no change of its own.
        expiry: Option<u64>,
    },
    /// A key was deleted, whether or not it was there.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// All keys of a range were deleted, as far as the watcher watches them.
    DeleteRange(KeyRange),
}

impl Change {
    /// What it counts for, in bytes.
    pub fn bytes(&self) -> usize {
        /// What there is beside keys and values.
        const FIXED: usize = 64;
        FIXED
            + match &self.kind {
                ChangeKind::Put { key, value, .. } => {
                    key.len() + value.as_ref().map_or(0, |value| value.len())
                }
                ChangeKind::Delete { key } => key.len(),
                ChangeKind::DeleteRange(range) => end_len(&range.start) + end_len(&range.end),
            }
    }
}

fn end_len(end: &Bound<Vec<u8>>) -> usize {
    match end {
        Bound::Included(key) | Bound::Excluded(key) => key.len(),
        Bound::Unbounded => 0,
    }
}

/// Which changes a watcher is told.
#[derive(Debug, Clone)]
pub struct ChangeFilter {
    prefix: Vec<u8>,
    /// All keys that begin so.
    range: KeyRange,
    keys_only: bool,
}

impl ChangeFilter {
    /// Those of keys that begin with `prefix`; with `keys_only` without values.
    pub fn new(prefix: impl Into<Vec<u8>>, keys_only: bool) -> Self {
        let prefix = prefix.into();
        Self { range: KeyRange::prefix(prefix.clone()), prefix, keys_only }
    }

    /// Whether the record changes something that is watched.
    pub(super) fn shows(&self, record: &Record<'_>) -> bool {
        match record.kind {
            RecordKind::Put | RecordKind::Delete | RecordKind::Add => record.key.starts_with(&self.prefix),
            RecordKind::DeleteRange => !self.clip(deleted_range(record)).is_empty(),
            RecordKind::Request | RecordKind::Condition | RecordKind::Stamp => false,
        }
    }

    /// What of a range is watched. Ends beyond the prefix are nobody's business here.
    fn clip(&self, range: KeyRange) -> KeyRange {
        range.intersection(&self.range)
    }

    /// What the record, which is shown, changed; an add came to `sum`.
    ///
    /// Errors: `InvalidRequest` if a value cannot be decompressed.
    pub(super) fn change(&self, record: &Record<'_>, sum: Option<Sum>) -> Result<ChangeKind> {
        let key = || record.key.to_vec();
        Ok(match (record.kind, sum) {
            (RecordKind::Put, _) => {
                let stored = Stored::new(record.flags, record.value)?;
                let value = || stored.value().map(|value| Value::from(value.into_owned()));
                let value = if self.keys_only { None } else { Some(value()?) };
                ChangeKind::Put { key: key(), value, expiry: stored.expiry }
            }
            (RecordKind::Add, Some(sum)) => {
                let value = (!self.keys_only).then(|| Value::from(sum.value.to_string().into_bytes()));
                ChangeKind::Put { key: key(), value, expiry: sum.expiry }
            }
            (RecordKind::DeleteRange, _) => ChangeKind::DeleteRange(self.clip(deleted_range(record))),
            _ => ChangeKind::Delete { key: key() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_range_is_shown_as_far_as_it_is_watched() {
        let range = KeyRange::inclusive(*b"a", *b"bb");
        let clipped = |prefix: &[u8]| ChangeFilter::new(prefix, false).clip(range.clone());
        assert_eq!(
            clipped(b""),
            KeyRange { start: Bound::Included(b"a".to_vec()), end: Bound::Included(b"bb".to_vec()) }
        );
        let expected =
            KeyRange { start: Bound::Included(b"b".to_vec()), end: Bound::Included(b"bb".to_vec()) };
        assert_eq!(clipped(b"b"), expected);
        assert_eq!(clipped(b"a"), KeyRange::prefix(*b"a"));
        assert!(clipped(b"bbb").is_empty() && clipped(b"c").is_empty());
    }
}
