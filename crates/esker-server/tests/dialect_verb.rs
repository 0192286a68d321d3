//! SPEC 3.3: the verb dialect over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use serde_json::json;
use support::{Answer, TestServer};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

/// As `curl -d` sends it.
fn post(server: &TestServer, target: &str, body: &str) -> Answer {
    server.client().request("POST", target, &[FORM], body.as_bytes())
}

#[track_caller]
fn done(answer: &Answer, word: &str) {
    assert_eq!((answer.status, answer.text().as_str(), answer.header("content-type")), (200, word, TEXT));
}

#[track_caller]
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!((answer.status, answer.header("content-type")), (status, TEXT), "{answer:?}");
    assert!(!answer.body.is_empty());
    answer.text()
}

#[test]
fn a_key_is_put_got_and_deleted() {
    let server = TestServer::start();
    done(&post(&server, "/put", r#"{"key":"a b/é","value":"1\n"}"#), "OK");
    let got = server.request("GET", "/get?key=a+b%2F%C3%A9", b"");
    assert_eq!((got.status, got.body.as_slice()), (200, &b"1\n"[..]));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    done(&post(&server, "/delete?key=a+b%2F%C3%A9", ""), "Deleted");
    assert_eq!(refused(&server.request("GET", "/get?key=a+b%2F%C3%A9", b""), 404), "Not Found");
    done(&post(&server, "/delete?key=never", ""), "Deleted");
}

/// CHECKS 36.
#[test]
fn any_bytes_are_read_raw_and_written_coded() {
    let server = TestServer::start();
    server.request("PUT", "/api/v1/kv/%FF%00", b"\xfe\0");
    assert_eq!(server.request("GET", "/get?key=%FF%00", b"").body, b"\xfe\0");
    done(&post(&server, "/put", r#"{"key":"/w==","value":"/v8=","encoding":"base64"}"#), "OK");
    assert_eq!(server.request("GET", "/get?key=%ff", b"").body, b"\xfe\xff");
}

#[test]
fn a_put_that_is_none_is_refused() {
    let server = TestServer::start();
    for body in [
        "",
        "{}",
        "[]",
        r#"{"key":"a"}"#,
        r#"{"value":"a"}"#,
        r#"{"key":"a","value":1}"#,
        r#"{"key":"","value":"a"}"#,
        r#"{"key":"a","value":"*","encoding":"base64"}"#,
        r#"{"key":"a","value":"b","encoding":"hex"}"#,
        "key=a&value=b",
    ] {
        refused(&post(&server, "/put", body), 400);
    }
    assert!(refused(&post(&server, "/put", r#"{"key":"a"}"#), 400).contains("missing field `value`"));
    assert!(refused(&post(&server, "/put", r#"["a","1",null]"#), 400).ends_with("it is no object"));
    done(&post(&server, "/put", r#"{"value":"v","more":{"x":[1]},"key":"a"}"#), "OK");
}

#[test]
fn a_missing_key_is_refused() {
    let server = TestServer::start();
    for target in ["/get", "/get?key=", "/get?k=a", "/get?key=%z", "/get?key=a&key=b"] {
        refused(&server.request("GET", target, b""), 400);
    }
    assert_eq!(refused(&server.request("GET", "/get", b""), 400), "the parameter `key` is missing");
    assert_eq!(refused(&post(&server, "/delete", ""), 400), "the parameter `key` is missing");
    assert_eq!(server.request("GET", "/get?_=1&key=a", b"").status, 404, "other parameters are passed over");
}

#[test]
fn a_batch_is_all_or_nothing() {
    let server = TestServer::with(|_, store| {
        store.limits =
            esker_cluster::Limits { value_bytes: 10, batch_ops: 3, batch_bytes: 25, ..Default::default() };
    });
    let batch = |items: &serde_json::Value| post(&server, "/batch", &json!({ "items": items }).to_string());
    let item = |key: &str, value: &str| json!({"key": key, "value": value});
    done(&batch(&json!([item("a", "1"), item("b", ""), item("a", "2")])), "Batch Processed");
    assert_eq!(server.request("GET", "/get?key=a", b"").body, b"2");
    assert_eq!(server.request("GET", "/get?key=b", b"").body, b"");
    done(&batch(&json!([])), "Batch Processed");
    let refused_with = |items: serde_json::Value, status| refused(&batch(&items), status);
    assert!(refused_with(json!([item("c", "1"), item("", "2")]), 400).starts_with("item 1: "));
    assert!(refused_with(json!([item("c", "1"), {"key": "d"}]), 400).contains("missing field `value`"));
    assert!(refused_with(json!([item("c", "1"), item("d", "12345678901")]), 413).starts_with("item 1: "));
    refused_with(json!([item("c", "1"), item("c", "1"), item("c", "1"), item("c", "1")]), 413);
    refused_with(json!([item("c", "1234567890"), item("c", "1234567890"), item("c", "1234567890")]), 413);
    for body in
        ["", "{}", "[]", r#"{"items":{}}"#, r#"{"items":[{"key":"c","value":"1"}]"#, r#"{"items":[1]}"#]
    {
        refused(&post(&server, "/batch", body), 400);
    }
    assert_eq!(refused(&post(&server, "/batch", "{}"), 400), "the body has no field `items`");
    assert_eq!(server.request("GET", "/get?key=c", b"").status, 404);
}

#[test]
fn a_scan_is_an_object_in_key_order() {
    let server = TestServer::start();
    let scan = |query: &str| server.request("GET", &format!("/scan{query}"), b"");
    assert_eq!(scan("").text(), "{}");
    for key in ["b", "d", "a", "c\""] {
        post(&server, "/put", &json!({"key": key, "value": format!("{key}1")}).to_string());
    }
    let answer = scan("?start=a&end=c%22");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), r#"{"a":"a1","b":"b1","c\"":"c\"1"}"#);
    assert_eq!(scan("?start=c&end=").text(), r#"{"c\"":"c\"1","d":"d1"}"#);
    assert_eq!(scan("?end=a").text(), r#"{"a":"a1"}"#);
    assert_eq!(scan("?start=d&end=a").text(), "{}");
    assert_eq!(scan("?start=x").text(), "{}");
    refused(&scan("?start=%"), 400);
    server.request("PUT", "/api/v1/kv/%FF", b"text");
    server.request("PUT", "/api/v1/kv/e", b"\0\xff");
    assert_eq!(
        scan("?start=d").text(),
        r#"{"d":"d1","ZQ==":{"encoding":"base64","value":"AP8="},"/w==":{"encoding":"base64","value":"dGV4dA=="}}"#
    );
}

/// CHECKS 33: a scan of more than a chunk is one object, and is not made before it is read.
#[test]
fn a_long_scan_is_streamed() {
    let server = TestServer::start();
    const KEYS: usize = 30_000;
    for start in (0..KEYS).step_by(10_000) {
        let items: Vec<_> = (start..start + 10_000)
            .map(|n| json!({"key": format!("k{n:06}"), "value": "v".repeat(200)}))
            .collect();
        done(&post(&server, "/batch", &json!({ "items": items }).to_string()), "Batch Processed");
    }
    let answer = server.request("GET", "/scan", b"");
    assert!(answer.complete);
    assert_eq!(answer.json().as_object().unwrap().len(), KEYS);
    let before = server.metric("esker_store_seconds_count{operation=\"scan_chunk\"}");
    let mut slow = server.client();
    slow.send_request("GET", "/scan", &[], b"");
    let head = slow.read_head().unwrap();
    assert_eq!(head.status, 200);
    let store = server.store.clone();
    let closing = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let chunks = server.metric("esker_store_seconds_count{operation=\"scan_chunk\"}") - before;
    assert!(chunks < 30.0, "{chunks} chunks");
    // What breaks off must not look like the end.
    closing.block_on(store.close()).unwrap();
    assert!(!slow.read_body(head).complete);
}

#[test]
fn the_metrics_are_numbers() {
    let server = TestServer::start();
    post(&server, "/put", r#"{"key":"a","value":"1"}"#);
    server.request("PUT", "/kv/b", br#"{"value":"2"}"#);
    server.request("PUT", "/api/v1/kv/c", b"3");
    server.request("GET", "/get?key=a", b"");
    post(&server, "/batch", r#"{"items":[]}"#);
    server.request("GET", "/scan", b"");
    post(&server, "/delete?key=a", "");
    server.request("DELETE", "/delete?key=b", b"");
    let json = [("accept", "application/json")];
    let answer = server.client().request("GET", "/metrics", &json, b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let metrics = answer.json();
    let figures = metrics.as_object().unwrap();
    assert!(figures.values().all(serde_json::Value::is_u64), "{metrics}");
    for (name, figure) in [
        ("writes", 3),
        ("reads", 1),
        ("batches", 1),
        ("scans", 1),
        ("deletes", 2),
        ("errors", 0),
        ("compactions", 0),
    ] {
        assert_eq!(metrics[name], figure, "{name} in {metrics}");
    }
    for name in ["flushes", "wal_syncs", "l0_files"] {
        assert!(figures.contains_key(name), "{name} in {metrics}");
    }
    assert!(metrics["wal_syncs"].as_u64().unwrap() > 0, "{metrics}");
    assert_eq!(server.request("GET", "/metrics?format=json", b"").json()["writes"], 3);
    assert_eq!(server.client().request("HEAD", "/metrics", &json, b"").status, 200);
    // Who does not ask for JSON gets what Prometheus reads.
    let text = server.request("GET", "/metrics", b"");
    assert!(text.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    server.request("POST", "/metrics?format=json", b"").error(405, "method_not_allowed");
}

#[test]
fn wrong_methods_name_the_right_ones() {
    let server = TestServer::start();
    for (method, target, allow) in [
        ("GET", "/put", "POST, PUT"),
        ("DELETE", "/get", "GET, HEAD"),
        ("GET", "/batch", "POST"),
        ("POST", "/scan", "GET, HEAD"),
        ("GET", "/delete", "POST, DELETE"),
        ("OPTIONS", "/put", "POST, PUT"),
    ] {
        let answer = server.request(method, target, b"");
        refused(&answer, 405);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
    post(&server, "/put", r#"{"key":"a","value":"123"}"#);
    let mut client = server.client();
    let head = client.request("HEAD", "/get?key=a", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("3")));
    let head = client.request("HEAD", "/scan", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, None));
    assert_eq!(client.request("GET", "/get?key=a", &[], b"").body, b"123");
}

#[test]
fn what_is_too_large_or_from_elsewhere_is_refused() {
    let server = TestServer::with(|_, store| {
        store.limits = esker_cluster::Limits { value_bytes: 10, ..Default::default() };
    });
    let large = json!({"key": "a", "value": "12345678901"}).to_string();
    assert!(refused(&post(&server, "/put", &large), 413).contains("the limit is 10"));
    let body = br#"{"key":"a","value":"1"}"#;
    let send = |header| refused(&server.client().request("POST", "/put", &[header], body), 403);
    assert!(send(("origin", "https://evil.example")).contains("may not write"));
    for header in [("if-match", "\"1\""), ("if-none-match", "*")] {
        refused(&server.client().request("POST", "/put", &[header], body), 400);
    }
    refused(&server.client().request("POST", "/put", &[("content-encoding", "gzip")], body), 415);
    assert_eq!(server.request("GET", "/get?key=a", b"").status, 404);
}
