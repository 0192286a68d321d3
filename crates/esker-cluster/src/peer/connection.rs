//! A node as the others call it: [`PeerApi`] over two links.
//!
//! Append, votes and read indexes have a link of their own. On one connection, a snapshot's or forwarded writes' bytes
//! would lie in the same socket before a heartbeat, however HTTP/2 orders its streams.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};
use tokio::time::timeout;
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap};

use super::{
    Caller, PeerApi, PeerError, PeerOptions, PeerResult,
    duplex::Opening,
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

    fn opening(&self, link: &Arc<Link>) -> Opening {
        let limit = self.links.options.call_timeout;
        Opening { link: link.clone(), metadata: self.metadata.clone(), limit }
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
            let reply = send(link.channel().await?.client(), request).await;
            Ok(reply.map_err(|status| status::error(&status))?.into_inner())
        };
        timeout(limit, answer).await.unwrap_or(Err(PeerError::TimedOut(limit)))
    })
}

impl PeerApi for Connection {
    fn called(&self) {
        self.links.consensus.end_pause();
        self.links.bulk.end_pause();
    }

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
        let opening = self.opening(&self.links.consensus);
        opening.stream(requests, |mut client, requests| async move { client.append(requests).await })
    }

    fn snapshot(
        &self,
        _: Caller,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        let opening = self.opening(&self.links.bulk);
        opening.stream(chunks, |mut client, chunks| async move { client.snapshot(chunks).await })
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
        let opening = self.opening(&self.links.bulk);
        opening.stream(requests, |mut client, requests| async move { client.propose(requests).await })
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
