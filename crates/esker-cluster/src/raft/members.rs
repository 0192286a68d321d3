//! Who belongs to the cluster, and changes of that.
//!
//! A newcomer is a learner first. When it has caught up it becomes a voter, if it is to be one, and takes the place of the
//! member that had its address before: a wiped node comes back under a new number, because the old number's votes are not
//! its own. All changes of the voters go through joint consensus, one at a time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::{ChangeMembers, errors::ClientWriteError, errors::RaftError};
use tokio::sync::MutexGuard;

use super::{
    Handle,
    node::Leadership,
    numbering,
    types::{Membership, Node, TypeConfig, member_from_wire},
};
use crate::{
    ClusterView, Error, Member, MemberChange, Result, Role,
    peer::{Caller, PeerError, PeerResult, wire},
};
use wire::change_members_request::Change;

/// A learner that lacks no more than so many entries has caught up.
const CAUGHT_UP: u64 = 1000;
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A member that was not heard of for so long is called unhealthy.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Handle {
    /// Whether the caller belongs to the cluster as it is known here. Who was removed, or wiped, does not.
    pub(crate) fn check_member(&self, caller: &Caller) -> PeerResult<()> {
        let membership = self.membership();
        let membership = membership.membership();
        match membership.get_node(&caller.from.node) {
            Some(node) if node.instance != caller.from.instance => {
                Err(PeerError::WrongIdentity(format!("node {} is another instance", caller.from.node)))
            }
            // Numbers ascend: this one was given, and taken back. A higher one may be a newer member's, of which this node, that is
            // behind, has not heard yet: without its vote there may be no leader to tell it.
            None if caller.from.node <= numbering::highest_given(membership) => {
                Err(PeerError::WrongIdentity(format!("node {} is no member", caller.from.node)))
            }
            _ => Ok(()),
        }
    }

    /// Carries out a change, here or on the leader.
    pub(crate) async fn change_members(self: &Arc<Self>, change: MemberChange) -> Result<u64> {
        let change = self.change_to_wire(change).await?;
        let work = async {
            loop {
                let outcome = match self.leadership() {
                    Leadership::Mine => Some(self.change_here(change.clone()).await?),
                    Leadership::Other { id, node } => {
                        let peer = self.shared.connect(id, &node);
                        let request =
                            wire::ChangeMembersRequest { group: super::GROUP, change: Some(change.clone()) };
                        match peer.change_members(self.shared.caller(id), request).await {
                            Ok(reply) if !reply.refused.is_empty() => {
                                return Err(Error::Refused(reply.refused));
                            }
                            Ok(reply) if reply.leader == 0 => Some(reply.node),
                            _ => None,
                        }
                    }
                    Leadership::Unknown => None,
                };
                match outcome {
                    Some(node) => return Ok(node),
                    None => self.leadership_changed(RETRY_PAUSE).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(self.no_leader()))
    }

    async fn change_to_wire(&self, change: MemberChange) -> Result<Change> {
        Ok(match change {
            MemberChange::Add { peer_address, voter } => {
                let member = self.ask_identity(&peer_address).await?;
                let (member, name) = member;
                let member = Some(wire::Member { peer_address, voter, ..member });
                Change::Add(wire::AddMember { member, cluster_name: name })
            }
            MemberChange::Promote(id) => Change::Promote(id),
            MemberChange::Remove(id) => Change::Remove(id),
            MemberChange::Transfer(to) => Change::TransferTo(to.unwrap_or_default()),
        })
    }

    /// Who listens at an address, and what its cluster is called.
    async fn ask_identity(&self, peer_address: &str) -> Result<(wire::Member, String)> {
        let me = wire::HelloRequest {
            cluster: self.shared.cluster.to_vec().into(),
            ..wire::HelloRequest::default()
        };
        let reply = self.shared.stranger(peer_address).hello(me).await;
        let reply = reply.map_err(|e| Error::Refused(format!("{peer_address}: {e}")))?;
        if !reply.cluster.is_empty() && *reply.cluster != self.shared.cluster {
            return Err(Error::Refused(format!(
                "the node at {peer_address} belongs to another cluster: stop it, empty its directory, and start it with `join`"
            )));
        }
        let nobody = || Error::Refused(format!("the node at {peer_address} does not say who it is"));
        Ok((reply.me.ok_or_else(nobody)?, reply.cluster_name))
    }

    /// Carries out a change that a peer asks for, if this node leads.
    pub(crate) async fn serve_change(
        self: &Arc<Self>,
        request: wire::ChangeMembersRequest,
    ) -> PeerResult<wire::ChangeMembersReply> {
        let change =
            request.change.ok_or_else(|| PeerError::Failed("malformed: no change is named".into()))?;
        let mut reply = wire::ChangeMembersReply {
            cluster: self.shared.cluster.to_vec().into(),
            ..wire::ChangeMembersReply::default()
        };
        match self.leadership() {
            Leadership::Mine => match self.change_here(change).await {
                Ok(node) => reply.node = node,
                Err(e) => reply.refused = e.to_string(),
            },
            Leadership::Other { id, node } => {
                // Who joins knows one address only: it is asked on its behalf.
                let peer = self.shared.connect(id, &node);
                let request = wire::ChangeMembersRequest { group: super::GROUP, change: Some(change) };
                return peer.change_members(self.shared.caller(id), request).await;
            }
            Leadership::Unknown => return Err(PeerError::Unreachable("no leader is known".into())),
        }
        Ok(reply)
    }

    async fn change_here(self: &Arc<Self>, change: Change) -> Result<u64> {
        match change {
            Change::Add(add) => {
                let ours = &self.shared.config.cluster_name;
                if add.cluster_name != *ours {
                    let theirs = add.cluster_name;
                    return Err(Error::Refused(format!("this is the cluster {ours:?}, not {theirs:?}")));
                }
                let member = add.member.ok_or_else(|| Error::Refused("no member is named".into()))?;
                let (_, node) = member_from_wire(member).map_err(|e| Error::Refused(e.into()))?;
                self.add_learner(node).await
            }
            Change::Promote(id) => self.promote(id).await,
            Change::Remove(id) => self.remove(id).await,
            Change::TransferTo(to) => self.transfer((to > 0).then_some(to)).await,
        }
    }

    /// One change at a time; one that an earlier leader left half done is ended first.
    async fn take_turn(&self) -> Result<MutexGuard<'_, ()>> {
        let turn = self.membership_turn.lock().await;
        self.end_joint_change().await?;
        // That may have removed this very leader, which leads until it has learned so.
        let me = self.shared.node_id();
        if !self.membership().voter_ids().any(|id| id == me) {
            return Err(Error::Refused("this leader is leaving: try again".into()));
        }
        Ok(turn)
    }

    /// Two majorities have to agree until a joint change is ended, and the library leaves that to the leader that began it.
    async fn end_joint_change(&self) -> Result<()> {
        let membership = self.membership();
        let [_, .., goal] = membership.membership().get_joint_config().as_slice() else { return Ok(()) };
        tracing::info!(voters = ?goal, "a change of the voters that was begun is ended");
        let gone = membership.voter_ids().filter(|id| !goal.contains(id)).collect();
        let change = ChangeMembers::ReplaceAllVoters(goal.clone());
        let change = numbering::remembering(membership.membership(), &gone, change);
        self.raft.change_membership(change, false).await.map_err(change_error)?;
        Ok(())
    }

    async fn add_learner(self: &Arc<Self>, node: Node) -> Result<u64> {
        let _turn = self.take_turn().await?;
        let membership = self.membership();
        let mut members = membership.membership().nodes();
        if let Some((id, member)) = members.find(|(_, member)| member.instance == node.instance) {
            let is_elsewhere =
                member.peer_address != node.peer_address || member.http_address != node.http_address;
            if is_elsewhere {
                self.check_is_there(&node).await?;
                let (voter, numbers_given) = (member.voter, member.numbers_given);
                self.move_member(*id, Node { voter, numbers_given, ..node }).await?;
            }
            return Ok(*id);
        }
        self.check_is_there(&node).await?;
        let id = numbering::highest_given(membership.membership()) + 1;
        tracing::info!(id, address = node.peer_address, "a node joins");
        let added = self.raft.add_learner(id, Node { numbers_given: 0, ..node }, false).await;
        added.map_err(change_error)?;
        Ok(id)
    }

    /// A member is at another address now. The instance is the same, and every call names it, so nobody else is taken for it.
    async fn move_member(&self, id: u64, node: Node) -> Result<()> {
        tracing::info!(id, address = node.peer_address, "a member has moved");
        let moved = ChangeMembers::SetNodes([(id, node)].into());
        self.raft.change_membership(moved, true).await.map_err(change_error)?;
        Ok(())
    }

    /// A request to be taken in may come late, from a node that was wiped, or has moved, since; and one that moves may have been
    /// given the wrong address. It would be a member that never answers, and might be taken to have another's place.
    async fn check_is_there(&self, node: &Node) -> Result<()> {
        let (found, _) = self.ask_identity(&node.peer_address).await?;
        if *found.instance == node.instance {
            return Ok(());
        }
        Err(Error::Refused(format!("the node at {} is another than the one that asks", node.peer_address)))
    }

    /// On the leader, now and then: ends what an earlier leader began, unless a change is under way.
    pub(crate) async fn tidy_members(&self) {
        let Ok(_turn) = self.membership_turn.try_lock() else { return };
        match self.end_joint_change().await {
            Ok(()) => self.forget_replaced_learners().await,
            Err(e) => tracing::info!(error = %e, "a change of the voters could not be ended yet"),
        }
    }

    /// Removes learners whose place a newer member has. They were wiped before they had a vote. (A voter goes when the newer
    /// one becomes a voter.)
    async fn forget_replaced_learners(&self) {
        let membership = self.membership();
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        let is_replaced = |(id, node): &(&u64, &Node)| {
            !voters.contains(id) && newer_at_its_place(membership.membership(), **id, node).is_some()
        };
        let gone: BTreeSet<_> = membership.nodes().filter(is_replaced).map(|(id, _)| *id).collect();
        if gone.is_empty() {
            return;
        }
        let change = ChangeMembers::RemoveNodes(gone.clone());
        let change = numbering::remembering(membership.membership(), &gone, change);
        if let Err(e) = self.raft.change_membership(change, false).await {
            tracing::info!(error = %e, ?gone, "learners that were replaced could not be removed yet");
        }
    }

    async fn promote(&self, id: u64) -> Result<u64> {
        let _turn = self.take_turn().await?;
        let membership = self.membership();
        let node = membership.membership().get_node(&id).cloned();
        let node = node.ok_or_else(|| Error::Refused(format!("there is no member {id}")))?;
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        if voters.contains(&id) {
            return Ok(id);
        }
        if let Some(newer) = newer_at_its_place(membership.membership(), id, &node) {
            return Err(Error::Refused(format!("member {newer} has taken the place of member {id}")));
        }
        // The voter whose place it takes loses its membership with its vote.
        let had_its_place = |other: &u64| {
            membership.get_node(other).is_some_and(|other| other.peer_address == node.peer_address)
        };
        let replaced: BTreeSet<_> = voters.iter().copied().filter(had_its_place).collect();
        let next: BTreeSet<_> = voters.difference(&replaced).copied().chain([id]).collect();
        tracing::info!(id, ?replaced, "a learner becomes a voter");
        let change = ChangeMembers::ReplaceAllVoters(next);
        let change = numbering::remembering(membership.membership(), &replaced, change);
        self.raft.change_membership(change, false).await.map_err(change_error)?;
        Ok(id)
    }

    async fn remove(&self, id: u64) -> Result<u64> {
        let _turn = self.take_turn().await?;
        let membership = self.membership();
        if membership.membership().get_node(&id).is_none() {
            return Err(Error::Refused(format!("there is no member {id}")));
        }
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        if voters == BTreeSet::from([id]) {
            return Err(Error::Refused("the last voter cannot be removed".into()));
        }
        if id == self.shared.node_id() {
            // It would lead until the others have learned, and then hear from nobody.
            return Err(Error::Refused(format!("node {id} leads: transfer the leadership first")));
        }
        let change = if voters.contains(&id) {
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        };
        let change = numbering::remembering(membership.membership(), &BTreeSet::from([id]), change);
        self.raft.change_membership(change, false).await.map_err(change_error)?;
        tracing::info!(id, "a member was removed");
        Ok(id)
    }

    /// Hands the leadership to a voter, and waits until this node does not lead any more.
    pub(crate) async fn transfer(&self, to: Option<u64>) -> Result<u64> {
        let me = self.shared.node_id();
        let to = match to {
            Some(to) => to,
            None => {
                self.furthest_voter().ok_or_else(|| Error::Refused("no other voter is up to date".into()))?
            }
        };
        if !self.membership().voter_ids().any(|voter| voter == to) {
            return Err(Error::Refused(format!("node {to} is no voter")));
        }
        if to == me {
            return Ok(me);
        }
        self.raft.trigger().transfer_leader(to).await.map_err(|e| Error::Refused(e.to_string()))?;
        let mut metrics = self.raft.server_metrics();
        let led_by = async {
            use openraft::async_runtime::WatchReceiver;
            loop {
                match metrics.borrow_watched().current_leader {
                    Some(leader) if leader != me => return leader,
                    _ => {}
                }
                if metrics.changed().await.is_err() {
                    return me;
                }
            }
        };
        match tokio::time::timeout(self.shared.config.leader_patience, led_by).await {
            Ok(leader) if leader == to => Ok(to),
            Ok(leader) => Err(Error::Refused(format!("node {leader} was faster and leads now"))),
            Err(_) => Err(Error::Refused(format!("node {to} did not take over"))),
        }
    }

    /// The voter beside this one that holds the most.
    fn furthest_voter(&self) -> Option<u64> {
        let metrics = self.metrics();
        let replication = metrics.replication.as_ref()?;
        let me = self.shared.node_id();
        let voters = metrics.membership_config.voter_ids().filter(|id| *id != me);
        let matched = voters.map(|id| (replication.get(&id).cloned().flatten(), id));
        matched.max().map(|(_, id)| id)
    }

    /// On the leader, now and then: learners that are to vote and have caught up become voters.
    pub(crate) async fn promote_who_caught_up(self: &Arc<Self>) {
        let metrics = self.metrics();
        let (Some(replication), Some(last)) = (&metrics.replication, metrics.last_log_index) else { return };
        let membership = Arc::clone(&metrics.membership_config);
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        for (id, node) in membership.membership().nodes() {
            let matched = replication.get(id).cloned().flatten().map_or(0, |id| id.index());
            if node.voter && !voters.contains(id) && matched > 0 && matched + CAUGHT_UP >= last {
                if let Err(e) = self.promote(*id).await {
                    tracing::info!(id, error = %e, "a learner could not become a voter yet");
                }
                return;
            }
        }
    }

    /// The cluster as this node sees it.
    pub(crate) fn view(&self) -> ClusterView {
        let metrics = self.metrics();
        let membership = Arc::clone(&metrics.membership_config);
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        let me = self.shared.node_id();
        let leader = self.leader();
        let members = membership.membership().nodes().map(|(id, node)| {
            let role = match () {
                () if leader == Some(*id) => Role::Leader,
                () if voters.contains(id) => Role::Follower,
                () => Role::Learner,
            };
            let matched = metrics.replication.as_ref().and_then(|replication| replication.get(id));
            let matched = matched.cloned().flatten().map(|id| super::types::index_of(id.index()));
            let heard = metrics.heartbeat.as_ref().and_then(|heartbeat| heartbeat.get(id).cloned().flatten());
            Member {
                id: *id,
                instance: node.instance,
                peer_address: node.peer_address.clone(),
                http_address: node.http_address.clone(),
                role,
                matched: if *id == me { Some(self.shared.replica.last().index) } else { matched },
                silent_for: heard.map(|heard| {
                    use openraft::Instant;
                    heard.elapsed()
                }),
            }
        });
        let members = members.collect();
        let role = match metrics.state {
            _ if self.is_removed() => Role::Removed,
            openraft::ServerState::Leader => Role::Leader,
            openraft::ServerState::Candidate => Role::Candidate,
            openraft::ServerState::Follower => Role::Follower,
            openraft::ServerState::Learner if membership.membership().get_node(&me).is_some() => {
                Role::Learner
            }
            _ => Role::Outside,
        };
        let committed = super::types::group_end(metrics.local_committed.as_ref()).index;
        ClusterView {
            cluster: Some(self.shared.cluster),
            node_id: me,
            role,
            leader,
            term: metrics.current_term,
            committed,
            applied: self.reads.applied(),
            members,
            gossip_ignored: self.shared.book.ignored(),
        }
    }
}

/// The newest of the members that are where `node` is and joined after it, if there is one.
fn newer_at_its_place(membership: &Membership, id: u64, node: &Node) -> Option<u64> {
    let newer = |(other, there): &(&u64, &Node)| **other > id && there.peer_address == node.peer_address;
    membership.nodes().filter(newer).map(|(other, _)| *other).max()
}

fn change_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            Error::Refused("the leader has changed meanwhile: try again".into())
        }
        other => Error::Refused(other.to_string()),
    }
}
