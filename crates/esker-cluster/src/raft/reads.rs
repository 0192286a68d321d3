//! Linearizable reads by ReadIndex (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 6.4): the leader
//! confirms by one round of heartbeats that it still leads, and the reader waits until its own node has applied what was
//! committed by then. All readers that come while a round is under way share the next one. Any node may read: a follower
//! asks the leader for the index only.

use std::{sync::Arc, time::Duration};

use esker_engine::Version;
use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    GROUP, Handle,
    node::Leadership,
    planted::{Bug, is_planted},
};
use crate::{Error, Result, peer::wire};

/// The pause before a round that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

type Waiter = oneshot::Sender<Result<Version>>;

/// See the module.
pub(crate) struct Reads {
    queue: mpsc::UnboundedSender<Waiter>,
    applied: watch::Receiver<Version>,
}

impl Reads {
    /// Begins the task that asks. It ends with the node.
    pub(crate) fn new(applied: watch::Receiver<Version>) -> (Self, mpsc::UnboundedReceiver<Waiter>) {
        let (queue, waiters) = mpsc::unbounded_channel();
        (Self { queue, applied }, waiters)
    }

    /// Waits until this node has applied every write acknowledged before the call; says up to where.
    pub(crate) async fn read_point(&self) -> Result<Version> {
        let (tell, told) = oneshot::channel();
        self.queue.send(tell).map_err(|_| stopped())?;
        let index = told.await.map_err(|_| stopped())??;
        self.wait_applied(index).await?;
        Ok(index)
    }

    /// Waits until this node has applied `index`.
    pub(crate) async fn wait_applied(&self, index: Version) -> Result<()> {
        self.applied.clone().wait_for(|applied| *applied >= index).await.map_err(|_| stopped())?;
        Ok(())
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
        match handle.leadership() {
            Leadership::Mine => {
                if let Some(index) = confirm(handle).await {
                    return Ok(index);
                }
            }
            Leadership::Other { id, node } => {
                let peer = handle.shared.connect(id, &node);
                let request = wire::ReadIndexRequest { group: GROUP };
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

/// On the leader: the index that a read must see, once it is certain that this node still leads.
pub(crate) async fn confirm(handle: &Handle) -> Option<Version> {
    if is_planted(Bug::ReadWithoutIndex) {
        return Some(handle.reads.applied());
    }
    let confirmed = handle.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
    Some(super::types::index_of(confirmed.read_log_id().log_id().index()))
}
