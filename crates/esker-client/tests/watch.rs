//! What a watch makes of servers that cut it off, fall silent, tell nonsense or no longer know. A script plays the servers.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "scripted servers need sockets of their own")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use esker_client::{Client, Error, Settings, WatchEvent, WatchOptions, WatchStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How a connection goes on behind what it told.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It ends in the middle of the answer.
    Cut,
    /// The answer ends in order.
    End,
    /// Nothing more comes.
    Silence,
}

type Act = (String, Then);

/// A server that plays one act for each watch, and the last one for all further ones. It ends when dropped.
struct Fake {
    endpoint: String,
    /// Where each watch began: its `Last-Event-ID`, or else its `from`.
    began: Arc<Mutex<Vec<Option<u64>>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let began = Arc::<Mutex<Vec<Option<u64>>>>::default();
        let (log, acts) = (Arc::clone(&began), Arc::new(acts));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&acts), Arc::clone(&log)));
            }
        });
        Self { endpoint, began, task }
    }

    fn began(&self) -> Vec<Option<u64>> {
        self.began.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, acts: Arc<Vec<Act>>, began: Arc<Mutex<Vec<Option<u64>>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    if !path.starts_with("/api/v1/watch?") {
        let body = if path.ends_with("/status") { STATUS } else { r#"{"nodes":[]}"# };
        let head = format!("HTTP/1.1 200 X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let _gone = stream.write_all(format!("{head}{body}").as_bytes()).await;
        return;
    }
    assert!(path.contains("encoding=base64"), "{path}");
    let number = |text: &str, mark: &str| {
        let rest = text.split_once(mark)?.1;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    let behind = number(&request, "last-event-id: ").or_else(|| number(path, "from="));
    let act = {
        let mut began = began.lock().unwrap();
        began.push(behind);
        (began.len() - 1).min(acts.len() - 1)
    };
    let (text, then) = &acts[act];
    let head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    let chunk = if text.is_empty() { "" } else { &chunk };
    let end = if matches!(then, Then::End) { "0\r\n\r\n" } else { "" };
    let _gone = stream.write_all(format!("{head}{chunk}{end}").as_bytes()).await;
    if matches!(then, Then::Silence) {
        // Until the other side has had enough.
        let _gone = stream.read(&mut [0; 1]).await;
    }
}

const STATUS: &str = r#"{"node_id":1,"mode":"single","role":"leader","leader_id":1,"term":0,"commit_index":4,
    "applied_index":4,"healthy":true,"trouble":null,"uptime_seconds":1,"server_version":"0","storage":
    {"keys":0,"segments":0,"log_bytes":0,"live_bytes":0,"index_bytes":0,"queued_bytes":0}}"#;

const DRAINING: &str = "event: error\ndata: {\"error\":{\"code\":\"draining\",\"message\":\"going\"}}\n\n";

fn put(key: &str, version: u64, last: bool) -> String {
    let id = if last { format!("id: {version}\n") } else { String::new() };
    format!("event: put\n{id}data: {{\"key\":\"{key}\",\"value\":\"v\",\"version\":{version}}}\n\n")
}

fn progress(version: u64) -> String {
    format!("event: progress\nid: {version}\ndata: {{\"version\":{version}}}\n\n")
}

fn client(endpoints: &str) -> Client {
    let mut settings = Settings::default();
    settings.retry.within = Duration::from_secs(3);
    Client::with_settings(endpoints, settings).unwrap()
}

fn quick() -> WatchOptions {
    let mut options = WatchOptions::default();
    options.silence = Duration::from_millis(100);
    options
}

/// The next changes as `key@version`, until so many have come.
async fn changes(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        match stream.next().await.unwrap().unwrap() {
            WatchEvent::Put { key, version, .. } => {
                got.push(format!("{}@{version}", String::from_utf8(key).unwrap()));
            }
            WatchEvent::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    got
}

#[tokio::test]
async fn a_batch_that_is_cut_in_two_is_handed_over_whole_and_once() {
    let cut = put("a", 5, true) + &put("b", 7, false) + &put("c", 7, false);
    let rest = put("b", 7, false) + &put("c", 7, false) + &put("d", 7, true) + &put("e", 8, true);
    for then in [Then::Cut, Then::End, Then::Silence] {
        let server = Fake::start(vec![(cut.clone(), then), (rest.clone(), Then::Silence)]).await;
        let mut stream = client(&server.endpoint).watch(quick()).await.unwrap();
        assert_eq!(stream.up_to(), Some(4));
        assert_eq!(changes(&mut stream, 5).await, ["a@5", "b@7", "c@7", "d@7", "e@8"], "{then:?}");
        assert_eq!(stream.up_to(), Some(8));
        assert_eq!(server.began(), [Some(4), Some(5)], "{then:?}");
    }
}

#[tokio::test]
async fn a_line_that_is_cut_and_nonsense_are_tried_again_from_the_last_whole_version() {
    let half = put("b", 6, true);
    for nonsense in
        [&half[..half.len() - 2], "event: put\ndata: {\n\n", "event: merge\ndata: {}\n\n", DRAINING]
    {
        let acts = vec![
            (put("a", 5, true) + nonsense, Then::Cut),
            (put("a", 5, true) + &put("b", 6, true), Then::Silence),
        ];
        let server = Fake::start(acts).await;
        let mut stream = client(&server.endpoint).watch(quick()).await.unwrap();
        assert_eq!(changes(&mut stream, 2).await, ["a@5", "b@6"], "{nonsense}");
        assert_eq!(server.began()[..2], [Some(4), Some(5)]);
    }
}

#[tokio::test]
async fn progress_moves_the_place_to_go_on_from() {
    let acts = vec![(progress(9), Then::Silence), (put("a", 10, true), Then::Silence)];
    let server = Fake::start(acts).await;
    let mut stream = client(&server.endpoint).watch(quick().from(3)).await.unwrap();
    assert_eq!(stream.up_to(), None);
    assert_eq!(stream.next().await.unwrap().unwrap(), WatchEvent::Progress { version: 9 });
    assert_eq!(changes(&mut stream, 1).await, ["a@10"]);
    assert_eq!(server.began(), [Some(3), Some(9)]);
}

#[tokio::test]
async fn a_resync_ends_the_watch() {
    let text = "event: resync\ndata: {\"version\":70,\"message\":\"merged away\"}\n\n";
    let server = Fake::start(vec![(put("a", 5, true) + text, Then::End)]).await;
    let mut stream = client(&server.endpoint).watch(quick().from(1)).await.unwrap();
    assert_eq!(changes(&mut stream, 1).await, ["a@5"]);
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Resync { version: 70, message } if message == "merged away"), "{error}");
    assert!(stream.next().await.is_none());
    assert_eq!(server.began().len(), 1);
}

#[tokio::test]
async fn another_node_takes_over() {
    let other = Fake::start(vec![(put("b", 6, true), Then::Silence)]).await;
    let first = Fake::start(vec![(put("a", 5, true), Then::Silence)]).await;
    let endpoints = format!("{},{}", first.endpoint, other.endpoint);
    let mut stream = client(&endpoints).watch(quick()).await.unwrap();
    assert_eq!(changes(&mut stream, 2).await, ["a@5", "b@6"]);
    assert_eq!((first.began(), other.began()), (vec![Some(4)], vec![Some(5)]));
}

#[tokio::test]
async fn a_server_that_always_cuts_is_told_and_the_stream_can_go_on() {
    let server = Fake::start(vec![(String::new(), Then::Cut)]).await;
    let mut settings = Settings::default();
    settings.retry.within = Duration::from_millis(200);
    let client = Client::with_settings(&server.endpoint, settings).unwrap();
    let mut stream = client.watch(quick()).await.unwrap();
    for _ in 0..2 {
        let before = server.began().len();
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
        assert!(server.began().len() > before);
    }
    assert!(server.began().len() < 60, "it pauses in between");
    assert!(server.began().iter().all(|began| *began == Some(4)));
}

#[tokio::test]
async fn a_version_that_is_too_large_to_hold_is_refused() {
    let text: String = (0..50).map(|at| put(&format!("k{at}"), 5, false)).collect();
    let server = Fake::start(vec![(text, Then::Silence)]).await;
    let mut options = quick();
    options.version_bytes_max = 1000;
    let mut stream = client(&server.endpoint).watch(options).await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Protocol(why) if why.contains("version_bytes_max")), "{error}");
    assert!(stream.next().await.is_none());
}
