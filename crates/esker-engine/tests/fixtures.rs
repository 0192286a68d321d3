//! Stores that earlier builds wrote are kept in `tests/fixtures`: each opens, verifies and holds what it should. A fixture is
//! never changed; a new format gets one of its own.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{io::Read as _, path::Path, sync::Arc};

use common::rich::{self, Contents, contents, options};
use esker_engine::{
    Condition, Db, Environment, KeyRange, Replica, RequestId, WriteBatch, repair,
    replica::{Hooks, LogEntry, StoredMembership},
    verify_dir,
};
use esker_log::{
    GroupEnd,
    disk::sim::{CrashMode, SimDisk},
    format::FrameKind,
};

/// Format 1: 120 batches over small segments, a checkpoint, and a write behind it.
const FORMAT_1: &[u8] = include_bytes!("fixtures/format-1-single.tar.gz");
/// Format 2: merged segments, deleted ranges, counters, conditions, expiry, compression.
const FORMAT_2: &[u8] = include_bytes!("fixtures/format-2-single.tar.gz");

/// Format 2, a cluster's node: an installed snapshot, entries that were cut off, repeated requests, a merge, a checkpoint and
/// entries behind it.
const FORMAT_2_REPLICA: &[u8] = include_bytes!("fixtures/format-2-replica.tar.gz");

/// A disk with the files of an archive in `/store`, and the file beside them that says what they hold.
fn unpack(archive: &[u8]) -> (SimDisk, String) {
    let (disk, mut expected) = (SimDisk::new(), String::new());
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        if !entry.header().entry_type().is_file() || name == "LOCK" {
            continue;
        }
        if name == "expected" {
            entry.read_to_string(&mut expected).unwrap();
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        disk.write_file(Path::new(common::DIR).join(name), &bytes);
    }
    (disk, expected)
}

/// One key a line, sorted: key, version, expiry or a dash, value; all bytes as escaped text.
fn lines(contents: &Contents) -> String {
    let mut lines = String::new();
    for (key, (version, value, expiry)) in contents {
        let expiry = expiry.map_or("-".to_owned(), |at| at.to_string());
        lines += &format!("{} {version} {expiry} {}\n", key.escape_ascii(), value.escape_ascii());
    }
    lines
}

fn open(disk: &SimDisk, dir: &str) -> Db {
    let environment: Environment = rich::machine(disk.clone()).environment();
    Db::open_in(&environment, dir, options()).unwrap()
}

fn check(archive: &[u8]) {
    let (disk, expected) = unpack(archive);
    let report = verify_dir(&disk, common::DIR, &mut |_, _| Ok(())).unwrap();
    assert_eq!((report.damage, report.notices), (Vec::new(), Vec::new()));
    let repaired = repair(
        &(Arc::new(disk.clone()) as _),
        common::DIR,
        "/new",
        &options(),
        || Ok([5; 16]),
        &mut |_, _| Ok(()),
    )
    .unwrap();
    assert!(repaired.is_lossless(), "{repaired:?}");
    let db = open(&disk, common::DIR);
    assert_eq!(lines(&contents(&db)), expected);
    assert_eq!(lines(&contents(&open(&disk, "/new"))), expected);
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
    let version = db.version();
    assert_eq!(db.put(b"goes on", b"x").unwrap(), version + 1);
    db.delete_range(&KeyRange::prefix(*b"goes")).unwrap();
    db.merge(true).unwrap();
    db.close().unwrap();
    drop(db);
    assert_eq!(lines(&contents(&open(&disk, common::DIR))), expected);
}

#[test]
fn a_store_of_format_1_opens_and_holds_what_it_did() {
    check(FORMAT_1);
}

#[test]
fn a_store_of_format_2_opens_and_holds_what_it_did() {
    check(FORMAT_2);
}

#[test]
fn a_replica_of_format_2_opens_and_goes_on() {
    let (disk, expected) = unpack(FORMAT_2_REPLICA);
    let report = verify_dir(&disk, common::DIR, &mut |_, _| Ok(())).unwrap();
    assert_eq!((report.damage, report.notices), (Vec::new(), Vec::new()));
    let replica = open_replica(&disk);
    assert_eq!(replica_lines(&replica), expected);
    // The last entry was not known to be committed.
    let (applied, last) = (replica.applied().index, replica.last().index);
    let open = replica.read(applied + 1..last + 1, usize::MAX).unwrap();
    assert_eq!((open.len(), replica.apply(&open).unwrap()[0].version), (1, last));
    let next = last + 1;
    write_entries(&replica, &[put(next, "goes on", "x", None)]);
    replica.checkpoint().unwrap();
    drop(replica);
    let replica = open_replica(&disk.crash(CrashMode::DropUnsynced));
    assert_eq!(replica.applied().index, next);
    assert!(replica_lines(&replica).contains("goes on"));
}

fn open_replica(disk: &SimDisk) -> Replica {
    let environment = rich::machine(disk.clone()).environment();
    Replica::open(&environment, common::DIR, options(), Hooks::default()).unwrap()
}

/// The state, and behind it the remembered requests.
fn replica_lines(replica: &Replica) -> String {
    let snapshot = replica.snapshot();
    let state = snapshot.items().map(|item| {
        let item = item.unwrap();
        (item.key, (item.version, item.value.unwrap().to_vec(), item.expiry))
    });
    let mut text = lines(&state.collect());
    for (id, committed) in snapshot.requests() {
        text += &format!("{id:?} {committed:?}\n");
    }
    text
}

fn entry(index: u64, request: Option<u64>, build: impl FnOnce(&mut WriteBatch)) -> LogEntry {
    let mut batch = WriteBatch::new();
    if let Some(sequence) = request {
        batch.request(RequestId { client: 7, sequence }).unwrap();
    }
    build(&mut batch);
    if batch.wants_stamp() {
        batch.stamp(NOW_MS + index);
    }
    let (payload, records) = batch.into_payload();
    let id = GroupEnd { index, term: 3 };
    LogEntry { id, kind: FrameKind::Records, payload: payload.into(), records }
}

fn put(index: u64, key: &str, value: &str, request: Option<u64>) -> LogEntry {
    entry(index, request, |it| it.put(key.as_bytes(), value.as_bytes()).unwrap())
}

/// 2030, as the machine's clock says.
const NOW_MS: u64 = 1_893_456_000_000;

fn write_entries(replica: &Replica, entries: &[LogEntry]) {
    replica.append(entries, Box::new(|outcome| outcome.unwrap())).unwrap();
    replica.apply(entries).unwrap();
    replica.note_committed(entries.last().unwrap().id);
}

/// What [`FORMAT_2_REPLICA`] was made with.
fn replica_fixture() -> (SimDisk, String) {
    let disk = SimDisk::new();
    let replica = open_replica(&disk);
    replica.save_vote(b"vote for 2".to_vec(), Box::new(|outcome| outcome.unwrap()));
    let mut install = replica.begin_install();
    for n in 0..60 {
        install.push(format!("placed/{n:02}").as_bytes(), 0, &[b'p'; 150], n + 1).unwrap();
    }
    let membership = StoredMembership { at: GroupEnd { index: 50, term: 2 }, bytes: b"members".to_vec() };
    let request = |sequence| RequestId { client: 6, sequence };
    let requests = (0..3).map(|n| (request(n), esker_engine::Committed::applied(40 + n, 1)));
    install.finish(GroupEnd { index: 100, term: 2 }, membership, requests, 0).unwrap();
    let old: Vec<_> =
        (101..160).map(|n| put(n, &format!("key/{:02}", n % 20), &"o".repeat(200), Some(n))).collect();
    write_entries(&replica, &old);
    replica.purge(GroupEnd { index: 159, term: 3 });
    replica.checkpoint().unwrap();
    let merged = replica.merge(true).unwrap();
    assert!(merged.inputs > 0 && merged.outputs > 0, "{merged:?}");
    let cut_off = [put(160, "never", "agreed on", None)];
    replica.append(&cut_off, Box::new(|outcome| outcome.unwrap())).unwrap();
    replica.truncate_after(GroupEnd { index: 159, term: 3 });
    let new = [
        entry(160, Some(1), |it| it.put_expiring(b"expires", b"late", NOW_MS + 10_000_000).unwrap()),
        entry(161, Some(2), |it| it.add(b"count", 5).unwrap()),
        entry(162, Some(2), |it| it.add(b"count", 5).unwrap()),
        entry(163, Some(3), |it| {
            it.require(b"count", Condition::Absent).unwrap();
            it.put(b"count", b"not this").unwrap();
        }),
        entry(164, Some(4), |it| it.delete_range(&KeyRange::prefix(*b"placed/1")).unwrap()),
        entry(165, None, |it| it.delete(b"key/07").unwrap()),
    ];
    write_entries(&replica, &new);
    replica.checkpoint().unwrap();
    let behind: Vec<_> = (166..170).map(|n| put(n, &format!("behind/{n}"), "x", Some(n))).collect();
    write_entries(&replica, &behind);
    replica.append(&[put(170, "open", "who knows", None)], Box::new(|outcome| outcome.unwrap())).unwrap();
    let text = replica_lines(&replica);
    (disk.crash(CrashMode::KeepUnsynced), text)
}

/// Writes a fixture of today's format to the directory that `ESKER_FIXTURE` names, to be kept as the next one.
#[test]
#[ignore = "writes files"]
fn write_a_fixture() {
    use esker_log::disk::{Disk as _, OpenMode, RealDisk};
    let to = std::env::var("ESKER_FIXTURE").unwrap();
    let (disk, expected) = match std::env::var("ESKER_FIXTURE_OF").as_deref() {
        Ok("replica") => replica_fixture(),
        _ => {
            let (disk, contents) = rich::store();
            (disk, lines(&contents))
        }
    };
    RealDisk.create_dir_all(Path::new(&to)).unwrap();
    let mut files: Vec<_> =
        disk.files().iter().map(|path| (path.clone(), disk.file_bytes(path).unwrap())).collect();
    files.push(("expected".into(), expected.into_bytes()));
    for (path, bytes) in files {
        let file =
            RealDisk.open(&Path::new(&to).join(path.file_name().unwrap()), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
}
