//! What the nodes of a cluster say to one another: the messages ([`wire`]), and the two sides of a call.
//!
//! [`PeerApi`] is what a node answers. A connection to another node is the same trait: tonic carries it over the
//! network, `esker-sim` through a network that loses, delays and repeats. Nothing in here knows the consensus library.
//!
//! The real network:
//!
//! ```text
//! TonicConnector -> Connection -> Link (consensus) ==TCP/TLS, HTTP/2==> serve -> PeerApi of the other node
//!                             \-> Link (bulk)      ==================/
//! ```
//!
//! A [`TonicConnector`] keeps two links to each node, so that a snapshot never delays a heartbeat. A link is one
//! HTTP/2 connection that is made when it is needed, and again when it broke (`link.rs`). [`serve`] answers. tonic
//! does the messages and the streams; the connections are hyper's, as both sides must know when one breaks.
//!
//! Payloads are not copied on receipt: they are slices of the buffer they arrived in. Who keeps one for long keeps
//! that buffer too, a few KiB or the size of the message, whichever is more.

mod backoff;
mod connection;
mod connector;
mod duplex;
mod link;
mod metadata;
mod options;
mod server;
mod service;
mod status;
mod tls;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};

pub use connector::{Jitter, TonicConnector};
pub use options::{
    CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, MESSAGE_BYTES_MAX, PeerOptions, SEND_BUFFER_BYTES,
    STREAM_WINDOW_BYTES, STREAMS_MAX,
};
pub use server::serve;
pub use tls::PeerTls;

/// The messages; `proto/esker/peer/v1/peer.proto` documents them.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    tonic::include_proto!("esker.peer.v1");
}

/// 16 random bytes: of a cluster, or of the data directory of a node.
pub type Id = [u8; 16];

/// A node as it is known to others: its number, and the instance of its data directory, so that a wiped node is
/// not taken for the one that voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The node's number.
    pub node: u64,
    /// The instance of its data directory.
    pub instance: Id,
}

/// Who calls, and who is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The cluster that the caller belongs to.
    pub cluster: Id,
    /// Who calls.
    pub from: Identity,
    /// Who is meant.
    pub to: Identity,
}

/// Why a call failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeerError {
    /// There is no connection, or it broke: the call may or may not have arrived.
    Unreachable(String),
    /// No answer came in time: the call may or may not have arrived.
    TimedOut(Duration),
    /// The other side is of another cluster, or another instance than the one that was meant. It did nothing.
    WrongIdentity(String),
    /// The other side could not do it.
    Failed(String),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the node cannot be reached: {why}"),
            Self::TimedOut(after) => write!(f, "the node did not answer within {after:?}"),
            Self::WrongIdentity(why) => write!(f, "this is another node than was meant: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for PeerError {}

/// The outcome of a call.
pub type PeerResult<T> = Result<T, PeerError>;

/// What a node answers, and what a connection to one offers. `caller` says on whose behalf; a connection fills it in
/// itself, so what it is given is ignored there.
///
/// Dropping a future or a stream gives the call up; it may have arrived.
///
/// Who answers a stream sees its messages end when the caller has no more, gave up, broke off, or sent something that
/// cannot be read; it answers what it has and ends its answers, and the caller learns what it was.
/// Nothing is sent before the answers are first polled.
pub trait PeerApi: Send + Sync + 'static {
    /// The peer has called by itself: whoever leaves it alone because it could not be reached may try it again at once. No
    /// call to it.
    fn called(&self) {}
    /// See the proto file; so for all of these.
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>>;
    /// Asks for a vote.
    fn vote(
        &self,
        caller: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>>;
    /// Asks whether a vote would be granted.
    fn pre_vote(
        &self,
        caller: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>>;
    /// Tells a node to stand for election.
    fn transfer_leader(
        &self,
        caller: Caller,
        request: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>>;
    /// Replicates entries, answered in order. An error ends the stream of answers.
    fn append(
        &self,
        caller: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>>;
    /// Sends a snapshot.
    fn snapshot(
        &self,
        caller: Caller,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>>;
    /// Asks the leader for a read index.
    fn read_index(
        &self,
        caller: Caller,
        request: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>>;
    /// Has the leader commit writes.
    fn propose(
        &self,
        caller: Caller,
        requests: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>>;
    /// Has the leader change the membership.
    fn change_members(
        &self,
        caller: Caller,
        request: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>>;
}

/// Makes connections.
pub trait Connector: Send + Sync + 'static {
    /// A connection to the node at `address` (`host:port`). Made when it is first used, and again when it broke; never
    /// waits. Calls fail at once while the node is known to be unreachable.
    fn connect(&self, address: &str, caller: Caller) -> Arc<dyn PeerApi>;
}
