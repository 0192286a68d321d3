//! SPEC 3.2: the envelope dialect over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use std::sync::Arc;

use esker_engine::Options;
use esker_log::{
    clock::ManualClock,
    disk::sim::{Fault, FaultPlan, Ops, SimDisk},
};
use serde_json::{Value, json};
use support::{Answer, TestServer, eventually};

/// The body without its timestamp, which has the right form and comes last.
#[track_caller]
fn body(answer: &Answer) -> String {
    let text = answer.text();
    let (rest, timestamp) = text.rsplit_once(r#","timestamp":""#).unwrap_or_else(|| panic!("{text}"));
    let timestamp = timestamp.strip_suffix(r#""}"#).unwrap();
    let form: String = timestamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z", "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    format!("{rest}}}")
}

#[track_caller]
fn success(answer: &Answer, data: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(body(answer), format!(r#"{{"status":"success","data":{data}}}"#));
}

#[track_caller]
fn error(answer: &Answer, status: u16, code: &str, message: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let json: Value = serde_json::from_str(&body(answer)).unwrap();
    let object = json.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["error", "status"], "{json}");
    assert_eq!((&json["status"], &json["error"]["code"]), (&json!("error"), &json!(code)), "{json}");
    assert_eq!(json["error"]["message"], message, "{json}");
    assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503), "{answer:?}");
    json["error"]["details"].as_str().filter(|details| !details.is_empty()).unwrap().into()
}

fn put(server: &TestServer, key: &str, value: &str) {
    let body = json!({ "value": value }).to_string();
    assert_eq!(server.request("PUT", &format!("/kv/{key}"), body.as_bytes()).status, 200);
}

#[test]
fn a_key_is_put_read_and_deleted() {
    let server = TestServer::start();
    success(
        &server.request("PUT", "/kv/user:1", br#"{"value":"Ann \u00e9"}"#),
        r#"{"key":"user:1","value":"Ann é","offset":1,"message":"Value stored successfully"}"#,
    );
    success(&server.request("GET", "/kv/user:1", b""), r#"{"key":"user:1","value":"Ann é","offset":1}"#);
    success(
        &server.request("DELETE", "/kv/user:1", b""),
        r#"{"key":"user:1","offset":2,"message":"Key deleted successfully"}"#,
    );
    for method in ["GET", "DELETE"] {
        let absent = server.request(method, "/kv/user:1", b"");
        assert_eq!(
            body(&absent),
            r#"{"status":"error","error":{"code":"NOT_FOUND","message":"Key not found","details":"The key 'user:1' does not exist"}}"#
        );
        assert_eq!(absent.status, 404);
    }
}

#[test]
fn the_time_is_when_it_was_answered() {
    let clock = Arc::new(ManualClock::default());
    let server = TestServer::with_clock(&clock);
    let before = server.request("GET", "/health", b"").json()["timestamp"].as_str().unwrap().to_owned();
    clock.advance(std::time::Duration::from_millis(1500));
    let after = server.request("GET", "/health", b"").json()["timestamp"].as_str().unwrap().to_owned();
    assert!(before < after, "{before} {after}");
}

#[test]
fn a_body_that_is_no_value_is_refused() {
    let server = TestServer::start();
    let refused = |sent: &[u8]| {
        let answer = server.request("PUT", "/kv/k", sent);
        error(&answer, 400, "INVALID_REQUEST", "Invalid request body")
    };
    for missing in [&b"{}"[..], b"", b" ", br#"{"val":"x"}"#, br#"{"value":null}"#] {
        assert_eq!(refused(missing), "Missing 'value' field in request body");
    }
    for wrong in [
        &b"{"[..],
        br#"["v",null]"#,
        b"x",
        br#"{"value":1}"#,
        br#"{"value":["a"]}"#,
        b"{\"value\":\"\xff\"}",
        br#"{"value":""} x"#,
    ] {
        assert!(refused(wrong).contains("The body is not"), "{}", wrong.escape_ascii());
    }
    assert!(refused(br#"{"value":"*","encoding":"base64"}"#).contains("not base64"));
    assert!(refused("[".repeat(100_000).as_bytes()).contains("The body is not"));
    assert_eq!(server.request("GET", "/kv/k", b"").status, 404);
}

/// Clients of such an API send more than they must.
#[test]
fn what_is_not_known_is_passed_over() {
    let server = TestServer::start();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let sent = br#"{"key":"other","value":"v","note":{"a":[1]}}"#;
    assert_eq!(server.client().request("PUT", "/kv/k?_=123", &form, sent).status, 200);
    success(&server.request("GET", "/kv/k?_=124", b""), r#"{"key":"k","value":"v","offset":1}"#);
}

/// CHECKS 36.
#[test]
fn any_key_and_any_value_come_back() {
    let server = TestServer::start();
    for (path, key) in [
        ("a/b", "a/b"),
        ("a%2Fb+c", "a/b+c"),
        ("..%2F..//x", "../..//x"),
        ("%00%22", "\u{0}\""),
        ("%C3%A9", "é"),
        ("range/", "range/"),
    ] {
        put(&server, path, "v");
        let answer = server.request("GET", &format!("/kv/{path}"), b"").json();
        assert_eq!(answer["data"]["key"], key);
        assert_eq!(server.request("GET", &format!("/api/v1/kv/{path}"), b"").body, b"v");
    }
    // What is no text is marked, both ways.
    server.request("PUT", "/api/v1/kv/raw", b"\xfe\xff");
    let raw = server.request("GET", "/kv/raw", b"");
    success(&raw, r#"{"key":"cmF3","value":"/v8=","encoding":"base64","offset":7}"#);
    let sent = br#"{"value":"/v8=","encoding":"base64"}"#;
    let answer = server.request("PUT", "/kv/%FF", sent);
    success(
        &answer,
        r#"{"key":"/w==","value":"/v8=","encoding":"base64","offset":8,"message":"Value stored successfully"}"#,
    );
    assert_eq!(server.request("GET", "/api/v1/kv/%FF", b"").body, b"\xfe\xff");
    let deleted = server.request("DELETE", "/kv/%FF", b"");
    success(
        &deleted,
        r#"{"key":"/w==","encoding":"base64","offset":9,"message":"Key deleted successfully"}"#,
    );
    let absent = error(&server.request("GET", "/kv/%FF", b""), 404, "NOT_FOUND", "Key not found");
    assert_eq!(absent, "The key '\\xff' does not exist");
}

#[test]
fn a_key_that_is_none_is_refused() {
    let server = TestServer::start();
    for path in ["/kv/", "/kv/%", "/kv/a%zz"] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = server.request(method, path, br#"{"value":"v"}"#);
            error(&answer, 400, "INVALID_REQUEST", "Invalid request");
        }
    }
    // Not this dialect's path.
    server.request("GET", "/kv", b"").error(404, "route_not_found");
}

#[test]
fn a_range_is_inclusive_and_counted() {
    let server = TestServer::start();
    for key in ["a", "b", "c", "d"] {
        put(&server, key, &format!("{key}\"1"));
    }
    success(
        &server.request("GET", "/kv/range?start=b&end=c", b""),
        r#"{"start_key":"b","end_key":"c","count":2,"pairs":[{"key":"b","value":"b\"1"},{"key":"c","value":"c\"1"}]}"#,
    );
    for (start, end) in [("x", "z"), ("c", "b")] {
        let empty = server.request("GET", &format!("/kv/range?start={start}&end={end}"), b"");
        success(&empty, &format!(r#"{{"start_key":"{start}","end_key":"{end}","count":0,"pairs":[]}}"#));
    }
    server.request("PUT", "/api/v1/kv/b", b"\xff");
    success(
        &server.request("GET", "/kv/range?start=b&end=c%FF", b""),
        r#"{"start_key":"Yg==","end_key":"Y/8=","encoding":"base64","count":2,"pairs":[{"key":"Yg==","value":"/w==","encoding":"base64"},{"key":"c","value":"c\"1"}]}"#,
    );
}

#[test]
fn a_range_needs_both_its_ends() {
    let server = TestServer::start();
    let refused = |query: &str| {
        let answer = server.request("GET", &format!("/kv/range{query}"), b"");
        error(&answer, 400, "INVALID_PARAMETERS", "Invalid range parameters")
    };
    for query in ["", "?start=a", "?end=a", "?start=&end=", "?start=a&end=", "?begin=a&end=b"] {
        assert_eq!(refused(query), "Both 'start' and 'end' parameters are required", "{query}");
    }
    assert!(refused("?start=%zz&end=a").contains("hex digits"));
    assert!(refused("?start=a&start=b&end=c").contains("given twice"));
}

/// CHECKS 33: a range is one answer, so it has a bound.
#[test]
fn a_range_that_is_too_large_is_refused() {
    let server = TestServer::with(|_, store| {
        store.limits = esker_cluster::Limits { value_bytes: 1000, batch_bytes: 2500, ..Default::default() };
    });
    for key in ["a", "b", "c"] {
        put(&server, key, &"v".repeat(1000));
    }
    assert_eq!(server.request("GET", "/kv/range?start=a&end=b", b"").json()["data"]["count"], 2);
    let answer = server.request("GET", "/kv/range?start=a&end=c", b"");
    let details = error(&answer, 413, "PAYLOAD_TOO_LARGE", "Request or answer too large");
    assert!(details.contains("2500") && details.contains("application/x-ndjson"), "{details}");
    let huge = json!({ "value": "v".repeat(1001) }).to_string();
    let answer = server.request("PUT", "/kv/k", huge.as_bytes());
    error(&answer, 413, "PAYLOAD_TOO_LARGE", "Request or answer too large");
}

#[test]
fn the_words_range_and_batch_are_keys_for_all_other_methods() {
    let server = TestServer::start();
    put(&server, "range", "r");
    put(&server, "batch", "b");
    success(&server.request("GET", "/kv/%72ange", b""), r#"{"key":"range","value":"r","offset":1}"#);
    assert_eq!(server.request("GET", "/api/v1/kv/range", b"").body, b"r");
    success(&server.request("GET", "/kv/batch", b""), r#"{"key":"batch","value":"b","offset":2}"#);
    assert_eq!(server.request("GET", "/kv/range?start=a&end=z", b"").json()["data"]["count"], 2);
    assert_eq!(server.request("DELETE", "/kv/range", b"").status, 200);
    let answer = server.request("POST", "/kv/range", b"");
    error(&answer, 405, "METHOD_NOT_ALLOWED", "Method not allowed");
}

#[test]
fn a_batch_commits_at_one_offset() {
    let server = TestServer::start();
    put(&server, "gone", "x");
    let sent = br#"{"operations":[{"type":"put","key":"a","value":"1"},{"type":"delete","key":"gone"},
        {"type":"delete","key":"never"},{"type":"put","key":"/w==","value":"AA==","encoding":"base64"}]}"#;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    success(
        &server.client().request("POST", "/kv/batch", &form, sent),
        concat!(
            r#"{"operations_count":4,"successful_operations":4,"failed_operations":0,"results":["#,
            r#"{"operation":"put","key":"a","status":"success","offset":2},"#,
            r#"{"operation":"delete","key":"gone","status":"success","offset":2},"#,
            r#"{"operation":"delete","key":"never","status":"success","offset":2},"#,
            r#"{"operation":"put","key":"/w==","status":"success","offset":2}]}"#
        ),
    );
    assert_eq!(server.request("GET", "/api/v1/kv/%FF", b"").body, b"\0");
    assert_eq!(server.request("GET", "/kv/gone", b"").status, 404);
    success(
        &server.request("POST", "/kv/batch", br#"{"operations":[]}"#),
        r#"{"operations_count":0,"successful_operations":0,"failed_operations":0,"results":[]}"#,
    );
}

#[test]
fn the_valid_part_of_a_batch_commits() {
    let server = TestServer::with(|_, store| {
        store.limits = esker_cluster::Limits { value_bytes: 10, ..Default::default() };
    });
    let sent = br#"{"operations":[{"type":"put","key":"a","value":"1"},{"type":"put","key":"b"},
        {"type":"move","key":"c"},{"type":"put","key":"","value":""},{"type":"put","key":"d","value":"12345678901"},
        7,{"type":"delete"},{"type":"put","key":"e","value":"2"}]}"#;
    let answer = server.request("POST", "/kv/batch", sent);
    assert_eq!(answer.status, 207);
    let start = concat!(
        r#"{"status":"partial_success","data":{"operations_count":8,"successful_operations":2,"failed_operations":6,"results":["#,
        r#"{"operation":"put","key":"a","status":"success","offset":1},"#,
        r#"{"operation":"put","key":"b","status":"error","error":"Missing 'value' field"},"#,
        r#"{"operation":"move","key":"c","status":"error","error":"the type is neither put nor delete"},"#,
    );
    let told = body(&answer);
    assert!(told.starts_with(start), "{told}");
    let results = answer.json()["data"]["results"].as_array().unwrap().clone();
    assert_eq!((&results[3]["key"], &results[3]["status"]), (&json!(""), &json!("error")));
    assert_eq!(results[4]["error"], "the value has 11 bytes, the limit is 10");
    assert_eq!((&results[5]["operation"], &results[5]["key"]), (&Value::Null, &Value::Null));
    assert_eq!(results[6]["error"], "Missing 'key' field");
    assert_eq!(results[7], json!({"operation": "put", "key": "e", "status": "success", "offset": 1}));
    let all = server.request("GET", "/api/v1/kv", b"").json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    // With none valid nothing is written.
    let answer = server.request("POST", "/kv/batch", br#"{"operations":[{}]}"#);
    assert_eq!((answer.status, &answer.json()["status"]), (207, &json!("partial_success")));
    assert_eq!(server.request("GET", "/api/v1/cluster/status", b"").json()["commit_index"], 1);
}

#[test]
fn a_batch_that_is_none_or_too_large_writes_nothing() {
    let server = TestServer::with(|_, store| {
        store.limits =
            esker_cluster::Limits { value_bytes: 10, batch_ops: 3, batch_bytes: 25, ..Default::default() };
    });
    let send = |sent: &[u8]| server.request("POST", "/kv/batch", sent);
    let refused = |sent: &[u8]| error(&send(sent), 400, "INVALID_REQUEST", "Invalid request body");
    for missing in [&b"{}"[..], b"", br#"{"ops":[]}"#] {
        assert_eq!(refused(missing), "Missing 'operations' field in request body");
    }
    for wrong in [&b"{"[..], b"[]", br#"{"operations":{}}"#, br#"{"operations":[{"type":"put","key":"a"]}"#] {
        assert!(refused(wrong).contains("The body is not"), "{}", wrong.escape_ascii());
    }
    let put = |value: &str| json!({"type": "put", "key": "k", "value": value});
    for operations in [vec![put("1"); 4], vec![put("1234567890"); 3]] {
        let sent = json!({ "operations": operations }).to_string();
        error(&send(sent.as_bytes()), 413, "PAYLOAD_TOO_LARGE", "Request or answer too large");
    }
    assert_eq!(server.request("GET", "/kv/k", b"").status, 404);
}

#[test]
fn conditions_and_codings_are_refused() {
    let server = TestServer::start();
    for (header, value, status) in
        [("if-match", "\"1\"", 400), ("if-none-match", "*", 400), ("content-encoding", "gzip", 415)]
    {
        let headers = [(header, value)];
        let sent = br#"{"value":"v"}"#;
        let answer = server.client().request("PUT", "/kv/k", &headers, sent);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["status"], "error");
    }
    assert_eq!(server.request("GET", "/kv/k", b"").status, 404);
}

#[test]
fn the_status_is_measured() {
    let server = TestServer::start();
    let status = || server.request("GET", "/status", b"");
    let answer = status();
    let data = &answer.json()["data"];
    for (part, fields) in [
        ("system", &["uptime", "version", "node_id"][..]),
        (
            "storage",
            &["total_segments", "active_segment", "total_keys", "total_size_bytes", "compression_ratio"],
        ),
        ("cache", &["entries", "max_entries", "hit_rate", "memory_usage_bytes"]),
        ("cluster", &["enabled", "node_count", "leader_id", "current_term", "commit_index"]),
        ("performance", &["operations_per_second", "average_latency_ms", "compaction_running"]),
    ] {
        let object = data[part].as_object().unwrap();
        assert_eq!(object.len(), fields.len(), "{part}");
        fields.iter().for_each(|field| assert!(object.contains_key(*field), "{part}.{field}"));
    }
    assert_eq!(data.as_object().unwrap().len(), 5);
    assert!(data["system"]["uptime"].as_str().unwrap().ends_with('s'));
    let single =
        json!({"enabled": false, "node_count": 1, "leader_id": 1, "current_term": 0, "commit_index": 0});
    assert_eq!(data["cluster"], single);
    assert_eq!(data["storage"]["total_keys"], 0);
    (0..3).for_each(|n| put(&server, &format!("k{n}"), "v"));
    let data = status().json()["data"].clone();
    assert_eq!((&data["storage"]["total_keys"], &data["cluster"]["commit_index"]), (&json!(3), &json!(3)));
    assert!(data["storage"]["total_size_bytes"].as_u64().unwrap() > 0);
    assert_eq!(data["performance"]["compaction_running"], false);
    eventually("requests are counted", || {
        put(&server, "k", "v");
        let busy = status().json()["data"]["performance"].clone();
        busy["operations_per_second"].as_f64().unwrap() > 0.0
            && busy["average_latency_ms"].as_f64().unwrap() > 0.0
    });
    eventually("reads are cached", || {
        server.request("GET", "/kv/k", b"");
        let cache = status().json()["data"]["cache"].clone();
        cache["entries"].as_u64().unwrap() > 0
            && cache["max_entries"].as_u64() > cache["entries"].as_u64()
            && cache["memory_usage_bytes"].as_u64().unwrap() > 0
            && cache["hit_rate"].as_f64().unwrap() > 0.0
    });
}

#[test]
fn health_is_told() {
    let disk = SimDisk::new();
    let mut server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    success(
        &server.request("GET", "/health", b""),
        r#"{"health":"healthy","message":"Esker is running normally"}"#,
    );
    put(&server, "k", "v");
    disk.inject(FaultPlan::nth(Ops::Syncs, 1, Fault::Io));
    let lost = server.request("PUT", "/kv/lost", br#"{"value":"v"}"#);
    error(&lost, 503, "SERVICE_UNAVAILABLE", "Service unavailable");
    let answer = server.request("GET", "/health", b"");
    let details = error(&answer, 503, "SERVICE_UNAVAILABLE", "Service is unhealthy");
    assert!(details.contains("Restart the server"), "{details}");
    assert_eq!(server.request("GET", "/kv/k", b"").status, 200, "reads go on");
    server.outcome().unwrap_err();
}

/// CHECKS 14.
#[test]
fn a_full_disk_is_told() {
    let disk = SimDisk::new();
    let server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    put(&server, "k", "v");
    disk.set_capacity(Some(disk.used_space()));
    let large = json!({ "value": "v".repeat(8 << 20) }).to_string();
    let answer = server.request("PUT", "/kv/large", large.as_bytes());
    error(&answer, 507, "DISK_FULL", "Insufficient storage");
    let health = server.request("GET", "/health", b"");
    assert_eq!((health.status, &health.json()["data"]["health"]), (200, &json!("disk_full")));
    assert_eq!(server.request("GET", "/kv/k", b"").status, 200, "reads go on");
    disk.set_capacity(None);
    put(&server, "large", "v");
    assert_eq!(server.request("GET", "/health", b"").json()["data"]["health"], "healthy");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the disk's mistakes are made behind the store's back")]
fn damage_is_an_internal_error() {
    let server = TestServer::start();
    put(&server, "k", "--------");
    let mut intact = Vec::new();
    for entry in std::fs::read_dir(server.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(8).any(|window| window == b"--------") {
            let damaged: Vec<u8> = bytes.iter().map(|&byte| if byte == b'-' { b'+' } else { byte }).collect();
            std::fs::write(&path, damaged).unwrap();
            intact.push((path, bytes));
        }
    }
    assert!(!intact.is_empty());
    error(&server.request("GET", "/kv/k", b""), 500, "INTERNAL_ERROR", "Internal server error");
    let range = server.request("GET", "/kv/range?start=a&end=z", b"");
    error(&range, 500, "INTERNAL_ERROR", "Internal server error");
    assert_eq!(server.metric("esker_damage_found_total"), 2.0);
    intact.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
}

#[test]
fn methods_that_are_not_there_are_named_and_head_is_there() {
    let server = TestServer::start();
    put(&server, "k", "v");
    for (method, target, allow) in [
        ("PATCH", "/kv/k", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("POST", "/kv/k", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("POST", "/kv/range", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("PATCH", "/kv/batch", "POST, GET, HEAD, PUT, DELETE, OPTIONS"),
        ("POST", "/status", "GET, HEAD, OPTIONS"),
        ("PUT", "/health", "GET, HEAD, OPTIONS"),
    ] {
        let answer = server.request(method, target, b"");
        error(&answer, 405, "METHOD_NOT_ALLOWED", "Method not allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
    for target in ["/kv/k", "/kv/absent", "/kv/range?start=a&end=z", "/status", "/health"] {
        let mut client = server.client();
        let get = client.request("GET", target, &[], b"");
        let head = client.request("HEAD", target, &[], b"");
        assert_eq!(head.status, get.status, "{target}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        // The next answer comes where it should: there was no body.
        assert_eq!(client.request("GET", "/health", &[], b"").status, 200);
        if target != "/status" {
            assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
        }
    }
}

#[test]
fn browsers_let_every_site_in() {
    let server = TestServer::start();
    let origin = ("origin", "https://app.example");
    let preflight = [
        origin,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type,x-a"),
    ];
    let answer = server.client().request("OPTIONS", "/kv/k", &preflight, b"");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", "content-type,x-a"),
        ("access-control-max-age", "600"),
        ("allow", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    for (method, target, body, status) in [
        ("PUT", "/kv/k", &br#"{"value":"v"}"#[..], 200),
        ("GET", "/kv/k", b"", 200),
        ("GET", "/kv/absent", b"", 404),
        ("POST", "/kv/batch", b"", 400),
        ("PATCH", "/kv/k", b"", 405),
        ("GET", "/status", b"", 200),
        ("GET", "/health", b"", 200),
    ] {
        let answer = server.client().request(method, target, &[origin], body);
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{method} {target}");
    }
    // The other APIs do not.
    for target in ["/api/v1/kv/k", "/put?key=k"] {
        let answer = server.client().request("PUT", target, &[origin], b"v");
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
    }
    assert_eq!(server.client().request("OPTIONS", "/api/v1/kv/k", &preflight, b"").status, 405);
}

#[test]
fn browsers_let_in_only_the_sites_that_are_named() {
    let server = TestServer::with(|config, _| config.cors_origins = "https://app.example".parse().unwrap());
    let put = |origin| server.client().request("PUT", "/kv/k", &[("origin", origin)], br#"{"value":"v"}"#);
    let friend = put("https://app.example");
    assert_eq!(friend.status, 200);
    assert_eq!(friend.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(friend.header("vary"), Some("origin"));
    let stranger = put("https://evil.example");
    error(&stranger, 403, "FORBIDDEN", "Forbidden");
    assert_eq!(
        (stranger.header("access-control-allow-origin"), stranger.header("vary")),
        (None, Some("origin"))
    );
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    let answer = server.client().request("OPTIONS", "/kv/k", &preflight, b"");
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, None));
    // A read is answered, and not shown to the page.
    let read = server.client().request("GET", "/kv/k", &[("origin", "https://evil.example")], b"");
    assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None));
}

#[test]
fn heads_that_are_too_long_are_told_in_the_envelope() {
    let server = TestServer::with(|config, _| {
        config.limits.request_target_bytes = 100;
        config.limits.header_bytes = 1 << 10;
    });
    let answer = server.request("GET", &format!("/kv/{}", "k".repeat(100)), b"");
    error(&answer, 414, "URI_TOO_LONG", "Request refused");
    let long = [("x", &*"y".repeat(2000))];
    error(&server.client().request("GET", "/kv/k", &long, b""), 431, "HEADERS_TOO_LARGE", "Request refused");
}

/// SPEC 5.1: the budgets hold for this dialect, too.
#[test]
fn an_answer_without_room_is_refused() {
    let server = TestServer::with(|config, _| config.limits.answer_bytes_under_way = 1 << 20);
    let value = "v".repeat(900 << 10);
    put(&server, "k", &value);
    // Takes its answer only in part, so that the bytes stay counted.
    let mut slow = server.client();
    (0..16).for_each(|_| slow.send_request("GET", "/kv/k", &[], b""));
    eventually("an answer waits", || server.metric("esker_http_answer_bytes") > 0.0);
    eventually("the next is refused", || {
        let answer = server.request("GET", "/kv/k", b"");
        answer.status == 503 && answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    });
    let answer = server.request("PUT", "/kv/other", json!({ "value": value }).to_string().as_bytes());
    error(&answer, 503, "SERVICE_UNAVAILABLE", "Service unavailable");
    assert_eq!(server.request("GET", "/kv/other", b"").status, 404, "nothing was written");
}
