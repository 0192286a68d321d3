//! How fast two nodes talk over loopback, both in this process: `cargo run --release --example peer_bench`.
//!
//! Append: one stream, entries of 100 bytes, one to a message. ReadIndex: 64 callers, each waiting for its answer.

use std::{error::Error, future::pending, future::ready, sync::Arc, time::Duration};

use bytes::Bytes;
use esker_cluster::peer::{
    Caller, Connector, Identity, PeerApi, PeerError, PeerOptions, PeerResult, TonicConnector, serve,
    wire::{self, append_reply},
};
use esker_log::clock::{Clock, SystemClock};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::{self, BoxStream},
};
use tokio::{net::TcpSocket, sync::mpsc};

const RUN: Duration = Duration::from_secs(3);
const CALLERS: usize = 64;

/// Answers what is measured, at once.
struct Node;

fn unmeasured<T: Send + 'static>() -> BoxFuture<'static, PeerResult<T>> {
    ready(Err(PeerError::Failed("not measured".to_owned()))).boxed()
}

impl PeerApi for Node {
    fn hello(&self, _: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        unmeasured()
    }

    fn vote(&self, _: Caller, _: wire::VoteRequest) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        unmeasured()
    }

    fn pre_vote(&self, _: Caller, _: wire::VoteRequest) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        unmeasured()
    }

    fn transfer_leader(
        &self,
        _: Caller,
        _: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>> {
        unmeasured()
    }

    fn append(
        &self,
        _: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>> {
        let matched = |request: wire::AppendRequest| request.previous.map(append_reply::Outcome::Matched);
        requests.map(move |request| Ok(wire::AppendReply { outcome: matched(request) })).boxed()
    }

    fn snapshot(
        &self,
        _: Caller,
        _: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        unmeasured().into_stream().boxed()
    }

    fn read_index(
        &self,
        _: Caller,
        _: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>> {
        ready(Ok(wire::ReadIndexReply { index: 1, leader: 1, vote: None })).boxed()
    }

    fn propose(
        &self,
        _: Caller,
        _: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>> {
        unmeasured().into_stream().boxed()
    }

    fn change_members(
        &self,
        _: Caller,
        _: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>> {
        unmeasured()
    }
}

const CALLER: Caller = Caller {
    cluster: [1; 16],
    from: Identity { node: 1, instance: [2; 16] },
    to: Identity { node: 2, instance: [3; 16] },
};

fn append(payload: &Bytes) -> wire::AppendRequest {
    let id = Some(wire::LogId { term: 1, index: 1 });
    let vote = Some(wire::Vote { term: 1, node: 1, committed: true });
    let kind = wire::EntryKind::Records.into();
    let entries = vec![wire::Entry { id, kind, payload: payload.clone(), records: 1 }];
    wire::AppendRequest { group: 0, vote, previous: id, entries, commit: id, acknowledged: None }
}

/// Appends answered per second with so many under way.
async fn appends(peer: &Arc<dyn PeerApi>, under_way: usize) -> Result<f64, Box<dyn Error>> {
    let payload = Bytes::from_static(&[7; 100]);
    let (send, receive) = mpsc::channel(under_way);
    for _ in 0..under_way {
        send.try_send(append(&payload))?;
    }
    let requests = stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    let mut replies = peer.append(CALLER, requests.boxed());
    let clock = SystemClock::new();
    let mut answered = 0;
    while clock.monotonic() < RUN {
        replies.next().await.ok_or("the stream ended")??;
        send.try_send(append(&payload))?;
        answered += 1;
    }
    Ok(f64::from(answered) / clock.monotonic().as_secs_f64())
}

/// Calls answered per second.
async fn read_indexes(peer: &Arc<dyn PeerApi>) -> Result<f64, Box<dyn Error>> {
    let clock = Arc::new(SystemClock::new());
    let caller = |_| {
        let (peer, clock) = (peer.clone(), clock.clone());
        tokio::spawn(async move {
            let mut answered = 0;
            while clock.monotonic() < RUN {
                peer.read_index(CALLER, wire::ReadIndexRequest::default()).await?;
                answered += 1;
            }
            Ok::<u32, PeerError>(answered)
        })
    };
    let mut all = 0;
    for answered in join_all((0..CALLERS).map(caller)).await {
        all += answered??;
    }
    Ok(f64::from(all) / clock.monotonic().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(16)?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(serve(listener, Arc::new(Node), PeerOptions::default(), None, pending()));
    let connector = TonicConnector::new(PeerOptions::default(), None, Arc::new(rand::random::<f64>));
    let peer = connector.connect(&address, CALLER);
    for under_way in [1, 16, 256, 1024] {
        println!("append, {under_way:4} under way: {:8.0}/s", appends(&peer, under_way).await?);
    }
    println!("read index, {CALLERS} callers: {:8.0}/s", read_indexes(&peer).await?);
    Ok(())
}
