//! SPEC 1.9 in a cluster of real processes: watchers go on at another node when the leader is killed, and are told everything once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_client::{Client, Settings};
use esker_sim::processes::{Cluster, ClusterOptions};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A watcher that has heard nothing for so long goes elsewhere.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long anything may take in all.
const PATIENCE: Duration = Duration::from_secs(120);

/// A stream of server-sent events.
struct Events {
    stream: BufReader<TcpStream>,
    text: String,
}

impl Events {
    #[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
    async fn open(endpoint: &str, query: &str, behind: Option<u64>) -> io::Result<Self> {
        let authority = endpoint.strip_prefix("http://").unwrap();
        let mut stream = BufReader::new(TcpStream::connect(authority).await?);
        let id = behind.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let head = format!("GET /api/v1/watch?{query} HTTP/1.1\r\nhost: {authority}\r\n{id}\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut status = String::new();
        stream.read_line(&mut status).await?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(status));
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { stream, text: String::new() })
    }

    /// The next event: its name, data and id.
    async fn next(&mut self) -> io::Result<(String, Value, Option<u64>)> {
        while !self.text.contains("\n\n") {
            let mut size = String::new();
            self.stream.read_line(&mut size).await?;
            let size = usize::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
            if size == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await?;
            self.text += std::str::from_utf8(&chunk[..size]).unwrap();
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
        let told = (field("event: ").unwrap(), data, field("id: ").map(|id| id.parse().unwrap()));
        self.text = rest.to_owned();
        Ok(told)
    }
}

/// Who watches, whatever node it takes.
struct Watcher {
    endpoints: Vec<String>,
    /// The node that it asks.
    at: usize,
    /// The last id that it was told.
    id: Option<u64>,
    /// Version, key and value of all puts.
    told: Vec<(u64, String, String)>,
    /// How often it went elsewhere.
    moves: usize,
}

impl Watcher {
    /// Watches until it is told of the key `end`. `is_begun` is raised with the first thing that it is told.
    async fn run(mut self, is_begun: Arc<AtomicBool>) -> Self {
        loop {
            let ended = self.follow(&is_begun).await;
            if ended.is_ok() {
                return self;
            }
            self.moves += 1;
            self.at = (self.at + 1) % self.endpoints.len();
            // A node that was killed refuses at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn follow(&mut self, is_begun: &AtomicBool) -> io::Result<()> {
        let opened = timeout(SILENCE_MAX, Events::open(&self.endpoints[self.at], "prefix=w/", self.id));
        let mut events = opened.await??;
        let mut batch = Vec::new();
        loop {
            let (name, data, id) = timeout(SILENCE_MAX, events.next()).await??;
            let text = |name: &str| data[name].as_str().unwrap().to_owned();
            match name.as_str() {
                "put" => batch.push((data["version"].as_u64().unwrap(), text("key"), text("value"))),
                "progress" => is_begun.store(true, Ordering::Release),
                "error" => return Err(io::Error::other(data.to_string())),
                _ => panic!("{name}: {data}"),
            }
            if id.is_some() {
                // Only whole batches count: the rest of one that breaks off comes again.
                self.id = id;
                self.told.append(&mut batch);
                if self.told.last().is_some_and(|(_, key, _)| key == "w/end") {
                    return Ok(());
                }
            }
        }
    }
}

/// Writes one thing after another until it is told to stop; gives what was written.
async fn write(client: Client, written: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Vec<(String, String)> {
    let (mut expected, mut count) = (Vec::new(), 0);
    for n in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        if n.is_multiple_of(5) {
            count += 1;
            assert_eq!(client.incr(b"w/count", 1).await.unwrap().value, count);
            expected.push(("w/count".to_owned(), count.to_string()));
        } else {
            let key = format!("w/{}", n % 50);
            client.put(key.as_bytes(), n.to_string()).await.unwrap();
            expected.push((key, n.to_string()));
        }
        written.store(n, Ordering::Release);
    }
    client.put(b"w/end", "").await.unwrap();
    expected.push(("w/end".into(), String::new()));
    expected
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_told_everything_once_while_leaders_are_killed() {
    let mut cluster = Cluster::start(&ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3)).await.unwrap();
    let endpoints: Vec<_> = (1..=3).map(|node| cluster.endpoint(node)).collect();
    let begun: Vec<_> = (0..3).map(|_| Arc::<AtomicBool>::default()).collect();
    let watchers: Vec<_> = begun
        .iter()
        .enumerate()
        .map(|(at, begun)| {
            let watcher = Watcher { endpoints: endpoints.clone(), at, id: None, told: Vec::new(), moves: 0 };
            tokio::spawn(watcher.run(Arc::clone(begun)))
        })
        .collect();
    until("all watch", || begun.iter().all(|begun| begun.load(Ordering::Acquire))).await;
    let (written, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let client = Client::with_settings(&endpoints.join(","), Settings::default()).unwrap();
    let writer = tokio::spawn(write(client, Arc::clone(&written), Arc::clone(&stop)));
    let work_goes_on = async |count: u64| {
        let enough = written.load(Ordering::Acquire) + count;
        until("writes go on", || written.load(Ordering::Acquire) >= enough).await;
    };
    for _ in 0..3 {
        work_goes_on(100).await;
        let leader = cluster.leader().await.unwrap();
        cluster.kill(leader).unwrap();
        work_goes_on(50).await;
        cluster.restart(leader).await.unwrap();
    }
    work_goes_on(50).await;
    stop.store(true, Ordering::Release);
    let expected = writer.await.unwrap();
    let mut moves = 0;
    for watcher in watchers {
        let watcher = timeout(PATIENCE, watcher).await.unwrap().unwrap();
        moves += watcher.moves;
        assert!(watcher.told.is_sorted_by(|(a, ..), (b, ..)| a < b), "versions ascend");
        let told = watcher.told.into_iter().map(|(_, key, value)| (key, value));
        assert!(told.eq(expected.iter().cloned()), "everything once and in order");
    }
    assert!(moves >= 3, "leaders were killed, and {moves} watchers noticed");
}
