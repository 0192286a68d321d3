//! The client library and the command line over both protocols against the real binary: everything about keys, pipelining, kills,
//! drains, clusters.

use crate::support;

use std::time::Duration;

use esker_client::{
    Batch, Client, Condition, Consistency, Error, ErrorCode, KeyOptions, PutOptions, Query, Range, Retry,
    Settings, WriteOptions,
};
use esker_sim::processes::{Cluster, ClusterOptions};
use futures_util::future::join_all;
use support::{Server, esker};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn server(more: &[&str]) -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<&str> = ["--wal-sync-policy", "never"].iter().chain(more).copied().collect();
    (Server::start(dir.path(), &all), dir)
}

async fn cluster(nodes: u64) -> Cluster {
    Cluster::start(&ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), nodes)).await.unwrap()
}

fn once() -> Settings {
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    settings
}

/// Runs against a fresh server over each protocol.
async fn over_each(test: impl AsyncFn(Client)) {
    for is_binary in [false, true] {
        let (server, _dir) = server(&["--compression-algorithm", "lz4"]);
        let endpoint = if is_binary { &server.binary } else { &server.endpoint };
        test(Client::new(endpoint).unwrap()).await;
    }
}

#[tokio::test]
async fn keys_are_the_same_over_each_protocol() {
    over_each(async |client| {
        let long = vec![b'k'; 65_535];
        let large = vec![b'v'; 3 << 20];
        for (key, value) in
            [(&b"k"[..], &b"v"[..]), (b"\xff \n/%", b""), (&long, b"long"), (b"large", &large)]
        {
            let written = client.put(key, value.to_vec()).await.unwrap();
            let entry = client.get(key).await.unwrap().unwrap();
            assert_eq!((&entry.value[..], entry.version, entry.expires_at), (value, written.version, None));
            let meta = client.head(key).await.unwrap().unwrap();
            assert_eq!((meta.version, meta.value_len), (written.version, value.len() as u64));
        }
        assert_eq!((client.get(b"none").await.unwrap(), client.head(b"none").await.unwrap()), (None, None));
        assert!(
            client.delete(&long).await.unwrap().existed && !client.delete(b"none").await.unwrap().existed
        );
        let found = client.get_with(b"k", Consistency::Stale).await.unwrap();
        assert!(found.entry.is_some() && found.applied.is_some_and(|applied| applied >= 4));
        let many = client.mget(&[&b"k"[..], b"none", b"large"]).await.unwrap();
        let lengths: Vec<_> =
            many.iter().map(|entry| entry.as_ref().map(|entry| entry.value.len())).collect();
        assert_eq!(lengths, [Some(1), None, Some(3 << 20)]);
        for key in [&b""[..], &[b'k'; 65_536]] {
            assert!(matches!(client.get(key).await, Err(Error::InvalidRequest { .. })));
        }
        let status = client.status().await.unwrap();
        assert_eq!((status.storage.keys, status.healthy), (3, true));
        assert_eq!(client.nodes().await.unwrap().nodes.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn conditions_counters_and_expiry_are_the_same_over_each_protocol() {
    over_each(async |client| {
        let absent = PutOptions::default().if_absent();
        let version = client.put_with(b"k", "1", absent).await.unwrap().version;
        match client.put_with(b"k", "2", absent).await {
            Err(Error::ConditionFailed { version: present, .. }) => assert_eq!(present, Some(version)),
            other => panic!("{other:?}"),
        }
        match client.delete_with(b"x", KeyOptions::default().if_present()).await {
            Err(Error::ConditionFailed { version: None, .. }) => {}
            other => panic!("{other:?}"),
        }
        let next = PutOptions::default().if_version(version).ttl(Duration::from_secs(3600));
        client.put_with(b"k", "41", next).await.unwrap();
        let expires_at = client.get(b"k").await.unwrap().unwrap().expires_at;
        assert!(expires_at.is_some());
        assert_eq!(client.incr(b"k", 1).await.unwrap().value, 42);
        assert_eq!(client.head(b"k").await.unwrap().unwrap().expires_at, expires_at);
        assert_eq!(client.incr(b"n", i64::MIN).await.unwrap().value, i64::MIN);
        let overflow = client.incr(b"n", -1).await.unwrap_err();
        assert_eq!(overflow.code(), Some(ErrorCode::Overflow), "{overflow}");
        client.put(b"t", "text").await.unwrap();
        assert_eq!(client.incr(b"t", 1).await.unwrap_err().code(), Some(ErrorCode::NotAnInteger));
    })
    .await;
}

#[tokio::test]
async fn batches_and_ranges_are_the_same_over_each_protocol() {
    over_each(async |client| {
        let mut batch = Batch::new();
        batch.require(b"a0", Condition::Absent);
        (0..250).for_each(|n| batch.put(format!("a{n:03}").as_bytes(), &[b'v'; 100]));
        batch.put_expiring(b"b", b"\xff\x00", Duration::from_secs(3600)).unwrap();
        batch.put_expiring_at(b"gone", b"x", 1);
        batch.delete(b"a000");
        batch.incr(b"n", 7);
        let done = client.batch(batch, WriteOptions::default()).await.unwrap();
        assert_eq!((done.operations, done.sum), (254, Some(7)));
        let json = r#"{"operations":[{"type":"put","key":"c","value":"1"},{"type":"incr","key":"n"}],"if":[{"key":"b","is":"present"}]}"#;
        let done = client.batch_json(json, WriteOptions::default()).await.unwrap();
        assert_eq!((done.operations, done.sum), (2, Some(8)));
        let mut refused = Batch::new();
        refused.require(b"c", Condition::Absent);
        refused.delete(b"c");
        let refused = client.batch(refused, WriteOptions::default()).await.unwrap_err();
        assert!(matches!(refused, Error::ConditionFailed { version: Some(version), .. } if version == done.version));
        assert!(matches!(client.batch(Batch::new(), WriteOptions::default()).await, Err(Error::InvalidRequest { .. })));

        let prefix = |reverse| Query { range: Range::Prefix(b"a".to_vec()), reverse, ..Query::default() };
        let mut scan = client.scan(&prefix(false)).await.unwrap();
        let mut keys = Vec::new();
        while let Some(item) = scan.next().await {
            let item = item.unwrap();
            assert_eq!(item.value.as_ref().map(Vec::len), Some(100));
            keys.push(item.key);
        }
        assert_eq!(keys.len(), 249);
        for reverse in [false, true] {
            let (mut cursor, mut listed) = (None, Vec::new());
            loop {
                let page = client.list(&prefix(reverse), cursor.as_deref()).await.unwrap();
                assert!(page.items.len() <= 100);
                listed.extend(page.items.into_iter().map(|item| item.key));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            if reverse {
                listed.reverse();
            }
            assert_eq!(listed, keys);
        }
        let between = Range::Between(Some(b"a248".to_vec()), Some(b"b".to_vec()));
        let query = Query { range: between, keys_only: true, limit: Some(2), ..Query::default() };
        let page = client.list(&query, None).await.unwrap();
        assert!(page.next.is_some() && page.items.iter().all(|item| item.value.is_none()));
        let open = Query { range: Range::Between(Some(b"b".to_vec()), None), ..Query::default() };
        let page = client.list(&open, None).await.unwrap();
        let expiring: Vec<_> = page.items.iter().map(|item| (&item.key[..], item.expires_at.is_some())).collect();
        assert_eq!(expiring, [(&b"b"[..], true), (b"c", false), (b"n", false)]);
        let half = Range::Between(Some(b"a".to_vec()), None);
        assert!(matches!(client.delete_range(&half, WriteOptions::default()).await, Err(Error::InvalidRequest { .. })));
        let deleted = client.delete_range(&Range::Prefix(b"a".to_vec()), WriteOptions::default()).await.unwrap();
        assert_eq!(deleted.deleted, Some(249));
        client.delete_range(&Range::All, WriteOptions::default()).await.unwrap();
        assert!(client.scan(&Query::default()).await.unwrap().next().await.is_none());
    })
    .await;
}

/// Many at once on few connections; one that breaks a limit does not disturb the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_in_flight_on_few_connections() {
    let (server, _dir) = server(&["--max-value-bytes", "1MiB"]);
    let client = Client::with_settings(&server.binary, once()).unwrap();
    let task = async |n: usize| {
        let key = format!("k{n}");
        if n % 100 == 7 {
            let refused = client.put(key.as_bytes(), vec![b'v'; 2 << 20]).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::PayloadTooLarge), "{refused}");
            return 0;
        }
        client.put(key.as_bytes(), n.to_string()).await.unwrap();
        assert_eq!(client.get(key.as_bytes()).await.unwrap().unwrap().value, n.to_string());
        client.incr(b"all", 1).await.unwrap();
        1
    };
    let counted: i64 = join_all((0..1000).map(task)).await.into_iter().sum();
    assert_eq!(client.get(b"all").await.unwrap().unwrap().value, counted.to_string());
    let connections = metric(&server, "esker_binary_connections_accepted_total").await;
    assert!(connections < 60.0, "{connections} connections");
}

/// A figure of `/metrics`.
async fn metric(server: &Server, name: &str) -> f64 {
    let address = server.endpoint.trim_start_matches("http://");
    let mut stream = esker_client::connect(address, Duration::from_secs(5)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_asked_over_http_alone_says_so() {
    let (server, _dir) = server(&[]);
    let client = Client::new(&server.binary).unwrap();
    for refused in [
        client.health().await.map(drop),
        client.checkpoint().await.map(drop),
        client.verify(|_, _| {}).await.map(drop),
        client.backup().await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, Error::NotSupported { .. }) && refused.to_string().contains("http://"),
            "{refused}"
        );
    }
}

#[test]
fn the_command_line_takes_endpoints_of_the_protocol() {
    let (server, _dir) = server(&[]);
    let run = |args: &[&str]| {
        let output = esker(args).env("KV_ENDPOINT", &server.binary).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["put", "k", "value"]);
    assert_eq!(run(&["get", "k"]).trim_end(), "value");
    assert_eq!(run(&["incr", "n", "5"]).trim_end(), "5");
    assert!(run(&["scan"]).contains("value"));
    run(&["status"]);
    run(&["del", "k"]);
    let bench = ["bench", "-r", "200", "-n", "500", "-c", "4", "--value-bytes", "100B", "--json"];
    for workload in ["a", "e", "fill"] {
        let report: serde_json::Value =
            serde_json::from_str(&run(&[&bench[..], &[workload]].concat())).unwrap();
        let operations = report["operations"].as_object().unwrap();
        assert!(!operations.is_empty() && operations.values().all(|it| it["errors"] == 0), "{report}");
    }
    let output = esker(&["admin", "checkpoint", "--endpoint", &server.binary]).output().unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("http://"),
        "{output:?}"
    );
}

/// CHECKS 1 over this protocol: what was acknowledged before a kill is there after it, and clients find back by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_costs_nothing_that_was_acknowledged() {
    let mut cluster = cluster(1).await;
    let client = Client::new(&cluster.binary_endpoint(1)).unwrap();
    for round in 0..3 {
        let put = async |n: u32| {
            let key = format!("{round}-{n}");
            client.put(key.as_bytes(), key.clone()).await.unwrap();
            key
        };
        let keys = join_all((0..50).map(put)).await;
        cluster.kill(1).unwrap();
        let (restarted, found) = tokio::join!(cluster.restart(1), client.mget(&keys));
        restarted.unwrap();
        let found = found.unwrap();
        assert!(
            found.iter().zip(&keys).all(|(entry, key)| entry.as_ref().is_some_and(|it| it.value == *key))
        );
    }
}

/// Who is told that the server leaves goes on by itself, and no write is done twice or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_restart_costs_patient_clients_nothing() {
    let mut cluster = cluster(1).await;
    let mut settings = Settings::default();
    settings.retry.resend_writes = false;
    let client = Client::with_settings(&cluster.binary_endpoint(1), settings).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let worker = |n: u32| {
        let (client, stopped) = (client.clone(), stopped.clone());
        tokio::spawn(async move {
            let mut done = 0;
            while !*stopped.borrow() {
                done = client.incr(format!("n{n}").as_bytes(), 1).await.unwrap().value;
            }
            done
        })
    };
    let workers: Vec<_> = (0..8).map(worker).collect();
    for _ in 0..2 {
        cluster.terminate(1).await.unwrap();
        cluster.restart(1).await.unwrap();
    }
    client.put(b"after", "all").await.unwrap();
    stop.send(true).unwrap();
    for (n, worker) in workers.into_iter().enumerate() {
        let done = worker.await.unwrap();
        assert_eq!(client.get(format!("n{n}").as_bytes()).await.unwrap().unwrap().value, done.to_string());
    }
}

/// Any node takes writes; with the leader gone they go on; without a majority it is TRY_LATER.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_of_a_cluster_takes_writes() {
    let mut cluster = cluster(3).await;
    let numbers = cluster.numbers();
    for node in &numbers {
        // On a busy machine the leader may change meanwhile: that is waited for, on this very node.
        let client = Client::new(&cluster.binary_endpoint(*node)).unwrap();
        let key = format!("by{node}");
        client.put(key.as_bytes(), "v").await.unwrap();
        let put = async |n: u32| client.incr(b"n", n.into()).await.unwrap();
        join_all((0..20).map(put)).await;
    }
    let endpoints: Vec<String> = numbers.iter().map(|node| cluster.binary_endpoint(*node)).collect();
    let client = Client::new(&endpoints.join(",")).unwrap();
    assert_eq!(client.get(b"n").await.unwrap().unwrap().value, "570");
    assert_eq!(client.nodes().await.unwrap().nodes.len(), 3);
    let leader = cluster.leader().await.unwrap();
    cluster.kill(leader).unwrap();
    // Applied once, though copies may have been sent to several nodes.
    join_all((0..20).map(async |_| client.incr(b"n", 1).await.unwrap())).await;
    assert_eq!(client.get(b"n").await.unwrap().unwrap().value, "590");
    let survivors: Vec<u64> = numbers.into_iter().filter(|node| *node != leader).collect();
    cluster.kill(survivors[0]).unwrap();
    let mut settings = once();
    settings.request_timeout = Duration::from_secs(20);
    let alone = Client::with_settings(&cluster.binary_endpoint(survivors[1]), settings).unwrap();
    let refused = alone.get(b"n").await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NoLeader), "{refused:?}");
    assert!(matches!(refused, Error::RetryLater { retry_after, .. } if !retry_after.is_zero()));
    assert!(alone.get_with(b"n", Consistency::Stale).await.unwrap().entry.is_some());
}
