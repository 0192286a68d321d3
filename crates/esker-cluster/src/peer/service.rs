//! The generated service over a [`PeerApi`].

use std::sync::{Arc, OnceLock};

use futures_util::{
    Stream, StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Caller, PeerApi, PeerResult, metadata, status,
    wire::{self, peer_server::Peer},
};

type Reply<T> = Result<Response<T>, Status>;
type Replies<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

/// Answers what arrives on any connection.
pub(super) struct Service {
    pub(super) api: Arc<dyn PeerApi>,
    /// Turns true when the server shuts down.
    pub(super) stopped: watch::Receiver<bool>,
}

impl Service {
    /// A call whose messages and answers are streams. The answers end when the server shuts down, and say so; else
    /// they would hold it up for as long as the other node likes.
    fn streams<Q, R>(
        &self,
        request: Request<Streaming<Q>>,
        call: impl FnOnce(Caller, BoxStream<'static, Q>) -> BoxStream<'static, PeerResult<R>>,
    ) -> Replies<R>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        let caller = metadata::caller(request.metadata())?;
        let broken = Arc::new(OnceLock::new());
        let requests = until_broken(request.into_inner(), broken.clone());
        let replies = call(caller, requests.boxed()).map_err(status::of);
        let mut stopped = self.stopped.clone();
        let shutdown = async move { stopped.wait_for(|stopped| *stopped).await.is_ok() };
        let stopped = self.stopped.clone();
        let end = stream::once(async move {
            match broken.get() {
                Some(status) => Some(Err(Status::clone(status))),
                None => stopped.borrow().then(|| Err(Status::unavailable("the node is shutting down"))),
            }
        });
        Ok(Response::new(replies.take_until(shutdown).chain(end.filter_map(future::ready)).boxed()))
    }
}

/// The messages up to the first that cannot be read. Why it cannot is left in `broken`. That the other side gave the
/// call up looks like the end here: there is nobody to tell.
fn until_broken<Q>(requests: Streaming<Q>, broken: Arc<OnceLock<Status>>) -> impl Stream<Item = Q> {
    requests.scan((), move |(), request| future::ready(request.map_err(|status| _ = broken.set(status)).ok()))
}

fn reply<T>(answer: PeerResult<T>) -> Reply<T> {
    answer.map(Response::new).map_err(status::of)
}

#[tonic::async_trait]
impl Peer for Service {
    type AppendStream = BoxStream<'static, Result<wire::AppendReply, Status>>;
    type SnapshotStream = BoxStream<'static, Result<wire::SnapshotReply, Status>>;
    type ProposeStream = BoxStream<'static, Result<wire::ProposeReply, Status>>;

    async fn hello(&self, request: Request<wire::HelloRequest>) -> Reply<wire::HelloReply> {
        reply(self.api.hello(request.into_inner()).await)
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Reply<wire::VoteReply> {
        let caller = metadata::caller(request.metadata())?;
        reply(self.api.vote(caller, request.into_inner()).await)
    }

    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Reply<wire::VoteReply> {
        let caller = metadata::caller(request.metadata())?;
        reply(self.api.pre_vote(caller, request.into_inner()).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Reply<wire::TransferLeaderReply> {
        let caller = metadata::caller(request.metadata())?;
        reply(self.api.transfer_leader(caller, request.into_inner()).await)
    }

    async fn append(&self, request: Request<Streaming<wire::AppendRequest>>) -> Replies<wire::AppendReply> {
        self.streams(request, |caller, requests| self.api.append(caller, requests))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Replies<wire::SnapshotReply> {
        self.streams(request, |caller, chunks| self.api.snapshot(caller, chunks))
    }

    async fn read_index(&self, request: Request<wire::ReadIndexRequest>) -> Reply<wire::ReadIndexReply> {
        let caller = metadata::caller(request.metadata())?;
        reply(self.api.read_index(caller, request.into_inner()).await)
    }

    async fn propose(
        &self,
        request: Request<Streaming<wire::ProposeRequest>>,
    ) -> Replies<wire::ProposeReply> {
        self.streams(request, |caller, requests| self.api.propose(caller, requests))
    }

    async fn change_members(
        &self,
        request: Request<wire::ChangeMembersRequest>,
    ) -> Reply<wire::ChangeMembersReply> {
        let caller = metadata::caller(request.metadata())?;
        reply(self.api.change_members(caller, request.into_inner()).await)
    }
}
