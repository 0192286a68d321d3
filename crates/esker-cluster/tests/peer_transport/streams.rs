//! Streams: order, pipelining, size, and that they neither hold up others nor outlive their users.

use std::time::Duration;

use esker_cluster::peer::{
    MESSAGE_BYTES_MAX, PeerError, PeerOptions, STREAM_WINDOW_BYTES,
    wire::{self, propose_reply, snapshot_reply},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::fake::{
    CALLER, Dialer, IGNORED, Node, SILENT, append, ask, listen, matched, soon, stays_open, until,
};

#[tokio::test]
async fn appends_are_pipelined_and_answered_in_order() {
    const APPENDS: u64 = 500;
    let node = Node::start();
    node.fake.answers.send_replace(false);
    let peer = node.connect();
    let mut replies = peer.append(IGNORED, stays_open((1..=APPENDS).map(|index| append(index, "x"))));
    let fake = node.fake.clone();
    let all_arrived = async {
        until(&fake.appends, |appends| *appends == APPENDS as usize).await;
        fake.answers.send_replace(true);
    };
    // The stream runs as long as its answers are waited for.
    let (first, ()) = soon(async { tokio::join!(replies.next(), all_arrived) }).await;
    assert_eq!(first.unwrap().unwrap(), matched(1));
    for index in 2..=APPENDS {
        assert_eq!(soon(replies.next()).await.unwrap().unwrap(), matched(index));
    }
    assert_eq!(*node.fake.callers.lock(), [CALLER]);
}

#[tokio::test]
async fn a_stream_ends_with_its_messages() {
    let node = Node::start();
    let replies = node.connect().append(IGNORED, stream::iter([append(1, "a"), append(2, "b")]).boxed());
    let replies: Vec<_> = soon(replies.try_collect()).await.unwrap();
    assert_eq!(replies, [matched(1), matched(2)]);
}

#[tokio::test]
async fn a_snapshot_round_trips() {
    let node = Node::start();
    let chunk = |number| wire::SnapshotChunk { number, done: number == 2, ..Default::default() };
    let replies = node.connect().snapshot(IGNORED, stream::iter((0..3).map(chunk)).boxed());
    let replies: Vec<_> = soon(replies.try_collect()).await.unwrap();
    let outcomes: Vec<_> = replies.into_iter().filter_map(|reply| reply.outcome).collect();
    use snapshot_reply::Outcome::{Installed, Taken};
    assert_eq!(outcomes, [Taken(0), Taken(1), Installed(true)]);
}

#[tokio::test]
async fn proposals_round_trip() {
    let node = Node::start();
    let proposal = |id| wire::Proposal { id, records: 3, ..Default::default() };
    let request = wire::ProposeRequest { group: 0, proposals: vec![proposal(1), proposal(2)] };
    let replies = node.connect().propose(IGNORED, stream::iter([request]).boxed());
    let replies: Vec<_> = soon(replies.try_collect()).await.unwrap();
    let committed = |id| propose_reply::Outcome {
        id,
        outcome: Some(propose_reply::outcome::Outcome::Committed(wire::Committed {
            version: id + 100,
            existed: 3,
            ..wire::Committed::default()
        })),
    };
    assert_eq!(replies, [wire::ProposeReply { outcomes: vec![committed(1), committed(2)] }]);
}

#[tokio::test]
async fn an_append_of_40_mib_arrives_whole() {
    let node = Node::start();
    let payload: Vec<u8> = (0..40 << 20).map(|at: u32| (at % 251) as u8).collect();
    let mut replies = node.connect().append(IGNORED, stays_open([append(1, payload.clone())]));
    assert_eq!(soon(replies.next()).await.unwrap().unwrap(), matched(1));
    assert!(node.fake.payloads.lock()[0] == payload);
}

#[tokio::test]
async fn a_message_above_the_bound_is_refused_by_name() {
    let node = Node::start();
    let payload = vec![0; MESSAGE_BYTES_MAX + 1];
    let mut replies = node.connect().append(IGNORED, stays_open([append(1, "x"), append(2, payload)]));
    assert_eq!(soon(replies.next()).await.unwrap().unwrap(), matched(1));
    let told = soon(replies.next()).await.unwrap();
    assert!(matches!(&told, Err(PeerError::Failed(why)) if why.contains("too large")), "{told:?}");
    assert!(soon(replies.next()).await.is_none());
}

#[tokio::test]
async fn a_stream_that_is_not_read_does_not_hold_up_calls() {
    let node = Node::start();
    node.fake.reads.send_replace(false);
    let peer = node.connect();
    let (sent, mut count) = tokio::sync::watch::channel(0);
    let payload = vec![0; STREAM_WINDOW_BYTES as usize / 4];
    let messages = stream::iter(0..64).map(move |index| {
        sent.send_replace(index);
        append(index, payload.clone())
    });
    let mut replies = peer.append(IGNORED, messages.boxed());
    let replying = tokio::spawn(async move { replies.next().await });
    // The window is full: what was sent beyond it waits on our side.
    soon(count.wait_for(|sent| *sent >= 3)).await.unwrap();
    for _ in 0..10 {
        assert_eq!(ask(&peer).await.unwrap(), 42);
    }
    assert!(*count.borrow() < 16, "what is not read must be held back");
    node.fake.reads.send_replace(true);
    assert_eq!(soon(replying).await.unwrap().unwrap().unwrap(), matched(0));
}

#[tokio::test]
async fn a_dropped_stream_ends_at_the_other_side() {
    let node = Node::start();
    let peer = node.connect();
    let mut replies = peer.append(IGNORED, stays_open([append(1, "x")]));
    assert_eq!(soon(replies.next()).await.unwrap().unwrap(), matched(1));
    assert_eq!(*node.fake.open.borrow(), 1);
    drop(replies);
    until(&node.fake.open, |open| *open == 0).await;
    assert_eq!(ask(&peer).await.unwrap(), 42);
}

#[tokio::test]
async fn a_stream_given_up_that_nobody_reads_is_broken_off() {
    let node = Node::start();
    node.fake.reads.send_replace(false);
    let options = PeerOptions { call_timeout: Duration::from_millis(200), ..Default::default() };
    let peer = Dialer::new(options, None).connect(node.address);
    let payload = vec![0; STREAM_WINDOW_BYTES as usize];
    let messages = (0..4).map(move |index| append(index, payload.clone()));
    let mut replies = peer.append(IGNORED, stays_open(messages));
    let opened = async {
        tokio::select! {
            reply = replies.next() => panic!("{reply:?}"),
            () = until(&node.fake.open, |open| *open == 1) => {}
        }
        // Answered after the stream was taken up: its answers have begun.
        let reply = soon(futures_util::future::select(replies.next(), Box::pin(ask(&peer)))).await;
        assert!(matches!(reply, futures_util::future::Either::Right((Ok(42), _))));
    };
    opened.await;
    drop(replies);
    until(&node.fake.open, |open| *open == 0).await;
    soon(async { while ask(&peer).await.is_err() {} }).await;
}

#[tokio::test]
async fn shutting_down_ends_streams_and_says_so() {
    let node = Node::start();
    let peer = node.connect();
    let mut replies = peer.append(IGNORED, stays_open([append(1, "x")]));
    assert_eq!(soon(replies.next()).await.unwrap().unwrap(), matched(1));
    let fake = node.fake.clone();
    node.stop().await;
    let told = soon(replies.next()).await.unwrap();
    assert!(matches!(&told, Err(PeerError::Unreachable(why)) if why.contains("shutting down")), "{told:?}");
    assert!(soon(replies.next()).await.is_none());
    until(&fake.open, |open| *open == 0).await;
}

#[tokio::test]
async fn shutting_down_breaks_off_calls_after_the_grace() {
    let options = PeerOptions { shutdown_grace: Duration::from_millis(20), ..Default::default() };
    let node = Node::start_with(listen(0), options, None);
    let peer = node.connect();
    let silent = tokio::spawn(
        peer.read_index(IGNORED, wire::ReadIndexRequest { group: SILENT, ..Default::default() }),
    );
    let fake = node.fake.clone();
    until(&fake.open, |open| *open == 1).await;
    node.stop().await;
    let told = soon(silent).await.unwrap();
    assert!(matches!(told, Err(PeerError::Unreachable(_))), "{told:?}");
    until(&fake.open, |open| *open == 0).await;
}
