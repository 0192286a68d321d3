//! What a batch touches: for whoever has to know before it is applied.

use std::ops::Bound;

use esker_log::record::{Record, RecordKind};

use crate::{KeyRange, range};

/// A key or a range that a batch depends on, or changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch<'a> {
    /// Whether it is done depends on what this key holds.
    Demands(&'a [u8]),
    /// The key is put or deleted, whatever it holds.
    Writes(&'a [u8]),
    /// What the key holds is added to, and the sum is told.
    Adds(&'a [u8]),
    /// All keys of the range are deleted.
    DeletesRange(KeyRange),
}

impl<'a> Touch<'a> {
    /// What a record touches; `None` for one that is about no key.
    pub(crate) fn of(record: Record<'a>) -> Option<Self> {
        match record.kind {
            RecordKind::Put | RecordKind::Delete => Some(Self::Writes(record.key)),
            RecordKind::Add => Some(Self::Adds(record.key)),
            RecordKind::Condition => Some(Self::Demands(record.key)),
            RecordKind::DeleteRange => {
                let end = range::decode_deletion_end(record.value).expect("the batch encoded it");
                let start = Bound::Included(record.key.to_vec());
                Some(Self::DeletesRange(KeyRange { start, end: end.map(<[u8]>::to_vec) }))
            }
            RecordKind::Request | RecordKind::Stamp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, RequestId, WriteBatch};

    #[test]
    fn a_batch_tells_all_that_it_touches() {
        let mut batch = WriteBatch::new();
        batch.request(RequestId { client: 1, sequence: 2 }).unwrap();
        batch.require(b"c", Condition::Absent).unwrap();
        batch.put(b"p", b"v").unwrap();
        batch.put_expiring(b"e", b"v", 1).unwrap();
        batch.delete(b"d").unwrap();
        batch.add(b"a", 1).unwrap();
        batch.delete_range(&KeyRange::prefix(*b"r/")).unwrap();
        batch.stamp(7);
        let all: Vec<_> = batch.touches().collect();
        assert_eq!(
            all[..5],
            [
                Touch::Demands(b"c"),
                Touch::Writes(b"p"),
                Touch::Writes(b"e"),
                Touch::Writes(b"d"),
                Touch::Adds(b"a"),
            ]
        );
        assert_eq!(all[5..], [Touch::DeletesRange(KeyRange::prefix(*b"r/"))]);
    }
}
