//! What the log says of requests, on every front that has requests behind one another.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::{request, server};

/// Large enough to take a millisecond, whatever it is written to.
const LARGE: usize = 8 << 20;

/// Sends, and waits for an answer of this length.
fn ask(stream: &mut TcpStream, bytes: &[u8], answer: usize) {
    stream.write_all(bytes).unwrap();
    stream.read_exact(&mut vec![0; answer]).unwrap();
}

/// Each line of the log with the front, the connection, the number of the request on it, what it was and how its key begins.
#[test]
fn slow_requests_are_found_in_the_log() {
    let (mut server, _dir) =
        server(&["--slow-request-ms", "1ms", "--log-level", "warn", "--log-format", "json"]);
    let value = "v".repeat(LARGE);
    let mut resp = TcpStream::connect(&server.resp).unwrap();
    ask(&mut resp, b"PING\r\n", "+PONG\r\n".len());
    let set = format!("*3\r\n$3\r\nSET\r\n$26\r\nresp:abcdefghijklmnopqrstu\r\n${LARGE}\r\n{value}\r\n");
    ask(&mut resp, set.as_bytes(), "+OK\r\n".len());
    let mut binary = TcpStream::connect(server.binary.strip_prefix("esker://").unwrap()).unwrap();
    ask(&mut binary, format!("PUT 8 {LARGE}\nbinary:k{value}").as_bytes(), "OK 2\n".len());
    let (status, _) =
        request(&server.endpoint, "PUT /api/v1/kv/http:k", "x-request-id: mine\r\n", value.as_bytes());
    assert_eq!(status, 200);
    let (code, log) = server.finish();
    assert_eq!(code, Some(0), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let lines: Vec<Value> = lines.map(|mut line| line["fields"].take()).collect();
    let mut connections = Vec::new();
    for (front, operation, key, request) in [
        ("resp", "set", "resp:abcdefghijk..", 2),
        ("binary", "PUT", "binary:k", 1),
        ("http", "put", "http:k", 1),
    ] {
        let is_it = |line: &&Value| line["front"] == front && line["operation"] == operation;
        let line = lines.iter().find(is_it).unwrap_or_else(|| panic!("{front} is not in {log}"));
        assert_eq!((&line["key"], &line["request"]), (&key.into(), &request.into()), "{line}");
        assert!(line["took_ms"].as_u64() >= Some(1), "{line}");
        connections.push(line["connection"].as_u64().unwrap());
        if front == "http" {
            assert_eq!(line["request_id"], "mine", "{line}");
        }
    }
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 3, "{log}");
    assert!(!log.contains("vvvvvvvv"), "values are told nowhere");
}
