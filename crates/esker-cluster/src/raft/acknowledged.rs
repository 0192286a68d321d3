//! How far the peers have acknowledged entries to this leader: per peer, whatever connection it was told over. The library
//! opens several, and new ones when the membership changes.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::types::LogId;

/// By the peer's number, which no other node is ever given: the leader's term in which it was told, and the entry.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged(Mutex<BTreeMap<u64, (u64, LogId)>>);

impl Acknowledged {
    /// The peer has told the leader of `term` that it has everything up to `id`.
    pub(crate) fn note(&self, peer: u64, term: u64, id: Option<LogId>) {
        let Some(id) = id else { return };
        let mut all = self.0.lock();
        let told = all.entry(peer).or_insert((term, id));
        if (told.0, told.1) < (term, id) {
            *told = (term, id);
        }
    }

    /// What the peer has told the leader of `term`. What it told an earlier one may have been cut off since.
    pub(crate) fn up_to(&self, peer: u64, term: u64) -> Option<LogId> {
        self.0.lock().get(&peer).filter(|told| told.0 == term).map(|told| told.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{CommittedLeaderId, LogId};

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), index)
    }

    #[test]
    fn the_furthest_counts_and_only_for_the_leader_that_was_told() {
        let acknowledged = Acknowledged::default();
        acknowledged.note(2, 5, Some(id(4, 9)));
        acknowledged.note(2, 5, None);
        acknowledged.note(2, 5, Some(id(4, 7)));
        assert_eq!(acknowledged.up_to(2, 5), Some(id(4, 9)));
        assert_eq!((acknowledged.up_to(3, 5), acknowledged.up_to(2, 6)), (None, None));
        acknowledged.note(2, 6, Some(id(4, 3)));
        acknowledged.note(2, 5, Some(id(5, 10)));
        assert_eq!((acknowledged.up_to(2, 6), acknowledged.up_to(2, 5)), (Some(id(4, 3)), None));
    }
}
