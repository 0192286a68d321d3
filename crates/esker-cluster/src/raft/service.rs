//! What a node answers its peers.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    GROUP, Handle,
    config::RaftConfig,
    forward::refused,
    founders::Founders,
    gossip::AddressBook,
    host,
    identity::Belonging,
    node::Leadership,
    propose::Write,
    reads, snapshot,
    types::{
        TypeConfig, decode_vote, entry_from_wire, log_id_from_wire, log_id_to_wire, membership_to_wire,
        vote_from_wire, vote_to_wire,
    },
};
use crate::{
    Ack,
    peer::{Caller, Id, Identity, PeerApi, PeerError, PeerResult, wire},
};

/// Answers that wait to be sent.
const ANSWERS_WAITING: usize = 64;
/// Outcomes of handed-on writes in one message.
const MESSAGE_OUTCOMES_MAX: usize = 512;
/// What a node may take that is asked for a read index.
const READ_INDEX_PATIENCE: Duration = Duration::from_secs(1);

/// A node's answers. It can be asked who it is before it belongs to a cluster; all else waits until it does.
pub struct Service {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// Who this node is; its number is 0 until it has one.
    me: Mutex<wire::Member>,
    cluster: Mutex<Option<Id>>,
    cluster_name: String,
    handle: OnceLock<Arc<Handle>>,
    /// Told of the cluster on whose behalf a peer called a node that belongs to none.
    called: tokio::sync::watch::Sender<Option<Belonging>>,
    /// Where nodes were heard of.
    book: Arc<AddressBook>,
    /// Of how many nodes a cluster is to be formed; 0: none is.
    cluster_size: u32,
    /// Whom this node has agreed to form a cluster with.
    founding: Mutex<Option<wire::Founding>>,
}

impl Service {
    pub(crate) fn new(me: wire::Member, cluster: Option<Id>, config: &RaftConfig) -> Self {
        let (called, _) = tokio::sync::watch::channel(None);
        let book = Arc::new(AddressBook::new(Id::try_from(&*me.instance).unwrap_or_default()));
        let inner = Inner {
            me: Mutex::new(me),
            cluster: Mutex::new(cluster),
            cluster_name: config.cluster_name.clone(),
            handle: OnceLock::new(),
            called,
            book,
            cluster_size: u32::try_from(config.cluster_size).unwrap_or(u32::MAX),
            founding: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Where nodes were heard of.
    pub(crate) fn book(&self) -> &Arc<AddressBook> {
        &self.inner.book
    }

    /// Tells from here on whom this node has agreed to form a cluster with. It is on disk already.
    pub(crate) fn publish(&self, agreed: Option<&Founders>) {
        *self.inner.founding.lock() = agreed.map(Founders::to_wire);
    }

    /// From here on the node answers for its cluster.
    pub(crate) fn start(&self, handle: Arc<Handle>) {
        self.inner.me.lock().node = handle.shared.node_id();
        *self.inner.cluster.lock() = Some(handle.shared.cluster);
        let _second_start = self.inner.handle.set(handle).is_err();
    }

    pub(crate) fn me(&self) -> wire::Member {
        self.inner.me.lock().clone()
    }

    /// On whose behalf a peer has called, and as what number, while this node belongs to no cluster.
    pub(crate) fn called(&self) -> tokio::sync::watch::Receiver<Option<Belonging>> {
        self.inner.called.subscribe()
    }

    /// The node, if the call is for it.
    fn handle(&self, caller: &Caller) -> PeerResult<Arc<Handle>> {
        let inner = &self.inner;
        let (me, cluster) = (inner.me.lock().clone(), *inner.cluster.lock());
        let is_meant = caller.to.instance == *me.instance && (me.node == 0 || caller.to.node == me.node);
        if !is_meant {
            let Identity { node: meant, .. } = caller.to;
            let why = match me.node {
                0 => format!("this is a node without a number, not node {meant}"),
                here if here == meant => format!("this is another instance of node {meant} than was meant"),
                here => format!("this is node {here}, not node {meant}"),
            };
            return Err(PeerError::WrongIdentity(why));
        }
        match cluster {
            None => {
                // Only who asked this very instance for its identity knows it: this is the cluster it shall be in.
                inner.called.send_replace(Some(Belonging { cluster: caller.cluster, node: caller.to.node }));
                Err(PeerError::Unreachable("this node is just joining".into()))
            }
            Some(cluster) if cluster != caller.cluster => {
                Err(PeerError::WrongIdentity("this node belongs to another cluster".into()))
            }
            Some(_) => {
                let starting = || PeerError::Unreachable("this node is just starting".into());
                let handle = inner.handle.get().cloned().ok_or_else(starting)?;
                handle.shared.heard_of(&caller.from);
                Ok(handle)
            }
        }
    }

    fn vote_with(
        &self,
        caller: &Caller,
        request: wire::VoteRequest,
        pre: bool,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        let handle = self.handle(caller);
        let caller = *caller;
        async move {
            let handle = handle?;
            check_group(request.group)?;
            handle.check_member(&caller)?;
            let vote = vote_from_wire(request.vote).map_err(malformed)?;
            let mut question = VoteRequest::new(vote, log_id_from_wire(request.last));
            question.leadership_transfer = request.leadership_transfer;
            let answered =
                if pre { handle.raft.pre_vote(question).await } else { handle.raft.vote(question).await };
            let VoteResponse { vote, vote_granted, last_log_id } = answered.map_err(failed)?;
            let last = log_id_to_wire(last_log_id.as_ref());
            Ok(wire::VoteReply { vote: Some(vote_to_wire(&vote)), granted: vote_granted, last })
        }
        .boxed()
    }
}

fn failed(error: impl std::fmt::Display) -> PeerError {
    PeerError::Failed(error.to_string())
}

fn malformed(why: impl std::fmt::Display) -> PeerError {
    PeerError::Failed(format!("malformed: {why}"))
}

fn check_group(group: u32) -> PeerResult<()> {
    if group == GROUP { Ok(()) } else { Err(malformed(format_args!("there is no group {group}"))) }
}

fn append_request(request: wire::AppendRequest) -> PeerResult<AppendEntriesRequest<TypeConfig>> {
    check_group(request.group)?;
    let entries: Result<Vec<_>, _> = request.entries.into_iter().map(entry_from_wire).collect();
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote).map_err(malformed)?,
        prev_log_id: log_id_from_wire(request.previous),
        entries: entries.map_err(malformed)?,
        leader_commit: log_id_from_wire(request.commit),
    })
}

impl PeerApi for Service {
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        let inner = &self.inner;
        let cluster = inner.cluster.lock().map_or(bytes::Bytes::new(), |id| id.to_vec().into());
        let cluster_name = inner.cluster_name.clone();
        let me = Some(self.me());
        let mut reply = wire::HelloReply { me, cluster, cluster_name, ..wire::HelloReply::default() };
        if request.cluster_name == inner.cluster_name {
            request.me.iter().for_each(|member| inner.book.hear_of_itself(member));
            inner.book.hear(&request.known);
            reply.known = inner.book.tell();
            reply.cluster_size = inner.cluster_size;
            reply.founding = inner.founding.lock().clone();
        }
        if let Some(handle) = inner.handle.get() {
            reply.leader = handle.leader().unwrap_or_default();
            reply.summary = handle.comparing.summary().filter(|_| request.summary);
            reply.membership = Some(membership_to_wire(handle.membership().membership()));
        }
        async move { Ok(reply) }.boxed()
    }

    fn vote(
        &self,
        caller: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.vote_with(&caller, request, false)
    }

    fn pre_vote(
        &self,
        caller: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.vote_with(&caller, request, true)
    }

    fn transfer_leader(
        &self,
        caller: Caller,
        request: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>> {
        let handle = self.handle(&caller);
        async move {
            let handle = handle?;
            check_group(request.group)?;
            let from = vote_from_wire(request.from).map_err(malformed)?;
            let transfer = TransferLeaderRequest::new(from, request.to, log_id_from_wire(request.last));
            let outcome = handle.raft.handle_transfer_leader(transfer).await.map_err(failed)?;
            let refused = outcome.err().map_or(String::new(), |e| e.to_string());
            Ok(wire::TransferLeaderReply { refused })
        }
        .boxed()
    }

    fn append(
        &self,
        caller: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>> {
        let handle = match self.handle(&caller) {
            Ok(handle) => handle,
            Err(e) => return stream::iter([Err(e)]).boxed(),
        };
        // A malformed request ends the stream; the sender learns of it by the answer that does not come.
        let from = caller.from.node;
        let hearing = Arc::clone(&handle);
        let requests = requests.map(move |request| {
            hearing.note_heard();
            hearing.check_log_has_not_gone_back(&request)?;
            append_request(request)
        });
        let requests = requests.take_while(move |request| {
            if let Err(e) = request {
                tracing::warn!(from, error = %e, "a peer sent what cannot be taken");
            }
            std::future::ready(request.is_ok())
        });
        let requests = requests.filter_map(|request| std::future::ready(request.ok()));
        let answers = handle.raft.stream_append(requests);
        answers
            .map(|answer| {
                use wire::append_reply::Outcome;
                let outcome = match answer.map_err(failed)? {
                    Ok(matched) => log_id_to_wire(matched.as_ref()).map(Outcome::Matched),
                    Err(StreamAppendError::Conflict(at)) => log_id_to_wire(Some(&at)).map(Outcome::Conflict),
                    Err(StreamAppendError::HigherVote(vote)) => {
                        Some(Outcome::HigherVote(vote_to_wire(&vote)))
                    }
                };
                Ok(wire::AppendReply { outcome })
            })
            .boxed()
    }

    fn snapshot(
        &self,
        caller: Caller,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        let handle = match self.handle(&caller) {
            Ok(handle) => handle,
            Err(e) => return stream::iter([Err(e)]).boxed(),
        };
        let (replies, queue) = mpsc::channel(ANSWERS_WAITING);
        host::spawn(async move {
            if let Err(e) = snapshot::take(&handle, &caller, chunks, &replies).await {
                tracing::warn!(from = caller.from.node, error = %e, "a snapshot could not be taken over");
                let _gone = replies.send(Err(e)).await.is_err();
            }
        });
        ReceiverStream::new(queue).boxed()
    }

    fn read_index(
        &self,
        caller: Caller,
        request: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>> {
        let handle = self.handle(&caller);
        async move {
            let handle = handle?;
            check_group(request.group)?;
            handle.check_member(&caller)?;
            if request.confirm.is_some() {
                // The log has every vote before it is answered, so this is the highest.
                let vote = handle.shared.replica.vote().and_then(|bytes| decode_vote(&bytes).ok());
                let vote = vote.map(|vote| vote_to_wire(&vote));
                return Ok(wire::ReadIndexReply { vote, ..wire::ReadIndexReply::default() });
            }
            let index = match handle.leadership() {
                Leadership::Mine => {
                    tokio::time::timeout(READ_INDEX_PATIENCE, reads::confirm(&handle)).await.ok().flatten()
                }
                _ => None,
            };
            let leader = handle.leader().unwrap_or_default();
            Ok(wire::ReadIndexReply { index: index.unwrap_or_default(), leader, vote: None })
        }
        .boxed()
    }

    fn propose(
        &self,
        caller: Caller,
        requests: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>> {
        let handle = match self.handle(&caller).and_then(|handle| {
            handle.check_member(&caller)?;
            Ok(handle)
        }) {
            Ok(handle) => handle,
            Err(e) => return stream::iter([Err(e)]).boxed(),
        };
        let (outcomes, queue) = mpsc::unbounded_channel();
        host::spawn(take_proposals(handle, requests, outcomes));
        let messages = stream::unfold(queue, |mut queue| async move {
            let mut outcomes = Vec::new();
            let count = queue.recv_many(&mut outcomes, MESSAGE_OUTCOMES_MAX).await;
            (count > 0).then_some((Ok(wire::ProposeReply { outcomes }), queue))
        });
        messages.boxed()
    }

    fn change_members(
        &self,
        caller: Caller,
        request: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>> {
        // Who wants to join cannot know the cluster yet.
        let is_join = matches!(request.change, Some(wire::change_members_request::Change::Add(_)));
        let started = || PeerError::Unreachable("this node belongs to no cluster yet".into());
        let handle = if is_join && caller.cluster == Id::default() {
            self.inner.handle.get().cloned().ok_or_else(started)
        } else {
            self.handle(&caller)
        };
        async move { handle?.serve_change(request).await }.boxed()
    }
}

async fn take_proposals(
    handle: Arc<Handle>,
    mut requests: BoxStream<'static, wire::ProposeRequest>,
    outcomes: mpsc::UnboundedSender<wire::propose_reply::Outcome>,
) {
    while let Some(request) = requests.next().await {
        for proposal in request.proposals {
            let (handle, outcomes) = (Arc::clone(&handle), outcomes.clone());
            host::spawn(async move {
                let id = proposal.id;
                let outcome = take_proposal(&handle, proposal).await;
                let outcome = wire::propose_reply::Outcome { id, outcome: Some(outcome) };
                // The one who handed it on may have gone away.
                let _gone = outcomes.send(outcome).is_err();
            });
        }
    }
}

async fn take_proposal(handle: &Handle, proposal: wire::Proposal) -> wire::propose_reply::outcome::Outcome {
    use wire::propose_reply::outcome::Outcome;
    let ack = match proposal.ack() {
        wire::Ack::Majority => Ack::Majority,
        wire::Ack::Local => Ack::Local,
        wire::Ack::All => Ack::All,
    };
    if let Err(why) = esker_log::format::verify_unbound(&proposal.payload, proposal.records) {
        let why = format!("the records that were handed on are damaged: {why}");
        return Outcome::Refused(wire::Refused {
            why: wire::Refusal::Invalid.into(),
            message: why,
            ..wire::Refused::default()
        });
    }
    let write =
        Write { payload: Arc::from(&*proposal.payload), records: proposal.records, ack, repeatable: true };
    let deadline = Instant::now() + Duration::from_millis(proposal.patience_ms);
    match handle.propose(&write, deadline).await {
        Ok(done) => {
            let (outcome, detail) = done.outcome.to_parts();
            let (version, existed) = (done.version, done.existed);
            Outcome::Committed(wire::Committed { version, existed, outcome: outcome.into(), detail })
        }
        Err(attempt) => {
            let leader = handle.leader().unwrap_or_default();
            Outcome::Refused(wire::Refused { leader, ..refused(attempt) })
        }
    }
}
