//! A connection to another node over the simulated network.

use esker_cluster::peer::{Caller, PeerApi, PeerResult, wire};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use super::{
    Origin, SimNetwork, Way,
    call::{call, unreachable},
    stream::open,
};

pub(super) struct SimPeer {
    pub(super) network: SimNetwork,
    pub(super) origin: Origin,
    pub(super) between: Way,
    pub(super) caller: Caller,
}

impl SimPeer {
    /// A process that was stopped may have tasks that have not noticed yet: they reach nobody.
    fn check_alive(&self) -> PeerResult<()> {
        if self.origin.is_alive(&self.network) { Ok(()) } else { Err(unreachable("the caller is dead")) }
    }
}

/// A unary method: the caller's identity travels with the request.
macro_rules! unary {
    ($name:ident, $request:ty, $answer:ty) => {
        fn $name(&self, _caller: Caller, request: $request) -> BoxFuture<'static, PeerResult<$answer>> {
            if let Err(dead) = self.check_alive() {
                return std::future::ready(Err(dead)).boxed();
            }
            let request = (self.caller, request);
            call(self.network.clone(), self.between.clone(), stringify!($name), request, |api, request| {
                api.$name(request.0, request.1)
            })
            .boxed()
        }
    };
}

/// A method with a stream each way.
macro_rules! streaming {
    ($name:ident, $request:ty, $answer:ty) => {
        fn $name(
            &self,
            _caller: Caller,
            requests: BoxStream<'static, $request>,
        ) -> BoxStream<'static, PeerResult<$answer>> {
            if let Err(dead) = self.check_alive() {
                return stream::iter([Err(dead)]).boxed();
            }
            let caller = self.caller;
            open(
                self.network.clone(),
                self.between.clone(),
                stringify!($name),
                requests,
                move |api, requests| api.$name(caller, requests),
            )
        }
    };
}

impl PeerApi for SimPeer {
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        if let Err(dead) = self.check_alive() {
            return std::future::ready(Err(dead)).boxed();
        }
        call(self.network.clone(), self.between.clone(), "hello", request, |api, request| api.hello(request))
            .boxed()
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
