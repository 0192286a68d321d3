//! SPEC 3.1: single keys over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use support::{Client, TestServer};

#[test]
fn a_key_is_put_read_and_removed() {
    let server = TestServer::start();
    let mut client = server.client();
    let put = client.request("PUT", "/api/v1/kv/greeting", &[], b"hello");
    assert_eq!((put.status, put.text().as_str()), (200, r#"{"key":"greeting","version":1}"#));
    assert_eq!(put.header("etag"), Some("\"1\""));
    let got = client.request("GET", "/api/v1/kv/greeting", &[], b"");
    assert_eq!((got.status, got.text().as_str()), (200, "hello"));
    assert_eq!(got.header("etag"), Some("\"1\""));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    let head = client.request("HEAD", "/api/v1/kv/greeting", &[], b"");
    assert_eq!(
        (head.status, head.header("content-length"), head.header("etag")),
        (200, Some("5"), Some("\"1\""))
    );
    for existed in [true, false] {
        let delete = client.request("DELETE", "/api/v1/kv/greeting", &[], b"");
        assert_eq!(delete.json()["existed"], existed);
    }
    client.request("GET", "/api/v1/kv/greeting", &[], b"").error(404, "key_not_found");
    assert_eq!(client.request("HEAD", "/api/v1/kv/greeting", &[], b"").status, 404);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let server = TestServer::start();
    let mut client = server.client();
    client.request("PUT", "/api/v1/kv/k", &[], b"1");
    for (condition, status) in [("\"1\"", 304), ("\"7\", W/\"1\"", 304), ("*", 304), ("\"2\"", 200)] {
        let got = client.request("GET", "/api/v1/kv/k", &[("If-None-Match", condition)], b"");
        assert_eq!((got.status, got.header("etag")), (status, Some("\"1\"")), "{condition}");
    }
    let absent = client.request("GET", "/api/v1/kv/absent", &[("If-None-Match", "*")], b"");
    absent.error(404, "key_not_found");
}

/// CHECKS 36: `..`, NUL, `%2f`, any byte in keys: never a path, exact round trip.
#[test]
fn any_byte_in_a_key_round_trips() {
    let server = TestServer::start();
    let mut client = server.client();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let keys: [&[u8]; 11] = [
        b"..",
        b"../../etc/passwd",
        b"a//b/",
        b"/",
        b"a/./b",
        b"%2f",
        b"%252f",
        b"\0",
        b"a?b#c",
        b"+ &=",
        &all_bytes,
    ];
    for key in keys {
        let target = format!("/api/v1/kv/{}", esker_wire::percent::encode_path(key));
        assert_eq!(client.request("PUT", &target, &[], key).status, 200, "{target}");
        assert_eq!(client.request("GET", &target, &[], b"").body, key, "{target}");
    }
    let list = client.request("GET", "/api/v1/kv?encoding=base64", &[], b"").json();
    let mut listed: Vec<Vec<u8>> = Vec::new();
    for item in list["items"].as_array().unwrap() {
        listed.push(esker_wire::decode_base64(item["key"].as_str().unwrap().as_bytes()).unwrap());
    }
    let mut expected = keys.map(<[u8]>::to_vec);
    expected.sort();
    assert_eq!(listed, expected);
}

/// CHECKS 36, as a rude client writes it: nothing is resolved and `%2f` is a slash within a key.
#[test]
fn raw_paths_are_not_normalised() {
    let server = TestServer::start();
    let mut client = server.client();
    client.request("PUT", "/api/v1/kv/a/../b", &[], b"dots");
    assert_eq!(client.request("GET", "/api/v1/kv/a%2f%2e%2E%2Fb", &[], b"").text(), "dots");
    client.request("GET", "/api/v1/kv/b", &[], b"").error(404, "key_not_found");
    client.request("PUT", "/api/v1/kv//", &[], b"slash");
    assert_eq!(client.request("GET", "/api/v1/kv/%2F", &[], b"").text(), "slash");
}

#[test]
fn values_of_any_size_round_trip() {
    let server = TestServer::start();
    let mut client = server.client();
    for size in [0, 1, 100_000, 16 << 20] {
        let value: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
        assert_eq!(client.request("PUT", "/api/v1/kv/large", &[], &value).status, 200);
        let got = client.request("GET", "/api/v1/kv/large", &[], b"");
        assert!(got.body == value, "{size}");
    }
}

#[test]
fn a_body_in_chunks_is_put_together() {
    let server = TestServer::start();
    let mut client = server.client();
    client.send(b"PUT /api/v1/kv/c HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(b"3\r\nabc\r\n");
    client.send(b"4\r\ndefg\r\n0\r\n\r\n");
    assert_eq!(client.read().unwrap().status, 200);
    assert_eq!(client.request("GET", "/api/v1/kv/c", &[], b"").text(), "abcdefg");
}

#[test]
fn requests_may_be_pipelined() {
    let server = TestServer::start();
    let mut client = server.client();
    let mut requests = Vec::new();
    for n in 0..100 {
        let head = format!("PUT /api/v1/kv/p{n} HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\n\r\nx");
        requests.extend_from_slice(head.as_bytes());
        requests.extend_from_slice(format!("GET /api/v1/kv/p{n} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes());
    }
    client.send(&requests);
    for n in 0..100 {
        assert_eq!(client.read().unwrap().json()["key"], format!("p{n}"));
        assert_eq!(client.read().unwrap().text(), "x");
    }
}

#[test]
fn a_write_may_ask_for_a_sync_policy() {
    let server = TestServer::start();
    let mut client = server.client();
    for sync in ["always", "every:50", "never"] {
        assert_eq!(
            client.request("PUT", &format!("/api/v1/kv/k?sync={sync}"), &[], b"v").status,
            200,
            "{sync}"
        );
    }
    let message = client.request("PUT", "/api/v1/kv/k?sync=soon", &[], b"v").error(400, "bad_request");
    assert!(message.contains("`always`, `every:<milliseconds>` or `never`"), "{message}");
}

/// An option that does nothing would break a promise in silence.
#[test]
fn what_is_not_supported_is_refused_and_nothing_is_written() {
    let server = TestServer::start();
    let mut client = server.client();

    client.request("PUT", "/api/v1/kv/k?colour=red", &[], b"v").error(400, "bad_request");
    client.request("DELETE", "/api/v1/kv/k", &[("If-None-Match", "*")], b"").error(400, "not_supported");
    client.request("GET", "/api/v1/kv/k?colour=red", &[], b"").error(400, "bad_request");
    client
        .request("PUT", "/api/v1/kv/k", &[("Content-Encoding", "gzip")], b"v")
        .error(415, "unsupported_media_type");
    client.request("GET", "/api/v1/kv/k", &[], b"").error(404, "key_not_found");
}

#[test]
fn stale_reads_say_how_far_the_node_was() {
    let server = TestServer::start();
    let mut client = server.client();
    client.request("PUT", "/api/v1/kv/k", &[], b"v");
    client.request("PUT", "/api/v1/kv/l", &[], b"v");
    let applied =
        |answer: support::Answer| (answer.status, answer.header("esker-applied-version").map(str::to_owned));
    for (method, target, status) in [
        ("GET", "/api/v1/kv/k", 200),
        ("HEAD", "/api/v1/kv/k", 200),
        ("GET", "/api/v1/kv/absent", 404),
        ("HEAD", "/api/v1/kv/absent", 404),
        ("GET", "/api/v1/kv", 200),
    ] {
        let ask =
            |query: &str| applied(server.client().request(method, &format!("{target}{query}"), &[], b""));
        assert_eq!(ask("?consistency=stale"), (status, Some("2".into())), "{method} {target}");
        assert_eq!(ask("?consistency=linearizable"), (status, None));
        assert_eq!(ask(""), (status, None));
    }
    let stream = [("Accept", "application/x-ndjson")];
    let answer = client.request("GET", "/api/v1/kv?consistency=stale", &stream, b"");
    assert_eq!(answer.header("esker-applied-version"), Some("2"));
    let unchanged = client.request("GET", "/api/v1/kv/k?consistency=stale", &[("If-None-Match", "*")], b"");
    assert_eq!((unchanged.status, unchanged.header("esker-applied-version")), (304, Some("2")));
    client.request("GET", "/api/v1/kv/k?consistency=none", &[], b"").error(400, "bad_request");
    client.request("PUT", "/api/v1/kv/k?consistency=stale", &[], b"v").error(400, "bad_request");
}

#[test]
fn writes_take_an_acknowledgement_and_a_request_id() {
    let server = TestServer::start();
    let mut client = server.client();
    let id = [("Esker-Request-Id", "5f3a09c1d2e4b687-2a")];
    for ack in ["majority", "local", "all"] {
        assert_eq!(client.request("PUT", &format!("/api/v1/kv/k?ack={ack}"), &id, b"v").status, 200);
    }
    client.request("PUT", "/api/v1/kv/k?ack=most", &[], b"x").error(400, "bad_request");
    let batch = br#"{"operations":[{"type":"put","key":"k","value":"x"}]}"#;
    for wrong in ["5f3a", "5f3a-", "x-1", "5f3a09c1d2e4b687a-1"] {
        let wrong = [("Esker-Request-Id", wrong)];
        client.request("PUT", "/api/v1/kv/k", &wrong, b"x").error(400, "bad_request");
        client.request("DELETE", "/api/v1/kv/k", &wrong, b"").error(400, "bad_request");
        client.request("POST", "/api/v1/batch", &wrong, batch).error(400, "bad_request");
    }
    assert_eq!(client.request("GET", "/api/v1/kv/k", &[], b"").body, b"v");
}

#[test]
fn malformed_keys_are_refused() {
    let server = TestServer::start();
    for target in ["/api/v1/kv/", "/api/v1/kv/%", "/api/v1/kv/a%zz"] {
        server.request("PUT", target, b"v").error(400, "bad_request");
    }
    let post = server.request("POST", "/api/v1/kv/k", b"v");
    post.error(405, "method_not_allowed");
    assert_eq!(post.header("allow"), Some("GET, HEAD, PUT, DELETE"));
}

#[test]
fn request_ids_come_back() {
    let server = TestServer::start();
    let got = server.client().request("GET", "/api/v1/kv/k", &[("X-Request-Id", "abc-1")], b"");
    assert_eq!(got.header("x-request-id"), Some("abc-1"));
    assert_eq!(server.request("GET", "/health", b"").header("x-request-id"), None);
}

#[test]
fn a_second_server_on_the_port_is_refused() {
    let server = TestServer::start();
    let dir = tempfile::tempdir().unwrap();
    let db = esker_engine::Db::open(dir.path(), Default::default()).unwrap();
    let clock = std::sync::Arc::new(esker_log::clock::SystemClock::new());
    let store = esker_cluster::Store::single(db, Default::default(), clock).unwrap();
    let config = esker_server::ServerConfig {
        http_address: server.address,
        resp_address: None,
        binary_address: None,
        grpc_address: None,
        ..Default::default()
    };
    let refused = esker_server::Server::bind(config, store).err().unwrap().to_string();
    assert!(refused.contains(&format!("port {} on 127.0.0.1 is in use", server.address.port())), "{refused}");
    assert_eq!(Client::connect(server.address).request("GET", "/health", &[], b"").status, 200);
}

#[test]
fn pages_of_other_sites_cannot_write() {
    let server = TestServer::start();
    let mut client = server.client();
    let own = [("origin", "http://test")];
    assert_eq!(client.request("PUT", "/api/v1/kv/k", &own, b"v").status, 200);
    for origin in ["http://evil.example", "http://test:3000", "null"] {
        let foreign = [("origin", origin), ("content-type", "text/plain")];
        let batch = br#"{"operations":[{"type":"delete","key":"k"}]}"#;
        for (method, target, body) in [
            ("PUT", "/api/v1/kv/k", &b"x"[..]),
            ("DELETE", "/api/v1/kv/k", b""),
            ("POST", "/api/v1/batch", batch),
            ("POST", "/api/v1/admin/checkpoint", b""),
        ] {
            let message = server.client().request(method, target, &foreign, body).error(403, "forbidden");
            assert!(message.contains(origin), "{message}");
        }
        assert_eq!(client.request("GET", "/api/v1/kv/k", &foreign, b"").body, b"v");
    }
}
