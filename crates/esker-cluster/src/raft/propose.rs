//! Writes: proposed where this node leads, handed on where another does.

use std::{sync::Arc, time::Duration};

use esker_engine::{Committed, RequestId};
use esker_log::GroupEnd;
use openraft::{
    errors::{ClientWriteError, ForwardReason},
    impls::OneshotResponder,
};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Handle,
    forward::Forwarded,
    node::Leadership,
    planted::{Bug, is_planted},
    runtime::Randomness,
    types::{Appended, Proposal},
};
use crate::{Ack, Error, Result};

/// The pause before a write that was certainly not taken is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// A write on its way through this node.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) payload: Arc<[u8]>,
    pub(crate) records: u32,
    pub(crate) ack: Ack,
    /// Whether the payload begins with a request id, so that the write may be sent again.
    pub(crate) repeatable: bool,
}

impl Write {
    /// The records of a batch, with the request's id before them.
    pub(crate) fn new(batch: (Vec<u8>, u32), request: Option<RequestId>, ack: Ack) -> Self {
        let (payload, records) = batch;
        let write = Self { payload: payload.into(), records, ack, repeatable: false };
        match request {
            Some(id) => write.with_request(id),
            None => write,
        }
    }

    fn with_request(self, id: RequestId) -> Self {
        if is_planted(Bug::ApplyTwice) {
            return Self { repeatable: true, ..self };
        }
        let mut head = esker_engine::WriteBatch::new();
        head.request(id).expect("an empty batch takes a request id");
        let (mut payload, records) = head.into_payload();
        payload.extend_from_slice(&self.payload);
        Self { payload: payload.into(), records: records + self.records, repeatable: true, ..self }
    }
}

/// How an attempt ended that brought no answer for the caller.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Nothing was written: try again, perhaps elsewhere.
    Refused,
    /// Nobody knows.
    Unknown(String),
    /// There is no use in trying again.
    Failed(Error),
}

impl Handle {
    /// Has the cluster commit a write, wherever the leader is.
    pub(crate) async fn write(self: &Arc<Self>, mut write: Write) -> Result<Committed> {
        let deadline = Instant::now() + self.shared.config.commit_patience;
        let mut leaderless_until = Instant::now() + self.shared.config.leader_patience;
        // Why it is not known what became of an earlier attempt. From then on no refusal proves that nothing was written.
        let mut unknown: Option<String> = None;
        loop {
            let attempt = match self.leadership() {
                _ if self.is_removed() => Err(Attempt::Failed(Error::Removed)),
                Leadership::Mine => self.propose(&write, deadline).await,
                Leadership::Other { id, node } if self.shared.config.redirect => {
                    Err(Attempt::Failed(Error::NotLeader { leader: id, http_address: node.http_address }))
                }
                Leadership::Other { id, node } => {
                    // Only so can it be sent again if no answer comes.
                    if !write.repeatable {
                        write = write.with_request(self.next_request());
                    }
                    self.forward(id, &node, &write, deadline).await
                }
                Leadership::Unknown => Err(Attempt::Refused),
            };
            let refusal = match attempt {
                Ok(committed) => return Ok(committed),
                Err(Attempt::Unknown(why)) if !write.repeatable || Instant::now() >= deadline => {
                    return Err(Error::OutcomeUnknown(why));
                }
                Err(Attempt::Unknown(why)) => {
                    unknown = Some(why);
                    leaderless_until = deadline;
                    None
                }
                Err(Attempt::Failed(error)) => Some(error),
                Err(Attempt::Refused) if Instant::now() >= leaderless_until => Some(self.no_leader()),
                Err(Attempt::Refused) => None,
            };
            if let Some(refusal) = refusal {
                return Err(unknown.map_or(refusal, Error::OutcomeUnknown));
            }
            self.leadership_changed(RETRY_PAUSE).await;
        }
    }

    /// Proposes a write to this node, which seems to lead.
    pub(crate) async fn propose(&self, write: &Write, deadline: Instant) -> Result<Committed, Attempt> {
        if self.shared.replica.log().is_disk_full() {
            return Err(Attempt::Failed(Error::Engine(esker_engine::Error::DiskFull)));
        }
        let (appended, durable) = match write.ack {
            // What is judged comes to something only once it is applied.
            Ack::Local if !esker_engine::is_judged(&write.payload) => {
                let (tell, told) = oneshot::channel();
                (Some(Appended::new(Mutex::new(Some(tell)))), Some(told))
            }
            _ => (None, None),
        };
        let proposal = Proposal { payload: Arc::clone(&write.payload), records: write.records, appended };
        let (responder, answer) = OneshotResponder::new_pair();
        self.raft.client_write_ff(proposal, Some(responder)).await.map_err(|e| self.fatal(&e))?;
        let committed = async {
            let answer = answer.await.map_err(|_| Attempt::Unknown("the node is stopping".into()))?;
            match answer {
                Ok(response) => Ok(response.data),
                Err(e) => Err(refusal(&e)),
            }
        };
        let outcome = async {
            match durable {
                Some(durable) => self.first_of(durable, committed).await,
                None => committed.await,
            }
        };
        let committed = tokio::time::timeout_at(deadline, outcome)
            .await
            .unwrap_or_else(|_| Err(Attempt::Unknown("no majority has answered in time".into())))?;
        if write.ack == Ack::All {
            self.wait_for_all(committed.version, deadline).await?;
        }
        Ok(committed)
    }

    /// Hands a write on to the leader.
    async fn forward(
        &self,
        leader: u64,
        node: &super::types::Node,
        write: &Write,
        deadline: Instant,
    ) -> Result<Committed, Attempt> {
        let answer = self.forwards.send(&self.shared, leader, node, write.clone(), deadline);
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Forwarded::Committed(committed)) => Ok(committed),
            Ok(Forwarded::Attempt(attempt)) => Err(attempt),
            Err(_) => Err(Attempt::Unknown("the leader has not answered in time".into())),
        }
    }

    /// Durable on this node's disk, or committed: whichever comes first. Without the former nothing is certain.
    async fn first_of(
        &self,
        durable: oneshot::Receiver<u64>,
        committed: impl Future<Output = Result<Committed, Attempt>>,
    ) -> Result<Committed, Attempt> {
        let mut committed = std::pin::pin!(committed);
        tokio::select! {
            biased;
            committed = &mut committed => committed,
            version = durable => match version {
                // What it did to the keys is known once it is applied.
                Ok(version) => {
                    self.promise(version);
                    Ok(Committed::applied(version, 0))
                }
                Err(_) => committed.await,
            },
        }
    }

    /// Notes that a write is acknowledged before it is applied: reads have to wait for it.
    fn promise(&self, version: u64) {
        let term = super::reads::own_vote(self).map_or(0, |vote| vote.leader_id.term);
        let mut promised = self.promised.lock();
        if term > promised.term || version > promised.index {
            *promised = GroupEnd { index: version, term };
        }
    }

    /// An id for a write that came without one.
    fn next_request(&self) -> RequestId {
        let mut requests = self.own_requests.lock();
        let id = requests.get_or_insert_with(|| RequestId { client: Randomness.random(), sequence: 0 });
        id.sequence += 1;
        *id
    }
}

fn refusal(error: &ClientWriteError<super::types::TypeConfig>) -> Attempt {
    match error {
        ClientWriteError::ForwardToLeader(forward) => {
            // A new leader refuses until its lease is acknowledged; an old one while it hands over.
            tracing::debug!(reason = ?forward.reason, lease = (forward.reason == ForwardReason::LeaseExpired), "refused");
            Attempt::Refused
        }
        ClientWriteError::LogEntryDiscarded(_) => Attempt::Unknown("the leader was replaced".into()),
        other => Attempt::Failed(Error::Refused(other.to_string())),
    }
}
