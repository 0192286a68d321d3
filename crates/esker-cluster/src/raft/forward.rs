//! Writes handed on to the leader: one open call per leader, many writes in a message, answered in any order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker_engine::Committed;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    GROUP, Shared, host,
    propose::{Attempt, Write},
    types::{Node, outcome_from_wire},
};
use crate::{Ack, Error, peer::wire};

/// Writes in one message.
const MESSAGE_WRITES_MAX: usize = 512;
/// Messages that wait to be sent.
const MESSAGES_WAITING: usize = 4;

/// What became of a write that was handed on.
pub(crate) enum Forwarded {
    Committed(Committed),
    Attempt(Attempt),
}

struct Waiting {
    write: Write,
    deadline: Instant,
    answer: oneshot::Sender<Forwarded>,
}

/// The open calls, by leader.
#[derive(Default)]
pub(crate) struct Forwards {
    calls: Mutex<BTreeMap<u64, mpsc::UnboundedSender<Waiting>>>,
}

impl Forwards {
    /// Sends a write to the leader.
    pub(crate) async fn send(
        &self,
        shared: &Arc<Shared>,
        leader: u64,
        node: &Node,
        write: Write,
        deadline: Instant,
    ) -> Forwarded {
        let (answer, answered) = oneshot::channel();
        self.queue(shared, leader, node, Waiting { write, deadline, answer });
        received(answered).await
    }

    /// Puts a write into the open call to the leader, or opens one.
    fn queue(&self, shared: &Arc<Shared>, leader: u64, node: &Node, mut waiting: Waiting) {
        let mut calls = self.calls.lock();
        if let Some(call) = calls.get(&leader) {
            match call.send(waiting) {
                Ok(()) => return,
                Err(broken) => waiting = broken.0,
            }
        }
        let (call, queue) = mpsc::unbounded_channel();
        let _open = call.send(waiting).is_ok();
        calls.insert(leader, call);
        host::spawn(run(Arc::clone(shared), leader, node.clone(), queue));
    }

    /// Ends all calls.
    pub(crate) fn close(&self) {
        self.calls.lock().clear();
    }
}

async fn received(answered: oneshot::Receiver<Forwarded>) -> Forwarded {
    let lost = || Forwarded::Attempt(Attempt::Unknown("the way to the leader broke".into()));
    answered.await.unwrap_or_else(|_| lost())
}

/// The life of a call. When it breaks, what was sent is answered as unknown by being dropped, and the next write opens
/// another.
async fn run(shared: Arc<Shared>, leader: u64, node: Node, mut queue: mpsc::UnboundedReceiver<Waiting>) {
    let peer = shared.connect(leader, &node);
    let (messages, outgoing) = mpsc::channel(MESSAGES_WAITING);
    let mut replies = peer.propose(shared.caller(leader), ReceiverStream::new(outgoing).boxed());
    let mut under_way: BTreeMap<u64, oneshot::Sender<Forwarded>> = BTreeMap::new();
    let mut next_id = 0;
    let mut batch = Vec::new();
    loop {
        // The answers are polled whatever else is waited for: it is they that move the call on.
        tokio::select! {
            biased;
            reply = replies.next() => match reply {
                Some(Ok(reply)) => answer(&mut under_way, reply),
                Some(Err(_)) | None => return,
            },
            room = messages.reserve(), if !batch.is_empty() => {
                let Ok(room) = room else { return };
                let proposals = batch.drain(..).map(|waiting| {
                    next_id += 1;
                    let proposal = proposal(next_id, &waiting);
                    under_way.insert(next_id, waiting.answer);
                    proposal
                });
                room.send(wire::ProposeRequest { group: GROUP, proposals: proposals.collect() });
            }
            count = queue.recv_many(&mut batch, MESSAGE_WRITES_MAX), if batch.len() < MESSAGE_WRITES_MAX => {
                if count == 0 {
                    return;
                }
            }
        }
    }
}

fn proposal(id: u64, waiting: &Waiting) -> wire::Proposal {
    let patience = waiting.deadline.saturating_duration_since(Instant::now());
    let ack = match waiting.write.ack {
        Ack::Majority => wire::Ack::Majority,
        Ack::Local => wire::Ack::Local,
        Ack::All => wire::Ack::All,
    };
    wire::Proposal {
        id,
        payload: bytes::Bytes::copy_from_slice(&waiting.write.payload),
        records: waiting.write.records,
        patience_ms: patience.as_millis() as u64,
        ack: ack.into(),
    }
}

fn answer(under_way: &mut BTreeMap<u64, oneshot::Sender<Forwarded>>, reply: wire::ProposeReply) {
    use wire::propose_reply::outcome::Outcome;
    for outcome in reply.outcomes {
        let Some(answer) = under_way.remove(&outcome.id) else { continue };
        let forwarded = match outcome.outcome {
            Some(Outcome::Committed(done)) => match outcome_from_wire(done.outcome, done.detail) {
                Some(outcome) => {
                    Forwarded::Committed(Committed { version: done.version, existed: done.existed, outcome })
                }
                None => Forwarded::Attempt(Attempt::Unknown("an outcome of a kind unknown here".into())),
            },
            Some(Outcome::Refused(refused)) => Forwarded::Attempt(attempt(refused)),
            None => Forwarded::Attempt(Attempt::Unknown("an answer without an outcome".into())),
        };
        // Whoever asked may have gone away.
        let _gone = answer.send(forwarded).is_err();
    }
}

fn attempt(refused: wire::Refused) -> Attempt {
    use esker_engine::Error as Engine;
    let retry_after = Duration::from_millis(refused.retry_after_ms);
    match refused.why() {
        wire::Refusal::NotLeader => Attempt::Refused,
        wire::Refusal::Busy => Attempt::Failed(Error::Engine(Engine::Busy { retry_after })),
        wire::Refusal::DiskFull => Attempt::Failed(Error::Engine(Engine::DiskFull)),
        wire::Refusal::Invalid => Attempt::Failed(Error::Engine(Engine::InvalidRequest(refused.message))),
        wire::Refusal::Poisoned => Attempt::Failed(Error::Engine(Engine::Poisoned(refused.message.into()))),
        wire::Refusal::Unknown | wire::Refusal::Unspecified => Attempt::Unknown(refused.message),
    }
}

/// What a node that leads tells the one that handed on.
pub(crate) fn refused(attempt: Attempt) -> wire::Refused {
    use esker_engine::Error as Engine;
    let refused = |why: wire::Refusal, message: String| wire::Refused {
        why: why.into(),
        message,
        ..wire::Refused::default()
    };
    match attempt {
        Attempt::Refused => refused(wire::Refusal::NotLeader, String::new()),
        Attempt::Unknown(why) => refused(wire::Refusal::Unknown, why),
        Attempt::Failed(Error::Engine(Engine::DiskFull)) => refused(wire::Refusal::DiskFull, String::new()),
        Attempt::Failed(Error::Engine(Engine::Busy { retry_after })) => wire::Refused {
            retry_after_ms: retry_after.as_millis() as u64,
            ..refused(wire::Refusal::Busy, String::new())
        },
        Attempt::Failed(Error::Engine(Engine::InvalidRequest(why))) => refused(wire::Refusal::Invalid, why),
        Attempt::Failed(error) => refused(wire::Refusal::Poisoned, error.to_string()),
    }
}
