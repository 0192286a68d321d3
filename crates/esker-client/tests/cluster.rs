//! What the client makes of a cluster: whom it asks, what it sends again, and what it keeps apart. Scripts play the nodes.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "scripted nodes need sockets of their own")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use esker_client::{
    Batch, Client, Condition, Consistency, Error, ErrorCode, KeyOptions, PutOptions, Retry, Settings,
    WriteOptions, cluster::MembersRequest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What arrived at a node.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    id: Option<String>,
}

enum Reply {
    Say(String),
    /// Keeps the connection and never answers, as a paused process does.
    Silence,
    /// Hangs up.
    Cut,
}

type Script = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

/// A node whose every answer is the script's: of the request's number (from 0, questions for the members aside) and the
/// request. It ends when dropped.
struct Node {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Node {
    async fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    fn serve(listener: TcpListener, script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (script, log): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { address, seen, task }
    }

    /// The requests but those for the members.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| !is_about_members(seen)).cloned().collect()
    }

    fn ids(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.id.unwrap()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_about_members(seen: &Seen) -> bool {
    seen.line.contains("/cluster/nodes")
}

async fn answer(mut stream: TcpStream, script: Arc<Script>, log: Arc<Mutex<Vec<Seen>>>) {
    let Some(seen) = read(&mut stream).await else { return };
    let reply = {
        let mut log = log.lock().unwrap();
        let number = log.iter().filter(|seen| !is_about_members(seen)).count();
        log.push(seen.clone());
        script(number, &seen)
    };
    match reply {
        Reply::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
        Reply::Silence => std::future::pending().await,
        Reply::Cut => {}
    }
}

/// A request with its body.
async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            lines
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .next()
        };
        let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return Some(Seen { line: head.lines().next()?.to_owned(), id: header("esker-request-id") });
        }
    }
}

fn say(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Say(format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

fn written() -> Reply {
    say(200, "", r#"{"key":"k","version":7}"#)
}

fn refuse(status: u16, code: &str, headers: &str) -> Reply {
    say(status, headers, &format!(r#"{{"error":{{"code":"{code}","message":"{code}"}}}}"#))
}

/// Sends a request where it came from to `leader`.
fn redirect(seen: &Seen, leader: &str) -> Reply {
    let target = seen.line.split(' ').nth(1).unwrap();
    refuse(307, "not_leader", &format!("location: http://{leader}{target}\r\n"))
}

fn members(addresses: &[&str], leader: usize) -> Reply {
    let nodes: Vec<String> = addresses
        .iter()
        .enumerate()
        .map(|(at, address)| {
            let role = if at == leader { "leader" } else { "follower" };
            format!(
                r#"{{"id":{},"http_address":"{address}","peer_address":"p:{at}","role":"{role}","voter":true,"healthy":true}}"#,
                at + 1
            )
        })
        .collect();
    say(200, "", &format!(r#"{{"nodes":[{}]}}"#, nodes.join(",")))
}

/// What a node says that knows no members: as one of mode `single` does.
fn no_members() -> Reply {
    say(200, "", r#"{"nodes":[]}"#)
}

/// Where nobody listens.
async fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

fn client(endpoints: &[&str], change: impl FnOnce(&mut Settings)) -> Client {
    let mut settings = Settings::default();
    settings.attempt_timeout = Duration::from_millis(200);
    change(&mut settings);
    Client::with_endpoints(endpoints.iter().copied(), settings).unwrap()
}

fn once_asked(script: impl Fn(usize, &Seen) -> Reply) -> impl Fn(usize, &Seen) -> Reply {
    move |number, seen| if is_about_members(seen) { no_members() } else { script(number, seen) }
}

#[tokio::test]
async fn a_redirect_is_followed_to_a_node_that_was_not_given_and_remembered() {
    let leader = Node::start(once_asked(|_, _| written())).await;
    let address = leader.address.clone();
    let follower = Node::start(once_asked(move |_, seen| redirect(seen, &address))).await;
    let client = client(&[&follower.address], |settings| settings.discover = false);
    for _ in 0..3 {
        assert_eq!(client.put(b"a/%2F?", "v").await.unwrap().version, 7);
    }
    assert_eq!((follower.seen().len(), leader.seen().len()), (1, 3));
    assert_eq!(follower.seen()[0].line, leader.seen()[0].line);
    assert_eq!(follower.ids()[0], leader.ids()[0]);
}

#[tokio::test]
async fn the_leader_moves() {
    // The second node leads until it has taken two writes, and then sends everybody to the first.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = listener.local_addr().unwrap().to_string();
    let second = Node::start(once_asked(move |number, seen| match number {
        0 | 1 => written(),
        _ => redirect(seen, &first),
    }))
    .await;
    let address = second.address.clone();
    let first = Node::serve(
        listener,
        once_asked(move |number, seen| match number {
            0 => redirect(seen, &address),
            _ => written(),
        }),
    );
    let client = client(&[&first.address, &second.address], |_| {});
    for _ in 0..4 {
        client.put(b"k", "v").await.unwrap();
    }
    assert_eq!((first.seen().len(), second.seen().len()), (3, 3));
}

#[tokio::test]
async fn nodes_that_send_us_in_circles_are_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = listener.local_addr().unwrap().to_string();
    let second = Node::start(move |_, seen| redirect(seen, &first)).await;
    let address = second.address.clone();
    let first = Node::serve(listener, move |_, seen| redirect(seen, &address));
    let client = client(&[&first.address], |settings| settings.retry.within = Duration::from_millis(200));
    let error = client.put(b"k", "v").await.unwrap_err();
    assert!(matches!(error, Error::NotLeader { leader: Some(_), .. }), "{error:?}");
    // Five at a stretch, then a pause of at least 10 ms: not as fast as it goes.
    let asked = first.seen().len() + second.seen().len();
    assert!((6..=5 * 21).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_dead_node_costs_one_attempt_and_is_not_asked_first_again() {
    let node = Node::start(once_asked(|_, _| written())).await;
    let client = client(&[&dead().await, &dead().await, &node.address], |settings| {
        // Not even where nobody waits for servers that restart.
        settings.retry.unreachable = false;
    });
    client.put(b"k", "v").await.unwrap();
    assert_eq!(&*client.endpoint(), format!("http://{}", node.address));
    let all_dead = [dead().await, dead().await];
    let error = self::client(&[&all_dead[0], &all_dead[1]], |s| s.retry.unreachable = false);
    assert!(matches!(error.put(b"k", "v").await.unwrap_err(), Error::Unreachable { .. }));
}

/// A node that is paused (SIGSTOP) accepts connections and says nothing.
#[tokio::test]
async fn a_silent_node_does_not_eat_the_time() {
    let paused = Node::start(|_, _| Reply::Silence).await;
    let node = Node::start(once_asked(|_, _| written())).await;
    let client = client(&[&paused.address, &node.address], |settings| {
        settings.request_timeout = Duration::from_secs(3600);
    });
    client.put(b"k", "v").await.unwrap();
    client.put(b"k", "v").await.unwrap();
    assert_eq!((paused.seen().len(), node.seen().len()), (1, 2));
    assert_eq!(paused.ids()[0], node.ids()[0]);
}

/// Where there is nobody else to ask, slow work is waited for.
#[tokio::test]
async fn a_lone_server_gets_the_whole_time() {
    let node = Node::start(|_, _| Reply::Silence).await;
    let client = client(&[&node.address], |settings| {
        settings.attempt_timeout = Duration::from_millis(1);
        settings.request_timeout = Duration::from_millis(300);
        settings.retry.within = Duration::from_millis(1);
    });
    let error = client.put(b"k", "v").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { after } if after.as_millis() == 300), "{error:?}");
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn a_client_that_was_given_one_node_survives_its_death() {
    let second = Node::start(|_, seen| if is_about_members(seen) { no_members() } else { written() }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [listener.local_addr().unwrap().to_string(), second.address.clone()];
    let first = Node::serve(listener, move |_, seen| match is_about_members(seen) {
        true => members(&[&addresses[0], &addresses[1]], 1),
        false => written(),
    });
    let client = client(&[&first.address], |_| {});
    client.put(b"k", "v").await.unwrap();
    // That it has learned shows in whom it prefers: the leader.
    let leader = format!("http://{}", second.address);
    while *client.endpoint() != *leader {
        tokio::task::yield_now().await;
    }
    drop(first);
    client.put(b"k", "v").await.unwrap();
    assert_eq!(second.seen().len(), 1);
}

/// The address that a lone server tells is the one it listens on, which elsewhere may be another server's.
#[tokio::test]
async fn a_single_server_teaches_no_addresses() {
    let node = Node::start(|_, seen| match is_about_members(seen) {
        true => say(
            200,
            "",
            r#"{"nodes":[{"id":1,"http_address":"127.0.0.1:1","role":"leader","healthy":true}]}"#,
        ),
        false => written(),
    })
    .await;
    let client = client(&[&node.address], |_| {});
    client.put(b"k", "v").await.unwrap();
    while node.seen.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    client.put(b"k", "v").await.unwrap();
    assert_eq!(&*client.endpoint(), format!("http://{}", node.address));
}

/// `Retry-After` alone would ask for longer than there is.
#[tokio::test]
async fn milliseconds_are_heeded_before_seconds() {
    let node = Node::start(once_asked(|number, _| match number {
        0 | 1 => refuse(503, "no_leader", "retry-after: 60\r\nesker-retry-after-ms: 15\r\n"),
        _ => written(),
    }))
    .await;
    client(&[&node.address], |_| {}).put(b"k", "v").await.unwrap();
    assert_eq!(node.seen().len(), 3);
    let node = Node::start(|_, _| refuse(503, "no_leader", "retry-after: 60\r\n")).await;
    let error = client(&[&node.address], |_| {}).put(b"k", "v").await.unwrap_err();
    assert_eq!((error.code(), node.seen().len()), (Some(ErrorCode::NoLeader), 1));
}

#[tokio::test]
async fn a_node_that_leaves_is_left_at_once() {
    let leaving = Node::start(|_, _| refuse(503, "draining", "retry-after: 60\r\n")).await;
    let node = Node::start(once_asked(|_, _| written())).await;
    client(&[&leaving.address, &node.address], |_| {}).put(b"k", "v").await.unwrap();
    let poisoned = Node::start(|_, _| refuse(503, "writes_refused", "")).await;
    client(&[&poisoned.address, &node.address], |_| {}).put(b"k", "v").await.unwrap();
    assert_eq!(node.seen().len(), 2);
}

#[tokio::test]
async fn every_copy_of_a_write_has_the_same_id() {
    let node = Node::start(once_asked(|number, _| match number {
        0 => Reply::Cut,
        1 => refuse(503, "outcome_unknown", "esker-retry-after-ms: 1\r\n"),
        2 => Reply::Silence,
        3 => refuse(503, "no_leader", "esker-retry-after-ms: 1\r\n"),
        _ => written(),
    }))
    .await;
    let client = client(&[&node.address], |settings| settings.request_timeout = Duration::from_millis(200));
    client.put(b"k", "v").await.unwrap();
    client.clone().put(b"k", "v").await.unwrap();
    let ids = node.ids();
    assert_eq!(ids.len(), 6);
    assert!(ids[..5].iter().all(|id| *id == ids[0]) && ids[5] != ids[0], "{ids:?}");
    ids.iter().for_each(|id| assert!(id.parse::<esker_engine::RequestId>().is_ok(), "{id}"));
}

fn incremented() -> Reply {
    say(200, "", r#"{"key":"n","value":2,"version":7}"#)
}

/// An increment or a write with a condition is told apart from its copies like any write.
#[tokio::test]
async fn increments_and_conditional_writes_are_sent_again_under_their_id() {
    let node = Node::start(once_asked(|number, _| match number {
        number if number % 2 == 0 => Reply::Cut,
        1 => incremented(),
        3 => written(),
        5 => say(200, "", r#"{"key":"k","version":8,"existed":true}"#),
        _ => say(200, "", r#"{"version":9,"operations":1}"#),
    }))
    .await;
    let lone = client(&[&node.address], |_| {});
    assert_eq!(lone.incr(b"n", 1).await.unwrap().value, 2);
    lone.put_with(b"k", "v", PutOptions::default().if_version(3)).await.unwrap();
    assert!(lone.delete_with(b"k", KeyOptions::default().if_present()).await.unwrap().existed);
    let mut batch = Batch::new();
    batch.put(b"k", b"v");
    batch.require(b"k", Condition::Absent);
    assert_eq!(lone.batch(batch, WriteOptions::default()).await.unwrap().version, 9);
    let ids = node.ids();
    assert_eq!(ids.len(), 8);
    assert!(ids.chunks(2).all(|copies| copies[0] == copies[1]), "{ids:?}");

    let careful = client(&[&node.address], |settings| settings.retry.resend_writes = false);
    let error = careful.incr(b"n", 1).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
}

/// What a server turned away was not done, so it is sent again in any case.
#[tokio::test]
async fn an_increment_that_was_refused_is_sent_again() {
    let node = Node::start(once_asked(|number, _| match number {
        0 => refuse(503, "busy", "esker-retry-after-ms: 1\r\n"),
        _ => incremented(),
    }))
    .await;
    assert_eq!(client(&[&node.address], |_| {}).incr(b"n", 1).await.unwrap().version, 7);
}

#[tokio::test]
async fn a_condition_that_does_not_hold_tells_the_present_version() {
    let details = |version: &str| {
        let body = r#"{"error":{"code":"precondition_failed","message":"no","details":{"version":V}}}"#;
        say(412, "", &body.replace('V', version))
    };
    let node =
        Node::start(once_asked(move |number, _| details(if number == 0 { "9" } else { "null" }))).await;
    let client = client(&[&node.address], |_| {});
    for expected in [Some(9), None] {
        let error = client.put_with(b"k", "v", PutOptions::default().if_absent()).await.unwrap_err();
        let Error::ConditionFailed { version, .. } = error else { panic!("{error:?}") };
        assert_eq!(version, expected);
    }
    assert_eq!(node.seen().len(), 2, "it is not tried again");
}

#[tokio::test]
async fn a_multi_get_is_a_read() {
    let node = Node::start(once_asked(|number, _| match number {
        0 => Reply::Cut,
        _ => say(200, "", r#"{"items":[null,{"key":"YQ==","value":"MQ==","encoding":"base64","version":3,"expires_at":5}]}"#),
    }))
    .await;
    let client = client(&[&node.address], |_| {});
    let entries = client.mget(&["b", "a"]).await.unwrap();
    let entry = entries[1].as_ref().unwrap();
    assert_eq!((&entries[0], &*entry.value, entry.version, entry.expires_at), (&None, &b"1"[..], 3, Some(5)));
    assert!(client.mget(&["one"]).await.is_err(), "two items for one key");
    assert!(node.seen().iter().all(|seen| seen.id.is_none()));
}

#[tokio::test]
async fn who_resends_nothing_is_told_that_the_outcome_is_unknown() {
    let node = Node::start(|_, _| refuse(503, "outcome_unknown", "esker-retry-after-ms: 1\r\n")).await;
    let client = client(&[&node.address], |settings| settings.retry.resend_writes = false);
    let error = client.delete(b"k").await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(node.seen().len(), 1);
}

/// To be told that a node is a member already would be a puzzling answer to who adds it.
#[tokio::test]
async fn a_change_of_members_is_sent_again_only_if_it_was_not_done() {
    let node = Node::start(once_asked(|number, _| match number {
        0 => refuse(503, "no_leader", "esker-retry-after-ms: 1\r\n"),
        1 => say(200, "", r#"{"node":4}"#),
        _ => Reply::Cut,
    }))
    .await;
    let client = client(&[&node.address], |_| {});
    assert_eq!(client.change_members(&MembersRequest::Promote(4)).await.unwrap(), 4);
    let error = client.change_members(&MembersRequest::Remove(4)).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(node.seen().len(), 3);
}

#[tokio::test]
async fn a_stale_read_says_what_was_applied() {
    let node = Node::start(once_asked(|number, _| match number {
        0 => say(200, "etag: \"5\"\r\nesker-applied-version: 9\r\n", "value"),
        1 => refuse(404, "key_not_found", "esker-applied-version: 9\r\n"),
        _ => say(200, "etag: \"5\"\r\n", "value"),
    }))
    .await;
    let client = client(&[&node.address], |_| {});
    let found = client.get_with(b"k", Consistency::Stale).await.unwrap();
    assert_eq!((found.entry.unwrap().version, found.applied), (5, Some(9)));
    let found = client.get_with(b"k", Consistency::Stale).await.unwrap();
    assert_eq!((found.entry, found.applied), (None, Some(9)));
    assert_eq!(client.get(b"k").await.unwrap().unwrap().version, 5);
    let lines: Vec<_> = node.seen().into_iter().map(|seen| (seen.line.contains("stale"), seen.id)).collect();
    assert_eq!(lines, [(true, None), (true, None), (false, None)]);
}

/// The answer to a HEAD has no body to say why.
#[tokio::test]
async fn a_head_is_sent_again_too() {
    let node = Node::start(once_asked(|number, _| match number {
        0 => say(503, "esker-retry-after-ms: 1\r\n", ""),
        _ => say(200, "etag: \"5\"\r\n", ""),
    }))
    .await;
    assert_eq!(client(&[&node.address], |_| {}).head(b"k").await.unwrap().unwrap().version, 5);
}

#[tokio::test]
async fn a_write_says_when_it_is_to_be_acknowledged() {
    let node = Node::start(once_asked(|_, _| written())).await;
    let options = WriteOptions { ack: esker_client::Ack::All, ..WriteOptions::default() };
    client(&[&node.address], |_| {}).put_with(b"k", "v", options).await.unwrap();
    assert!(node.seen()[0].line.contains("/api/v1/kv/k?ack=all "), "{:?}", node.seen());
    let mut never = Settings::default();
    never.retry = Retry::never();
    let error = Client::with_endpoints([&*dead().await, &node.address], never).unwrap().get(b"k").await;
    assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
}
