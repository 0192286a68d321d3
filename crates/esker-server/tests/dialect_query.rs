//! SPEC 3.4: the query dialect over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use esker_engine::Options;
use esker_log::disk::sim::{Fault, FaultPlan, Ops, SimDisk};
use serde_json::json;
use support::{Answer, TestServer};

const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

#[track_caller]
fn done(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str(), answer.header("content-type")), (200, "OK", TEXT));
}

#[track_caller]
fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!((answer.status, answer.header("content-type")), (status, TEXT), "{answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503));
    assert!(!answer.body.is_empty());
    answer.text()
}

/// CHECKS 36 among it: any bytes are a key.
#[test]
fn a_key_is_put_read_and_deleted() {
    let server = TestServer::start();
    for (key, value) in [("a", &b"1"[..]), ("a+b%2F%00", b"\xff\0"), ("%FF", b""), ("%C3%A9", b"{\"x\":1}")] {
        done(&server.request("PUT", &format!("/put?key={key}"), value));
        let read = server.request("GET", &format!("/read?key={key}"), b"");
        assert_eq!((read.status, read.body.as_slice()), (200, value));
        assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    }
    assert_eq!(server.request("GET", "/api/v1/kv/a%20b%2F%00", b"").body, b"\xff\0");
    done(&server.request("DELETE", "/delete?key=a", b""));
    for (method, target) in [("DELETE", "/delete?key=a"), ("GET", "/read?key=a")] {
        assert_eq!(refused(&server.request(method, target, b""), 404), "Not Found");
    }
}

#[test]
fn a_missing_parameter_is_refused() {
    let server = TestServer::start();
    for (method, target, name) in [
        ("PUT", "/put", "key"),
        ("PUT", "/put?key=", "key"),
        ("PUT", "/put?KEY=a", "key"),
        ("GET", "/read", "key"),
        ("DELETE", "/delete?k=a", "key"),
        ("GET", "/range", "start"),
        ("GET", "/range?start=a", "end"),
        ("GET", "/range?end=a", "start"),
        ("GET", "/range?start=&end=b", "start"),
    ] {
        let why = refused(&server.request(method, target, b"v"), 400);
        assert_eq!(why, format!("the parameter `{name}` is missing"), "{method} {target}");
    }
    for target in ["/read?key=%z", "/read?key=a&key=b"] {
        refused(&server.request("GET", target, b""), 400);
    }
    assert_eq!(server.request("GET", "/read?v=1&key=a", b"").status, 404, "other parameters are passed over");
}

#[test]
fn a_range_is_an_array_in_key_order() {
    let server = TestServer::start();
    for key in ["b", "c", "a", "d"] {
        server.request("PUT", &format!("/put?key={key}"), format!("{key}\"1").as_bytes());
    }
    let range =
        |start: &str, end: &str| server.request("GET", &format!("/range?start={start}&end={end}"), b"");
    let answer = range("b", "c");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), r#"[{"key":"b","value":"b\"1"},{"key":"c","value":"c\"1"}]"#);
    assert_eq!(range("x", "z").text(), "[]");
    assert_eq!(range("c", "b").text(), "[]");
    server.request("PUT", "/put?key=b", b"\xff");
    assert_eq!(
        range("b", "c").text(),
        r#"[{"key":"Yg==","value":"/w==","encoding":"base64"},{"key":"c","value":"c\"1"}]"#
    );
}

#[test]
fn a_batch_is_all_or_nothing() {
    let server = TestServer::with(|_, store| {
        store.limits =
            esker_cluster::Limits { value_bytes: 10, batch_ops: 3, batch_bytes: 25, ..Default::default() };
    });
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let put = |body: &str| server.client().request("POST", "/batchput", &form, body.as_bytes());
    done(&put(r#"{"a":"1","b\n":"","a":"2"}"#));
    assert_eq!(server.request("GET", "/read?key=a", b"").body, b"2");
    assert_eq!(server.request("GET", "/read?key=b%0A", b"").body, b"");
    done(&put("{}"));
    for body in
        ["", "[]", r#"{"c":"1","d":2}"#, r#"{"c":"1","d":null}"#, r#"{"c":"1""#, r#"{"c":"1","":"2"}"#]
    {
        refused(&put(body), 400);
    }
    assert!(refused(&put(r#"{"c":"1","d\"":"12345678901"}"#), 413).starts_with(r#"the key "d\"": "#));
    refused(&put(r#"{"c":"1","d":"1","e":"1","f":"1"}"#), 413);
    refused(&put(&json!({"c": "1234567890", "d": "1234567890", "e": "1234567890"}).to_string()), 413);
    assert_eq!(server.request("GET", "/read?key=c", b"").status, 404);
}

#[test]
fn wrong_methods_name_the_right_ones() {
    let server = TestServer::start();
    for (method, target, allow) in [
        ("PATCH", "/put?key=a", "POST, PUT"),
        ("POST", "/read?key=a", "GET, HEAD"),
        ("PUT", "/range", "GET, HEAD"),
        ("PUT", "/batchput", "POST"),
        ("PUT", "/delete?key=a", "POST, DELETE"),
    ] {
        let answer = server.request(method, target, b"");
        refused(&answer, 405);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
    server.request("PUT", "/put?key=a", b"123");
    let mut client = server.client();
    let head = client.request("HEAD", "/read?key=a", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("3")));
    assert_eq!(client.request("HEAD", "/range?start=a&end=b", &[], b"").status, 200);
    assert_eq!(client.request("GET", "/read?key=a", &[], b"").body, b"123");
}

#[test]
fn what_cannot_be_written_is_told() {
    let disk = SimDisk::new();
    let mut server = TestServer::on_disk(&disk, Options::default(), |_, store| {
        store.limits = esker_cluster::Limits { value_bytes: 10, ..Default::default() };
    });
    refused(&server.request("PUT", "/put?key=a", b"12345678901"), 413);
    let foreign = [("origin", "https://evil.example")];
    refused(&server.client().request("PUT", "/put?key=a", &foreign, b"1"), 403);
    refused(&server.client().request("PUT", "/put?key=a", &[("if-none-match", "*")], b"1"), 400);
    refused(&server.client().request("PUT", "/put?key=a", &[("content-encoding", "br")], b"1"), 415);
    done(&server.request("PUT", "/put?key=k", b"1"));
    disk.inject(FaultPlan::nth(Ops::Syncs, 1, Fault::Io));
    refused(&server.request("PUT", "/put?key=a", b"1"), 503);
    assert_eq!(server.request("GET", "/read?key=k", b"").body, b"1", "reads go on");
    server.outcome().unwrap_err();
}
