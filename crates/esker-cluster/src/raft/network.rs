//! The library's network, over the peers' protocol.
//!
//! Entries and heartbeats go through a *lane*: one call of `Append` that stays open and takes request after request, several
//! under way at a time. The library asks for a stream per session; a lane outlives the sessions that end in order.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RPCTypes,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use prost::Message;
use sync_wrapper::SyncWrapper;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    Shared,
    contact::{Contact, PAUSE_MIN},
    runtime::random_fraction,
    snapshot,
    state_machine::{LibrarySnapshot, SnapshotData},
    types::{
        LogId, Node, TypeConfig, Vote, entry_to_wire, log_id_from_wire, log_id_to_wire, vote_from_wire,
        vote_to_wire,
    },
};
use crate::peer::{PeerApi, PeerError, PeerResult, wire};

/// So many requests, and bytes of them, are under way in one lane. What is more waits in the log.
const UNDER_WAY_MAX: usize = 64;
const BYTES_UNDER_WAY_MAX: usize = 8 << 20;

/// Makes the connections.
pub(crate) struct NetworkFactory {
    shared: Arc<Shared>,
}

impl NetworkFactory {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Node) -> Network {
        Network { shared: Arc::clone(&self.shared), target, node: node.clone(), lane: None }
    }
}

/// The way to one peer.
pub(crate) struct Network {
    shared: Arc<Shared>,
    target: u64,
    node: Node,
    /// An open call of `Append` with nothing under way.
    lane: Option<Lane>,
}

struct Lane {
    /// Of the connection that it goes over.
    contact: Arc<Contact>,
    requests: mpsc::UnboundedSender<wire::AppendRequest>,
    /// The library asks its networks to be shared; nobody does.
    replies: SyncWrapper<BoxStream<'static, PeerResult<wire::AppendReply>>>,
}

impl Network {
    /// Asked for anew by each call: the peer may have moved.
    fn peer(&self) -> Arc<dyn PeerApi> {
        self.shared.connect(self.target, &self.node)
    }

    /// Up to here the peer has acknowledged entries to the leader of this term.
    fn acknowledged(&self, term: u64) -> Option<LogId> {
        self.shared.acknowledged.up_to(self.target, term)
    }

    fn contact(&self) -> Arc<Contact> {
        self.shared.contact(self.target)
    }

    fn open_lane(&self) -> Lane {
        let (requests, queue) = mpsc::unbounded_channel();
        let peer = self.peer();
        let caller = self.shared.caller(self.target);
        let replies = peer.append(caller, UnboundedReceiverStream::new(queue).boxed());
        Lane { contact: self.contact(), requests, replies: SyncWrapper::new(replies) }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig> {
        Timeout { action, id: self.shared.node_id(), target: self.target, timeout }
    }

    fn rpc_error(&self, action: RPCTypes, error: &PeerError) -> RPCError<TypeConfig> {
        match error {
            PeerError::TimedOut(after) => RPCError::Timeout(self.timeout(action, *after)),
            PeerError::Failed(_) => RPCError::Network(NetworkError::new(error)),
            _ => RPCError::Unreachable(Unreachable::new(error)),
        }
    }

    /// Waits for an answer no longer than the library asks.
    async fn call<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        answer: BoxFuture<'static, PeerResult<T>>,
    ) -> Result<T, RPCError<TypeConfig>> {
        match tokio::time::timeout(option.hard_ttl(), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(self.rpc_error(action, &e)),
            Err(_) => Err(RPCError::Timeout(self.timeout(action, option.hard_ttl()))),
        }
    }

    async fn ask_for_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        option: &RPCOption,
        pre: bool,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let peer = self.peer();
        let caller = self.shared.caller(self.target);
        let request = wire::VoteRequest {
            group: super::GROUP,
            vote: Some(vote_to_wire(&request.vote)),
            last: log_id_to_wire(request.last_log_id.as_ref()),
            leadership_transfer: request.leadership_transfer,
        };
        let answer = if pre { peer.pre_vote(caller, request) } else { peer.vote(caller, request) };
        let reply = self.call(RPCTypes::Vote, option, answer).await?;
        let vote = vote_from_wire(reply.vote).map_err(malformed)?;
        Ok(VoteResponse { vote, vote_granted: reply.granted, last_log_id: log_id_from_wire(reply.last) })
    }
}

fn malformed(why: &'static str) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(why))
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ttl = option.hard_ttl();
        let timeout = self.timeout(RPCTypes::AppendEntries, ttl);
        let once = futures_util::stream::iter([request]);
        let answer = async {
            let mut answers = self.stream_append(once, option).await?;
            answers.next().await.unwrap_or_else(|| Err(malformed("no answer to a request")))
        };
        let answer = tokio::time::timeout(ttl, answer).await.map_err(|_| RPCError::Timeout(timeout))??;
        Ok(AppendEntriesResponse::from(answer))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendAnswers<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            self.contact().wait().await;
            let lane = self.lane.take().unwrap_or_else(|| self.open_lane());
            let session = Session {
                network: self,
                lane: Some(lane),
                input: Some(input),
                under_way: VecDeque::new(),
                bytes: 0,
            };
            Ok(session.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(request, &option, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(request, &option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: LibrarySnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let peer = self.peer();
        let caller = self.shared.caller(self.target);
        let send = snapshot::send(&self.shared, peer.as_ref(), caller, &vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => match sent {
                Ok(Some(higher)) => Ok(SnapshotResponse::new(higher)),
                Ok(None) => Ok(SnapshotResponse::new(vote)),
                Err(e) => Err(self.rpc_error(RPCTypes::InstallSnapshot, &e).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let peer = self.peer();
        let caller = self.shared.caller(self.target);
        let request = wire::TransferLeaderRequest {
            group: super::GROUP,
            from: Some(vote_to_wire(request.from_leader())),
            to: *request.to_node_id(),
            last: log_id_to_wire(request.last_log_id()),
        };
        let answer = peer.transfer_leader(caller, request);
        let reply = self.call(RPCTypes::TransferLeader, &option, answer).await?;
        match reply.refused.as_str() {
            "" => Ok(Ok(())),
            why => Err(RPCError::Network(NetworkError::from_string(why))),
        }
    }

    /// Short: a peer that cannot be reached is waited for by its [`Contact`]. This is for one that answers, but takes nothing.
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat_with(|| PAUSE_MIN.mul_f64(0.5 + random_fraction() / 2.0))))
    }
}

type AppendAnswer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;
type AppendAnswers<'s> = BoxStream<'s, AppendAnswer>;

/// A request that waits for its answer.
struct UnderWay {
    /// The leader's.
    term: u64,
    previous: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
}

/// One session of the library on a lane: sends what the input yields, as far as there is room, and yields the answers.
struct Session<'s, S> {
    network: &'s mut Network,
    lane: Option<Lane>,
    /// `None` once it has ended.
    input: Option<S>,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
}

impl<S> Session<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    fn send_what_fits(&mut self, cx: &mut Context<'_>) {
        while self.under_way.len() < UNDER_WAY_MAX && self.bytes < BYTES_UNDER_WAY_MAX {
            let Some(input) = &mut self.input else { return };
            match input.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.send(&request),
                Poll::Ready(None) => self.input = None,
                Poll::Pending => return,
            }
        }
    }

    fn send(&mut self, request: &AppendEntriesRequest<TypeConfig>) {
        let term = request.vote.leader_id.term;
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let message = wire::AppendRequest {
            group: super::GROUP,
            vote: Some(vote_to_wire(&request.vote)),
            previous: log_id_to_wire(request.prev_log_id.as_ref()),
            entries: request.entries.iter().map(entry_to_wire).collect(),
            commit: log_id_to_wire(request.leader_commit.as_ref()),
            acknowledged: log_id_to_wire(self.network.acknowledged(term).as_ref()),
        };
        let bytes = message.encoded_len();
        self.bytes += bytes;
        self.under_way.push_back(UnderWay { term, previous: request.prev_log_id, last, bytes });
        if let Some(lane) = &self.lane {
            // If the lane is broken, the replies say so.
            let _broken = lane.requests.send(message).is_err();
        }
    }

    fn answer(&mut self, reply: wire::AppendReply) -> AppendAnswer {
        use wire::append_reply::Outcome;
        let Some(request) = self.under_way.pop_front() else {
            return Err(malformed("an answer without a request"));
        };
        self.bytes -= request.bytes;
        match reply.outcome {
            Some(Outcome::Matched(id)) => {
                let matched = log_id_from_wire(Some(id)).or(request.last);
                self.network.shared.acknowledged.note(self.network.target, request.term, matched);
                Ok(Ok(matched))
            }
            Some(Outcome::Conflict(_)) => {
                let previous =
                    request.previous.ok_or_else(|| malformed("a conflict before the first entry"))?;
                if Some(previous) <= self.network.acknowledged(request.term) {
                    // The library counts on what was acknowledged. The peer finds out by itself and stops.
                    tracing::error!(
                        node = self.network.target,
                        "a member lacks entries that it has acknowledged: its data is an old copy. It must be wiped"
                    );
                    return Err(malformed("a log that has gone back"));
                }
                Ok(Err(StreamAppendError::Conflict(previous)))
            }
            Some(Outcome::HigherVote(vote)) => vote_from_wire(Some(vote))
                .map(|vote| Err(StreamAppendError::HigherVote(vote)))
                .map_err(malformed),
            None => Err(malformed("an answer without an outcome")),
        }
    }
}

impl<S> Stream for Session<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = AppendAnswer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AppendAnswer>> {
        self.send_what_fits(cx);
        let Some(mut lane) = self.lane.take() else { return Poll::Ready(None) };
        if self.under_way.is_empty() && self.input.is_none() {
            // In order to the end: the next session may use it.
            self.network.lane = Some(lane);
            return Poll::Ready(None);
        }
        let Poll::Ready(reply) = lane.replies.get_mut().poll_next_unpin(cx) else {
            self.lane = Some(lane);
            return Poll::Pending;
        };
        let answer = match reply {
            Some(Ok(reply)) => self.answer(reply),
            Some(Err(e)) => Err(self.network.rpc_error(RPCTypes::AppendEntries, &e)),
            None => {
                let ended = PeerError::Unreachable("the call ended".into());
                Err(self.network.rpc_error(RPCTypes::AppendEntries, &ended))
            }
        };
        match &answer {
            Ok(_) => lane.contact.answered(),
            Err(_) => lane.contact.failed(),
        }
        // After anything but an acknowledgement, what else is under way has lost its meaning.
        if matches!(answer, Ok(Ok(_))) {
            self.lane = Some(lane);
        }
        Poll::Ready(Some(answer))
    }
}
