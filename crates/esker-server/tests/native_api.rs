//! SPEC 3.1: lists, streams, batches, cluster, administration and errors over a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use serde_json::{Value, json};
use support::{TestServer, eventually};

fn fill(server: &TestServer, keys: usize) {
    for start in (0..keys).step_by(10_000) {
        let operations: Vec<Value> = (start..keys.min(start + 10_000))
            .map(|n| json!({"type": "put", "key": format!("k{n:06}"), "value": value(n)}))
            .collect();
        let body = serde_json::to_vec(&json!({ "operations": operations })).unwrap();
        assert_eq!(server.request("POST", "/api/v1/batch", &body).status, 200);
    }
}

/// Long enough that a stream of many does not fit into socket buffers.
fn value(n: usize) -> String {
    format!("v{n}{}", "-".repeat(200))
}

fn keys(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect()
}

#[test]
fn ranges_are_inclusive_and_go_both_ways() {
    let server = TestServer::start();
    fill(&server, 10);
    let list = |query: &str| server.request("GET", &format!("/api/v1/kv?{query}"), b"").json();
    let range = list("start=k000002&end=k000004");
    assert_eq!(range["items"][0], json!({"key": "k000002", "value": value(2), "version": 1}));
    assert_eq!(keys(&range), ["k000002", "k000003", "k000004"]);
    assert_eq!(range["next"], Value::Null);
    assert_eq!(keys(&list("start=k000007&reverse=true")), ["k000009", "k000008", "k000007"]);
    assert_eq!(keys(&list("prefix=k000001&keys_only=true")), ["k000001"]);
    assert!(list("keys_only=true")["items"][0].get("value").is_none());
    assert!(keys(&list("start=z")).is_empty());
    assert!(keys(&list("start=b&end=a")).is_empty());
}

#[test]
fn cursors_go_on_where_the_page_ended() {
    let server = TestServer::start();
    fill(&server, 250);
    for reverse in [false, true] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.request("GET", &format!("/api/v1/kv?reverse={reverse}{cursor}"), b"").json();
            seen.extend(keys(&page).into_iter().map(str::to_owned));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
            assert_eq!(keys(&page).len(), 100, "the default limit");
        }
        if reverse {
            seen.reverse();
        }
        assert_eq!(seen.len(), 250);
        assert!(seen.is_sorted());
    }
    let exact = server.request("GET", "/api/v1/kv?limit=250", b"").json();
    assert_eq!((keys(&exact).len(), &exact["next"]), (250, &Value::Null));
}

#[test]
fn mangled_and_foreign_cursors_are_refused() {
    let server = TestServer::start();
    fill(&server, 3);
    let next = server.request("GET", "/api/v1/kv?limit=1", b"").json()["next"].as_str().unwrap().to_owned();
    for query in [
        format!("cursor={}", &next[1..]),
        format!("cursor={next}&reverse=true"),
        format!("cursor={next}&prefix=x"),
        "cursor=".into(),
    ] {
        server.request("GET", &format!("/api/v1/kv?{query}"), b"").error(400, "bad_request");
    }
}

#[test]
fn wrong_parameters_are_refused() {
    let server = TestServer::start();
    for query in [
        "limit=0",
        "limit=10001",
        "limit=-1",
        "limit=x",
        "reverse=yes",
        "encoding=hex",
        "prefix=a&start=b",
        "x=1",
        "start=%q",
        "encoding=base64&start=*",
        "limit=1&limit=2",
        "prefix=k00000&end=",
    ] {
        server.request("GET", &format!("/api/v1/kv?{query}"), b"").error(400, "bad_request");
    }
    let stream = [("accept", "application/x-ndjson")];
    server.client().request("GET", "/api/v1/kv?limit=0", &stream, b"").error(400, "bad_request");
    server.request("POST", "/api/v1/kv?prefix=a", b"").error(405, "method_not_allowed");
}

#[test]
fn what_is_not_text_comes_marked() {
    let server = TestServer::start();
    server.request("PUT", "/api/v1/kv/%FF", b"\xfe");
    server.request("PUT", "/api/v1/kv/a", b"text");
    let list = server.request("GET", "/api/v1/kv", b"").json();
    assert_eq!(list["items"][0], json!({"key": "a", "value": "text", "version": 2}));
    assert_eq!(list["items"][1], json!({"key": "/w==", "value": "/g==", "encoding": "base64", "version": 1}));
    let all = server.request("GET", "/api/v1/kv?encoding=base64&start=_w", b"").json();
    assert_eq!(keys(&all), ["/w=="]);
}

#[test]
fn an_answer_is_bounded_by_bytes_too() {
    let server = TestServer::with(|config, _| config.limits.list_answer_bytes = 1000);
    for key in ["a", "b", "c"] {
        server.request("PUT", &format!("/api/v1/kv/{key}"), &[b'v'; 600]);
    }
    let page = server.request("GET", "/api/v1/kv", b"").json();
    assert_eq!(keys(&page), ["a", "b"]);
    let next = page["next"].as_str().unwrap();
    assert_eq!(keys(&server.request("GET", &format!("/api/v1/kv?cursor={next}"), b"").json()), ["c"]);
}

#[test]
fn a_stream_has_one_item_a_line_to_the_end_or_the_limit() {
    let server = TestServer::start();
    fill(&server, 3000);
    for (query, count) in [("", 3000), ("?limit=2500", 2500), ("?prefix=none", 0)] {
        let accept = [("Accept", "text/html;q=0.5, application/x-ndjson")];
        let answer = server.client().request("GET", &format!("/api/v1/kv{query}"), &accept, b"");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
        let text = answer.text();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count);
        assert!(answer.complete);
        assert!(
            lines
                .first()
                .is_none_or(|line| *line == json!({"key": "k000000", "value": value(0), "version": 1}))
        );
    }
}

#[test]
fn a_batch_commits_at_one_version() {
    let server = TestServer::start();
    server.request("PUT", "/api/v1/kv/gone", b"x");
    let body = br#"{"operations":[{"type":"put","key":"a","value":"1"},{"type":"delete","key":"gone"},
        {"type":"put","key":"AP8=","value":"/w==","encoding":"base64"}]}"#;
    // What curl -d says of it.
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = server.client().request("POST", "/api/v1/batch?sync=always", &form, body);
    assert_eq!(answer.text(), r#"{"version":2,"operations":3}"#);
    assert_eq!(server.request("GET", "/api/v1/kv/%00%FF", b"").body, b"\xff");
    server.request("GET", "/api/v1/kv/gone", b"").error(404, "key_not_found");
}

#[test]
fn a_refused_batch_writes_nothing() {
    let server = TestServer::with(|_, store| {
        store.limits =
            esker_cluster::Limits { value_bytes: 10, batch_ops: 3, batch_bytes: 25, ..Default::default() };
    });
    let put = |key: &str, value: &str| format!(r#"{{"type":"put","key":"{key}","value":"{value}"}}"#);
    let good = put("a", "1");
    let refused = |second: String, status, code| {
        let body = format!(r#"{{"operations":[{good},{second}]}}"#);
        server.request("POST", "/api/v1/batch", body.as_bytes()).error(status, code)
    };
    refused(put("b", "12345678901"), 413, "payload_too_large");
    refused(
        [put("b", "1234567890"), put("c", "1234567890"), put("d", "")].join(","),
        413,
        "payload_too_large",
    );
    refused(vec![good.clone(); 3].join(","), 413, "payload_too_large");
    assert!(refused(put("", "1"), 400, "bad_request").contains("operation 1"));
    assert!(refused(good.replace("value", "until"), 400, "bad_request").contains("until"));
    refused("\"\u{1}".into(), 400, "bad_request");
    server.request("POST", "/api/v1/batch", b"{\"operations\":[\xff]}").error(400, "bad_request");
    server.request("POST", "/api/v1/batch", "[".repeat(150).as_bytes()).error(400, "bad_request");
    server.request("POST", "/api/v1/batch?ttl=1s", b"{}").error(400, "bad_request");
    let image = [("Content-Type", "image/png")];
    let answer = server.client().request("POST", "/api/v1/batch", &image, b"{}");
    answer.error(415, "unsupported_media_type");
    server.request("GET", "/api/v1/kv/a", b"").error(404, "key_not_found");
}

#[test]
fn the_cluster_is_described() {
    let server = TestServer::start();
    fill(&server, 5);
    let status = server.request("GET", "/api/v1/cluster/status", b"").json();
    assert_eq!(
        (&status["role"], &status["term"], &status["commit_index"]),
        (&json!("leader"), &json!(0), &json!(1))
    );
    assert_eq!((&status["healthy"], &status["storage"]["keys"]), (&json!(true), &json!(5)));
    assert_eq!(
        (&status["mode"], &status["cluster_id"], &status["applied_index"]),
        (&json!("single"), &Value::Null, &json!(1))
    );
    let nodes = server.request("GET", "/api/v1/cluster/nodes", b"").json();
    assert_eq!(nodes["nodes"][0]["http_address"], server.address.to_string());
}

#[test]
fn a_single_node_has_no_members_to_change() {
    let server = TestServer::start();
    let ask = |body: &str| server.request("POST", "/api/v1/cluster/members", body.as_bytes());
    for body in [
        r#"{"add":{"peer_address":"127.0.0.1:7071"}}"#,
        r#"{"promote":2}"#,
        r#"{"remove":1}"#,
        r#"{"transfer":null}"#,
    ] {
        let message = ask(body).error(409, "conflict");
        assert!(message.contains("mode single"), "{message}");
    }
    for body in ["", "{}", r#"{"promote":"x"}"#, r#"{"promote":1,"remove":2}"#, r#"{"add":{"host":"h"}}"#] {
        ask(body).error(400, "bad_request");
    }
    ask(&" ".repeat(10_000)).error(413, "payload_too_large");
    assert!(!server.request("GET", "/metrics", b"").text().contains("esker_raft"));
}

#[test]
fn maintenance_says_what_it_did() {
    let server = TestServer::start();
    fill(&server, 5);
    assert_eq!(server.request("POST", "/api/v1/admin/checkpoint", b"").json()["version"], 1);
    let verified = server.request("POST", "/api/v1/admin/verify", b"{}").json();
    assert_eq!((&verified["intact"], &verified["damage"]), (&json!(true), &json!([])));
    (0..3).for_each(|_| fill(&server, 5));
    let compacted = server.request("POST", "/api/v1/admin/compact", b"{}").json();
    let bytes = |name: &str| compacted[name].as_u64().unwrap();
    assert!(bytes("bytes_after") <= bytes("bytes_before"), "{compacted}");
    let merged = server.request("POST", "/api/v1/admin/merge", b"").json();
    assert_eq!(merged["segments_merged"], 0, "there is nothing worth it");
    let storage = &server.request("GET", "/api/v1/cluster/status", b"").json()["storage"];
    assert!(storage["write_amplification"].as_f64().unwrap() >= 1.0, "{storage}");
    assert_eq!((&storage["compression_ratio"], &storage["snapshots"]), (&json!(1.0), &json!(0)), "{storage}");
    server.request("POST", "/api/v1/admin/verify", b"{\"deep\":true}").error(400, "bad_request");
    server.request("POST", "/api/v1/admin/compact?all=1", b"").error(400, "bad_request");
    server.request("POST", "/api/v1/admin/checkpoint?now=1", b"").error(400, "bad_request");
}

#[test]
fn health_metrics_and_description_are_served() {
    let server = TestServer::start();
    fill(&server, 5);
    assert_eq!(server.request("GET", "/api/v1/health", b"").text(), r#"{"status":"ok"}"#);
    assert_eq!(server.request("GET", "/ready", b"").status, 200);
    let metrics = server.request("GET", "/metrics", b"");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    for line in [
        "esker_http_requests_total{operation=\"batch\",status=\"2xx\"} 1",
        "esker_http_request_seconds_bucket{le=\"+Inf\",operation=\"batch\"} 1",
        "esker_engine_keys 5",
        "esker_engine_merges_total 0",
        "esker_engine_cache_hits_total 0",
        "esker_engine_memory_full 0",
        "esker_engine_snapshots 0",
        "esker_store_seconds_count{operation=\"write\"} 1",
        "process_open_fds ",
        "# EOF",
    ] {
        assert!(text.lines().any(|known| known.starts_with(line)), "{line} in {text}");
    }
    assert!(server.metric("process_resident_memory_bytes") > 1e5);
    let description = server.request("GET", "/api/v1/openapi.json", b"").json();
    assert!(description["paths"]["/api/v1/kv/{key}"]["put"].is_object());
}

#[test]
fn what_is_nowhere_and_what_is_not_allowed_is_said() {
    let server = TestServer::start();
    for target in ["/", "/nothing", "/api/v1/kvx", "/api/v2/kv/a", "/health/"] {
        let message = server.request("GET", target, b"").error(404, "route_not_found");
        assert!(message.contains("/api/v1/openapi.json"), "{message}");
    }
    for (method, target, allow) in [
        ("POST", "/api/v1/kv", "GET, HEAD, DELETE"),
        ("GET", "/api/v1/batch", "POST"),
        ("PUT", "/api/v1/health", "GET, HEAD"),
        ("GET", "/api/v1/admin/verify", "POST"),
        ("OPTIONS", "/api/v1/kv/k", "GET, HEAD, PUT, DELETE"),
    ] {
        let answer = server.request(method, target, b"");
        answer.error(405, "method_not_allowed");
        let allowed: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "allow").collect();
        assert_eq!(allowed.len(), 1, "{answer:?}");
        assert_eq!(allowed[0].1, allow, "{target}");
    }
}

/// CHECKS 33: a stream over many keys to a reader that stalls stays in bounded memory and holds no thread.
#[test]
fn a_slow_reader_of_a_stream_holds_little() {
    let server = TestServer::with(|_, store| store.io_threads = std::num::NonZeroUsize::MIN);
    fill(&server, 100_000);
    let mut slow = Vec::new();
    // More of them than there are I/O threads.
    for _ in 0..8 {
        let mut client = server.client();
        client.send_request("GET", "/api/v1/kv", &[("Accept", "application/x-ndjson")], b"");
        assert_eq!(client.read_head().unwrap().status, 200);
        slow.push(client);
    }
    // Others are served meanwhile.
    let list = server.request("GET", "/api/v1/kv?limit=10000", b"").json();
    assert_eq!(keys(&list).len(), 10_000);
    // All of it arrives all the same.
    let mut client = slow.pop().unwrap();
    let mut lines = 0;
    loop {
        let line = client.raw_line();
        lines += usize::from(line.starts_with('{'));
        if line == "0\r\n" {
            break;
        }
    }
    assert_eq!(lines, 100_000);
    // For the others no more was made than fits into socket buffers: a whole stream takes 98 chunks.
    let chunks = server.metric("esker_store_seconds_count{operation=\"scan_chunk\"}");
    assert!((98.0..98.0 * 5.0).contains(&chunks), "{chunks} chunks");
    drop(slow);
    eventually("dropped streams end", || server.metric("esker_http_connections") <= 2.0);
}

/// What breaks off must not look like the end.
#[test]
fn a_stream_that_fails_ends_without_its_last_chunk() {
    let server = TestServer::start();
    fill(&server, 100_000);
    let mut client = server.client();
    client.send_request("GET", "/api/v1/kv", &[("Accept", "application/x-ndjson")], b"");
    let head = client.read_head().unwrap();
    assert_eq!(head.status, 200);
    let store = server.store.clone();
    let closing = tokio::runtime::Builder::new_current_thread().build().unwrap();
    closing.block_on(store.close()).unwrap();
    assert!(!client.read_body(head).complete);
}

/// Whoever looks at lines learns where; whoever does not still sees that it is not the end.
#[test]
#[expect(clippy::disallowed_methods, reason = "the disk's mistakes are undone behind the store's back")]
fn a_stream_that_meets_damage_says_so_in_its_last_line() {
    let server = TestServer::start();
    fill(&server, 5000);
    let (path, intact) = damage_value(server.dir.path(), "v4900-");
    let mut client = server.client();
    client.send_request("GET", "/api/v1/kv", &[("Accept", "application/x-ndjson")], b"");
    let head = client.read_head().unwrap();
    assert_eq!(head.status, 200);
    let answer = client.read_body(head);
    assert!(!answer.complete);
    let lines: Vec<Value> = answer
        .body
        .split_inclusive(|&byte| byte == b'\n')
        .map(|it| serde_json::from_slice(it).unwrap())
        .collect();
    let (last, items) = lines.split_last().unwrap();
    assert!((1..4900).contains(&items.len()) && items.iter().all(|item| item["key"].is_string()));
    let message = last["error"]["message"].as_str().unwrap();
    assert_eq!(last["error"]["code"], "damaged");
    assert!(message.contains(path.to_str().unwrap()) && message.contains("k004900"), "{message}");
    std::fs::write(path, intact).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the disk's mistakes are undone behind the store's back")]
fn damage_found_is_counted() {
    let server = TestServer::start();
    fill(&server, 100);
    assert_eq!(server.metric("esker_damage_found_total"), 0.0);
    assert_eq!(server.request("GET", "/api/v1/health", b"").json(), json!({"status": "ok"}));
    let intact = damage_values(server.dir.path());
    server.request("GET", "/api/v1/kv/k000007", b"").error(500, "damaged");
    assert_eq!(server.metric("esker_damage_found_total"), 1.0);
    let report = server.request("POST", "/api/v1/admin/verify", b"").json();
    let places = report["damage"].as_array().unwrap().len();
    assert!(places > 0, "{report}");
    assert_eq!(server.metric("esker_damage_found_total"), 1.0 + places as f64);
    let status = server.request("GET", "/api/v1/cluster/status", b"").json();
    let met = &status["storage"]["damage"];
    assert_eq!((&status["healthy"], &met["times"]), (&json!(false), &json!(1 + places)), "{status}");
    assert_eq!(met["last"], report["damage"][places - 1]);
    let file = met["last"]["file"].as_str().unwrap();
    assert!(status["trouble"].as_str().unwrap().starts_with(file), "{status}");
    for path in ["/api/v1/health", "/ready"] {
        let answer = server.request("GET", path, b"");
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("damaged")));
    }
    let envelope = server.request("GET", "/health", b"").json();
    assert_eq!(envelope["data"]["health"], "damaged", "{envelope}");
    intact.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
}

/// Changes the value that begins so, wherever it is in the files in `dir`; says in which, and what was in that.
#[expect(clippy::disallowed_methods, reason = "the disk's mistakes are made behind the store's back")]
fn damage_value(dir: &std::path::Path, begin: &str) -> (std::path::PathBuf, Vec<u8>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let intact = std::fs::read(&path).unwrap();
        if let Some(at) = intact.windows(begin.len()).position(|window| window == begin.as_bytes()) {
            let mut damaged = intact.clone();
            damaged[at] ^= 0x20;
            std::fs::write(&path, damaged).unwrap();
            return (path, intact);
        }
    }
    panic!("no file has {begin}");
}

/// Changes every value written by [`fill`] in the files in `dir`; says what was in those files.
#[expect(clippy::disallowed_methods, reason = "the disk's mistakes are made behind the store's back")]
fn damage_values(dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut intact = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(8).any(|window| window == b"--------") {
            let damaged: Vec<u8> = bytes.iter().map(|&byte| if byte == b'-' { b'+' } else { byte }).collect();
            std::fs::write(&path, damaged).unwrap();
            intact.push((path, bytes));
        }
    }
    intact
}
