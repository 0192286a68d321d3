//! SPEC 1.9 over HTTP: server-sent events, resumed, resynced, limited and drained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use std::time::Duration;

use esker_engine::{Db, Options};
use esker_log::disk::sim::SimDisk;
use serde_json::json;
use support::{
    TestServer,
    events::{Event, Watcher},
    eventually,
};

fn put(server: &TestServer, key: &str, value: &[u8]) -> u64 {
    let answer = server.request("PUT", &format!("/api/v1/kv/{key}"), value);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["version"].as_u64().unwrap()
}

fn event(name: &str, data: serde_json::Value, id: Option<u64>) -> Event {
    Event { name: name.into(), data, id }
}

#[test]
fn changes_come_in_order_and_batches_whole() {
    let server = TestServer::start();
    put(&server, "before", b"v");
    let mut watcher = Watcher::begin(server.address, "prefix=a%2F");
    // What was written before is not told, what is written from now on is.
    assert_eq!(watcher.progress(), 1);
    put(&server, "a/k", b"v");
    put(&server, "b/k", b"v");
    let batch = json!({ "operations": [
        { "type": "put", "key": "a/1", "value": "one" },
        { "type": "put", "key": "b/1", "value": "elsewhere" },
        { "type": "delete", "key": "a/k" },
        { "type": "put", "key": "b/2", "value": "elsewhere" },
    ]});
    assert_eq!(server.request("POST", "/api/v1/batch", batch.to_string().as_bytes()).status, 200);
    assert_eq!(server.request("POST", "/api/v1/kv/a/n/incr", br#"{"by":41}"#).status, 200);
    assert_eq!(server.request("POST", "/api/v1/kv/a/n/incr", b"").status, 200);
    let refused = server.client().request("PUT", "/api/v1/kv/a/n", &[("if-none-match", "*")], b"x");
    assert_eq!(refused.status, 412);
    assert_eq!(server.request("POST", "/api/v1/kv/a/1/incr", b"").status, 409);
    assert_eq!(server.request("DELETE", "/api/v1/kv?start=0&end=a%2F5", b"").status, 200);
    assert_eq!(server.request("DELETE", "/api/v1/kv?prefix=a", b"").status, 200);
    assert_eq!(server.request("DELETE", "/api/v1/kv?prefix=c", b"").status, 200);
    assert_eq!(server.request("PUT", "/api/v1/kv/a/ttl?ttl=1h", b"soon").status, 200);
    server.request("PUT", "/api/v1/kv/a/%ff", b"\xfe");
    let told = watcher.take(9);
    let expires_at = told[7].data["expires_at"].clone();
    assert!(expires_at.as_u64().is_some());
    assert_eq!(
        told,
        [
            event("put", json!({ "key": "a/k", "value": "v", "version": 2 }), Some(2)),
            event("put", json!({ "key": "a/1", "value": "one", "version": 4 }), None),
            event("delete", json!({ "key": "a/k", "version": 4 }), Some(4)),
            event("put", json!({ "key": "a/n", "value": "41", "version": 5 }), Some(5)),
            event("put", json!({ "key": "a/n", "value": "42", "version": 6 }), Some(6)),
            event("delete_range", json!({ "start": "a/", "end": "a/5", "version": 9 }), Some(9)),
            event("delete_range", json!({ "start": "a/", "before": "a0", "version": 10 }), Some(10)),
            event(
                "put",
                json!({ "key": "a/ttl", "value": "soon", "version": 12, "expires_at": expires_at }),
                Some(12)
            ),
            event(
                "put",
                json!({ "key": "YS//", "value": "/g==", "encoding": "base64", "version": 13 }),
                Some(13)
            ),
        ]
    );
    assert_eq!(server.metric("esker_watchers"), 1.0);
    assert_eq!(server.metric("esker_watch_changes_total"), 9.0);
    drop(watcher);
    eventually("the watcher is gone", || server.store.watchers() == 0);
}

#[test]
fn a_stream_goes_on_behind_any_event() {
    let server = TestServer::start();
    for n in 0..20 {
        let operation = |m| json!({ "type": "put", "key": format!("{n}/{m}"), "value": "v" });
        let batch = json!({ "operations": (0..3).map(operation).collect::<Vec<_>>() });
        assert_eq!(server.request("POST", "/api/v1/batch", batch.to_string().as_bytes()).status, 200);
    }
    let mut all = Watcher::begin(server.address, "from=1");
    assert_eq!(all.progress(), 0);
    let events = all.take(60);
    // It is told that it has caught up.
    assert_eq!(all.progress(), 20);
    let is_last = |event: &&Event| event.id.is_some();
    assert_eq!(events.iter().filter(is_last).count(), 20);
    for at in 0..=20 {
        let mut resumed = Watcher::resume(server.address, "from=1", at);
        assert_eq!(resumed.progress(), at);
        let rest = &events[3 * at as usize..];
        assert_eq!(resumed.take(rest.len()), rest);
        if at < 20 {
            assert_eq!(resumed.progress(), 20);
        }
    }
    let mut keys = Watcher::begin(server.address, "from=20&keys_only=true&encoding=base64&prefix=MTkvMg");
    assert_eq!(keys.progress(), 19);
    let key = json!({ "key": "MTkvMg==", "encoding": "base64", "version": 20 });
    assert_eq!(keys.take(1), [event("put", key, Some(20))]);
    // Nobody was ever told of what lies farther.
    for query in ["from=22", "from=18446744073709551615"] {
        let mut ahead = Watcher::begin(server.address, query);
        let resync = ahead.next().unwrap();
        assert_eq!((resync.name.as_str(), resync.version(), resync.id), ("resync", 21, None));
        assert_eq!(ahead.next(), None);
    }
    assert_eq!(server.metric("esker_watch_resyncs_total"), 2.0);
}

#[test]
fn what_was_merged_away_is_resynced() {
    let disk = SimDisk::new();
    let mut options = Options::default();
    options.segment_max_bytes = 4096;
    let server = TestServer::on_disk(&disk, options, |_, _| {});
    // Nothing of it is dead, so that nothing is merged before it is asked for.
    (0..60).for_each(|n| {
        put(&server, &format!("k{n}"), &[b'x'; 500]);
    });
    let mut early = Watcher::begin(server.address, "from=1");
    assert_eq!((early.progress(), early.take(60).len(), early.progress()), (0, 60, 60));
    assert_eq!(server.request("POST", "/api/v1/admin/checkpoint", b"").status, 200);
    assert_eq!(server.request("POST", "/api/v1/admin/compact", b"").status, 200);
    let mut late = Watcher::begin(server.address, "from=1");
    assert_eq!(late.progress(), 0);
    let resync = late.next().unwrap();
    let message = resync.data["message"].as_str().unwrap();
    assert!(resync.name == "resync" && message.contains("read the range anew"), "{resync:?}");
    assert_eq!(late.next(), None);
    // From there on everything is there.
    let from = resync.version();
    assert!((2..=61).contains(&from), "{from}");
    let mut anew = Watcher::begin(server.address, &format!("from={from}"));
    assert_eq!(anew.progress(), from - 1);
    put(&server, "new", b"");
    let told = anew.take(62 - from as usize);
    assert!(told.iter().map(Event::version).eq(from..=61));
    // Whoever was there all the time noticed nothing.
    assert_eq!(early.take(1)[0].key(), "new");
}

/// Ten clients that read nothing hold no more than the budget of answers and what the kernel takes; nobody waits for them.
#[test]
fn slow_clients_cost_bounded_memory() {
    const BUDGET: usize = 1 << 20;
    let server = TestServer::with(|config, _| {
        config.limits.answer_bytes_under_way = BUDGET;
        // They are to be slow, and not to be let go of.
        config.timeouts.write_stall_when_short = config.timeouts.write_stall;
    });
    let value = vec![b'v'; 100 << 10];
    for n in 0..100 {
        put(&server, &format!("k{n:03}"), &value);
    }
    let mut slow: Vec<_> = (0..10).map(|_| Watcher::begin(server.address, "from=1")).collect();
    eventually("something waits to be sent", || server.metric("esker_http_answer_bytes") > 0.0);
    for n in 100..110 {
        put(&server, &format!("k{n:03}"), &value);
        // One page beyond the budget may be there, for who is alone always gets one.
        let held = server.metric("esker_http_answer_bytes");
        assert!(held <= (BUDGET + (512 << 10)) as f64, "{held}");
    }
    std::thread::scope(|scope| {
        for watcher in &mut slow {
            scope.spawn(|| {
                let told = watcher.take(110);
                assert!(told.iter().enumerate().all(|(n, event)| event.key() == format!("k{n:03}")));
                assert!(told.iter().map(Event::version).eq(1..=110));
            });
        }
    });
}

#[test]
fn a_client_that_takes_nothing_is_let_go_of() {
    let server = TestServer::with(|config, _| config.timeouts.write_stall = Duration::from_millis(300));
    (0..200).for_each(|n| {
        put(&server, &format!("k{n}"), &vec![b'v'; 100 << 10]);
    });
    let _stalled = Watcher::begin(server.address, "from=1");
    eventually("it is cut off", || server.metric("esker_http_connections_stalled_total") == 1.0);
    eventually("its place is free", || server.store.watchers() == 0);
}

#[test]
fn watchers_are_counted_and_a_drain_ends_them_in_order() {
    let mut server = TestServer::with(|_, store| store.max_watchers = 2);
    let first = Watcher::begin(server.address, "");
    let mut second = Watcher::begin(server.address, "");
    server.request("GET", "/api/v1/watch", b"").error(503, "busy");
    assert_eq!(server.metric("esker_watches_refused_total"), 1.0);
    drop(first);
    eventually("a place is free", || server.store.watchers() == 1);
    let mut third = Watcher::begin(server.address, "");
    for watcher in [&mut second, &mut third] {
        assert_eq!(watcher.progress(), 0);
    }
    put(&server, "k", b"v");
    assert_eq!(second.take(1)[0].key(), "k");
    server.begin_stop();
    assert_eq!(second.next(), None);
    while let Some(event) = third.next() {
        assert_eq!(event.name, "put");
    }
    assert_eq!(server.finish().connections_cut, 0);
}

#[test]
fn wrong_parameters_are_told() {
    let server = TestServer::start();
    for query in [
        "from=x",
        "from=-1",
        "encoding=utf8",
        "keys_only=1",
        "prefix=%zz",
        "since=3",
        "prefix=!&encoding=base64",
    ] {
        server.request("GET", &format!("/api/v1/watch?{query}"), b"").error(400, "bad_request");
    }
    for id in ["x", "", "18446744073709551615"] {
        let answer = server.client().request("GET", "/api/v1/watch", &[("last-event-id", id)], b"");
        assert!(answer.error(400, "bad_request").contains("Last-Event-ID"), "{id}");
    }
    server.request("POST", "/api/v1/watch", b"").error(405, "method_not_allowed");
}

#[test]
fn damage_is_told_and_ends_the_stream() {
    let disk = SimDisk::new();
    let mut server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    put(&server, "bad", b"v");
    put(&server, "good", b"v");
    // In the first frame: 64 bytes of the segment's header, 44 of its own, 12 of the record's.
    disk.flip_bit("/data/0000000001.log", 64 + 44 + 12, 0).unwrap();
    let mut watcher = Watcher::begin(server.address, "from=1");
    assert_eq!(watcher.progress(), 0);
    let error = watcher.next().unwrap();
    assert_eq!(
        (error.name.as_str(), &error.data["error"]["code"]),
        ("error", &json!("damaged")),
        "{error:?}"
    );
    assert_eq!(watcher.next(), None);
    assert!(server.store.status().trouble.is_some_and(|trouble| trouble.contains("0000000001.log")));
    // The last checkpoint meets it, too.
    assert!(server.outcome().is_err());
}

/// Two Stores over one database would not both be told what is applied.
#[test]
fn a_database_has_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let clock = || std::sync::Arc::new(esker_log::clock::SystemClock::new());
    let first = esker_cluster::Store::single(db.clone(), Default::default(), clock()).unwrap();
    assert!(esker_cluster::Store::single(db, Default::default(), clock()).is_err());
    drop(first);
}
