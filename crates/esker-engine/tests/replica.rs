//! A replica: a log whose order another decides, and the state it leads to, across restarts, cuts, repeats and snapshots.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use esker_engine::{
    Environment, KeyRange, Options, Replica, RequestId, WriteBatch,
    replica::{Hooks, LogEntry, StoredMembership},
};
use esker_log::{
    GroupEnd,
    clock::ManualClock,
    disk::sim::{CrashMode, SimDisk},
    format::FrameKind,
};

const DIR: &str = "/replica";

fn environment(disk: &SimDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::default()),
        store_id: || Ok([9; 16]),
        threads: false,
    }
}

fn options() -> Options {
    let mut options = Options::default();
    // Small, so that segments are sealed within a test.
    options.segment_max_bytes = 4096;
    options
}

fn open(disk: &SimDisk) -> Replica {
    Replica::open(&environment(disk), DIR, options(), Hooks::default()).unwrap()
}

fn entry(index: u64, term: u64, key: &str, value: &str) -> LogEntry {
    repeated(index, term, key, value, None)
}

fn repeated(index: u64, term: u64, key: &str, value: &str, request: Option<RequestId>) -> LogEntry {
    let mut batch = WriteBatch::new();
    if let Some(request) = request {
        batch.request(request).unwrap();
    }
    batch.put(key.as_bytes(), value.as_bytes()).unwrap();
    let (payload, records) = batch.into_payload();
    LogEntry { id: GroupEnd { index, term }, kind: FrameKind::Records, payload: payload.into(), records }
}

fn append(replica: &Replica, entries: &[LogEntry]) {
    let durable = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&durable);
    let done = Box::new(move |outcome: esker_engine::Result<()>| {
        outcome.unwrap();
        told.fetch_add(1, Ordering::Relaxed);
    });
    replica.append(entries, done).unwrap();
    assert_eq!(durable.load(Ordering::Relaxed), 1);
}

fn commit(replica: &Replica, entries: &[LogEntry]) {
    replica.apply(entries).unwrap();
    replica.note_committed(entries.last().unwrap().id);
}

fn contents(replica: &Replica) -> Vec<(String, String, u64)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let items = replica.reader().scan(&KeyRange::all(), false).map(Result::unwrap);
    items.map(|item| (text(&item.key), text(&item.value.unwrap()), item.version)).collect()
}

fn row(key: &str, value: &str, version: u64) -> (String, String, u64) {
    (key.into(), value.into(), version)
}

#[test]
fn only_what_is_committed_is_applied_and_a_restart_goes_on_from_there() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let entries: Vec<_> = (1..=4).map(|n| entry(n, 1, &format!("k{n}"), "v")).collect();
    append(&replica, &entries);
    commit(&replica, &entries[..2]);
    assert_eq!(contents(&replica), [row("k1", "v", 1), row("k2", "v", 2)]);
    // The commit mark travels with the next sync.
    append(&replica, &[entry(5, 1, "k5", "v")]);
    let replica = open(&disk.crash(CrashMode::DropUnsynced));
    assert_eq!(contents(&replica), [row("k1", "v", 1), row("k2", "v", 2)]);
    assert_eq!((replica.applied().index, replica.last().index), (2, 5));
    let rest = replica.read(3..6, usize::MAX).unwrap();
    assert_eq!(rest[..2], entries[2..]);
    commit(&replica, &rest);
    assert_eq!(contents(&replica).len(), 5);
}

#[test]
fn what_a_new_leader_cuts_off_never_counts() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    append(&replica, &[entry(1, 1, "a", "1"), entry(2, 1, "b", "old"), entry(3, 1, "c", "old")]);
    commit(&replica, &replica.read(1..2, 1).unwrap());
    replica.truncate_after(GroupEnd { index: 1, term: 1 });
    let second = [entry(2, 2, "b", "new")];
    append(&replica, &second);
    commit(&replica, &second);
    replica.checkpoint().unwrap();
    let expected = [row("a", "1", 1), row("b", "new", 2)];
    assert_eq!(contents(&replica), expected);
    // From the index files, and from the log alone.
    assert_eq!(contents(&open(&disk.crash(CrashMode::DropUnsynced))), expected);
}

#[test]
fn an_entry_that_comes_back_after_a_cut_is_taken_again() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let entries = [entry(1, 1, "a", "1"), entry(2, 1, "b", "2")];
    append(&replica, &entries);
    replica.truncate_after(GroupEnd::default());
    append(&replica, &entries);
    commit(&replica, &entries);
    append(&replica, &[entry(3, 1, "c", "3")]);
    let replica = open(&disk.crash(CrashMode::DropUnsynced));
    assert_eq!(contents(&replica), [row("a", "1", 1), row("b", "2", 2)]);
}

/// CHECKS 19: a repeated request is answered as the first time and changes nothing, also after a restart.
#[test]
fn a_repeated_request_is_applied_once() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let id = Some(RequestId { client: 5, sequence: 1 });
    let first = [repeated(1, 1, "k", "1", id), entry(2, 1, "k", "2")];
    append(&replica, &first);
    commit(&replica, &first);
    let again = [repeated(3, 2, "k", "1", id)];
    append(&replica, &again);
    assert_eq!(replica.apply(&again).unwrap()[0].version, 1);
    assert_eq!(contents(&replica), [row("k", "2", 2)]);
    replica.checkpoint().unwrap();
    let replica = open(&disk.crash(CrashMode::DropUnsynced));
    assert_eq!(contents(&replica), [row("k", "2", 2)]);
    let third = [repeated(4, 2, "k", "1", id)];
    append(&replica, &third);
    assert_eq!(replica.apply(&third).unwrap()[0].version, 1);
    assert_eq!(contents(&replica), [row("k", "2", 2)]);
}

#[test]
fn many_segments_and_checkpoints_come_to_the_same() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let mut expected = Vec::new();
    for n in 1..=200 {
        let one = [entry(n, 1, &format!("k{:03}", n % 50), &"x".repeat(100))];
        append(&replica, &one);
        commit(&replica, &one);
        if n % 30 == 0 {
            replica.checkpoint().unwrap();
        }
        expected = contents(&replica);
    }
    replica.purge(GroupEnd { index: 150, term: 1 });
    assert_eq!(replica.read(100..200, 1).unwrap()[0].id.index, 151);
    append(&replica, &[entry(201, 1, "z", "z")]);
    let replica = open(&disk.crash(CrashMode::DropUnsynced));
    assert_eq!(contents(&replica), expected);
    assert_eq!(replica.last().index, 201);
    assert!(replica.reader().verify(&mut |_, _| ()).unwrap().damage.is_empty());
}

/// CHECKS 12: a snapshot takes the place of the state as a whole, and stays.
#[test]
fn a_snapshot_takes_the_place_of_everything() {
    let (source, target) = (SimDisk::new(), SimDisk::new());
    let (from, to) = (open(&source), open(&target));
    let id = RequestId { client: 1, sequence: 1 };
    let entries: Vec<_> = (1..=100)
        .map(|n| repeated(n, 3, &format!("k{:02}", n % 60), "new", (n == 7).then_some(id)))
        .collect();
    append(&from, &entries);
    commit(&from, &entries);
    let old = [entry(1, 1, "gone", "old"), entry(2, 1, "k01", "old")];
    append(&to, &old);
    commit(&to, &old[..1]);
    to.checkpoint().unwrap();

    let snapshot = from.snapshot();
    let mut install = to.begin_install();
    let requests: Vec<_> = snapshot.requests().collect();
    let (last, membership) = (snapshot.last, StoredMembership { bytes: b"m".to_vec(), at: snapshot.last });
    for item in snapshot.items {
        let item = item.unwrap();
        install.push(&item.key, &item.value.unwrap(), item.version).unwrap();
    }
    let untouched = contents(&open(&target.after_crash(CrashMode::DropUnsynced)));
    assert_eq!(untouched, [row("gone", "old", 1)]);
    install.finish(last, membership.clone(), requests).unwrap();

    let check = |replica: &Replica| {
        assert_eq!(contents(replica), contents(&from));
        assert_eq!((replica.applied(), replica.last(), replica.purged()), (last, last, last));
        assert_eq!(replica.membership(), membership);
        assert!(replica.outcome_of(&id).is_some());
    };
    check(&to);
    check(&open(&target.after_crash(CrashMode::DropUnsynced)));
    let more = [entry(101, 4, "k01", "newer")];
    append(&to, &more);
    commit(&to, &more);
    assert_eq!(contents(&to)[1], row("k01", "newer", 101));
    to.checkpoint().unwrap();
    let expected = contents(&to);
    assert_eq!(contents(&open(&target.crash(CrashMode::DropUnsynced))), expected);
}

#[test]
fn a_store_of_a_single_node_is_not_taken_for_a_replica() {
    let disk = SimDisk::new();
    let db = esker_engine::Db::open_in(&environment(&disk), DIR, options()).unwrap();
    db.put(b"k", b"v").unwrap();
    db.close().unwrap();
    drop(db);
    assert!(Replica::open(&environment(&disk), DIR, options(), Hooks::default()).is_err());
    let other = SimDisk::new();
    drop(open(&other));
    assert!(esker_engine::Db::open_in(&environment(&other), DIR, options()).is_err());
}
