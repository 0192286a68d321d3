//! The client library against the real server: its blocking face, and watches through connections that break.

use crate::support;
use crate::support::proxy;

use std::{collections::BTreeMap, thread};

use esker_client::{
    Batch, Error, PutOptions, Query, Range, RangeEnd, WatchEvent, WatchOptions, WriteOptions,
    blocking::{Client, Watch},
};
use esker_sim::processes::{Cluster, ClusterOptions};
use proxy::Proxy;
use support::Server;
use tempfile::TempDir;

fn server() -> (TempDir, Server, Client) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let client = Client::new(&server.endpoint).unwrap();
    (dir, server, client)
}

#[test]
fn every_method_waits_for_its_answer() {
    let (_dir, _server, client) = server();
    let put = client.put(b"k", "v").unwrap();
    assert_eq!(client.get(b"k").unwrap().unwrap().version, put.version);
    let refused = client.put_with(b"k", "w", PutOptions::default().if_absent()).unwrap_err();
    assert!(matches!(refused, Error::ConditionFailed { version: Some(1), .. }), "{refused}");
    assert_eq!(client.incr(b"n", 5).unwrap().value, 5);
    assert_eq!(client.head(b"k").unwrap().unwrap().value_len, 1);
    let found = client.mget(&[&b"k"[..], b"none", b"n"]).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let mut batch = Batch::new();
    (0..100_u8).for_each(|at| batch.put(&[b'p', at], &[at]));
    assert_eq!(client.batch(batch, WriteOptions::default()).unwrap().operations, 100);
    let query = Query { range: Range::Prefix(b"p".into()), ..Query::default() };
    let items: Vec<_> = client.scan(&query).unwrap().map(Result::unwrap).collect();
    assert_eq!((items.len(), &items[7].key[..]), (100, &b"p\x07"[..]));
    let page = client.list(&Query { limit: Some(2), ..Query::default() }, None).unwrap();
    assert_eq!(client.list(&Query::default(), page.next.as_deref()).unwrap().items.len(), 100);
    assert_eq!(client.delete_range(&query.range, WriteOptions::default()).unwrap().deleted, Some(100));
    assert!(client.delete(b"k").unwrap().existed);
    assert_eq!((client.status().unwrap().storage.keys, client.nodes().unwrap().nodes.len()), (1, 1));
    assert!(client.metrics().unwrap().contains("esker_http_requests_total"));
    client.health().unwrap();
    client.checkpoint().unwrap();
    assert!(client.verify(|_, _| {}).unwrap().intact);
    let backup = client.backup().unwrap();
    let (told, came) = (backup.bytes(), backup.map(|piece| piece.unwrap().len() as u64).sum::<u64>());
    assert_eq!(came, told);
}

/// Threads share one client and its connections.
#[test]
fn clones_work_at_once() {
    let (_dir, _server, client) = server();
    thread::scope(|scope| {
        for _ in 0..8 {
            let client = client.clone();
            scope.spawn(move || (0..25).for_each(|_| assert!(client.incr(b"n", 1).is_ok())));
        }
    });
    assert_eq!(&client.get(b"n").unwrap().unwrap().value[..], b"200");
}

/// The changes up to a version; each as its key, value and version.
fn changes(watch: &mut Watch, up_to: u64) -> Vec<(String, Option<String>, u64)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut got = Vec::new();
    while watch.up_to().is_none_or(|told| told < up_to) {
        match watch.next().unwrap().unwrap() {
            WatchEvent::Put { key, value, version, .. } => {
                got.push((text(&key), value.as_deref().map(text), version));
            }
            WatchEvent::Delete { key, version } => got.push((text(&key), None, version)),
            WatchEvent::DeleteRange { start, end, version } => {
                assert_eq!(end, RangeEnd::Before(b"b0".into()));
                got.push((text(&start) + "*", None, version));
            }
            WatchEvent::Progress { .. } => {}
        }
    }
    got
}

#[test]
fn a_watch_tells_what_is_written_under_its_prefix() {
    let (_dir, server, client) = server();
    client.put(b"b/before", "1").unwrap();
    let mut watch = client.watch(WatchOptions::prefix(*b"b/")).unwrap();
    let mut batch = Batch::new();
    batch.put(b"a", b"other");
    batch.put(b"b/\xff", b"1");
    batch.incr(b"b/n", 2);
    client.batch(batch, WriteOptions::default()).unwrap();
    client.delete(b"b/n").unwrap();
    let last = client.delete_range(&Range::Prefix(b"b/".into()), WriteOptions::default()).unwrap().version;
    let told = |key: &str, value: Option<&str>, version| (key.to_owned(), value.map(str::to_owned), version);
    let all = [
        told("b/\u{fffd}", Some("1"), 2),
        told("b/n", Some("2"), 2),
        told("b/n", None, 3),
        told("b/*", None, 4),
    ];
    assert_eq!(changes(&mut watch, last), all);
    // From the beginning, without values, and from the command line.
    let mut again = client.watch(WatchOptions::prefix(*b"b/").from(1).keys_only()).unwrap();
    let keys: Vec<_> =
        changes(&mut again, last).into_iter().map(|(key, _, version)| (key, version)).collect();
    assert_eq!(keys[0], ("b/before".into(), 1));
    assert_eq!(keys.len(), 5);
    let lines = server.ok(&["watch", "--prefix", "b/", "--from", "1", "-n", "5"]);
    let expected = "put\t1\tb/before\t1\nput\t2\tb/\\xff\t1\nput\t2\tb/n\t2\ndelete\t3\tb/n\ndelete_range\t4\tb/\tbefore\tb0\n";
    assert_eq!(lines, expected);
    let json = server.ok(&["shell", "--json", "-c", "watch --from 3 -n 1"]);
    assert_eq!(json, "{\"key\":\"b/n\",\"type\":\"delete\",\"version\":3}\n");
}

/// Batches are written while the way to the server breaks after ever other numbers of bytes, and the server is killed and
/// started again in between: the watch tells every write once, in order, and each batch whole.
#[test]
fn a_watch_outlives_connections_and_the_server() {
    const ROUNDS: u64 = 3;
    const BATCHES: u64 = 60;
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]);
    let mut random = fastrand::Rng::with_seed(7);
    let proxy = Proxy::start(&server.endpoint, move || random.usize(300..6000));
    let watched = Client::new(&proxy.endpoint).unwrap();
    let mut watch = watched.watch(WatchOptions::default().from(1)).unwrap();
    let (mut got, mut version) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let client = Client::new(&server.endpoint).unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let write = |at: u64| client.batch(numbered(round * BATCHES + at), WriteOptions::default());
                (0..BATCHES).fold(0, |_, at| write(at).unwrap().version)
            });
            // While they are written, and what is left behind them.
            got.extend(changes(&mut watch, version + BATCHES / 2));
            version = writer.join().unwrap();
        });
        server.kill();
        server = Server::start(&data, &[]);
        proxy.lead_to(&server.endpoint);
        got.extend(changes(&mut watch, version));
    }
    assert!(proxy.cuts() > 20, "{}", proxy.cuts());
    let expected: Vec<_> = (0..ROUNDS * BATCHES)
        .flat_map(|number| (0..number % 7 + 1).map(move |at| (format!("{number}/{at}"), number + 1)))
        .collect();
    let told: Vec<_> = got.into_iter().map(|(key, _, version)| (key, version)).collect();
    assert_eq!(told, expected);
}

/// A batch of as many puts as its number says.
fn numbered(number: u64) -> Batch {
    let mut batch = Batch::new();
    (0..number % 7 + 1).for_each(|at| batch.put(format!("{number}/{at}").as_bytes(), &[b'v'; 40]));
    batch
}

/// A version that never was, here: the server says so instead of waiting for it.
#[test]
fn a_watch_from_nowhere_is_told_to_look_anew() {
    let (_dir, server, client) = server();
    client.put(b"k", "v").unwrap();
    let error = client.watch(WatchOptions::default().from(100)).unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Resync { .. }), "{error}");
    let told = server.run(&["watch", "--from", "100"]);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("cannot go on"), "{told:?}");
}

/// What a watcher needs to follow a store: a copy that is kept by a watch becomes equal.
#[test]
fn a_copy_follows() {
    let (_dir, _server, client) = server();
    let mut watch = client.watch(WatchOptions::default()).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut last = 0;
    for _ in 0..300 {
        let key = [b'k', random.u8(0..20)];
        last = match random.u8(0..5) {
            0 => client.delete(&key).unwrap().version,
            _ => client.put(&key, vec![random.u8(..)]).unwrap().version,
        };
    }
    let mut copy = BTreeMap::new();
    while watch.up_to() < Some(last) {
        match watch.next().unwrap().unwrap() {
            WatchEvent::Put { key, value, .. } => drop(copy.insert(key, value.unwrap())),
            WatchEvent::Delete { key, .. } => drop(copy.remove(&key)),
            WatchEvent::DeleteRange { .. } => panic!("none was deleted"),
            WatchEvent::Progress { .. } => {}
        }
    }
    let store: BTreeMap<_, _> = client
        .scan(&Query::default())
        .unwrap()
        .map(|item| item.unwrap())
        .map(|item| (item.key, item.value.unwrap()))
        .collect();
    assert_eq!(copy, store);
}

/// Leaders are killed under a writer and a watcher: what was acknowledged is told once, in order, whoever tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_the_leaders_of_a_cluster() {
    const WRITES: usize = 150;
    let mut cluster = Cluster::start(&ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3)).await.unwrap();
    cluster.leader().await.unwrap();
    let endpoints = [1, 2, 3].map(|node| cluster.endpoint(node)).join(",");
    let client = esker_client::Client::new(&endpoints).unwrap();
    let mut watch = client.watch(WatchOptions::prefix(*b"w/")).await.unwrap();
    let writer = tokio::spawn(async move {
        let mut written = Vec::new();
        for at in 0..WRITES {
            let key = format!("w/{at}").into_bytes();
            let version = client.put(&key, "v").await.unwrap().version;
            written.push((key, version));
        }
        written
    });
    let mut told = Vec::new();
    while told.len() < WRITES {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Put { key, version, .. } => told.push((key, version)),
            WatchEvent::Progress { .. } => continue,
            other => panic!("{other:?}"),
        }
        if told.len() == WRITES / 3 || told.len() == 2 * WRITES / 3 {
            let leader = cluster.leader().await.unwrap();
            cluster.kill(leader).unwrap();
            cluster.restart(leader).await.unwrap();
        }
    }
    assert_eq!(told, writer.await.unwrap());
}
