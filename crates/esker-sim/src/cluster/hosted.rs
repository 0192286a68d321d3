//! What a node answers its peers, on the machine that it runs on: while that stands still, nobody is answered.

use std::sync::Arc;

use esker_cluster::{
    peer::{Caller, PeerApi, PeerResult, wire},
    raft::{Host, Service},
};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

pub(super) struct Hosted {
    pub(super) service: Arc<Service>,
    pub(super) host: Host,
}

impl Hosted {
    /// Also what is done before the first answer is asked for is done on the machine.
    fn answers<A: Send + 'static>(
        &self,
        serve: impl FnOnce(&Service) -> BoxStream<'static, PeerResult<A>> + Send + 'static,
    ) -> BoxStream<'static, PeerResult<A>> {
        let service = Arc::clone(&self.service);
        let answers = stream::once(async move { serve(&service) }).flatten().boxed();
        let next = |(host, mut answers): (Host, BoxStream<'static, PeerResult<A>>)| async move {
            let answer = host.run(answers.next()).await;
            answer.map(|answer| (answer, (host, answers)))
        };
        stream::unfold((self.host.clone(), answers), next).boxed()
    }
}

macro_rules! unary {
    ($name:ident, $request:ty, $answer:ty) => {
        fn $name(&self, caller: Caller, request: $request) -> BoxFuture<'static, PeerResult<$answer>> {
            let service = Arc::clone(&self.service);
            self.host.run(async move { service.$name(caller, request).await }).boxed()
        }
    };
}

macro_rules! streaming {
    ($name:ident, $request:ty, $answer:ty) => {
        fn $name(
            &self,
            caller: Caller,
            requests: BoxStream<'static, $request>,
        ) -> BoxStream<'static, PeerResult<$answer>> {
            self.answers(move |service| service.$name(caller, requests))
        }
    };
}

impl PeerApi for Hosted {
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        let service = Arc::clone(&self.service);
        self.host.run(async move { service.hello(request).await }).boxed()
    }

    unary!(vote, wire::VoteRequest, wire::VoteReply);
    unary!(pre_vote, wire::VoteRequest, wire::VoteReply);
    unary!(transfer_leader, wire::TransferLeaderRequest, wire::TransferLeaderReply);
    unary!(read_index, wire::ReadIndexRequest, wire::ReadIndexReply);
    unary!(change_members, wire::ChangeMembersRequest, wire::ChangeMembersReply);
    streaming!(append, wire::AppendRequest, wire::AppendReply);
    streaming!(snapshot, wire::SnapshotChunk, wire::SnapshotReply);
    streaming!(propose, wire::ProposeRequest, wire::ProposeReply);
}
