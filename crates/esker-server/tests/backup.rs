//! SPEC 2.13 over HTTP: backups that are sent and backups that are kept, and lines that say how far work is.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use std::{path::Path, sync::Arc};

use esker_engine::{Db, Options, restore, restore_archive};
use esker_log::disk::{
    Disk, RealDisk,
    sim::{Fault, FaultPlan, Ops, SimDisk},
};
use serde_json::{Value, json};
use support::{Answer, TestServer, eventually};

const BACKUP: &str = "/api/v1/admin/backup";
const LINES: &[(&str, &str)] = &[("accept", "application/x-ndjson")];

fn fill(server: &TestServer, keys: usize, value: &[u8]) {
    for n in 0..keys {
        assert_eq!(server.request("PUT", &format!("/api/v1/kv/key{n}"), value).status, 200);
    }
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"), "{answer:?}");
    assert!(answer.complete);
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn keys(dir: &Path) -> usize {
    let db = Db::open(dir, Options::default()).unwrap();
    db.stats().keys as usize
}

#[test]
fn a_backup_is_sent_or_kept() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("backups");
    let server = TestServer::with(|_, store| store.backup_dir = Some(root.clone()));
    fill(&server, 5, b"value");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);

    let sent = server.request("POST", BACKUP, b"");
    assert_eq!((sent.status, sent.header("content-type")), (200, Some("application/x-tar")));
    assert_eq!(sent.header("esker-applied-version"), Some("5"));
    assert_eq!(sent.header("content-disposition"), Some("attachment; filename=\"esker-5.tar\""));
    let of_stream = dir.path().join("of stream");
    restore_archive(&disk, &mut &sent.body[..], Path::new("sent"), &of_stream, &mut |_| Ok(())).unwrap();
    assert_eq!(keys(&of_stream), 5);

    let kept = server.request("POST", BACKUP, br#"{"name":"today"}"#).json();
    assert_eq!((&kept["version"], &kept["files_kept"]), (&json!(5), &json!(0)), "{kept}");
    let again = server.client().request("POST", BACKUP, LINES, br#"{"name":"today"}"#);
    let told = lines(&again);
    assert!(told.last().unwrap()["done"]["files_kept"].as_u64() > Some(0), "{told:?}");
    let of_directory = dir.path().join("of directory");
    restore(&disk, root.join("today"), &of_directory, &mut |_, _| Ok(())).unwrap();
    assert_eq!(keys(&of_directory), 5);
}

#[test]
fn what_leads_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("backups");
    let server = TestServer::with(|_, store| store.backup_dir = Some(root.clone()));
    for name in ["..", "../x", "a/b", "/etc", "", ".", ".x", "a\\u0000b"] {
        let body = format!("{{\"name\":\"{name}\"}}");
        let message = server.request("POST", BACKUP, body.as_bytes()).error(400, "bad_request");
        assert!(message.contains("no name for a backup"), "{message}");
    }
    for body in [&b"x"[..], b"7", br#"{"directory":"x"}"#, br#"{"name":7}"#] {
        server.request("POST", BACKUP, body).error(400, "bad_request");
    }
    server.request("POST", BACKUP, &[b' '; 5000]).error(413, "payload_too_large");
    server.request("POST", &format!("{BACKUP}?name=x"), b"").error(400, "bad_request");
    server.request("GET", BACKUP, b"").error(405, "method_not_allowed");
    let foreign = &[("origin", "http://elsewhere")];
    server.client().request("POST", BACKUP, foreign, b"").error(403, "forbidden");
    assert!(!root.exists());

    let without = TestServer::start();
    let message = without.request("POST", BACKUP, br#"{"name":"x"}"#).error(400, "bad_request");
    assert!(message.contains("backup_dir"), "{message}");
}

/// CHECKS 33: it holds no more than a few pieces, whatever the client takes, and ends when it goes away.
#[test]
fn a_backup_ends_when_its_client_goes_away() {
    let disk = SimDisk::new();
    let server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    // More than the sockets between hold.
    fill(&server, 12, &vec![b'x'; 2 << 20]);
    let mut client = server.client();
    client.send_request("POST", BACKUP, &[], b"");
    let head = client.read_head().unwrap();
    assert_eq!(head.status, 200);
    let message = server.request("POST", "/api/v1/admin/verify", b"").error(409, "conflict");
    assert!(message.contains("backup"), "{message}");
    assert!(server.metric("esker_http_answer_bytes") < (4 << 20) as f64);
    // Writes go on, and are not in it.
    assert_eq!(server.request("PUT", "/api/v1/kv/later", b"v").status, 200);
    drop(client);
    eventually("it has ended", || server.request("POST", "/api/v1/admin/checkpoint", b"").status == 200);
    let whole = server.request("POST", BACKUP, b"");
    assert!(whole.body.len() > 12 * (2 << 20));
}

/// CHECKS 4: what cannot be read breaks the answer off, so that nobody takes it for whole.
#[test]
fn a_backup_that_meets_an_error_is_broken_off() {
    let disk = SimDisk::new();
    let server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    fill(&server, 4, &vec![b'x'; 1 << 20]);
    assert_eq!(server.request("POST", "/api/v1/admin/checkpoint", b"").status, 200);
    disk.inject(FaultPlan::nth(Ops::Reads, 9, Fault::Io).on_path("/data/0000000001.log"));
    let mut client = server.client();
    client.send_request("POST", BACKUP, &[], b"");
    let head = client.read_head().unwrap();
    let announced: usize = head.header("content-length").unwrap().parse().unwrap();
    let mut came = Vec::new();
    // The end, or a reset: both say that it is not whole.
    let _ = std::io::Read::read_to_end(&mut client.stream, &mut came).is_ok();
    assert_eq!((head.status, disk.faults_fired()), (200, 1));
    assert!(came.len() < announced, "{} of {announced}", came.len());
    disk.clear_faults();
    eventually("it can be made again", || server.request("POST", BACKUP, b"").status == 200);
}

#[test]
fn a_verification_tells_how_far_it_is() {
    let disk = SimDisk::new();
    let server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    fill(&server, 5, b"value");
    let quick = server.client().request("POST", "/api/v1/admin/verify", LINES, b"");
    assert_eq!(lines(&quick).last().unwrap()["done"]["intact"], true);

    disk.stall(Ops::Reads);
    let mut client = server.client();
    client.send_request("POST", "/api/v1/admin/verify", LINES, b"");
    // Sent only once it has taken a while, so that what fails at once has a status.
    let head = client.read_head().unwrap();
    assert_eq!(head.status, 200);
    server.client().request("POST", "/api/v1/admin/verify", LINES, b"").error(409, "conflict");
    disk.end_stall();
    let answer = client.read_body(head);
    let told = lines(&answer);
    let (last, before) = told.split_last().unwrap();
    assert_eq!(last["done"]["intact"], true, "{told:?}");
    assert!(!before.is_empty(), "{told:?}");
    for line in before {
        assert!(line["progress"]["done"].as_u64() <= line["progress"]["total"].as_u64(), "{told:?}");
    }

    // Whoever goes away ends it.
    disk.stall(Ops::Reads);
    let mut client = server.client();
    client.send_request("POST", "/api/v1/admin/verify", LINES, b"");
    assert_eq!(client.read_head().unwrap().status, 200);
    drop(client);
    disk.end_stall();
    eventually("it has ended", || server.request("POST", "/api/v1/admin/checkpoint", b"").status == 200);
}
