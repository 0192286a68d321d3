//! Linearizable reads by ReadIndex (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 6.4): the leader
//! confirms by one round of questions that it still leads, and the reader waits until its own node has applied what was
//! committed by then. All readers that come while a round is under way share the next one. Any node may read: a follower
//! asks the leader for the index only.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use esker_engine::Version;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    GROUP, Handle,
    node::Leadership,
    planted::{Bug, is_planted},
    types::{Membership, Node, Vote, decode_vote, group_end, vote_to_wire},
};
use crate::{Error, Result, peer::wire};

/// The pause before a round that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// When a reader may come back to a node that lags; another node may answer at once.
const LAGGING_RETRY: Duration = Duration::from_millis(500);

type Waiter = oneshot::Sender<Result<Version>>;

/// See the module.
pub(crate) struct Reads {
    queue: mpsc::UnboundedSender<Waiter>,
    applied: watch::Receiver<Version>,
    patience: Duration,
}

impl Reads {
    /// With the other end, on which [`run`] answers. A reader waits no longer than `patience` for this node to catch up.
    pub(crate) fn new(
        applied: watch::Receiver<Version>,
        patience: Duration,
    ) -> (Self, mpsc::UnboundedReceiver<Waiter>) {
        let (queue, waiters) = mpsc::unbounded_channel();
        (Self { queue, applied, patience }, waiters)
    }

    /// Waits until this node has applied every write acknowledged before the call; says up to where.
    pub(crate) async fn read_point(&self) -> Result<Version> {
        let (tell, told) = oneshot::channel();
        self.queue.send(tell).map_err(|_| stopped())?;
        let index = told.await.map_err(|_| stopped())??;
        self.wait_applied(index).await?;
        Ok(index)
    }

    /// Waits until this node has applied `index`. One that cannot, because its disk is full, say, sends readers away.
    async fn wait_applied(&self, index: Version) -> Result<()> {
        let mut applied = self.applied.clone();
        let caught_up = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(self.patience, caught_up).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(Error::Engine(esker_engine::Error::Busy { retry_after: LAGGING_RETRY })),
        }
    }

    /// What this node has applied, as it goes on.
    pub(crate) fn applied_versions(&self) -> watch::Receiver<Version> {
        self.applied.clone()
    }

    /// What this node has applied.
    pub(crate) fn applied(&self) -> Version {
        *self.applied.borrow()
    }
}

fn stopped() -> Error {
    Error::Engine(esker_engine::Error::Closed)
}

/// The life of the task: one round after another, each for all that wait.
pub(crate) async fn run(handle: Arc<Handle>, mut waiters: mpsc::UnboundedReceiver<Waiter>) {
    let mut round = Vec::new();
    while waiters.recv_many(&mut round, usize::MAX).await > 0 {
        let outcome = tokio::time::timeout(handle.shared.config.leader_patience, ask(&handle)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(handle.no_leader()));
        for waiter in round.drain(..) {
            // Whoever asked may have gone away.
            let _gone = waiter.send(outcome.clone()).is_err();
        }
    }
}

/// Asks until somebody knows. The caller bounds the time.
async fn ask(handle: &Arc<Handle>) -> Result<Version> {
    loop {
        if handle.is_removed() {
            return Err(Error::Removed);
        }
        match handle.leadership() {
            Leadership::Mine => {
                if let Some(index) = confirm(handle).await {
                    return Ok(index);
                }
            }
            Leadership::Other { id, node } => {
                let peer = handle.shared.connect(id, &node);
                let request = wire::ReadIndexRequest { group: GROUP, confirm: None };
                let reply = peer.read_index(handle.shared.caller(id), request).await;
                if let Some(reply) = reply.ok().filter(|reply| reply.index > 0) {
                    return Ok(reply.index);
                }
            }
            Leadership::Unknown => {}
        }
        handle.leadership_changed(RETRY_PAUSE).await;
    }
}

/// On the leader: the index that a read must see, once it is certain that this node still led when it was asked. `None`: it
/// is not, or not yet.
///
/// The library has such a round of its own, but it credits a follower's answer to a request with the time of a later one, if
/// both end at the same entry. A leader that stood still, and then finds an old answer waiting, takes it for a fresh one and
/// reads what is stale. (Found by `esker/tests/processes.rs` with SIGSTOP.) So the followers are asked for their votes here:
/// whoever leads in a later term has the vote of one in any majority, given before.
pub(crate) async fn confirm(handle: &Handle) -> Option<Version> {
    if is_planted(Bug::ReadWithoutIndex) {
        return Some(handle.reads.applied());
    }
    let (me, vote) = (handle.shared.node_id(), own_vote(handle)?);
    if !vote.committed || vote.leader_id.voted_for != me {
        return None;
    }
    // Followers may have applied, and read, all that is committed, also what this leader has not applied itself, because its
    // disk is slow. Only with an entry of its own term a leader knows what its predecessors have committed.
    let committed = handle.raft.with_raft_state(|state| group_end(state.cluster_committed())).await.ok()?;
    if committed.term != vote.leader_id.term {
        return None;
    }
    // What was acknowledged before it was committed (`ack=local`).
    let promised = *handle.promised.lock();
    let membership = handle.membership();
    let mut asked: FuturesUnordered<_> = membership
        .membership()
        .nodes()
        .filter(|(id, _)| **id != me)
        .map(|(id, node)| ask_for_vote(handle, *id, node, &vote))
        .collect();
    let mut confirmed = BTreeSet::from([me]);
    while !is_majority(membership.membership(), &confirmed) {
        confirmed.extend(asked.next().await?);
    }
    // It may itself have voted for another meanwhile.
    let promised = if promised.term == committed.term { promised.index } else { 0 };
    (own_vote(handle)? == vote).then_some(committed.index.max(promised))
}

pub(crate) fn own_vote(handle: &Handle) -> Option<Vote> {
    handle.shared.replica.vote().and_then(|bytes| decode_vote(&bytes).ok())
}

/// The node, if it has not given a vote in a later term.
async fn ask_for_vote(handle: &Handle, id: u64, node: &Node, vote: &Vote) -> Option<u64> {
    let peer = handle.shared.connect(id, node);
    let request = wire::ReadIndexRequest { group: GROUP, confirm: Some(vote_to_wire(vote)) };
    let reply = peer.read_index(handle.shared.caller(id), request).await.ok()?;
    reply.vote.filter(|theirs| theirs.term <= vote.leader_id.term).map(|_| id)
}

/// Whether the nodes are a majority, of each set of voters while a change of the membership is under way.
fn is_majority(membership: &Membership, nodes: &BTreeSet<u64>) -> bool {
    let sets = membership.get_joint_config();
    !sets.is_empty() && sets.iter().all(|voters| voters.intersection(nodes).count() > voters.len() / 2)
}
