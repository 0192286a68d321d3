//! The numbers that members are given: none twice, whoever leads, whatever was wiped or removed meanwhile.
//!
//! A newcomer gets the number behind the highest ever given. That is known from the membership alone, which every leader
//! has: each member stands for its own number, and for those that it remembers (`Node::numbers_given`). When the member
//! leaves that stands for the highest, the same change has another remember it.

use std::collections::BTreeSet;

use openraft::ChangeMembers;

use super::types::{Membership, Node};

/// The highest number ever given to a member.
pub(super) fn highest_given(membership: &Membership) -> u64 {
    membership.nodes().map(stands_for).max().unwrap_or_default()
}

/// `change`, after which the members `gone` are none any more; with it, one that stays remembers the highest number if
/// only they do.
pub(super) fn remembering(
    membership: &Membership,
    gone: &BTreeSet<u64>,
    change: ChangeMembers<u64, Node>,
) -> ChangeMembers<u64, Node> {
    let highest = highest_given(membership);
    let staying: Vec<_> = membership.nodes().filter(|(id, _)| !gone.contains(id)).collect();
    if staying.iter().any(|member| stands_for(*member) == highest) {
        return change;
    }
    let Some((id, node)) = staying.first() else { return change };
    let node = Node { numbers_given: highest, ..Node::clone(node) };
    ChangeMembers::Batch(vec![ChangeMembers::SetNodes([(**id, node)].into()), change])
}

fn stands_for((id, node): (&u64, &Node)) -> u64 {
    node.numbers_given.max(*id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn membership(members: &[(u64, u64)]) -> Membership {
        let node = |numbers_given| Node {
            instance: [0; 16],
            peer_address: String::new(),
            http_address: String::new(),
            voter: true,
            numbers_given,
        };
        let nodes: BTreeMap<_, _> = members.iter().map(|(id, given)| (*id, node(*given))).collect();
        Membership::new(vec![nodes.keys().copied().collect()], nodes).unwrap()
    }

    fn removal(members: &[(u64, u64)], gone: u64) -> ChangeMembers<u64, Node> {
        let gone = BTreeSet::from([gone]);
        remembering(&membership(members), &gone, ChangeMembers::RemoveVoters(gone.clone()))
    }

    #[test]
    fn who_leaves_with_the_highest_number_leaves_it_to_one_who_stays() {
        let ChangeMembers::Batch(changes) = removal(&[(1, 0), (2, 0), (4, 0)], 4) else {
            panic!("nobody remembers the number 4")
        };
        let [ChangeMembers::SetNodes(set), ChangeMembers::RemoveVoters(removed)] = &*changes else {
            panic!("{changes:?}")
        };
        assert_eq!(set[&1].numbers_given, 4);
        assert_eq!(*removed, BTreeSet::from([4]));
        assert_eq!(highest_given(&membership(&[(1, set[&1].numbers_given), (2, 0)])), 4);
    }

    #[test]
    fn a_number_is_left_by_who_only_remembers_it_too() {
        assert!(matches!(removal(&[(1, 7), (2, 0)], 1), ChangeMembers::Batch(_)));
    }

    #[test]
    fn nothing_is_added_to_a_change_that_loses_no_number() {
        assert!(matches!(removal(&[(1, 0), (2, 0), (4, 0)], 2), ChangeMembers::RemoveVoters(_)));
        assert!(matches!(removal(&[(1, 7), (2, 0), (7, 0)], 7), ChangeMembers::RemoveVoters(_)));
    }
}
