//! SPEC 5.1, 5.2, 5.6 and CHECKS 32 to 34: clients that are slow, greedy, silent or malformed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use std::{io::Read, time::Duration};

use esker_server::{ServerConfig, Sockets};
use support::{Client, TestServer, eventually};

const SHORT: Duration = Duration::from_millis(150);

/// CHECKS 32: slow-loris. The header time-out acts however often a byte comes, and says so.
#[test]
fn a_half_sent_head_is_answered_and_closed() {
    let server = TestServer::with(|config, _| config.timeouts.header = SHORT);
    let mut client = server.client();
    client.send(b"GET /health HT");
    let answer = client.read().unwrap();
    answer.error(408, "request_timeout");
    client.expect_close();
    eventually("the connection is given back", || server.metric("esker_http_connections") == 1.0);
}

/// CHECKS 32: silence before the first byte is bounded too.
#[test]
fn silence_is_closed() {
    let server = TestServer::with(|config, _| config.timeouts.header = SHORT);
    server.client().expect_close();
}

/// CHECKS 32: idle connections are closed, after their own time.
#[test]
fn an_idle_connection_is_closed() {
    let server = TestServer::with(|config, _| config.timeouts.idle = SHORT);
    let mut client = server.client();
    assert_eq!(client.request("GET", "/health", &[], b"").status, 200);
    client.expect_close();
}

#[test]
fn a_half_sent_body_is_answered_and_forgotten() {
    let server = TestServer::with(|config, _| config.timeouts.body_stall = SHORT);
    let mut client = server.client();
    client.send(b"PUT /api/v1/kv/k HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\nhalf");
    client.read().unwrap().error(408, "request_timeout");
    client.expect_close();
    eventually("its memory is given back", || server.metric("esker_http_body_bytes") == 0.0);
    server.request("GET", "/api/v1/kv/k", b"").error(404, "key_not_found");
}

/// What came of a value before its client went away is never taken for the value.
#[test]
fn a_body_that_breaks_off_is_not_written() {
    let server = TestServer::start();
    for body in ["content-length: 1000\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = server.client();
        client.send(format!("PUT /api/v1/kv/k HTTP/1.1\r\nhost: t\r\n{body}").as_bytes());
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        drop(client);
        eventually("the connection is gone", || server.metric("esker_http_connections") == 1.0);
    }
    server.request("GET", "/api/v1/kv/k", b"").error(404, "key_not_found");
}

#[test]
fn a_body_that_trickles_is_answered() {
    let server = TestServer::with(|config, _| {
        config.timeouts.body_grace = SHORT;
        config.timeouts.body_bytes_per_second = 1 << 20;
    });
    let mut client = server.client();
    client.send(b"PUT /api/v1/kv/k HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\n\r\n");
    // Each byte buys a microsecond: never enough, however many come.
    client.send(b"0123456789");
    client.read().unwrap().error(408, "request_timeout");
}

/// A client that never reads its answer is dropped, and what waited for it is freed.
#[test]
fn a_client_that_never_reads_is_dropped() {
    let server = TestServer::with(|config, _| config.timeouts.write_stall = SHORT);
    server.request("PUT", "/api/v1/kv/large", &vec![7; 16 << 20]);
    let mut client = server.client();
    client.send_request("GET", "/api/v1/kv/large", &[], b"");
    eventually("it is dropped", || server.metric("esker_http_connections_stalled_total") == 1.0);
    eventually("its place is free", || server.metric("esker_http_connections") == 1.0);
}

/// CHECKS 32, 33: a client that takes a little now and then does not hold its answer for ever.
#[test]
fn a_client_that_reads_by_drops_is_dropped() {
    let server = TestServer::with(|config, store| {
        store.limits.value_bytes = 64 << 20;
        config.timeouts.write_stall = Duration::from_millis(500);
        config.timeouts.answer_bytes_per_second = 1 << 40;
    });
    server.request("PUT", "/api/v1/kv/large", &vec![7; 64 << 20]);
    let mut client = server.client();
    client.send_request("GET", "/api/v1/kv/large", &[], b"");
    let mut taken = [0; 8 << 10];
    // Never still for half a second, but never quick either.
    eventually("it is dropped", || {
        let _gone = client.stream.read(&mut taken).is_err();
        server.metric("esker_http_connections_stalled_total") == 1.0
    });
    eventually("its answer is freed", || server.metric("esker_http_answer_bytes") == 0.0);
}

/// CHECKS 33: however many clients leave their answers lying, memory is bounded and the others are told.
#[test]
fn answers_share_a_budget() {
    let server = TestServer::with(|config, _| config.limits.answer_bytes_under_way = 20 << 20);
    server.request("PUT", "/api/v1/kv/large", &vec![7; 16 << 20]);
    server.request("PUT", "/api/v1/kv/small", b"small");
    let mut lazy = server.client();
    lazy.send_request("GET", "/api/v1/kv/large", &[], b"");
    eventually("the answer waits", || server.metric("esker_http_answer_bytes") > 1e7);
    let mut stream = server.client();
    stream.send_request("GET", "/api/v1/kv?start=m", &[("Accept", "application/x-ndjson")], b"");
    assert_eq!(stream.read().unwrap().status, 200, "there is room for a stream of little");
    let message = server.request("GET", "/api/v1/kv/large", b"").error(503, "busy");
    assert!(message.contains("answers"), "{message}");
    server.request("GET", "/api/v1/kv", b"").error(503, "busy");
    assert_eq!(server.request("GET", "/api/v1/kv/small", b"").text(), "small");
    drop(lazy);
    eventually("it is freed", || server.metric("esker_http_answer_bytes") == 0.0);
    assert_eq!(server.request("GET", "/api/v1/kv/large", b"").body.len(), 16 << 20);
}

/// Where those who do not read fill the memory for answers, they do not have the time that they have otherwise: 30 s.
#[test]
fn who_never_reads_is_dropped_soon_where_memory_is_short() {
    let server = TestServer::with(|config, _| config.limits.answer_bytes_under_way = 40 << 20);
    server.request("PUT", "/api/v1/kv/large", &vec![7; 16 << 20]);
    let _lazy = [server.client(), server.client()].map(|mut client| {
        client.send_request("GET", "/api/v1/kv/large", &[], b"");
        client
    });
    eventually("one is dropped", || server.metric("esker_http_connections_stalled_total") >= 1.0);
    eventually("it is freed", || server.metric("esker_http_answer_bytes") < 20e6);
    assert_eq!(server.request("GET", "/api/v1/kv/large", b"").body.len(), 16 << 20);
}

/// To HTTP/1.0 the end of a stream looks like a stream that was cut off.
#[test]
fn streams_are_refused_where_their_end_cannot_be_told() {
    let server = TestServer::start();
    server.request("PUT", "/api/v1/kv/a", b"1");
    let ask = |accept: &str| {
        let mut client = server.client();
        client.send(format!("GET /api/v1/kv HTTP/1.0\r\nAccept: {accept}\r\n\r\n").as_bytes());
        client.read().unwrap()
    };
    let message = ask("application/x-ndjson").error(505, "http_version_not_supported");
    assert!(message.contains("HTTP/1.1"), "{message}");
    assert_eq!(ask("application/json").json()["items"][0]["key"], "a");
}

/// CHECKS 33: an announced length is refused before anything is read, a lying one while reading.
#[test]
fn large_bodies_are_refused() {
    let server = TestServer::with(|_, store| store.limits.value_bytes = 1000);
    let mut client = server.client();
    client.send(b"PUT /api/v1/kv/k HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999999\r\n\r\n");
    client.read().unwrap().error(413, "payload_too_large");
    let mut client = server.client();
    client.send(b"PUT /api/v1/kv/k HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(&[b"3e9\r\n", &[b'x'; 1001][..], b"\r\n"].concat());
    client.read().unwrap().error(413, "payload_too_large");
    let sent_whole = server.request("PUT", "/api/v1/kv/k", &vec![0; 300_000]);
    sent_whole.error(413, "payload_too_large");
    assert_eq!(server.request("PUT", "/api/v1/kv/k", &[0; 1000]).status, 200);
}

#[test]
fn bodies_share_a_budget() {
    let server = TestServer::with(|config, _| config.limits.body_bytes_under_way = 1000);
    let mut holder = server.client();
    holder.send(b"PUT /api/v1/kv/a HTTP/1.1\r\nhost: t\r\ncontent-length: 901\r\n\r\n");
    holder.send(&[b'x'; 900]);
    eventually("the first is being received", || server.metric("esker_http_body_bytes") >= 900.0);
    // Small ones have a quarter more.
    assert_eq!(server.request("PUT", "/api/v1/kv/b", &[b'x'; 200]).status, 200);
    server.request("PUT", "/api/v1/kv/b", &[b'x'; 400]).error(429, "too_many_requests");
    assert_eq!(server.request("PUT", "/api/v1/kv/b", &[b'x'; 50]).status, 200);
    holder.send(b"x");
    assert_eq!(holder.read().unwrap().status, 200);
    assert_eq!(server.request("PUT", "/api/v1/kv/b", &[b'x'; 200]).status, 200);
}

#[test]
fn connections_over_the_cap_are_told_so() {
    let server = TestServer::with(|config, _| config.limits.connections = 2);
    let mut first = server.client();
    let mut second = server.client();
    assert_eq!(first.request("GET", "/health", &[], b"").status, 200);
    assert_eq!(second.request("GET", "/health", &[], b"").status, 200);
    let mut third = server.client();
    third.send_request("GET", "/health", &[], b"");
    third.read().unwrap().error(503, "too_many_connections");
    third.expect_close();
    drop(second);
    eventually("a place is free again", || server.request("GET", "/health", b"").status == 200);
}

/// SPEC 5.2: request line, headers and anything malformed, with the error body where hyper itself answers.
#[test]
fn malformed_and_oversized_heads_carry_the_error_body() {
    let server = TestServer::with(|config, _| config.limits.header_bytes = 8 << 10);
    let long = "k".repeat(66_000);
    let many: String = (0..200).map(|n| format!("h{n}: x\r\n")).collect();
    let cases = [
        ("not http at all\r\n\r\n".into(), 400, "bad_request"),
        ("GET /health HTTP/1.1\r\nbad header\r\n\r\n".into(), 400, "bad_request"),
        ("PUT /api/v1/kv/k HTTP/1.1\r\ncontent-length: x\r\n\r\n".into(), 400, "bad_request"),
        (format!("GET /api/v1/kv/{long} HTTP/1.1\r\nhost: t\r\n\r\n"), 414, "uri_too_long"),
        (format!("GET /ready HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000)), 431, "headers_too_large"),
        (format!("GET /ready HTTP/1.1\r\n{many}\r\n"), 431, "headers_too_large"),
        (format!("GET /ready HTTP/1.1\r\nx: {}", "y".repeat(200_000)), 431, "headers_too_large"),
    ];
    for (request, status, code) in cases {
        let mut client = server.client();
        client.send(request.as_bytes());
        let message = client.read().unwrap().error(status, code);
        assert!(!message.is_empty());
    }
    let mut client = server.client();
    client.request("GET", "/health", &[], b"");
    client.send(b"\x16\x03\x01 this is TLS\r\n\r\n");
    client.read().unwrap().error(400, "bad_request");
    client.expect_close();
}

#[test]
fn a_shorter_limit_on_the_request_line_holds() {
    let server = TestServer::with(|config, _| config.limits.request_target_bytes = 100);
    server.request("GET", &format!("/api/v1/kv/{}", "k".repeat(90)), b"").error(414, "uri_too_long");
    server.request("GET", &format!("/api/v1/kv/{}", "k".repeat(80)), b"").error(404, "key_not_found");
}

/// SPEC 5.6: requests under way finish, idle connections close, nobody new is taken.
#[test]
fn a_drain_finishes_what_is_under_way() {
    let mut server = TestServer::start();
    let mut idle = server.client();
    assert_eq!(idle.request("GET", "/health", &[], b"").status, 200);
    let mut busy = server.client();
    busy.send(b"PUT /api/v1/kv/last HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nla");
    eventually("the request is under way", || server.metric("esker_http_body_bytes") == 2.0);
    server.begin_stop();
    idle.expect_close();
    busy.send(b"st");
    let answer = busy.read().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    busy.expect_close();
    assert_eq!(server.finish().connections_cut, 0);
}

/// A request that was on its way to an idle connection, or to one that nobody had accepted yet, is answered, and the client
/// is told that it was the last: nobody has to guess whether a write was done.
#[test]
fn a_drain_answers_what_is_on_its_way() {
    let mut server = TestServer::with(|config, _| config.timeouts.drain_idle = Duration::from_secs(5));
    let mut idle = server.client();
    assert_eq!(idle.request("GET", "/health", &[], b"").status, 200);
    let mut silent = server.client();
    server.begin_stop();
    eventually("nobody new is taken", || !server.takes_connections());
    for client in [&mut idle, &mut silent] {
        let answer = client.request("PUT", "/api/v1/kv/late", &[], b"v");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.expect_close();
    }
    assert_eq!(server.finish().connections_cut, 0);
}

/// Whoever asks too early is told so at once, and whoever asks when the server runs is served.
#[test]
fn who_comes_too_early_is_turned_away() {
    let config = ServerConfig {
        http_address: "127.0.0.1:0".parse().unwrap(),
        resp_address: None,
        binary_address: None,
        grpc_address: None,
        ..ServerConfig::default()
    };
    let sockets = Sockets::bind(&config).unwrap();
    let waiting = sockets.turn_away(&config, "it waits for others").unwrap();
    let answer = Client::connect(sockets.http_address()).request("GET", "/ready", &[], b"");
    assert_eq!(answer.error(503, "unavailable"), "it waits for others");
    drop(waiting);
    let mut client = Client::connect(sockets.http_address());
    client.send(b"GET /ready HTTP/1.1\r\nhost: t\r\n\r\n");
    client.expect_silence();
}

/// SPEC 5.6: whoever balances the load is told before the first request is turned away.
#[test]
fn a_drain_can_be_announced() {
    let mut server = TestServer::with(|config, _| config.timeouts.drain_notice = Duration::from_secs(2));
    server.begin_stop();
    eventually("it says so", || server.request("GET", "/ready", b"").status == 503);
    server.request("GET", "/ready", b"").error(503, "draining");
    assert_eq!(server.request("PUT", "/api/v1/kv/k", b"v").status, 200);
    assert_eq!(server.request("GET", "/health", b"").status, 200);
    assert_eq!(server.finish().connections_cut, 0);
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let mut server = TestServer::with(|config, _| config.timeouts.drain = SHORT);
    let mut stuck = server.client();
    stuck.send(b"PUT /api/v1/kv/never HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nla");
    eventually("the request is under way", || server.metric("esker_http_body_bytes") == 2.0);
    server.begin_stop();
    assert_eq!(server.finish().connections_cut, 1);
    stuck.expect_close();
}

#[test]
fn the_shared_runtime_serves_too() {
    let server = TestServer::with(|config, _| {
        config.runtime = esker_server::Runtime::Shared(std::num::NonZeroUsize::new(2).unwrap());
    });
    assert_eq!(server.request("PUT", "/api/v1/kv/k", b"v").status, 200);
    assert_eq!(server.request("GET", "/api/v1/kv/k", b"").text(), "v");
}

/// Targets that are legal or nearly so, but not paths.
#[test]
fn odd_targets_are_answered() {
    let server = TestServer::start();
    server.request("PUT", "/api/v1/kv/k", b"v");
    for (target, status) in [
        ("OPTIONS *", 404),
        ("CONNECT host:80", 404),
        ("GET http://host/api/v1/kv/k", 200),
        ("GET http://host", 404),
        ("GET k", 404),
        ("GET //api/v1/kv/k", 404),
        ("BREW /api/v1/kv/k", 405),
        ("GET /api/v1/kv/\u{e9}", 404),
    ] {
        let mut client = server.client();
        client.send(format!("{target} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes());
        let answer = client.read().unwrap_or_else(|| panic!("no answer to {target}"));
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        assert!(status == 200 || answer.json()["error"]["code"].is_string(), "{target}");
    }
}
