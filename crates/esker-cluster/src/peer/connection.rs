//! A node as the others call it: [`PeerApi`] over two links.
//!
//! Append, votes and read indexes have a link of their own. On one connection, a snapshot's or forwarded writes' bytes
//! would lie in the same socket before a heartbeat, however HTTP/2 orders its streams.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{BoxStream, Stream},
};
use tokio::time::timeout;
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Caller, PeerApi, PeerError, PeerOptions, PeerResult,
    link::{Channel, Link, Target},
    metadata, status,
    wire::{self, peer_client::PeerClient},
};

/// The links to one node.
pub(super) struct Links {
    consensus: Arc<Link>,
    bulk: Arc<Link>,
    options: Arc<PeerOptions>,
}

impl Links {
    pub(super) fn new(target: Target) -> Self {
        let target = Arc::new(target);
        Self {
            consensus: Arc::new(Link::new(target.clone())),
            bulk: Arc::new(Link::new(target.clone())),
            options: target.options.clone(),
        }
    }
}

/// The links to one node, used on behalf of one caller.
pub(super) struct Connection {
    links: Arc<Links>,
    metadata: MetadataMap,
}

impl Connection {
    pub(super) fn new(links: Arc<Links>, caller: &Caller) -> Self {
        Self { links, metadata: metadata::of(caller) }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }

    /// A call with one answer on the consensus link.
    fn call<Q, R, F>(
        &self,
        message: Q,
        send: impl FnOnce(PeerClient<Channel>, Request<Q>) -> F + Send + 'static,
    ) -> BoxFuture<'static, PeerResult<R>>
    where
        Q: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        answer(self.links.consensus.clone(), self.links.options.call_timeout, self.request(message), send)
    }
}

/// The answer to a call. `limit` is for the connection and the answer together.
fn answer<Q, R, F>(
    link: Arc<Link>,
    limit: Duration,
    request: Request<Q>,
    send: impl FnOnce(PeerClient<Channel>, Request<Q>) -> F + Send + 'static,
) -> BoxFuture<'static, PeerResult<R>>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<Response<R>, Status>> + Send,
{
    Box::pin(async move {
        let answer = async {
            let reply = send(link.client().await?, request).await;
            Ok(reply.map_err(|status| status::error(&status))?.into_inner())
        };
        timeout(limit, answer).await.unwrap_or(Err(PeerError::TimedOut(limit)))
    })
}

/// The messages of a stream. A type with a name, as the compiler cannot yet prove calls to be `Send` that hold a
/// `dyn Stream` (rust-lang/rust#102211).
struct Messages<Q>(BoxStream<'static, Q>);

impl<Q> Stream for Messages<Q> {
    type Item = Q;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Q>> {
        self.0.poll_next_unpin(cx)
    }
}

/// The answers on a stream. Only that it is taken up is limited in time: how long a message may take is for who sends
/// it to judge, and a dead connection ends the stream.
fn answers<R: Send + 'static>(
    opened: BoxFuture<'static, PeerResult<Streaming<R>>>,
) -> BoxStream<'static, PeerResult<R>> {
    Box::pin(opened.map_ok(replies).try_flatten_stream())
}

fn replies<R: Send + 'static>(replies: Streaming<R>) -> impl Stream<Item = PeerResult<R>> {
    replies.map_err(|status| status::error(&status))
}

impl PeerApi for Connection {
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        self.call(request, |mut client, request| async move { client.hello(request).await })
    }

    fn vote(&self, _: Caller, request: wire::VoteRequest) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.call(request, |mut client, request| async move { client.vote(request).await })
    }

    fn pre_vote(
        &self,
        _: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.call(request, |mut client, request| async move { client.pre_vote(request).await })
    }

    fn transfer_leader(
        &self,
        _: Caller,
        request: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>> {
        self.call(request, |mut client, request| async move { client.transfer_leader(request).await })
    }

    fn append(
        &self,
        _: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>> {
        answers(self.call(Messages(requests), |mut client, requests| async move { client.append(requests).await }))
    }

    fn snapshot(
        &self,
        _: Caller,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        let Links { bulk, options, .. } = &*self.links;
        let send = |mut client: PeerClient<_>, chunks| async move { client.snapshot(chunks).await };
        answers(answer(bulk.clone(), options.call_timeout, self.request(Messages(chunks)), send))
    }

    fn read_index(
        &self,
        _: Caller,
        request: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>> {
        self.call(request, |mut client, request| async move { client.read_index(request).await })
    }

    fn propose(
        &self,
        _: Caller,
        requests: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>> {
        let Links { bulk, options, .. } = &*self.links;
        let send = |mut client: PeerClient<_>, requests| async move { client.propose(requests).await };
        answers(answer(bulk.clone(), options.call_timeout, self.request(Messages(requests)), send))
    }

    fn change_members(
        &self,
        _: Caller,
        request: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>> {
        let Links { bulk, options, .. } = &*self.links;
        let send = |mut client: PeerClient<_>, request| async move { client.change_members(request).await };
        answer(bulk.clone(), options.change_timeout, self.request(request), send)
    }
}
