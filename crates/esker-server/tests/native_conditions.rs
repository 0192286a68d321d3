//! SPEC 1.6 to 1.8, 1.10, 1.11 over a real socket: conditions, expiry, counters, range deletes, multi-get.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use esker_log::clock::{Clock, ManualClock};
use serde_json::{Value, json};
use support::{Answer, Client, TestServer};

const K: &str = "/api/v1/kv/k";

fn put_if(client: &mut Client, header: &str, value: &str, body: &[u8]) -> Answer {
    client.request("PUT", K, &[(header, value)], body)
}

/// The present version, as the details of a failed condition tell it.
#[track_caller]
fn failed(answer: &Answer) -> Option<u64> {
    answer.error(412, "precondition_failed");
    let details = answer.json()["error"]["details"].clone();
    assert!(details.as_object().unwrap().contains_key("version"), "{details}");
    details["version"].as_u64()
}

#[test]
fn a_put_or_delete_is_done_if_its_condition_holds() {
    let server = TestServer::start();
    let client = &mut server.client();
    assert_eq!(failed(&put_if(client, "If-Match", "*", b"x")), None, "version 1 is used up");
    assert_eq!(failed(&put_if(client, "If-Match", "\"7\"", b"x")), None);
    let put = put_if(client, "If-None-Match", "*", b"first");
    assert_eq!((put.status, put.header("etag")), (200, Some("\"3\"")));
    assert_eq!(failed(&put_if(client, "If-None-Match", "*", b"x")), Some(3));
    assert_eq!(failed(&put_if(client, "If-Match", "\"2\"", b"x")), Some(3));
    assert_eq!(client.request("GET", K, &[], b"").body, b"first");
    let second = put_if(client, "If-Match", "\"3\"", b"second");
    assert_eq!(second.json()["version"], 6, "each write that failed has used up a version");
    assert_eq!(put_if(client, "If-Match", "*", b"third").status, 200);
    assert_eq!(failed(&client.request("DELETE", K, &[("If-Match", "\"6\"")], b"")), Some(7));
    let deleted = client.request("DELETE", K, &[("If-Match", "\"7\"")], b"").json();
    assert_eq!((&deleted["existed"], &deleted["version"]), (&json!(true), &json!(9)));
    assert_eq!(failed(&client.request("DELETE", K, &[("If-Match", "*")], b"")), None);
    client.request("GET", K, &[], b"").error(404, "key_not_found");
}

#[test]
fn conditions_that_cannot_be_judged_are_refused_and_nothing_is_written() {
    let server = TestServer::start();
    let client = &mut server.client();
    for value in ["7", "W/\"7\"", "\"1\", \"2\"", "\"x\"", ""] {
        put_if(client, "If-Match", value, b"x").error(400, "bad_request");
    }
    put_if(client, "If-None-Match", "\"7\"", b"x").error(400, "bad_request");
    let both = [("If-Match", "*"), ("If-None-Match", "*")];
    client.request("PUT", K, &both, b"x").error(400, "bad_request");
    client.request("DELETE", K, &[("If-None-Match", "*")], b"").error(400, "not_supported");
    client.request("GET", K, &[("If-Match", "*")], b"").error(400, "not_supported");
    let body = br#"{"operations":[{"type":"delete","key":"k"}]}"#;
    client.request("POST", "/api/v1/batch", &[("If-Match", "*")], body).error(400, "not_supported");
    client.request("DELETE", "/api/v1/kv?prefix=", &[("If-Match", "*")], b"").error(400, "not_supported");
    assert_eq!(server.store.status().commit_index, 0);
}

#[test]
fn a_time_to_live_is_read_or_refused() {
    let server = TestServer::start();
    for ttl in ["", "0s", "0ms", "30", "s", "-1s", "%2B1s", "1.5h", "1w", "18446744073709551615d", "300000d"]
    {
        server.request("PUT", &format!("{K}?ttl={ttl}"), b"x").error(400, "bad_request");
    }
    server.request("PUT", &format!("{K}?ttl=1s&ttl=2s"), b"x").error(400, "bad_request");
    for target in [format!("{K}/incr?ttl=1s"), "/api/v1/batch?ttl=1s".into()] {
        server.request("POST", &target, b"{}").error(400, "bad_request");
    }
    server.request("DELETE", &format!("{K}?ttl=1s"), b"").error(400, "bad_request");
    for ttl in ["1ms", "30s", "5m", "2h", "7d"] {
        assert_eq!(server.request("PUT", &format!("{K}?ttl={ttl}"), b"x").status, 200, "{ttl}");
    }
}

/// SPEC 1.7: no sweep is waited for; the very millisecond decides.
#[test]
fn what_has_expired_is_absent_at_once_for_everybody() {
    let clock = Arc::new(ManualClock::default());
    let server = TestServer::with_clock(&clock);
    let expires = clock.wall().as_millis() as u64 + 30_000;
    server.request("PUT", &format!("{K}?ttl=30s"), b"41");
    server.request("PUT", "/api/v1/kv/stays", b"1");
    let get = server.request("GET", K, b"");
    assert_eq!(get.header("esker-expires-at"), Some(&*expires.to_string()));
    assert_eq!(
        server.client().request("HEAD", K, &[], b"").header("esker-expires-at"),
        get.header("esker-expires-at")
    );
    assert_eq!(server.request("GET", "/api/v1/kv/stays", b"").header("esker-expires-at"), None);
    let list = server.request("GET", "/api/v1/kv?keys_only=true", b"").json();
    assert_eq!(
        list["items"],
        json!([{"key": "k", "version": 1, "expires_at": expires}, {"key": "stays", "version": 2}])
    );
    // A counter keeps its time; a put without one ends it.
    assert_eq!(server.request("POST", &format!("{K}/incr"), b"").json()["value"], 42);
    let mget = br#"{"keys":["k"]}"#;
    let item = server.request("POST", "/api/v1/mget", mget).json()["items"][0].clone();
    assert_eq!(item, json!({"key": "k", "value": "42", "version": 3, "expires_at": expires}));

    clock.advance(Duration::from_millis(29_999));
    assert_eq!(server.request("GET", K, b"").text(), "42");
    clock.advance(Duration::from_millis(1));
    server.request("GET", K, b"").error(404, "key_not_found");
    assert_eq!(server.client().request("HEAD", K, &[], b"").status, 404);
    let streamed = [("accept", "application/x-ndjson")];
    let lines = server.client().request("GET", "/api/v1/kv?keys_only=true", &streamed, b"").text();
    assert_eq!(lines, "{\"key\":\"stays\",\"version\":2}\n");
    assert_eq!(server.request("POST", "/api/v1/mget", mget).json()["items"], json!([null]));
    assert_eq!(failed(&put_if(&mut server.client(), "If-Match", "*", b"x")), None);
    assert_eq!(server.request("DELETE", K, b"").json()["existed"], false);
    assert_eq!(server.request("POST", &format!("{K}/incr"), b"").json()["value"], 1);
    assert_eq!(server.request("GET", K, b"").header("esker-expires-at"), None, "it is another key's life");

    server.request("PUT", &format!("{K}?ttl=1s"), b"1");
    server.request("PUT", K, b"2");
    clock.advance(Duration::from_secs(2));
    assert_eq!(server.request("GET", K, b"").text(), "2", "a put without a time to live ends the old one");
}

#[test]
fn counters_add_and_say_what_they_cannot_add_to() {
    let server = TestServer::start();
    let client = &mut server.client();
    let mut incr = |key: &str, body: &str| {
        client.request("POST", &format!("/api/v1/kv/{key}/incr"), &[], body.as_bytes())
    };
    assert_eq!(incr("n", "").json(), json!({"key": "n", "value": 1, "version": 1}));
    let answer = incr("n", r#"{"by":41}"#);
    assert_eq!((&answer.json()["value"], answer.header("etag")), (&json!(42), Some("\"2\"")));
    assert_eq!(incr("n", r#"{"by":-50}"#).json()["value"], -8);
    assert_eq!(incr("n", "{}").json()["value"], -7);
    assert_eq!(incr("n", r#" {"by":0} "#).json()["value"], -7);
    for body in
        ["1", "[]", r#"{"by":"1"}"#, r#"{"by":1.5}"#, r#"{"by":9223372036854775808}"#, r#"{"to":1}"#, "{"]
    {
        incr("n", body).error(400, "bad_request");
    }
    incr("n", &" ".repeat(5000)).error(413, "payload_too_large");
    for (value, by, code) in [
        ("text", 1, "not_an_integer"),
        ("", 1, "not_an_integer"),
        ("01", 1, "not_an_integer"),
        ("9223372036854775807", 1, "overflow"),
        ("-9223372036854775808", -1, "overflow"),
    ] {
        server.request("PUT", "/api/v1/kv/v", value.as_bytes());
        incr("v", &json!({ "by": by }).to_string()).error(409, code);
        assert_eq!(server.request("GET", "/api/v1/kv/v", b"").text(), value);
    }
    server.request("PUT", "/api/v1/kv/v", b"9223372036854775806");
    assert_eq!(incr("v", "").json()["value"], i64::MAX);
}

/// CHECKS 19.
#[test]
fn a_copy_of_an_increment_is_answered_as_the_first() {
    let server = TestServer::start();
    let mut client = server.client();
    let mut incr = |id: &str| client.request("POST", &format!("{K}/incr"), &[("Esker-Request-Id", id)], b"");
    assert_eq!(incr("a-1").json(), json!({"key": "k", "value": 1, "version": 1}));
    assert_eq!(incr("a-2").json()["value"], 2);
    assert_eq!(incr("a-1").json(), json!({"key": "k", "value": 1, "version": 1}));
    let mut put = |id: &str| {
        let headers = [("Esker-Request-Id", id), ("If-None-Match", "*")];
        client.request("PUT", "/api/v1/kv/once", &headers, b"v").status
    };
    assert_eq!([put("a-3"), put("a-4"), put("a-3"), put("a-4")], [200, 412, 200, 412]);
    assert_eq!(server.request("GET", K, b"").body, b"2");
}

#[test]
fn the_last_segment_is_incr_for_posts_only() {
    let server = TestServer::start();
    let client = &mut server.client();
    assert_eq!(client.request("PUT", "/api/v1/kv/a/incr", &[], b"7").status, 200);
    assert_eq!(client.request("POST", "/api/v1/kv/a/incr", &[], b"").json()["value"], 1, "of a");
    assert_eq!(client.request("POST", "/api/v1/kv/a/incr/incr", &[], b"").json()["value"], 8, "of a/incr");
    assert_eq!(client.request("GET", "/api/v1/kv/a/incr", &[], b"").body, b"8");
    assert_eq!(client.request("POST", "/api/v1/kv/%FF/incr", &[], b"").json()["key"], "/w==");
    assert_eq!(client.request("POST", "/api/v1/kv//incr", &[], b"").status, 400, "an empty key");
    client.request("POST", "/api/v1/kv/incr", &[], b"").error(400, "bad_request");
    let post = client.request("POST", K, &[], b"");
    post.error(405, "method_not_allowed");
    assert_eq!(post.header("allow"), Some("GET, HEAD, PUT, DELETE"));
    let patch = client.request("PATCH", &format!("{K}/incr"), &[], b"");
    assert_eq!((patch.status, patch.header("allow")), (405, Some("GET, HEAD, PUT, DELETE, POST")));
    let condition = [("If-Match", "\"1\"")];
    assert_eq!(failed(&client.request("POST", "/api/v1/kv/a/incr", &condition, b"")), Some(2));
}

#[test]
fn many_keys_are_read_in_their_order() {
    let server = TestServer::start();
    server.request("PUT", "/api/v1/kv/a", b"1");
    server.request("PUT", "/api/v1/kv/%FF", b"\xfe");
    let mget =
        |query: &str, body: &str| server.request("POST", &format!("/api/v1/mget{query}"), body.as_bytes());
    let a = json!({"key": "a", "value": "1", "version": 1});
    assert_eq!(mget("", r#"{"keys":["b","a","a"]}"#).json(), json!({ "items": [null, a, a] }));
    assert_eq!(mget("", r#"{"keys":[]}"#).json(), json!({ "items": [] }));
    let coded = mget("?encoding=base64&consistency=stale", r#"{"keys":["/w=="]}"#);
    assert_eq!(
        coded.json()["items"][0],
        json!({"key": "/w==", "value": "/g==", "encoding": "base64", "version": 2})
    );
    assert_eq!(coded.header("esker-applied-version"), Some("2"));
    for (query, body) in [
        ("", ""),
        ("", "{}"),
        ("", r#"{"keys":[""]}"#),
        ("", r#"{"keys":[1]}"#),
        ("?encoding=base64", r#"{"keys":["*"]}"#),
        ("?encoding=hex", r#"{"keys":[]}"#),
        ("?limit=1", r#"{"keys":[]}"#),
    ] {
        mget(query, body).error(400, "bad_request");
    }
    let many = vec![r#""a""#; 10_001].join(",");
    mget("", &format!(r#"{{"keys":[{many}]}}"#)).error(413, "payload_too_large");
    let most = vec![r#""a""#; 10_000].join(",");
    let items = mget("", &format!(r#"{{"keys":[{most}]}}"#)).json()["items"].take();
    assert!(items.as_array().unwrap().iter().all(|item| *item == a));
    assert_eq!(server.request("GET", "/api/v1/mget", b"").header("allow"), Some("POST"));
}

#[test]
fn values_that_are_too_many_bytes_together_are_refused() {
    let server = TestServer::with(|_, store| store.limits.batch_bytes = 100);
    server.request("PUT", K, &[b'v'; 60]);
    assert_eq!(server.request("POST", "/api/v1/mget", br#"{"keys":["k"]}"#).status, 200);
    server.request("POST", "/api/v1/mget", br#"{"keys":["k","k"]}"#).error(413, "payload_too_large");
}

#[test]
fn a_range_is_deleted_if_it_is_said_in_full() {
    let server = TestServer::start();
    let keys = || -> Vec<String> {
        let list = server.request("GET", "/api/v1/kv?keys_only=true", b"").json();
        list["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().into()).collect()
    };
    for key in ["a/1", "a/2", "b", "c", "d"] {
        server.request("PUT", &format!("/api/v1/kv/{key}"), b"x");
    }
    let delete = |query: &str| server.request("DELETE", &format!("/api/v1/kv{query}"), b"");
    for query in [
        "",
        "?",
        "?start=a",
        "?end=z",
        "?start=&end=z",
        "?start=a&end=",
        "?prefix=a&start=a",
        "?prefix=a&start=a&end=b",
        "?start=b&end=a",
        "?prefix=a&limit=1",
        "?prefix=*&encoding=base64",
        "?sync=always",
    ] {
        delete(query).error(400, "bad_request");
    }
    assert_eq!(keys().len(), 5, "nothing was deleted");
    assert_eq!(delete("?prefix=a%2F").json(), json!({"version": 6, "deleted": 2}));
    assert_eq!(delete("?prefix=a%2F").json()["deleted"], 0);
    assert_eq!(
        delete("?start=Yg&end=Yw&encoding=base64&sync=always").json()["deleted"],
        2,
        "both ends are in it"
    );
    assert_eq!(keys(), ["d"]);
    assert_eq!(delete("?prefix=").json()["deleted"], 1);
    assert!(keys().is_empty());
}

#[test]
fn a_batch_has_every_operation_and_conditions() {
    let clock = Arc::new(ManualClock::default());
    let server = TestServer::with_clock(&clock);
    let batch = |body: Value| server.request("POST", "/api/v1/batch", body.to_string().as_bytes());
    let done = batch(json!({"operations": [
        {"type": "put", "key": "t", "value": "x", "ttl": "10s"},
        {"type": "put", "key": "p/1", "value": "x"},
        {"type": "incr", "key": "n"},
        {"type": "incr", "key": "n", "by": 4},
        {"type": "delete_range", "prefix": "p/"},
        {"type": "put", "key": "p/2", "value": "x"},
    ]}));
    assert_eq!(done.json(), json!({"version": 1, "operations": 6, "sum": 5}));
    let guarded = |conditions: Value| {
        batch(json!({"operations": [{"type": "put", "key": "g", "value": "x"}], "if": conditions}))
    };
    assert_eq!(
        failed(&guarded(json!([{"key": "g", "is": "absent"}, {"key": "p/2", "version": 7}]))),
        Some(1)
    );
    assert_eq!(failed(&guarded(json!([{"key": "p/1", "is": "present"}]))), None);
    server.request("GET", "/api/v1/kv/g", b"").error(404, "key_not_found");
    assert_eq!(guarded(json!([{"key": "g", "is": "absent"}, {"key": "p/2", "version": 1}])).status, 200);
    let refused = batch(json!({"operations": [
        {"type": "put", "key": "n", "value": "y"}, {"type": "incr", "key": "g"}]}));
    refused.error(409, "not_an_integer");
    assert_eq!(server.request("GET", "/api/v1/kv/n", b"").text(), "5", "all or nothing");
    assert_eq!(server.request("GET", "/api/v1/kv/t", b"").status, 200);
    clock.advance(Duration::from_secs(10));
    server.request("GET", "/api/v1/kv/t", b"").error(404, "key_not_found");
}

const THREADS: u64 = 16;

/// SPEC 1.8: no increment is lost, and no two of them come to the same.
#[test]
fn thousands_of_racing_increments_are_all_counted() {
    const EACH: u64 = 250;
    let server = TestServer::start();
    let sums = std::thread::scope(|scope| {
        let work = || {
            let mut client = server.client();
            let mut incr =
                || client.request("POST", "/api/v1/kv/n/incr", &[], b"").json()["value"].as_u64().unwrap();
            (0..EACH).map(|_| incr()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut sums: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        sums.sort_unstable();
        sums
    });
    assert!(sums.into_iter().eq(1..=THREADS * EACH));
    assert_eq!(server.request("GET", "/api/v1/kv/n", b"").text(), (THREADS * EACH).to_string());
}

/// SPEC 1.6: of those who saw one version, one may go on from it.
#[test]
fn thousands_of_racing_compare_and_sets_lose_no_update() {
    const EACH: u64 = 60;
    let server = TestServer::start();
    server.request("PUT", K, b"0");
    let tries: u64 = std::thread::scope(|scope| {
        let work = || {
            let (mut client, mut tries) = (server.client(), 0);
            for _ in 0..EACH {
                loop {
                    tries += 1;
                    let seen = client.request("GET", K, &[], b"");
                    let next = seen.text().parse::<u64>().unwrap() + 1;
                    let etag = seen.header("etag").unwrap().to_owned();
                    let put = put_if(&mut client, "If-Match", &etag, next.to_string().as_bytes());
                    if put.status == 200 {
                        break;
                    }
                    assert_ne!(failed(&put).map(|version| format!("\"{version}\"")), Some(etag));
                }
            }
            tries
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(server.request("GET", K, b"").text(), (THREADS * EACH).to_string());
    assert!(tries >= THREADS * EACH);
}

/// SPEC 1.10: who looks sees all of the range or nothing of it.
#[test]
fn a_racing_scan_or_multi_get_sees_all_of_a_deleted_range_or_nothing() {
    const KEYS: usize = 200;
    const ROUNDS: usize = 100;
    let server = TestServer::start();
    let put = |n: usize| json!({"type": "put", "key": format!("r/{n:03}"), "value": "x"});
    let fill = json!({ "operations": (0..KEYS).map(put).collect::<Vec<_>>() }).to_string();
    let mget = json!({ "keys": (0..KEYS).map(|n| format!("r/{n:03}")).collect::<Vec<_>>() }).to_string();
    let done = AtomicBool::new(false);
    let look = |streamed: bool| {
        let (mut client, mut seen) = (server.client(), [0; 2]);
        while !done.load(Ordering::Acquire) {
            let count = match streamed {
                true => {
                    let accept = [("accept", "application/x-ndjson")];
                    client.request("GET", "/api/v1/kv?prefix=r%2F", &accept, b"").text().lines().count()
                }
                false => {
                    let items = client.request("POST", "/api/v1/mget", &[], mget.as_bytes()).json();
                    items["items"].as_array().unwrap().iter().filter(|item| !item.is_null()).count()
                }
            };
            assert!(count == 0 || count == KEYS, "{count} of {KEYS}");
            seen[usize::from(count > 0)] += 1;
        }
        seen
    };
    let look = &look;
    std::thread::scope(|scope| {
        let lookers = [true, true, false].map(|streamed| scope.spawn(move || look(streamed)));
        let mut client = server.client();
        for _ in 0..ROUNDS {
            assert_eq!(client.request("POST", "/api/v1/batch", &[], fill.as_bytes()).status, 200);
            let deleted = client.request("DELETE", "/api/v1/kv?prefix=r%2F", &[], b"").json();
            assert_eq!(deleted["deleted"], KEYS);
        }
        done.store(true, Ordering::Release);
        let seen = lookers.map(|looker| looker.join().unwrap());
        assert!(seen.iter().any(|[nothing, all]| *nothing > 0 && *all > 0), "nobody raced: {seen:?}");
    });
}

#[test]
fn what_is_done_is_counted_under_its_name() {
    let server = TestServer::start();
    server.request("POST", &format!("{K}/incr"), b"");
    server.request("POST", "/api/v1/mget", br#"{"keys":["k"]}"#);
    server.request("DELETE", "/api/v1/kv?prefix=k", b"");
    let metrics = server.request("GET", "/metrics", b"").text();
    for operation in ["incr", "mget", "delete_range"] {
        assert!(metrics.contains(&format!("operation=\"{operation}\"")), "{operation} in {metrics}");
    }
}
