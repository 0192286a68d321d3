//! Calls with one answer: what arrives, what comes back, and what is refused.

use std::time::Duration;

use bytes::Bytes;
use esker_cluster::peer::{PeerError, PeerOptions, wire};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;

use crate::fake::{
    CALLER, Dialer, FAILED, IGNORED, Node, SILENT, TIMED_OUT, UNREACHABLE, WRONG_IDENTITY, soon,
};

const VOTE: wire::Vote = wire::Vote { term: 3, node: 7, committed: true };
const LAST: wire::LogId = wire::LogId { term: 2, index: 8 };

#[tokio::test]
async fn each_call_round_trips() {
    let node = Node::start();
    let peer = node.connect();
    let cluster = Bytes::from_static(b"sixteen bytes...");
    let hello = peer.hello(wire::HelloRequest { cluster: cluster.clone(), ..wire::HelloRequest::default() });
    let hello = soon(hello).await.unwrap();
    assert_eq!((hello.cluster, hello.leader), (cluster, 9));

    let request = wire::VoteRequest { vote: Some(VOTE), last: Some(LAST), ..Default::default() };
    let vote = soon(peer.vote(IGNORED, request)).await.unwrap();
    assert_eq!((vote.vote, vote.granted, vote.last), (Some(VOTE), true, Some(LAST)));
    let vote = soon(peer.pre_vote(IGNORED, request)).await.unwrap();
    assert_eq!((vote.vote, vote.granted, vote.last), (Some(VOTE), false, Some(LAST)));

    let request = wire::TransferLeaderRequest { to: 5, ..Default::default() };
    assert_eq!(soon(peer.transfer_leader(IGNORED, request)).await.unwrap().refused, "5 is behind");

    let read = soon(peer.read_index(IGNORED, wire::ReadIndexRequest { group: 0 })).await.unwrap();
    assert_eq!((read.index, read.leader), (42, 2));

    let request = wire::ChangeMembersRequest { group: 77, change: None };
    assert_eq!(soon(peer.change_members(IGNORED, request)).await.unwrap().node, 77);
}

#[tokio::test]
async fn calls_say_on_whose_behalf_the_connection_was_made() {
    let node = Node::start();
    let peer = node.connect();
    soon(peer.vote(IGNORED, wire::VoteRequest::default())).await.unwrap();
    soon(peer.change_members(IGNORED, wire::ChangeMembersRequest::default())).await.unwrap();
    assert_eq!(*node.fake.callers.lock(), [CALLER, CALLER]);
}

#[tokio::test]
async fn each_error_comes_back_as_it_was() {
    let node = Node::start();
    let peer = node.connect();
    let expected = [
        (WRONG_IDENTITY, PeerError::WrongIdentity("this is node 3".into())),
        (UNREACHABLE, PeerError::Unreachable("cut off".into())),
        (TIMED_OUT, PeerError::TimedOut(Duration::from_millis(70))),
        (FAILED, PeerError::Failed("no disk".into())),
    ];
    for (group, error) in expected {
        let told = soon(peer.read_index(IGNORED, wire::ReadIndexRequest { group })).await.unwrap_err();
        assert_eq!(format!("{told:?}"), format!("{error:?}"));
    }
}

#[tokio::test]
async fn a_call_without_an_answer_times_out() {
    let node = Node::start();
    let call_timeout = Duration::from_millis(30);
    let dialer = Dialer::new(PeerOptions { call_timeout, ..Default::default() }, None);
    let peer = dialer.connect(node.address);
    let told = soon(peer.read_index(IGNORED, wire::ReadIndexRequest { group: SILENT })).await;
    assert!(matches!(told, Err(PeerError::TimedOut(after)) if after == call_timeout), "{told:?}");
}

/// The gRPC status of a call that is written by hand, with an empty message.
async fn status(node: &Node, method: &str, metadata: &[(&str, &str)]) -> String {
    let tcp = TcpSocket::new_v4().unwrap().connect(node.address).await.unwrap();
    let http = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = http.handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{}/esker.peer.v1.Peer/{method}", node.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (key, value) in metadata {
        request = request.header(*key, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(&[0; 5]))).unwrap();
    let (head, body) = soon(sender.send_request(request)).await.unwrap().into_parts();
    let trailers = soon(body.collect()).await.unwrap().trailers().cloned().unwrap_or_default();
    let status = head.headers.get("grpc-status").or(trailers.get("grpc-status"));
    status.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_hello_is_answered_without_the_right_metadata() {
    const OK: &str = "0";
    const INVALID_ARGUMENT: &str = "3";
    let node = Node::start();
    let id = "00112233445566778899aabbccddeeff";
    let one = format!("1-{id}");
    let right = [("esker-cluster", id), ("esker-from", &*one), ("esker-to", &*one)];
    let malformed = [("esker-cluster", id), ("esker-from", &*one), ("esker-to", "1")];
    let methods = ["Vote", "PreVote", "TransferLeader", "Append", "Snapshot", "ReadIndex", "Propose"];
    for method in methods.into_iter().chain(["ChangeMembers"]) {
        assert_eq!(status(&node, method, &[]).await, INVALID_ARGUMENT, "{method}");
        assert_eq!(status(&node, method, &right[..2]).await, INVALID_ARGUMENT, "{method}");
        assert_eq!(status(&node, method, &malformed).await, INVALID_ARGUMENT, "{method}");
        assert_eq!(node.fake.callers.lock().len(), 0, "{method}");
    }
    assert_eq!(status(&node, "Hello", &[]).await, OK);
    assert_eq!(status(&node, "Hello", &malformed).await, OK);
    assert_eq!(status(&node, "Vote", &right).await, OK);
    assert_eq!(node.fake.callers.lock()[0].from.node, 1);
}
