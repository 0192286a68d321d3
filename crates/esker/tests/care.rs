//! SPEC 2.13 with the real binary: backups that are offline, in a directory of the server, and sent, also while it is written
//! to; restore, repair and verify of what they leave.

use crate::support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use esker_client::{Batch, Client, WriteOptions};
use esker_sim::processes::{Cluster, ClusterOptions};
use serde_json::Value;
use support::{Server, esker, run};
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, part: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(part), "{output:?}");
}

fn json(output: &str) -> Value {
    serde_json::from_str(output).unwrap()
}

/// Keys with everything that a key can have: any bytes, versions, expiries; and some that are gone.
fn fill(server: &Server) {
    let lines: String = (0..300)
        .map(|n| {
            let expiry = if n % 3 == 0 { r#","expires_at":2400000000000"# } else { "" };
            format!("{{\"key\":\"k{n:03}\",\"value\":\"{}\"{expiry}}}\n", "v".repeat(n * 7))
        })
        .collect();
    assert!(server.with_input(&["import", "-", "--format", "jsonl"], lines.as_bytes()).status.success());
    let bytes = br#"{"type":"put","key":"/w==","value":"AP8=","encoding":"base64"}"#;
    assert!(server.with_input(&["batch"], bytes).status.success());
    server.ok(&["del", "k005", "k006"]);
    server.ok(&["incr", "n", "41"]);
    server.ok(&["put", "brief", "v", "--ttl", "1ms"]);
}

/// Everything that a server has: keys, values, versions, expiries.
fn everything(server: &Server) -> String {
    server.ok(&["export"])
}

/// What a backup restores as, with its data directory checked.
fn restored(backup: &Path, dir: &Path) -> String {
    succeeds(&run(&["admin", "restore", text(backup), "--data-dir", text(dir)]));
    succeeds(&run(&["verify", "--data-dir", text(dir)]));
    let server = Server::start(dir, &[]);
    assert!(server.ok(&["verify"]).starts_with("checked"));
    everything(&server)
}

/// A server with something in it and a `backup_dir`.
fn server() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(
        &dir.path().join("data"),
        &["--backup-dir", text(&dir.path().join("backups")), "--segment-max-bytes", "1MiB"],
    );
    fill(&server);
    (dir, server)
}

#[test]
fn a_data_directory_is_backed_up_and_restored() {
    let (dir, mut server) = server();
    let expected = everything(&server);
    server.kill();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let offline = ["admin", "backup", text(&backup), "--data-dir", text(&data), "--json"];
    let first = json(&succeeds(&run(&offline)));
    assert!(first["files"].as_u64() > Some(3) && first["files_kept"] == 0, "{first}");
    let second = json(&succeeds(&run(&offline)));
    assert!(second["files_kept"].as_u64() > Some(1), "{second}");
    assert_eq!(restored(&backup, &dir.path().join("new")), expected);
    fails(
        &run(&["admin", "restore", text(&backup), "--data-dir", text(&dir.path().join("new"))]),
        1,
        "not empty",
    );
    fails(
        &run(&["admin", "restore", text(&data), "--data-dir", text(&dir.path().join("x"))]),
        1,
        "no complete backup",
    );
    fails(
        &run(&["--endpoint", "http://h:1", "admin", "backup", text(&backup), "--data-dir", "x"]),
        2,
        "no meaning",
    );
}

#[test]
fn a_server_keeps_a_backup() {
    let (dir, server) = server();
    let today = dir.path().join("backups").join("today");
    let named = ["admin", "backup", "--name", "today", "--json"];
    let first = json(&server.ok(&named));
    assert!(first["files_linked"].as_u64() > Some(0), "{first}");
    let earlier = everything(&server);
    assert_eq!(restored(&today, &dir.path().join("first")), earlier);
    server.ok(&["put", "later", "v"]);
    let second = json(&server.ok(&named));
    assert!(
        second["files_kept"].as_u64() > Some(0) && second["version"].as_u64() > first["version"].as_u64()
    );
    assert_eq!(restored(&today, &dir.path().join("second")), everything(&server));
    for name in ["..", ".", "a/b", "/etc", "", ".hidden"] {
        fails(&server.run(&["admin", "backup", "--name", name]), 2, "no name for a backup");
    }
    assert_eq!(fs::read_dir(dir.path().join("backups")).unwrap().count(), 1);
    let plain = Server::start(&dir.path().join("plain"), &[]);
    fails(&plain.run(&["admin", "backup", "--name", "x"]), 1, "backup_dir");
    fails(&plain.run(&["admin", "backup"]), 2, "--output");
    fails(&plain.run(&["admin", "backup", "--name", "x", "--output", "y"]), 2, "cannot be used with");
}

#[test]
fn a_server_sends_a_backup() {
    let (dir, server) = server();
    let expected = everything(&server);
    let (file, unpacked) = (dir.path().join("b.tar"), dir.path().join("unpacked/"));
    let told = server.ok(&["admin", "backup", "--output", text(&file)]);
    assert!(told.starts_with("backed up version "), "{told}");
    let done = json(&server.ok(&["admin", "backup", "--output", text(&unpacked), "--json"]));
    assert_eq!(done["files_linked"], 0, "{done}");
    let piped = server.run(&["admin", "backup", "--output", "-"]);
    assert!(piped.status.success());
    let by_pipe = dir.path().join("piped.tar");
    fs::write(&by_pipe, &piped.stdout).unwrap();
    for (at, backup) in [&file, &unpacked, &by_pipe].into_iter().enumerate() {
        let told = succeeds(&run(&["verify", "--data-dir", text(backup)]));
        assert!(told.contains("their records were not read") && !told.contains("ns"), "{told}");
        assert_eq!(restored(backup, &dir.path().join(format!("restored{at}"))), expected);
    }
    // Into the same places again: the new one takes the place of the old one.
    server.ok(&["put", "later", "v"]);
    server.ok(&["admin", "backup", "--output", text(&file)]);
    server.ok(&["admin", "backup", "--output", text(&unpacked)]);
    for (at, backup) in [&file, &unpacked].into_iter().enumerate() {
        assert_eq!(restored(backup, &dir.path().join(format!("again{at}"))), everything(&server));
    }
    fails(&server.run(&["admin", "backup", "--output", text(&dir.path().join("none/b.tar"))]), 1, "writing");
    fails(&server.run(&["admin", "backup", "--output", text(dir.path())]), 1, "other files");
}

/// Writes pairs that are equal at every version until it is told to stop; what is acknowledged is counted.
fn write_pairs(endpoint: &str, stop: &AtomicBool, acknowledged: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(endpoint).unwrap();
        for n in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut batch = Batch::new();
            let value = n.to_string() + &"x".repeat(2000);
            for side in ["left", "right"] {
                batch.put(format!("{side}/{:03}", n % 200).as_bytes(), value.as_bytes());
            }
            client.batch(batch, WriteOptions::default()).await.unwrap();
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// The pairs in an export: left equals right, at one version each, and no version is missing that was acknowledged before.
fn check_pairs(exported: &str, acknowledged: u64) {
    let mut newest = 0;
    let lines: Vec<Value> = exported.lines().map(json).collect();
    let side = |side: &str| {
        let is_of = |line: &&Value| line["key"].as_str().unwrap().starts_with(side);
        lines.iter().filter(is_of).map(|line| (&line["value"], &line["version"])).collect::<Vec<_>>()
    };
    assert_eq!(side("left/"), side("right/"));
    for (value, _) in side("left/") {
        let digits: String = value.as_str().unwrap().chars().take_while(char::is_ascii_digit).collect();
        newest = newest.max(digits.parse::<u64>().unwrap() + 1);
    }
    assert!(newest >= acknowledged, "{newest} of {acknowledged}");
}

/// Ends the writer, also where an assertion failed.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn backups_of_a_server_that_is_written_to_are_one_version() {
    let (dir, server) = server();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let unpacked = dir.path().join("unpacked/");
    std::thread::scope(|scope| {
        scope.spawn(|| write_pairs(&server.endpoint, &stop, &acknowledged));
        let _stopped = StopOnDrop(&stop);
        for round in 1..4 {
            while acknowledged.load(Ordering::Relaxed) < 150 * round {
                std::thread::yield_now();
            }
            let file = dir.path().join(format!("{round}.tar"));
            let ways: [(&[&str], PathBuf); 3] = [
                (&["--output", text(&file)], file.clone()),
                (&["--output", text(&unpacked)], unpacked.clone()),
                (&["--name", "under-load"], dir.path().join("backups/under-load")),
            ];
            for (at, (way, backup)) in ways.into_iter().enumerate() {
                let before = acknowledged.load(Ordering::Relaxed);
                server.ok(&[&["admin", "backup"], way].concat());
                server.ok(&["admin", "merge-now"]);
                check_pairs(&restored(&backup, &dir.path().join(format!("r{round}-{at}"))), before);
            }
        }
    });
    // Now that it is still, everything is compared.
    server.ok(&["admin", "backup", "--output", text(&unpacked)]);
    assert_eq!(restored(&unpacked, &dir.path().join("still")), everything(&server));
}

/// A server that answers every request with this.
fn one_who_answers(answer: Vec<u8>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        // The client may have seen enough.
        let _ = stream.write_all(&answer);
    });
    (endpoint, thread)
}

#[test]
fn a_backup_that_is_cut_off_or_changed_on_its_way_is_not_kept() {
    let (dir, server) = server();
    let whole = server.run(&["admin", "backup", "--output", "-"]).stdout;
    let answer = |length: usize, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-tar\r\ncontent-length: {length}\r\n\
             esker-applied-version: 1\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let half = &whole[..whole.len() / 2];
    // Cut off by the network, cut off by somebody in between who knows nothing of it, and changed.
    for (answer, code, part) in [
        (answer(whole.len(), half), 1, "the connection broke"),
        (answer(half.len(), half), 5, "cut off"),
        (answer(whole.len(), &flipped), 5, "checksum"),
    ] {
        for target in ["kept.tar", "kept/"] {
            let (endpoint, thread) = one_who_answers(answer.clone());
            let to = dir.path().join(target);
            let got = esker(&["--endpoint", &endpoint, "admin", "backup", "--output", text(&to)]).output();
            fails(&got.unwrap(), code, part);
            thread.join().unwrap();
            let is_there = if target.ends_with('/') { to.join("BACKUP").exists() } else { to.exists() };
            assert!(!is_there, "{target}: {part}");
        }
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|found| found.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{left:?}");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// CHECKS 8.
#[test]
fn verify_finds_what_was_flipped_in_a_backup() {
    let (dir, server) = server();
    let (file, unpacked) = (dir.path().join("b.tar"), dir.path().join("unpacked/"));
    server.ok(&["admin", "backup", "--output", text(&file)]);
    server.ok(&["admin", "backup", "--output", text(&unpacked)]);
    let mut files: Vec<_> = fs::read_dir(&unpacked).unwrap().map(|found| found.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("LOCK"));
    assert!(files.len() > 3, "{files:?}");
    files.push(file.clone());
    for path in files {
        let len = fs::metadata(&path).unwrap().len() as usize;
        // Of the archive, not its fill.
        let places = if path == file { [520, len / 2, len / 3] } else { [0, len / 2, len - 1] };
        let backup = if path == file { &file } else { &unpacked };
        for at in places {
            flip(&path, at);
            let found = run(&["verify", "--data-dir", text(backup)]);
            assert_eq!(found.status.code(), Some(5), "{} at {at}: {found:?}", path.display());
            let new = dir.path().join("damaged");
            fails(&run(&["admin", "restore", text(backup), "--data-dir", text(&new)]), 5, "");
            fs::remove_dir_all(&new).unwrap_or(());
            flip(&path, at);
        }
        succeeds(&run(&["verify", "--data-dir", text(backup)]));
    }
}

#[test]
fn a_damaged_data_directory_is_repaired_beside_it() {
    let (dir, mut server) = server();
    let expected = everything(&server);
    server.kill();
    let data = dir.path().join("data");
    let intact = succeeds(&run(&["admin", "repair", "--data-dir", text(&data)]));
    let beside = dir.path().join("data-repaired");
    assert!(intact.trim_end().ends_with(text(&beside)), "{intact}");
    {
        let repaired = Server::start(&beside, &[]);
        assert_eq!(everything(&repaired), expected);
    }
    fails(&run(&["admin", "repair", "--data-dir", text(&data)]), 1, "not empty");
    let segment = data.join("0000000001.log");
    flip(&segment, 3000);
    fails(&run(&["verify", "--data-dir", text(&data)]), 5, "");
    let other = dir.path().join("other");
    let told = run(&["admin", "repair", "--data-dir", text(&data), "--output", text(&other), "--json"]);
    assert_eq!(told.status.code(), Some(5), "{told:?}");
    let report = json(std::str::from_utf8(&told.stdout).unwrap());
    assert_eq!(report["output"], text(&other));
    assert_eq!(report["lost_parts"].as_array().unwrap().len(), 1, "{report}");
    let repaired = Server::start(&other, &[]);
    let saved = everything(&repaired);
    let kept = expected.lines().filter(|line| saved.contains(line)).count();
    assert!(kept + 2 >= expected.lines().count(), "{kept} of {}", expected.lines().count());
    assert!(repaired.ok(&["verify"]).starts_with("checked"));
}

/// What came with `expires_at` goes out with it, in either format.
#[test]
fn expiry_survives_export_and_import() {
    let (dir, server) = server();
    let without_versions = |exported: &str| {
        let line = |line: &str| {
            let mut line = json(line);
            line.as_object_mut().unwrap().remove("version").unwrap();
            line.to_string()
        };
        exported.lines().map(line).collect::<Vec<_>>()
    };
    let expected = without_versions(&everything(&server));
    assert_eq!(expected.iter().filter(|line| line.contains("\"expires_at\":2400000000000")).count(), 99);
    for name in ["all.jsonl", "all.csv"] {
        let file = dir.path().join(name);
        server.ok(&["export", text(&file)]);
        let other = Server::start(&dir.path().join(format!("{name}.data")), &[]);
        other.ok(&["import", text(&file)]);
        assert_eq!(without_versions(&everything(&other)), expected, "{name}");
    }
    // What has expired since is not brought back, and an older value does not outlive it.
    let other = Server::start(&dir.path().join("late"), &[]);
    other.ok(&["put", "late", "older"]);
    let line = br#"{"key":"late","value":"x","expires_at":1600000000000}"#;
    assert!(other.with_input(&["import", "-", "--format", "jsonl"], line).status.success());
    assert_eq!(other.run(&["get", "late"]).status.code(), Some(3));
    let both = br#"{"type":"put","key":"a","value":"b","ttl":"3s","expires_at":2400000000000}"#;
    fails(&other.with_input(&["batch"], both), 1, "either");
}

/// A node of a cluster is backed up as a single store, at the version that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_is_backed_up() {
    let dir = TempDir::new().unwrap();
    let mut options = ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3);
    options.arguments = vec!["--backup-dir".into(), text(&dir.path().join("backups")).into()];
    let cluster = Cluster::start(&options).await.unwrap();
    let on = |node: u64, args: &[&str]| {
        succeeds(&esker(args).env("KV_ENDPOINT", cluster.endpoint(node)).output().unwrap())
    };
    for n in 0..50 {
        on(1 + n % 3, &["put", &format!("k{n:02}"), &"v".repeat(n as usize * 9)]);
    }
    on(1, &["del", "k07"]);
    let expected = on(2, &["export"]);
    let (file, unpacked) = (dir.path().join("b.tar"), dir.path().join("unpacked/"));
    on(2, &["scan", "--limit", "1"]);
    on(2, &["admin", "backup", "--output", text(&file)]);
    on(2, &["admin", "backup", "--output", text(&unpacked)]);
    on(2, &["admin", "backup", "--name", "node2"]);
    on(2, &["admin", "backup", "--name", "node2"]);
    let kept = dir.path().join("backups/node2");
    for (at, backup) in [&file, &unpacked, &kept].into_iter().enumerate() {
        assert_eq!(restored(backup, &dir.path().join(format!("restored{at}"))), expected);
    }
    on(3, &["put", "goes on", "v"]);
}

/// Where the log's first segment has this.
fn place(dir: &Path, of: &str) -> (PathBuf, usize) {
    let segment = dir.join("0000000001.log");
    let bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(of.len()).position(|window| window == of.as_bytes());
    (segment, at.unwrap_or_else(|| panic!("no {of} in {}", text(dir))))
}

/// CHECKS 8: who reads is told of which file and which key, and from then on whoever asks how the server fares.
#[test]
fn damage_that_an_export_meets_is_named_and_remembered() {
    let (dir, mut server) = server();
    succeeds(&server.run(&["status"]));
    // In the middle of what is sent, and of its last piece.
    let (segment, at) = place(&dir.path().join("data"), "k295");
    flip(&segment, at + 20);
    let file = dir.path().join("all.jsonl");
    for to in ["-", text(&file)] {
        let exported = server.run(&["export", to]);
        fails(&exported, 5, "0000000001.log is damaged at byte ");
        fails(&exported, 5, "k295");
        assert!(!file.exists());
    }
    fails(&server.run(&["get", "k295"]), 5, "0000000001.log is damaged");
    assert_eq!(server.ok(&["get", "k001"]), "vvvvvvv");
    let status = server.run(&["status", "--json"]);
    fails(&status, 5, "met 3 times since the start");
    let status = json(std::str::from_utf8(&status.stdout).unwrap());
    assert_eq!((&status["healthy"], &status["storage"]["damage"]["times"]), (&false.into(), &3.into()));
    assert_eq!(status["storage"]["damage"]["last"]["file"], text(&segment));
    // Set right, it is forgotten by the next start.
    flip(&segment, at + 20);
    server.kill();
    let server = Server::start(&dir.path().join("data"), &[]);
    succeeds(&server.run(&["status"]));
}

/// A path that is wrong is not a backup that is broken.
#[test]
fn what_is_not_there_or_something_else_is_called_so() {
    let dir = TempDir::new().unwrap();
    let (none, new) = (dir.path().join("none"), dir.path().join("new"));
    let (notes, empty) = (dir.path().join("notes.txt"), dir.path().join("empty"));
    fs::write(&notes, "milk, eggs\n".repeat(100)).unwrap();
    fs::create_dir(&empty).unwrap();
    let verify = |path: &Path| run(&["verify", "--data-dir", text(path)]);
    let restore = |path: &Path| run(&["admin", "restore", text(path), "--data-dir", text(&new)]);
    let repair = |path: &Path| run(&["admin", "repair", "--data-dir", text(path), "--output", text(&new)]);
    let back_up = |path: &Path| run(&["admin", "backup", text(&new), "--data-dir", text(path)]);
    for output in [verify(&none), restore(&none), repair(&none), back_up(&none)] {
        fails(&output, 1, "No such file or directory");
    }
    fails(&repair(&notes), 1, "is no directory");
    fails(&back_up(&notes), 1, "is no directory");
    fails(&verify(&empty), 1, "there is no Esker store in");
    fails(&repair(&empty), 1, "there is no Esker store in");
    fails(&restore(&empty), 1, "there is no complete backup in");
    assert!(!none.exists() && !new.exists());
    for output in [verify(&notes), restore(&notes)] {
        fails(&output, 1, "notes.txt is no archive of a backup");
    }
}

/// A backup that is found damaged in the middle leaves no store, and what is there says why.
#[test]
fn a_restore_that_did_not_come_to_its_end_is_named() {
    let (dir, server) = server();
    let (file, new) = (dir.path().join("b.tar"), dir.path().join("new"));
    server.ok(&["admin", "backup", "--output", text(&file)]);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let restore = || run(&["admin", "restore", text(&file), "--data-dir", text(&new)]);
    fails(&restore(), 5, "cut off");
    let again = "run the restore to it again";
    let (code, told) = Server::try_start(&new, &[]).err().unwrap();
    assert!(code == Some(1) && told.contains(again), "{code:?}: {told}");
    fails(&run(&["verify", "--data-dir", text(&new)]), 1, again);
    fails(&run(&["admin", "repair", "--data-dir", text(&new)]), 1, again);
    fails(&run(&["admin", "backup", text(&dir.path().join("x")), "--data-dir", text(&new)]), 1, again);
    fs::write(&file, &whole).unwrap();
    succeeds(&restore());
    assert_eq!(everything(&Server::start(&new, &[])), everything(&server));
}
