//! Nodes that are away, that come back, and that take connections but say nothing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use esker_cluster::peer::{PeerApi, PeerError, PeerOptions};
use futures_util::StreamExt;
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::fake::{Dialer, IGNORED, Node, append, ask, listen, listen_with_backlog, soon, stays_open};

const HOUR: Duration = Duration::from_secs(3600);

async fn unreachable(peer: &Arc<dyn PeerApi>) -> String {
    match ask(peer).await {
        Err(PeerError::Unreachable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// An address that nobody listens on.
fn nobody() -> SocketAddr {
    listen(0).local_addr().unwrap()
}

/// An address that never takes a connection: its backlog is full. It is so while what comes with it lives.
async fn black_hole() -> (SocketAddr, impl Sized) {
    let listener = listen_with_backlog(0, 1);
    let address = listener.local_addr().unwrap();
    let mut waiting: Vec<TcpStream> = Vec::new();
    loop {
        let connecting = TcpSocket::new_v4().unwrap().connect(address);
        match timeout(Duration::from_millis(100), connecting).await {
            Ok(connected) => waiting.push(connected.unwrap()),
            Err(_) => return (address, (listener, waiting)),
        }
    }
}

#[tokio::test]
async fn a_dead_node_costs_one_attempt() {
    let dialer =
        Dialer::new(PeerOptions { backoff_min: HOUR, backoff_max: HOUR, ..Default::default() }, None);
    let address = nobody();
    let peer = dialer.connect(address);
    let why = unreachable(&peer).await;
    assert!(why.contains("refused"), "{why}");
    for _ in 0..100 {
        assert_eq!(unreachable(&peer).await, why);
    }
    let mut replies = peer.append(IGNORED, stays_open([append(1, "x")]));
    assert!(matches!(soon(replies.next()).await, Some(Err(PeerError::Unreachable(_)))));
    assert!(soon(replies.next()).await.is_none());
    // Another connection to the same node knows it too.
    assert_eq!(unreachable(&dialer.connect(address)).await, why);
    assert_eq!(dialer.failures(), 1);
}

#[tokio::test]
async fn a_node_that_does_not_take_the_connection_is_given_up_in_time() {
    let (address, _hole) = black_hole().await;
    let connect_timeout = Duration::from_millis(50);
    let call_timeout = HOUR;
    let options = PeerOptions {
        connect_timeout,
        call_timeout,
        backoff_min: HOUR,
        backoff_max: HOUR,
        ..Default::default()
    };
    let dialer = Dialer::new(options, None);
    let peer = dialer.connect(address);
    let start = Instant::now();
    let why = unreachable(&peer).await;
    assert!(why.contains("no connection within 50ms"), "{why}");
    assert!(start.elapsed() >= connect_timeout);
    unreachable(&peer).await;
    assert_eq!(dialer.failures(), 1);
}

#[tokio::test]
async fn a_node_that_comes_back_is_found() {
    let address = nobody();
    let backoff_max = Duration::from_millis(20);
    let dialer = Dialer::new(PeerOptions { backoff_max, ..Default::default() }, None);
    let peer = dialer.connect(address);
    for _ in 0..3 {
        unreachable(&peer).await;
        let node = Node::start_with(listen(address.port()), PeerOptions::default(), None);
        soon(async { while ask(&peer).await.is_err() {} }).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_calls_is_tried_before_its_pause_is_over() {
    let dialer =
        Dialer::new(PeerOptions { backoff_min: HOUR, backoff_max: HOUR, ..Default::default() }, None);
    let address = nobody();
    let peer = dialer.connect(address);
    unreachable(&peer).await;
    let node = Node::start_with(listen(address.port()), PeerOptions::default(), None);
    unreachable(&peer).await;
    peer.called();
    soon(ask(&peer)).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_broken_connection_is_made_again_by_the_next_call() {
    let node = Node::start();
    let options = PeerOptions { backoff_min: HOUR, backoff_max: HOUR, ..Default::default() };
    let dialer = Dialer::new(options, None);
    let peer = dialer.connect(node.address);
    assert_eq!(ask(&peer).await.unwrap(), 42);
    let mut replies = peer.append(IGNORED, stays_open([append(1, "x")]));
    soon(replies.next()).await.unwrap().unwrap();
    let port = node.address.port();
    let listener = {
        node.stop().await;
        listen(port)
    };
    // Both tell that the connection ended; only then is it certain that the link knows.
    soon(replies.next()).await.unwrap().unwrap_err();
    let _node = Node::start_with(listener, PeerOptions::default(), None);
    soon(async { while ask(&peer).await.is_err() {} }).await;
    assert_eq!(dialer.failures(), 0, "a connection that had worked is no failure to connect");
}

#[tokio::test]
async fn a_silent_node_is_found_out_by_pings() {
    let listener = listen(0);
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut taken = Vec::new();
        loop {
            taken.push(listener.accept().await.unwrap());
        }
    });
    let options = PeerOptions {
        call_timeout: HOUR,
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        backoff_min: HOUR,
        backoff_max: HOUR,
        ..Default::default()
    };
    let dialer = Dialer::new(options, None);
    let peer = dialer.connect(address);
    unreachable(&peer).await;
    unreachable(&peer).await;
    assert_eq!(dialer.failures(), 1, "a connection that nothing was answered on is a failure to connect");
    silent.abort();
}

#[tokio::test]
async fn consensus_and_bulk_have_a_connection_each() {
    let listener = listen(0);
    let dialer = Dialer::new(PeerOptions::default(), None);
    let peer = dialer.connect(listener.local_addr().unwrap());
    let consensus = tokio::spawn(peer.read_index(IGNORED, Default::default()));
    let _consensus = soon(listener.accept()).await.unwrap();
    let bulk = tokio::spawn(peer.change_members(IGNORED, Default::default()));
    let _bulk = soon(listener.accept()).await.unwrap();
    consensus.abort();
    bulk.abort();
}

#[tokio::test]
async fn connections_close_with_their_last_user() {
    let listener = listen(0);
    let dialer = Dialer::new(PeerOptions::default(), None);
    let peer = dialer.connect(listener.local_addr().unwrap());
    let asked = tokio::spawn(peer.read_index(IGNORED, Default::default()));
    let (mut tcp, _) = soon(listener.accept()).await.unwrap();
    asked.abort();
    drop(peer);
    soon(tcp.read_to_end(&mut Vec::new())).await.unwrap();
}
