//! `esker top` with and without a terminal.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::Value;

use super::{
    server,
    support::{esker, run},
    terminal::Terminal,
};

#[test]
fn one_sample_for_scripts() {
    let (_dir, server) = server();
    server.ok(&["put", "k", "v"]);
    let sample: Value =
        serde_json::from_str(&server.ok(&["top", "--once", "--json", "-i", "100ms"])).unwrap();
    assert_eq!(
        (&sample["store"]["keys"], &sample["node"]["role"]),
        (&1.into(), &"leader".into()),
        "{sample}"
    );
    assert!(sample["seconds"].as_f64().unwrap() >= 0.1, "{sample}");
    assert!(sample["connections"]["resp"].is_u64() && sample["store"]["resident_bytes"].as_u64() > Some(0));
    let text = server.ok(&["top", "--once", "-i", "100ms"]);
    assert!(text.contains("led by node 1") && text.contains("front     operation"), "{text}");
    let stats = server.ok(&["stats"]);
    assert!(stats.contains("keys      1"), "{stats}");
    assert_eq!(run(&["top", "--endpoint", "127.0.0.1:1", "--once"]).status.code(), Some(4));
    assert_eq!(run(&["top", "-i", "1ms"]).status.code(), Some(2));
}

/// Without a terminal a sample follows another, and what happens between is in it.
#[test]
fn samples_follow_one_another() {
    let (_dir, server) = server();
    let mut child = esker(&["top", "--json", "-i", "100ms"])
        .env("KV_ENDPOINT", &server.endpoint)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    server.ok(&["put", "k", "v"]);
    let seen = lines.by_ref().take(100).map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let is_put = |operation: &Value| operation["front"] == "http" && operation["operation"] == "put";
    let mut puts = seen.flat_map(|sample| sample["operations"].as_array().unwrap().clone()).filter(is_put);
    let put = puts.next().expect("the put shows");
    assert!(put["per_second"].as_f64() > Some(0.0) && put["p99_us"].as_f64() > Some(0.0), "{put}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_picture_is_live_until_q_or_ctrl_c() {
    let (dir, server) = server();
    let mut top = Terminal::start(&server.endpoint, dir.path(), &["top", "-i", "100ms"]);
    top.expect("\x1b[?1049h");
    top.expect("requests  ");
    top.expect("requests  ");
    top.send("q");
    top.expect("\x1b[?1049l");
    assert_eq!(top.wait(), Some(0));
    let mut top = Terminal::start(&server.endpoint, dir.path(), &["top", "-i", "100ms"]);
    top.expect("requests  ");
    top.send("\x03");
    top.expect("\x1b[?1049l");
    assert_eq!(top.wait(), Some(0));
}
