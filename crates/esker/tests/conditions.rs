//! SPEC 1.6, 1.8, 1.10 in a cluster of three processes: conditions, counters and range deletes, raced from many connections
//! to all nodes while the leader is killed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use esker_client::{Batch, Client, Error, ErrorCode, PutOptions, Query, Range, Settings, WriteOptions};
use esker_sim::processes::{Cluster, ClusterOptions};
use futures_util::future::join_all;
use serde_json::{Value, json};

const CLIENTS: u64 = 24;

async fn three() -> Cluster {
    Cluster::start(&ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3)).await.unwrap()
}

/// A client that asks this node first, and has connections of its own.
fn client(cluster: &Cluster, first: u64) -> Client {
    let nodes = (0..3).map(|at| cluster.endpoint((first + at) % 3 + 1)).collect::<Vec<_>>();
    let mut settings = Settings::default();
    settings.retry.within = Duration::from_secs(20);
    Client::with_settings(&nodes.join(","), settings).unwrap()
}

/// Kills the leader and starts it again, once about half of the work is done.
async fn fail_over(cluster: &mut Cluster, done: &AtomicU64, half: u64) {
    while done.load(Ordering::Acquire) < half {
        tokio::task::yield_now().await;
    }
    let leader = cluster.leader().await.unwrap();
    cluster.kill(leader).unwrap();
    cluster.restart(leader).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_increments_are_counted_once_each_while_the_leader_is_killed() {
    const EACH: u64 = 100;
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = three().await;
    let done = AtomicU64::new(0);
    let clients: Vec<_> = (0..CLIENTS).map(|first| client(&cluster, first)).collect();
    let work = clients.iter().map(async |client| {
        let mut sums = Vec::new();
        for _ in 0..EACH {
            sums.push(client.incr(b"n", 1).await.unwrap().value);
            done.fetch_add(1, Ordering::AcqRel);
        }
        sums
    });
    let half = CLIENTS * EACH / 2;
    let (sums, ()) = tokio::join!(join_all(work), fail_over(&mut cluster, &done, half));
    let mut sums: Vec<i64> = sums.into_iter().flatten().collect();
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=(CLIENTS * EACH) as i64), "no increment is lost, and none is done twice");
    let entry = clients[0].get(b"n").await.unwrap().unwrap();
    assert_eq!(entry.value, (CLIENTS * EACH).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_compare_and_sets_lose_no_update_while_the_leader_is_killed() {
    const EACH: u64 = 10;
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = three().await;
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS).map(|first| client(&cluster, first)).collect();
    clients[0].put_with(b"k", "0", PutOptions::default().if_absent()).await.unwrap();
    let work = clients.iter().map(async |client| {
        for _ in 0..EACH {
            loop {
                let seen = client.get(b"k").await.unwrap().unwrap();
                let next = std::str::from_utf8(&seen.value).unwrap().parse::<u64>().unwrap() + 1;
                let options = PutOptions::default().if_version(seen.version);
                match client.put_with(b"k", next.to_string(), options).await {
                    Ok(_) => break,
                    Err(Error::ConditionFailed { version, .. }) => {
                        assert!(version > Some(seen.version), "{version:?} after {}", seen.version);
                        failed.fetch_add(1, Ordering::AcqRel);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            done.fetch_add(1, Ordering::AcqRel);
        }
    });
    let half = CLIENTS * EACH / 2;
    tokio::join!(join_all(work), fail_over(&mut cluster, &done, half));
    let entry = clients[0].get(b"k").await.unwrap().unwrap();
    assert_eq!(entry.value, (CLIENTS * EACH).to_string());
    assert!(failed.into_inner() > 0, "nobody raced");
}

/// A scan on any node sees all of the range or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_range_goes_at_once_on_every_node() {
    const KEYS: usize = 100;
    let _turn = crate::support::TURN.lock().await;
    let cluster = three().await;
    let range = Range::Prefix(b"r/".to_vec());
    let done = AtomicBool::new(false);
    let look = (0..3).map(async |node| {
        let client = client(&cluster, node);
        let keys: Vec<_> = (0..KEYS).map(|n| format!("r/{n:03}")).collect();
        while !done.load(Ordering::Acquire) {
            let query = Query { range: range.clone(), keys_only: true, ..Query::default() };
            let (mut stream, mut seen) = (client.scan(&query).await.unwrap(), 0);
            while let Some(item) = stream.next().await {
                item.unwrap();
                seen += 1;
            }
            assert!(seen == 0 || seen == KEYS, "a scan saw {seen} of {KEYS}");
            let seen = client.mget(&keys).await.unwrap().into_iter().flatten().count();
            assert!(seen == 0 || seen == KEYS, "a multi-get saw {seen} of {KEYS}");
        }
    });
    let work = async {
        let client = client(&cluster, 0);
        for _ in 0..40 {
            let mut batch = Batch::new();
            (0..KEYS).for_each(|n| batch.put(format!("r/{n:03}").as_bytes(), b"x"));
            client.batch(batch, WriteOptions::default()).await.unwrap();
            let deleted = client.delete_range(&range, WriteOptions::default()).await.unwrap();
            assert_eq!(deleted.deleted, Some(KEYS as u64));
        }
        done.store(true, Ordering::Release);
    };
    tokio::join!(join_all(look), work);
}

/// Copies of a request, sent to every node after the state has moved on, are answered as the first was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_gets_its_first_answer_whatever_it_was() {
    let _turn = crate::support::TURN.lock().await;
    let cluster = three().await;
    let everybody = |number: u64, method: &str, path: &str, header: &str, body: &str| -> Vec<(u16, Value)> {
        let ask = |node| ask(&cluster.endpoint(node), number, method, path, header, body);
        (1..=3).map(ask).collect()
    };
    let puts = everybody(1, "PUT", "/api/v1/kv/k", "if-none-match: *", "1");
    assert!(puts.iter().all(|answer| *answer == puts[0]) && puts[0].0 == 200, "{puts:?}");
    let refused = everybody(2, "PUT", "/api/v1/kv/k", "if-none-match: *", "2");
    assert_eq!(refused[0].1["error"]["details"]["version"], puts[0].1["version"]);
    let sums = everybody(3, "POST", "/api/v1/kv/k/incr", "x-none: 1", "");
    assert!(sums.iter().all(|answer| *answer == sums[0]) && sums[0].1["value"] == 2, "{sums:?}");
    // By now the condition would fail for another version, and the key could be put.
    let client = client(&cluster, 0);
    client.delete(b"k").await.unwrap();
    assert_eq!(everybody(2, "PUT", "/api/v1/kv/k", "if-none-match: *", "2"), refused);
    assert!(refused.iter().all(|answer| *answer == refused[0]) && refused[0].0 == 412, "{refused:?}");
    assert_eq!(everybody(1, "PUT", "/api/v1/kv/k", "if-none-match: *", "1"), puts);
    client.put(b"k", "text").await.unwrap();
    assert_eq!(everybody(3, "POST", "/api/v1/kv/k/incr", "x-none: 1", ""), sums);
    let error = client.incr(b"k", 1).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotAnInteger));
    let entry = client.get(b"k").await.unwrap().unwrap();
    assert_eq!(entry.value, "text");
}

/// A time to live counts from when the write is taken on, and every node goes by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_key_is_absent_on_every_node() {
    let _turn = crate::support::TURN.lock().await;
    let cluster = three().await;
    let writer = client(&cluster, 0);
    writer.put_with(b"soon", "x", PutOptions::default().ttl(Duration::from_millis(1))).await.unwrap();
    writer.put_with(b"late", "x", PutOptions::default().ttl(Duration::from_secs(86_400))).await.unwrap();
    let told = writer.head(b"late").await.unwrap().unwrap().expires_at;
    for node in 0..3 {
        let reader = client(&cluster, node);
        while reader.get(b"soon").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        let entries = reader.mget(&[b"soon", b"late"]).await.unwrap();
        assert_eq!(entries[0], None);
        assert_eq!(entries[1].as_ref().unwrap().expires_at, told);
        assert!(told.is_some());
    }
    writer.put_with(b"soon", "again", PutOptions::default().if_absent()).await.unwrap();
}

/// One request on a connection of its own, under a request id that the test chooses; its status and body.
fn ask(endpoint: &str, number: u64, method: &str, path: &str, header: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nesker-request-id: 7e57-{number:x}\r\n\
         {header}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}
