//! SPEC 3.1 to 3.4: four HTTP APIs on one port, and one store behind them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use support::TestServer;

/// A write: method, target, body; then how it is read through each API.
#[test]
fn what_one_writes_all_read() {
    let server = TestServer::start();
    for (n, (method, target, body)) in [
        ("PUT", "/api/v1/kv/k", "v0"),
        ("PUT", "/kv/k", r#"{"value":"v1"}"#),
        ("POST", "/kv/batch", r#"{"operations":[{"type":"put","key":"k","value":"v2"}]}"#),
        ("POST", "/put", r#"{"key":"k","value":"v3"}"#),
        ("POST", "/batch", r#"{"items":[{"key":"k","value":"v4"}]}"#),
        ("PUT", "/put?key=k", "v5"),
        ("POST", "/batchput", r#"{"k":"v6"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(server.request(method, target, body.as_bytes()).status, 200, "{method} {target}");
        let value = format!("v{n}");
        for target in ["/api/v1/kv/k", "/get?key=k", "/read?key=k"] {
            assert_eq!(server.request("GET", target, b"").text(), value, "{target}");
        }
        assert_eq!(server.request("GET", "/kv/k", b"").json()["data"]["value"], value);
        assert_eq!(server.request("GET", "/scan?start=k&end=k", b"").json()["k"], value);
        assert_eq!(server.request("GET", "/range?start=k&end=k", b"").json()[0]["value"], value);
        let range = server.request("GET", "/kv/range?start=k&end=k", b"").json();
        assert_eq!(range["data"]["pairs"][0]["value"], value);
    }
    for (method, target) in [
        ("DELETE", "/api/v1/kv/k"),
        ("DELETE", "/kv/k"),
        ("POST", "/delete?key=k"),
        ("DELETE", "/delete?key=k"),
    ] {
        server.request("PUT", "/put?key=k", b"v");
        assert_eq!(server.request(method, target, b"").status, 200, "{method} {target}");
        assert_eq!(server.request("GET", "/read?key=k", b"").status, 404, "{method} {target}");
    }
}

/// Every API says the same of a node's health; each in its words.
#[test]
fn both_healths_are_served() {
    let server = TestServer::start();
    assert_eq!(server.request("GET", "/api/v1/health", b"").text(), r#"{"status":"ok"}"#);
    assert_eq!(server.request("GET", "/health", b"").json()["data"]["health"], "healthy");
}

#[test]
fn what_is_in_no_table_is_the_native_apis() {
    let server = TestServer::start();
    for target in ["/kv", "/kvx", "/put/", "/Get", "/scan/a", "/status/", "/batchputs", "//kv/k"] {
        server.request("GET", target, b"").error(404, "route_not_found");
    }
}

/// CHECKS 32: the time-outs of bodies hold, in each API's words.
#[test]
fn a_body_that_does_not_come_is_told() {
    let server = TestServer::with(|config, _| {
        config.timeouts.body_stall = std::time::Duration::from_millis(50);
    });
    for (method, target, in_words) in [
        ("PUT", "/kv/k", r#""code":"REQUEST_TIMEOUT""#),
        ("POST", "/put", "did not arrive in time"),
        ("PUT", "/put?key=k", "did not arrive in time"),
    ] {
        let mut client = server.client();
        client
            .send(format!("{method} {target} HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n{{").as_bytes());
        let answer = client.read().unwrap();
        assert_eq!(answer.status, 408);
        assert!(answer.text().contains(in_words), "{answer:?}");
    }
}

/// CHECKS 33: a length that is announced is refused before anything is read.
#[test]
fn an_announced_gigabyte_is_refused() {
    let server = TestServer::start();
    for (method, target) in [
        ("PUT", "/kv/k"),
        ("POST", "/kv/batch"),
        ("POST", "/put"),
        ("POST", "/batch"),
        ("PUT", "/put?key=k"),
        ("POST", "/batchput"),
    ] {
        let mut client = server.client();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: t\r\ncontent-length: 1073741824\r\n\r\n");
        client.send(head.as_bytes());
        assert_eq!(client.read().unwrap().status, 413, "{method} {target}");
    }
}

#[test]
fn all_of_them_are_described() {
    let server = TestServer::start();
    let described = server.request("GET", "/api/v1/openapi.json", b"").json();
    for (path, methods) in [
        ("/api/v1/kv/{key}", &["get", "head", "put", "delete"][..]),
        ("/kv/{key}", &["get", "put", "delete"]),
        ("/kv/range", &["get"]),
        ("/kv/batch", &["post"]),
        ("/status", &["get"]),
        ("/health", &["get"]),
        ("/put", &["post", "put"]),
        ("/delete", &["post", "delete"]),
        ("/get", &["get"]),
        ("/batch", &["post"]),
        ("/scan", &["get"]),
        ("/read", &["get"]),
        ("/range", &["get"]),
        ("/batchput", &["post"]),
    ] {
        let found = described["paths"][path].as_object().unwrap_or_else(|| panic!("{path}"));
        assert_eq!(found.len(), methods.len(), "{path}");
        methods.iter().for_each(|method| assert!(found.contains_key(*method), "{method} {path}"));
    }
    let json = &described["paths"]["/metrics"]["get"]["responses"]["200"]["content"]["application/json"];
    assert!(json.is_object());
    // Whatever is referred to is there.
    let text = described.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(described["components"]["schemas"][name].is_object(), "{name}");
    }
}
