//! The real binary, every command word and its exit codes, over real sockets.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make files and read output")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod support;

use std::{fs, process::Output};

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
    assert!(server.ok(&["status"]).contains("keys      1"));
    let status: Value = serde_json::from_str(&server.ok(&["status", "--json"])).unwrap();
    assert_eq!(status["storage"]["keys"], 1);
    let verified: Value = serde_json::from_str(&server.ok(&["verify", "--json"])).unwrap();
    assert_eq!(verified["intact"], true);
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
    fails(&server.with_input(&args, text.as_bytes()), 1, "line 33: ");
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
    let expected: String = "key,value,encoding\n".to_owned()
        + &(0..5000).map(|n| format!("key{n:05},value {n},\n")).collect::<String>();
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
    let warned = esker(&["config"]).env("KV_MAX_FILES", "9").output().unwrap();
    assert!(warned.status.success() && stderr(&warned).contains("KV_MAX_FILES"), "{warned:?}");
}

#[test]
fn completions_and_version() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("keys-only"),
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
