//! A node that hears of no leader asks the members it knows whether it still is one: nobody calls a node that was removed,
//! so it cannot know otherwise. And a member that is at another address than the cluster has on its list says so.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use super::{
    Handle,
    formation::nobody,
    types::{Membership, Node},
};
use crate::peer::{Id, PeerError, PeerResult, wire};

/// A member that does not answer for so long does not count.
const PATIENCE: Duration = Duration::from_secs(1);

impl Handle {
    /// Whether this node is known to be no member any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Finds out whether this node was removed, if it hears of no leader. A leader that calls proves the contrary.
    ///
    /// One voter may be behind and not have heard of this node yet. A majority of the other voters cannot, for a majority had to
    /// have this node on the list before it became a member. Learners do not count: all of them may be behind.
    pub(crate) async fn look_whether_removed(&self) {
        if self.leader().is_some() {
            if self.removed.swap(false, Ordering::Relaxed) {
                tracing::info!("this node is a member again");
            }
            return;
        }
        let membership = self.membership();
        let membership = membership.membership();
        let me = self.shared.node_id();
        let others = other_voters(membership, me);
        if others.is_empty() || self.is_removed() {
            return;
        }
        let asked = others.iter().map(|node| self.is_on_the_list_of(node));
        let answers = futures_util::future::join_all(asked).await;
        let without = answers.iter().filter(|answer| **answer == Some(false)).count();
        if without > others.len() / 2 && !self.removed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                node = me,
                "this node was removed from its cluster: it answers stale reads only. Stop it; to be a member again, start it \
                 with an empty directory"
            );
        }
    }

    /// Whether a member has this very instance on its list of members; `None`: it does not say.
    async fn is_on_the_list_of(&self, node: &Node) -> Option<bool> {
        let request = wire::HelloRequest {
            cluster: self.shared.cluster.to_vec().into(),
            ..wire::HelloRequest::default()
        };
        let hello = self.shared.stranger(&self.shared.address_of(node)).hello(request);
        let reply = tokio::time::timeout(PATIENCE, hello).await.ok()?.ok()?;
        let is_meant = reply.me.is_some_and(|me| *me.instance == node.instance);
        if !is_meant || *reply.cluster != self.shared.cluster {
            return None;
        }
        let members = reply.membership?.members;
        // Who has not got any of the log knows of no members.
        let knows = members.iter().any(|member| *member.instance == node.instance);
        knows.then(|| members.iter().any(|member| *member.instance == self.shared.me.instance))
    }

    /// Tells the cluster where this node is now, if it is elsewhere than the list of members says.
    pub(crate) async fn tell_of_a_move(&self) {
        let membership = self.membership();
        let membership = membership.membership();
        let me = self.shared.member();
        let is_elsewhere =
            |node: &Node| node.peer_address != me.peer_address || node.http_address != me.http_address;
        if !membership.get_node(&self.shared.node_id()).is_some_and(is_elsewhere) {
            return;
        }
        for address in self.addresses_of_others(membership) {
            let voter = membership.get_node(&self.shared.node_id()).is_some_and(|node| node.voter);
            let member = Some(wire::Member { voter, ..me.clone() });
            let cluster_name = self.shared.config.cluster_name.clone();
            let add = wire::AddMember { member, cluster_name };
            let change = Some(wire::change_members_request::Change::Add(add));
            let request = wire::ChangeMembersRequest { group: super::GROUP, change };
            let caller = nobody(self.shared.node_id(), self.shared.me.instance);
            let call = self.shared.stranger(&address).change_members(caller, request);
            let Ok(Ok(reply)) = tokio::time::timeout(PATIENCE, call).await else { continue };
            if *reply.cluster == self.shared.cluster && reply.node == self.shared.node_id() {
                return;
            }
            if !reply.refused.is_empty() {
                let (address, why) = (&me.peer_address, reply.refused);
                tracing::info!(address, why, "the cluster does not take over this node's new address yet");
            }
        }
    }

    /// A leader says how far this node has acknowledged entries to it. If they are not there, and nobody led in a later term to
    /// cut them off, the data is an old copy: to go on would be to vote them away.
    pub(crate) fn check_log_has_not_gone_back(&self, request: &wire::AppendRequest) -> PeerResult<()> {
        let (Some(vote), Some(acknowledged)) = (&request.vote, &request.acknowledged) else { return Ok(()) };
        let is_there = || {
            let last = self.shared.replica.last();
            (acknowledged.term, acknowledged.index) <= (last.term, last.index)
        };
        let is_later = || super::reads::own_vote(self).is_some_and(|own| own.leader_id.term > vote.term);
        // Before a snapshot is put in place, the library may cut off all that is not committed. Looked at again, because it may
        // just have been put in place.
        if is_there() || is_later() || self.arrivals.is_installing() || is_there() {
            return Ok(());
        }
        let last = self.shared.replica.last();
        let why = format!(
            "this node has acknowledged entry {} and has only {}: its data is an old copy. Start it with an empty directory",
            acknowledged.index, last.index
        );
        tracing::error!("{why}");
        self.shared.replica.log().poison_with(&esker_engine::Error::InvalidRequest(why.clone()));
        Err(PeerError::Failed(why))
    }

    fn addresses_of_others(&self, membership: &Membership) -> BTreeSet<String> {
        let me: &Id = &self.shared.me.instance;
        let others = membership.nodes().filter(|(_, node)| node.instance != *me);
        others.map(|(_, node)| self.shared.address_of(node)).collect()
    }
}

fn other_voters(membership: &Membership, me: u64) -> Vec<&Node> {
    let voters: BTreeSet<u64> = membership.voter_ids().filter(|id| *id != me).collect();
    membership.nodes().filter(|(id, _)| voters.contains(id)).map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Three learners that are behind would outvote the only voter.
    #[test]
    fn learners_are_not_asked_who_was_removed() {
        let node = |id: u8| Node { instance: [id; 16], ..Node::default() };
        let nodes: BTreeMap<u64, Node> = (1..=5).map(|id| (u64::from(id), node(id))).collect();
        let learner = Membership::new(vec![BTreeSet::from([1])], nodes.clone()).unwrap();
        assert_eq!(other_voters(&learner, 5), [&node(1)]);
        let voter = Membership::new(vec![BTreeSet::from([1, 2, 5])], nodes).unwrap();
        assert_eq!(other_voters(&voter, 5), [&node(1), &node(2)]);
    }
}
