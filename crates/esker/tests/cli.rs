//! The real binary, every command word and its exit codes, over real sockets.

use crate::support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Output, Stdio},
};

use serde_json::Value;
use support::{Server, esker, run};
use tempfile::TempDir;

fn server() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    (dir, server)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn fails(output: &Output, code: i32, part: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(stderr(output).contains(part), "{output:?}");
}

#[test]
fn single_keys() {
    let (dir, server) = server();
    server.ok(&["put", "k", "value"]);
    assert_eq!(server.ok(&["get", "k"]), "value");
    assert_eq!(server.ok(&["get", "k", "--hex"]), "76616c7565\n");
    let json: Value = serde_json::from_str(&server.ok(&["get", "k", "--json"])).unwrap();
    assert_eq!((json["key"].as_str(), json["value"].as_str()), (Some("k"), Some("value")));
    assert!(server.with_input(&["put", "a/b ü"], b"\x00\xff").status.success());
    let file = dir.path().join("value");
    server.ok(&["get", "a/b ü", "-o", file.to_str().unwrap()]);
    assert_eq!(fs::read(&file).unwrap(), b"\x00\xff");
    server.ok(&["put", "copy", "--file", file.to_str().unwrap()]);
    assert_eq!(server.ok(&["get", "copy", "--hex"]), "00ff\n");
    fails(&server.run(&["get", "absent"]), 3, "no such key: absent");
    fails(&server.run(&["del", "k", "absent"]), 3, "absent");
    assert_eq!(server.ok(&["del", "copy"]), "deleted 1\n");
    fails(&server.run(&["put", ""]), 1, "a key has 1 to");
}

/// A scheme that is not the port's: said at once, and what to look at.
#[test]
fn a_port_of_another_protocol_is_called_that() {
    let (_dir, server) = server();
    let http = server.endpoint.trim_start_matches("http://");
    let binary = server.binary.trim_start_matches("esker://");
    for endpoint in [format!("http://{binary}"), format!("esker://{http}")] {
        let output = run(&["get", "k", "--endpoint", &endpoint]);
        fails(&output, 1, "is this the port of another protocol?");
    }
    // To a Redis `DEL 5` would be a whole command, and 5 a key.
    server.ok(&["put", "5", "v"]);
    let resp = format!("esker://{}", server.resp);
    fails(&run(&["del", "mykey", "--endpoint", &resp]), 1, "is this the port of another protocol?");
    assert_eq!(server.ok(&["get", "5"]), "v");
    fails(&run(&["get", "k", "--endpoint", "http://127.0.0.1:99999"]), 2, "a port is 1 to 65535");
    fails(&run(&["watch", "--endpoint", &format!("esker://{binary}")]), 1, "a watch is asked for over HTTP");
}

/// SPEC 1.6 to 1.8, 1.10, 1.11 from the command line.
#[test]
fn conditions_expiry_counters_ranges_and_several_keys() {
    let (_dir, server) = server();
    assert_eq!(server.ok(&["put", "k", "1", "--if-absent"]), "version 1\n");
    fails(&server.run(&["put", "k", "2", "--if-absent"]), 6, "the key is at version 1");
    fails(&server.run(&["put", "k", "2", "--if-version", "9"]), 6, "the key is at version 1");
    assert_eq!(server.ok(&["put", "k", "2", "--if-version=1"]), "version 4\n");
    server.ok(&["put", "k", "3", "--if-present"]);
    fails(&server.run(&["put", "none", "3", "--if-present"]), 6, "the key is absent");
    fails(&server.run(&["put", "k", "3", "--if-present", "--if-absent"]), 2, "cannot be used with");
    fails(&server.run(&["del", "k", "--if-version", "1"]), 6, "version 5");
    fails(&server.run(&["del", "k", "l", "--if-version", "1"]), 2, "one key");
    server.ok(&["del", "k", "--if-version", "5"]);

    assert_eq!(server.ok(&["incr", "n"]), "1\n");
    assert_eq!(server.ok(&["incr", "n", "-5"]), "-4\n");
    let json: Value = serde_json::from_str(&server.ok(&["incr", "n", "46", "--json"])).unwrap();
    assert_eq!((&json["key"], &json["value"]), (&"n".into(), &42.into()));
    server.ok(&["put", "text", "x"]);
    fails(&server.run(&["incr", "text"]), 1, "not an integer");

    fails(&server.run(&["put", "t", "v", "--ttl", "0s"]), 2, "above 0");
    server.ok(&["put", "t", "v", "--ttl", "7d"]);
    let json: Value = serde_json::from_str(&server.ok(&["get", "t", "--json"])).unwrap();
    let expires = json["expires_at"].as_u64().unwrap();
    assert_eq!(server.ok(&["scan", "--prefix", "t", "--expiry"]), format!("t\tv\t{expires}\ntext\tx\t-\n"));

    assert_eq!(server.ok(&["get", "text", "n"]), "text\tx\nn\t42\n");
    let some = server.run(&["get", "n", "absent", "--json"]);
    assert!(String::from_utf8_lossy(&some.stdout).ends_with("}\nnull\n"), "{some:?}");
    fails(&some, 3, "absent");
    fails(&server.run(&["get", "n", "text", "-o", "f"]), 2, "one key");

    let guarded = br#"{"operations":[{"type":"incr","key":"n","by":1}],"if":[{"key":"n","is":"absent"}]}"#;
    fails(&server.with_input(&["batch"], guarded), 6, "the key is at version");

    for args in
        [&["del"][..], &["del", "--start", "a"], &["del", "k", "--prefix", "a"], &["del", "--end", "a"]]
    {
        assert_eq!(server.run(args).status.code(), Some(2), "{args:?}");
    }
    fails(&server.run(&["del", "--prefix", ""]), 2, "--yes");
    fails(&server.run(&["del", "--start", "", "--end", "z"]), 2, "not empty");
    assert_eq!(server.ok(&["del", "--prefix", "t"]), "deleted 2\n");
    server.ok(&["put", "o", "1"]);
    let json: Value =
        serde_json::from_str(&server.ok(&["del", "--start", "n", "--end", "n", "--json"])).unwrap();
    assert_eq!(json["deleted"], 1);
    assert_eq!(server.ok(&["del", "--prefix", "", "--yes"]), "deleted 1\n");
    assert_eq!(server.ok(&["scan"]), "");
}

#[test]
fn scans_and_batches() {
    let (_dir, server) = server();
    let lines = b"{\"type\":\"put\",\"key\":\"a\",\"value\":\"1\"}\n{\"type\":\"put\",\"key\":\"b1\",\"value\":\"\\t\"}\n";
    assert!(server.with_input(&["batch"], lines).status.success());
    let whole = br#"{"operations":[{"type":"put","key":"b2","value":"3"},{"type":"delete","key":"a"}]}"#;
    let done = server.with_input(&["batch", "--json"], whole);
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap()["operations"], 2);
    assert_eq!(server.ok(&["scan"]), "b1\t\\t\nb2\t3\n");
    assert_eq!(server.ok(&["scan", "--prefix", "b", "--reverse", "--limit", "1", "--keys-only"]), "b2\n");
    assert_eq!(server.ok(&["scan", "--start", "b2", "--end", "b2"]), "b2\t3\n");
    assert_eq!(server.ok(&["scan", "--json"]).lines().count(), 2);
    fails(&server.with_input(&["batch"], b"{}\n"), 1, "line 1");
    fails(&server.with_input(&["batch"], b""), 1, "no operation");
}

#[test]
fn the_servers_health() {
    let (_dir, server) = server();
    server.ok(&["put", "k", "v"]);
    let status = server.ok(&["status"]);
    assert!(status.contains("keys      1") && status.contains("node      1, leader (single)"), "{status}");
    let status: Value = serde_json::from_str(&server.ok(&["status", "--json"])).unwrap();
    assert_eq!(status["storage"]["keys"], 1);
    for line in ["write amplification", "cache     0", "values    stored in 100.0%"] {
        assert!(server.ok(&["status"]).contains(line), "{line}");
    }
    for verify in [&["verify", "--json"][..], &["admin", "verify", "--json"]] {
        let verified: Value = serde_json::from_str(&server.ok(verify)).unwrap();
        assert_eq!(verified["intact"], true);
    }
    assert!(server.ok(&["admin", "checkpoint"]).starts_with("checkpoint up to version 1"));
    assert_eq!(server.ok(&["admin", "merge-now"]), "nothing to merge\n");
    let compacted: Value = serde_json::from_str(&server.ok(&["admin", "compact", "--json"])).unwrap();
    assert!(compacted["bytes_after"].as_u64() <= compacted["bytes_before"].as_u64(), "{compacted}");
}

#[test]
fn a_cluster_of_one_is_shown_and_cannot_be_changed() {
    let (_dir, server) = server();
    server.ok(&["put", "k", "v", "--ack", "all"]);
    assert_eq!(server.ok(&["get", "k", "--stale"]), "v");
    assert_eq!(server.ok(&["scan", "--stale"]), "k\tv\n");
    assert_eq!(server.ok(&["del", "k", "--ack=local"]), "deleted 1\n");
    let batch = br#"{"operations":[{"type":"put","key":"k","value":"v"}]}"#;
    assert!(server.with_input(&["batch", "--ack", "majority"], batch).status.success());
    let status = server.ok(&["cluster", "status"]);
    for line in ["node       1, leader", "mode       single", "leader     1", "committed  3", "applied    3"]
    {
        assert!(status.lines().any(|known| known == line), "{line} in {status}");
    }
    let status: Value = serde_json::from_str(&server.ok(&["cluster", "status", "--json"])).unwrap();
    assert_eq!((&status["mode"], &status["cluster_id"]), (&"single".into(), &Value::Null));
    let nodes = server.ok(&["cluster", "nodes"]);
    assert!(nodes.lines().nth(1).unwrap().starts_with("   1  leader"), "{nodes}");
    let nodes: Value = serde_json::from_str(&server.ok(&["cluster", "nodes", "--json"])).unwrap();
    assert_eq!((&nodes["nodes"][0]["voter"], &nodes["nodes"][0]["healthy"]), (&true.into(), &true.into()));
    for change in [
        &["add", "h:7070"][..],
        &["add", "h:7070", "--learner"],
        &["promote", "2"],
        &["remove", "2"],
        &["transfer"],
    ] {
        fails(&server.run(&[&["cluster"], change].concat()), 1, "mode single");
    }
}

#[test]
fn of_several_endpoints_one_that_is_there_suffices() {
    let (_dir, server) = server();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let list = format!("http://{dead},{}", server.endpoint);
    assert!(run(&["put", "k", "v", "--endpoint", &list]).status.success());
    assert_eq!(run(&["get", "k", "--endpoint", &list]).stdout, b"v");
    let bench =
        ["bench", "a", "-r", "20", "-n", "20", "-c", "3", "--ack", "all", "--stale", "--endpoint", &list];
    let output = run(&bench);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("longest gap"), "{output:?}");
    for args in [&["--ack", "all"][..], &["--stale"]] {
        let args = [&["bench", "c", "--target", "redis://127.0.0.1:1"], args].concat();
        fails(&run(&args), 2, "--ack and --stale");
    }
}

/// A run goes on when one of the servers dies under it, and says what that cost.
#[test]
fn bench_survives_a_server() {
    let (_first_dir, mut first) = server();
    let (_second_dir, second) = server();
    let list = format!("{},{}", first.endpoint, second.endpoint);
    let args = ["bench", "read", "-r", "100", "-d", "2s", "-c", "4", "--json", "--endpoint", &list];
    let bench = esker(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Every read was of the run: the load is over.
    while !first_reads(&first) {
        std::thread::yield_now();
    }
    first.kill();
    let output = bench.wait_with_output().unwrap();
    fails(&output, 1, "some operations failed");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reads = &report["operations"]["read"];
    assert!(reads["errors"].as_u64().unwrap() >= 1 && reads["count"].as_u64().unwrap() > 10, "{report}");
    let gap = reads["longest_gap_ms"].as_f64().unwrap();
    assert!(gap > 0.0 && gap < 2000.0, "{report}");
}

/// Whether a server has answered reads of single keys.
fn first_reads(server: &Server) -> bool {
    let address = server.endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    metrics.contains("esker_http_requests_total{operation=\"get\"")
}

/// A node that redirects is followed by the load generator, too.
#[test]
fn bench_goes_to_the_leader() {
    let (_dir, server) = server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let follower = listener.local_addr().unwrap().to_string();
    let leader = server.endpoint.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).unwrap() > 0 {
                let target = line.split(' ').nth(1).unwrap();
                let head =
                    format!("HTTP/1.1 307 X\r\nlocation: {leader}{target}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
            }
        }
    });
    let output = run(&["bench", "a", "-r", "20", "-n", "50", "-c", "2", "--json", "--target", &follower]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report["operations"]["read"]["missed"], 0, "{report}");
    assert_eq!(server.ok(&["scan", "--keys-only"]).lines().count(), 20);
}

#[test]
fn export_and_import_are_inverse() {
    let (dir, server) = server();
    let values: [&[u8]; 6] = [b"plain", b"", b"a,\"b\"\r\n\nc", b"\xff\x00\xfe", "ü".as_bytes(), b" spaced "];
    for (at, value) in values.iter().enumerate() {
        assert!(server.with_input(&["put", &format!("k{at},\"x\"")], value).status.success());
    }
    server.ok(&["put", "other", "not exported"]);
    for name in ["out.jsonl", "out.csv"] {
        let file = dir.path().join(name);
        let file = file.to_str().unwrap();
        server.ok(&["export", file, "--prefix", "k"]);
        let other = Server::start(&dir.path().join(format!("{name}.data")), &[]);
        let done: Value = serde_json::from_str(&other.ok(&["import", file, "--json"])).unwrap();
        assert_eq!((&done["imported"], &done["skipped"]), (&6.into(), &0.into()));
        let keys_and_values = |server: &Server| server.ok(&["scan", "--prefix", "k"]);
        assert_eq!(keys_and_values(&other), keys_and_values(&server));
        assert_eq!(other.run(&["get", "other"]).status.code(), Some(3));
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{names:?}");
}

#[test]
fn an_export_that_replaces_says_so_and_keeps_the_mode() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, server) = server();
    server.ok(&["put", "k", "v"]);
    let file = dir.path().join("out.jsonl");
    let told = stderr(&server.run(&["export", file.to_str().unwrap()]));
    assert!(told.contains("exported 1 key to") && !told.contains("in place"), "{told}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let told = stderr(&server.run(&["export", file.to_str().unwrap()]));
    assert!(told.contains("in place of what was there"), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for command in ["serve", "config"] {
        fails(&run(&[command, "--data-dir", file.to_str().unwrap()]), 2, "is a file");
    }
}

/// What nobody reads any more is not written, and that is all.
#[test]
fn an_output_that_is_closed_changes_no_exit_code() {
    let (dir, server) = server();
    let text: String = (0..5000).map(|n| format!("key{n:05},value {n}\n")).collect();
    let import = ["import", "-", "--format", "csv", "--no-header"];
    assert!(server.with_input(&import, text.as_bytes()).status.success());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let file = dir.path().join("all.csv");
    for (args, code) in [
        (&["get", "absent"][..], 3),
        (&["export", file.to_str().unwrap()], 0),
        (&["export"], 0),
        (&["scan"], 0),
        (&["status"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        (&["get"], 2),
    ] {
        let mut command = esker(args);
        command.env("KV_ENDPOINT", &server.endpoint);
        let status = command.stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
    assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 5001);
}

#[test]
fn imports_report_bad_lines() {
    let (dir, server) = server();
    let text = b"{\"key\":\"a\",\"value\":\"1\"}\nnonsense\n{\"key\":\"a\",\"value\":\"2\"}\n";
    fails(&server.with_input(&["import", "-", "--format", "jsonl"], text), 1, "line 2");
    let args = ["import", "-", "--format", "jsonl", "--skip-bad", "--batch-ops", "1", "--json"];
    let done = server.with_input(&args, text);
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap()["skipped"], 1);
    assert_eq!(server.ok(&["get", "a"]), "2", "the later line wins");
    fails(&server.run(&["import", "-"]), 2, "--format");
    let missing = dir.path().join("missing.csv");
    fails(&server.run(&["import", missing.to_str().unwrap()]), 1, "missing.csv");
}

#[test]
fn imports_name_the_line_that_the_server_refuses() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--max-value-bytes", "10B"]);
    let text: String =
        (1..=50).map(|n| format!("k{n},{}\n", "v".repeat(if n == 33 { 11 } else { 10 }))).collect();
    let args = ["import", "-", "--format", "csv", "--no-header", "--connections", "2", "--json"];
    let stopped = server.with_input(&args, text.as_bytes());
    fails(&stopped, 1, "line 33: ");
    let imported = server.ok(&["scan", "--keys-only"]).lines().count();
    assert!(stderr(&stopped).contains(&format!("at least {imported} key")), "{stopped:?}");
    let done = server.with_input(&[&args[..], &["--skip-bad"]].concat(), text.as_bytes());
    assert!(done.status.success() && stderr(&done).contains("line 33: "), "{done:?}");
    let summary: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&summary["imported"], &summary["skipped"]), (&49.into(), &1.into()));
    assert_eq!(server.ok(&["scan", "--keys-only"]).lines().count(), 49);
}

#[test]
fn many_keys_survive_the_trip_over_several_connections() {
    let (dir, server) = server();
    let text: String = (0..5000).map(|n| format!("key{n:05},value {n}\n")).collect();
    let file = dir.path().join("in.csv");
    fs::write(&file, &text).unwrap();
    server.ok(&["import", file.to_str().unwrap(), "--batch-ops", "97", "--connections", "7"]);
    let exported = server.ok(&["export", "--format", "csv"]);
    let expected: String = "key,value,encoding,expires_at\n".to_owned()
        + &(0..5000).map(|n| format!("key{n:05},value {n},,\n")).collect::<String>();
    assert!(exported == expected);
}

#[test]
fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for args in [&["get", "k"][..], &["put", "k", "v"], &["status"], &["verify"], &["scan"], &["export"]] {
        let output = esker(args).args(["--endpoint", &endpoint]).output().unwrap();
        fails(&output, 4, "is `esker serve` running there?");
    }
    let output = run(&["import", "--endpoint", &endpoint, "--retry-for", "10ms", "-", "--format", "csv"]);
    fails(&output, 4, "cannot connect");
    for target in [endpoint.clone(), endpoint.replace("http://", "redis://")] {
        fails(&run(&["bench", "c", "--target", &target]), 4, "cannot connect");
    }
}

#[test]
fn wrong_usage() {
    for args in [
        &["frobnicate"][..],
        &["get"],
        &["serve", "--endpoint", "http://x:1"],
        &["get", "k", "--endpoint", "ftp://x"],
        &["serve", "--port", "70000"],
        &["scan", "--prefix", "a", "--start", "b"],
        &["serve", "--host", "0.0.0.0"],
        &["bench", "e", "--target", "redis://127.0.0.1:1"],
        &["bench", "c", "--target", "dir:x", "--timeout", "1s"],
        &["bench", "c", "--target", "redis://127.0.0.1:1", "--endpoint", "http://127.0.0.1:1"],
        &["config", "--host", "0.0.0.0"],
        &["config", "--max-batch-bytes", "512MiB"],
        &["config", "--port", "9000", "--grpc-port", "9000"],
        &["config", "--cluster-nodes", "127.0.0.1,127.0.0.1"],
        &["config", "--join", "h:1", "--raft-election-timeout-ms", "100"],
        &["put", "k", "v", "--ack", "some"],
        &["cluster"],
        &["cluster", "promote", "x"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn settings_have_their_precedence() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("esker.yaml");
    fs::write(&file, "port: 1\nhost: 127.0.0.2\n# nothing\nwal_sync_policy: every:5\n").unwrap();
    let mut command = esker(&["config", "--json", "--port", "3", "--config"]);
    let output = command.arg(&file).env("KV_PORT", "2").env("KV_SYNC_ON_PUT", "false").output().unwrap();
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said =
        |name: &str| (config[name]["value"].as_str().unwrap(), config[name]["source"].as_str().unwrap());
    assert_eq!(said("port"), ("3", "flag --port"));
    assert_eq!(said("wal_sync_policy"), ("never", "environment KV_SYNC_ON_PUT"));
    assert_eq!(said("host"), ("127.0.0.2", &*format!("file {}:2", file.display())));
    assert_eq!(said("checkpoint_ops").1, "default");
    fs::write(&file, "\nprot: 1\n").unwrap();
    fails(&esker(&["config", "--config"]).arg(&file).output().unwrap(), 2, "esker.yaml:2");
    let mut command = esker(&["config", "--json", "--node-id", "3"]);
    let output = command.env("KV_CLUSTER_NODES", "127.0.0.1,127.0.0.1,127.0.0.1").output().unwrap();
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&config["port"]["value"], &config["peer_port"]["value"]), (&"8082".into(), &"7072".into()));
    assert_eq!(config["port"]["source"], "follows from cluster_nodes");
    let warned = esker(&["config"]).env("KV_MEMTABLE_BYTES", "9").output().unwrap();
    assert!(warned.status.success() && stderr(&warned).contains("KV_MEMTABLE_BYTES"), "{warned:?}");
}

/// CHECKS 27: what was copied is refused, with a word on what to do; what was moved is accepted when that is said.
#[test]
fn a_copied_node_is_refused() {
    let home = TempDir::new().unwrap();
    let (data, copy) = (home.path().join("data"), home.path().join("copy"));
    let alone = ["--cluster-enabled", "--peer-port", "0"];
    let mut server = Server::start(&data, &alone);
    server.kill();
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    let (code, told) = Server::try_start(&copy, &alone).err().unwrap();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is a copy") && told.contains("empty directory"), "{told}");
    drop(Server::start(&copy, &[&alone[..], &["--data-dir-moved"]].concat()));
    drop(Server::start(&copy, &alone));
    drop(Server::start(&data, &alone));
}

#[test]
fn completions_and_version() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(
            output.status.success()
                && ["keys-only", "stop-on-error", "interval", "progress"]
                    .iter()
                    .all(|word| String::from_utf8_lossy(&output.stdout).contains(word)),
            "{shell}"
        );
    }
    let version = run(&["version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("esker {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn sigterm_and_sigint_end_it_in_order() {
    for name in ["TERM", "INT"] {
        let (dir, server) = server();
        server.ok(&["put", "k", "v"]);
        server.signal(name);
        assert_eq!(server.wait(), Some(0));
        drop(dir);
    }
}

#[test]
fn the_ready_file_says_where() {
    let dir = TempDir::new().unwrap();
    let ready = dir.path().join("ready");
    // The banner's last lines come before the file, so wait for what a script would wait for.
    let server = Server::start(&dir.path().join("data"), &["--ready-file", ready.to_str().unwrap()]);
    let address = loop {
        match fs::read_to_string(&ready) {
            Ok(address) => break address,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(server.endpoint, format!("http://{}", address.trim()));
}

#[test]
fn a_taken_port_is_told() {
    let (dir, server) = server();
    let port = server.endpoint.rsplit(':').next().unwrap().to_owned();
    let data = dir.path().join("other");
    let output = esker(&["serve", "--port", &port, "--data-dir"]).arg(data).output().unwrap();
    fails(&output, 1, "in use");
}

#[test]
fn bench_measures_what_runs() {
    let (dir, server) = server();
    for workload in ["a", "d", "e", "f", "fill"] {
        let args = ["bench", workload, "-r", "200", "-n", "100", "-c", "3", "--json"];
        let args = if workload == "fill" { &args[..4] } else { &args[..] };
        let mut args = args.to_vec();
        args.extend(if workload == "fill" { &["--batch", "7", "--json"][..] } else { &[] });
        let report: Value = serde_json::from_str(&server.ok(&args)).unwrap();
        let counts =
            report["operations"].as_object().unwrap().values().map(|kind| kind["count"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), if workload == "fill" { 200 } else { 100 }, "{report}");
        assert_eq!(report["sync"], "server's");
    }
    let embedded = format!("dir:{}", dir.path().join("bench").display());
    let args = ["bench", "b", "-r", "200", "-n", "100", "--rate", "10000", "--target", &embedded, "--json"];
    let report: Value = serde_json::from_slice(&run(&args).stdout).unwrap();
    assert_eq!(report["operations"]["read"]["errors"], 0, "{report}");
    assert_eq!(report["sync"], "always");
    let never = ["bench", "a", "-r", "9", "-n", "9", "--sync=never", "--target", &embedded];
    assert!(String::from_utf8_lossy(&run(&never).stdout).contains("sync never"));
}
