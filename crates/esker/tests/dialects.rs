//! SPEC 3.1 to 3.4, 4.5: HTTP with curl, and the dialects in a cluster of real processes, asked of any node.

mod curl;
use crate::support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use esker_sim::processes::{Cluster, ClusterOptions};
use serde_json::Value;

/// Whatever is to happen by itself does so within this.
const SOON: Duration = Duration::from_secs(30);

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn request(endpoint: &str, method: &str, target: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_answers_and_none_without_a_leader() {
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3);
    let mut cluster = Cluster::start(&options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let followers: Vec<_> = cluster.numbers().into_iter().filter(|node| *node != leader).collect();
    let (one, other) = (cluster.endpoint(followers[0]), cluster.endpoint(followers[1]));

    // Written on one follower, read at once on the other.
    for (n, (method, target, body)) in [
        ("PUT", "/kv/k", r#"{"value":"v0"}"#),
        ("POST", "/kv/batch", r#"{"operations":[{"type":"put","key":"k","value":"v1"}]}"#),
        ("POST", "/put", r#"{"key":"k","value":"v2"}"#),
        ("POST", "/batch", r#"{"items":[{"key":"k","value":"v3"}]}"#),
        ("PUT", "/put?key=k", "v4"),
        ("POST", "/batchput", r#"{"k":"v5"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        let written = request(&one, method, target, body);
        assert_eq!(written.status, 200, "{method} {target}: {}", written.body);
        let value = format!("v{n}");
        assert_eq!(request(&other, "GET", "/kv/k", "").json()["data"]["value"], value);
        assert_eq!(request(&other, "GET", "/kv/range?start=k&end=k", "").json()["data"]["count"], 1);
        assert_eq!(request(&other, "GET", "/get?key=k", "").body, value);
        assert_eq!(request(&other, "GET", "/read?key=k", "").body, value);
    }
    let status = request(&one, "GET", "/status", "").json()["data"]["cluster"].clone();
    assert_eq!((&status["enabled"], &status["node_count"]), (&true.into(), &3.into()), "{status}");
    assert_eq!(status["leader_id"], leader, "{status}");
    assert!(status["current_term"].as_u64().unwrap() > 0 && status["commit_index"].as_u64().unwrap() > 0);

    cluster.kill(leader).unwrap();
    cluster.kill(followers[1]).unwrap();
    let leaderless = async {
        while request(&one, "GET", "/get?key=k", "").status != 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, leaderless).await.expect("a node alone leads nobody");
    for (method, target, body) in [
        ("GET", "/kv/k", ""),
        ("PUT", "/kv/k", r#"{"value":"w"}"#),
        ("DELETE", "/kv/k", ""),
        ("GET", "/kv/range?start=a&end=z", ""),
        ("POST", "/kv/batch", r#"{"operations":[{"type":"delete","key":"k"}]}"#),
        ("POST", "/put", r#"{"key":"k","value":"w"}"#),
        ("GET", "/get?key=k", ""),
        ("POST", "/batch", r#"{"items":[{"key":"k","value":"w"}]}"#),
        ("GET", "/scan", ""),
        ("POST", "/delete?key=k", ""),
        ("PUT", "/put?key=k", "w"),
        ("GET", "/read?key=k", ""),
        ("GET", "/range?start=a&end=z", ""),
        ("POST", "/batchput", r#"{"k":"w"}"#),
        ("DELETE", "/delete?key=k", ""),
    ] {
        let answer = request(&one, method, target, body);
        assert_eq!(answer.status, 503, "{method} {target}: {}", answer.body);
        assert!(answer.head.contains("\r\nretry-after: "), "{method} {target}: {}", answer.head);
        if target.starts_with("/kv/") {
            let error = answer.json()["error"].clone();
            assert_eq!(
                (&error["code"], &error["message"]),
                (&"CLUSTER_ERROR".into(), &"Cluster error".into())
            );
        } else {
            assert!(answer.head.contains("\r\ncontent-type: text/plain"), "{}", answer.head);
        }
    }
    // What needs no leader is answered.
    assert_eq!(request(&one, "GET", "/health", "").status, 200);
    assert_eq!(request(&one, "GET", "/status", "").json()["data"]["cluster"]["enabled"], true);
    assert_eq!(request(&one, "GET", "/metrics?format=json", "").status, 200);
}
