//! CHECKS 4, 14 and SPEC 5.1, 5.3, 5.4 over HTTP: what clients are told when the disk fails, fills up or hangs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use esker_engine::Options;
use esker_log::disk::sim::{Fault, FaultPlan, Ops, SimDisk};
use support::{TestServer, eventually};

/// CHECKS 4: after a failed sync nothing is acknowledged, everybody is told why, and reads go on.
#[test]
fn a_poisoned_store_refuses_writes_and_says_why() {
    let disk = SimDisk::new();
    let mut server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    assert_eq!(server.request("PUT", "/api/v1/kv/k", b"v").status, 200);
    disk.inject(FaultPlan::nth(Ops::Syncs, 1, Fault::Io));
    let batch = br#"{"operations":[{"type":"put","key":"a","value":"1"}]}"#;
    for (method, target, body) in [
        ("PUT", "/api/v1/kv/lost", &b"v"[..]),
        // The disk works again, which is no reason to believe it.
        ("PUT", "/api/v1/kv/k", b"w"),
        ("DELETE", "/api/v1/kv/k", b""),
        ("POST", "/api/v1/batch", batch),
        ("POST", "/api/v1/admin/checkpoint", b""),
        ("GET", "/api/v1/health", b""),
    ] {
        let message = server.request(method, target, body).error(503, "writes_refused");
        assert!(message.contains("reopened") || message.contains("syncing"), "{method} {target}: {message}");
    }
    server.request("GET", "/ready", b"").error(503, "writes_refused");
    assert_eq!(server.request("GET", "/api/v1/kv/k", b"").text(), "v");
    server.request("GET", "/api/v1/kv/lost", b"").error(404, "key_not_found");
    assert_eq!(server.request("GET", "/api/v1/kv", b"").status, 200);
    let status = server.request("GET", "/api/v1/cluster/status", b"").json();
    assert_eq!(status["healthy"], false);
    assert!(status["trouble"].as_str().unwrap().contains("syncing"), "{status}");
    assert_eq!(server.metric("esker_engine_poisoned"), 1.0);
    // It cannot be closed in order, but it ends.
    let message = server.outcome().unwrap_err().to_string();
    assert!(message.contains("not closed in order"), "{message}");
}

/// CHECKS 14: a full disk is 507; reads go on, and writes resume by themselves.
#[test]
fn a_full_disk_is_told_and_survived() {
    let disk = SimDisk::new();
    let server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    assert_eq!(server.request("PUT", "/api/v1/kv/k", b"v").status, 200);
    disk.set_capacity(Some(disk.used_space()));
    let large = vec![7; 8 << 20];
    server.request("PUT", "/api/v1/kv/large", &large).error(507, "disk_full");
    let batch =
        format!(r#"{{"operations":[{{"type":"put","key":"large","value":"{}"}}]}}"#, "x".repeat(8 << 20));
    server.request("POST", "/api/v1/batch", batch.as_bytes()).error(507, "disk_full");
    assert_eq!(server.request("GET", "/api/v1/kv/k", b"").text(), "v");
    server.request("GET", "/api/v1/kv/large", b"").error(404, "key_not_found");
    assert_eq!(server.request("GET", "/health", b"").status, 200);
    // Reads go on, so requests may come; the body tells.
    let ready = || server.request("GET", "/ready", b"").json()["status"].as_str().map(str::to_owned);
    assert_eq!(ready().as_deref(), Some("disk_full"));
    disk.set_capacity(None);
    // Nobody writes meanwhile: that there is space again must show by itself.
    eventually("it is no longer full", || ready().as_deref() == Some("ok"));
    assert_eq!(server.request("PUT", "/api/v1/kv/large", &large).status, 200);
}

/// SPEC 5.1: while the disk hangs, writes are turned away instead of piling up, and reads go on. A client that went
/// away changes nothing for the write it sent, and its share of the budget comes back.
#[test]
fn a_hanging_disk_makes_it_busy() {
    let disk = SimDisk::new();
    let server =
        TestServer::on_disk(&disk, Options::default(), |_, store| store.write_bytes_under_way = 1000);
    assert_eq!(server.request("PUT", "/api/v1/kv/k", b"v").status, 200);
    disk.stall(Ops::Syncs);
    let mut patient = server.client();
    patient.send_request("PUT", "/api/v1/kv/patient", &[], &[b'x'; 400]);
    disk.wait_until_stalled(1);
    let mut gone = server.client();
    gone.send_request("PUT", "/api/v1/kv/gone", &[], &[b'x'; 400]);
    eventually("both are under way", || server.metric("esker_engine_queued_batches") == 1.0);
    drop(gone);
    let message = server.request("PUT", "/api/v1/kv/refused", &[b'x'; 400]).error(503, "busy");
    assert!(message.contains("retry"), "{message}");
    assert_eq!(server.metric("esker_store_writes_refused_total"), 1.0);
    assert_eq!(server.request("GET", "/api/v1/kv/k", b"").text(), "v");
    server.request("GET", "/api/v1/kv/patient", b"").error(404, "key_not_found");
    disk.end_stall();
    assert_eq!(patient.read().unwrap().status, 200);
    eventually("what was sent is written", || server.request("GET", "/api/v1/kv/gone", b"").status == 200);
    server.request("GET", "/api/v1/kv/refused", b"").error(404, "key_not_found");
    assert_eq!(server.request("PUT", "/api/v1/kv/refused", &[b'x'; 900]).status, 200);
}

/// CHECKS 8: damage under a running server is located, never data.
#[test]
fn damage_is_told_with_its_place() {
    let disk = SimDisk::new();
    let mut server = TestServer::on_disk(&disk, Options::default(), |_, _| {});
    assert_eq!(server.request("PUT", "/api/v1/kv/k", b"some value").status, 200);
    let segment =
        disk.files().into_iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
    let bytes = disk.file_bytes(&segment).unwrap();
    let at = bytes.windows(10).position(|window| window == b"some value").unwrap();
    disk.flip_bit(&segment, at as u64, 3).unwrap();
    let message = server.request("GET", "/api/v1/kv/k", b"").error(500, "damaged");
    assert!(message.contains("0000000001.log is damaged at byte"), "{message}");
    let verified = server.request("POST", "/api/v1/admin/verify", b"").json();
    assert_eq!(verified["intact"], false);
    assert!(verified["damage"][0]["file"].as_str().unwrap().ends_with("0000000001.log"), "{verified}");
    assert!(server.outcome().unwrap_err().to_string().contains("damaged at byte"));
}
