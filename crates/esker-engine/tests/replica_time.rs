//! The time of a replica's log: clocks that jump lead all replicas the same way, whatever each of them has merged.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::sync::Arc;

use esker_engine::{
    Committed, Condition, Environment, KeyRange, Options, Replica, RequestId, WriteBatch,
    replica::{Hooks, LogEntry, StoredMembership},
};
use esker_log::{
    GroupEnd,
    clock::ManualClock,
    disk::sim::{CrashMode, SimDisk},
    format::FrameKind,
};

const DIR: &str = "/replica";
/// 2030, in milliseconds.
const NOW_MS: u64 = 1_893_456_000_000;
const HOUR_MS: u64 = 3_600_000;

fn open(disk: &SimDisk) -> Replica {
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::default()),
        store_id: || Ok([9; 16]),
        threads: false,
    };
    let mut options = Options::default();
    options.segment_max_bytes = 4096;
    Replica::open(&environment, DIR, options, Hooks::default()).unwrap()
}

/// An entry, stamped if it wants to be.
fn entry(index: u64, now_ms: u64, build: impl FnOnce(&mut WriteBatch)) -> LogEntry {
    let mut batch = WriteBatch::new();
    batch.request(RequestId { client: 1, sequence: index }).unwrap();
    build(&mut batch);
    if batch.wants_stamp() {
        batch.stamp(now_ms);
    }
    let (payload, records) = batch.into_payload();
    let id = GroupEnd { index, term: 1 };
    LogEntry { id, kind: FrameKind::Records, payload: payload.into(), records }
}

fn take(replica: &Replica, entries: &[LogEntry]) -> Vec<Committed> {
    replica.append(entries, Box::new(|outcome| outcome.unwrap())).unwrap();
    let outcomes = replica.apply(entries).unwrap();
    replica.note_committed(entries.last().unwrap().id);
    outcomes
}

/// Keys that expire within the hour, and then a clock that is five hours fast.
fn until_the_jump() -> Vec<LogEntry> {
    let mut entries: Vec<_> = (1..=40)
        .map(|n| {
            let key = format!("soon/{n:02}");
            entry(n, NOW_MS, |it| it.put_expiring(key.as_bytes(), b"7", NOW_MS + HOUR_MS).unwrap())
        })
        .collect();
    entries.extend((41..=80).map(|n| entry(n, NOW_MS, |it| it.put(b"filler", &[b'x'; 200]).unwrap())));
    entries.push(entry(81, NOW_MS + 5 * HOUR_MS, |it| it.delete(b"nobody").unwrap()));
    entries
}

/// What the next leader proposes, whose clock is right.
fn behind_the_jump() -> Vec<LogEntry> {
    let now = NOW_MS + 1000;
    vec![
        entry(82, now, |it| {
            it.require(b"soon/01", Condition::Absent).unwrap();
            it.put(b"soon/01", b"again").unwrap();
        }),
        entry(83, now, |it| it.add(b"soon/02", 1).unwrap()),
        entry(84, now, |it| it.put(b"soon/03", b"plain").unwrap()),
        entry(85, now, |it| it.delete(b"soon/04").unwrap()),
        entry(86, now, |it| it.delete_range(&KeyRange::prefix(*b"soon/1")).unwrap()),
        entry(87, now, |it| {
            it.delete_range(&KeyRange::prefix(*b"soon/0")).unwrap();
            it.require(b"x", Condition::Absent).unwrap_err();
        }),
    ]
}

fn merged(replica: &Replica) -> u64 {
    replica.purge(replica.applied());
    replica.checkpoint().unwrap();
    replica.merge(true).unwrap().keys_expired
}

type Keys = Vec<(Vec<u8>, u64)>;

fn state(replica: &Replica) -> (Keys, Vec<(RequestId, Committed)>) {
    let snapshot = replica.snapshot();
    let keys = snapshot.items().map(|item| item.map(|item| (item.key, item.version)).unwrap()).collect();
    (keys, snapshot.requests().collect())
}

/// `from`'s state in a new replica.
fn installed(from: &Replica) -> (SimDisk, Replica) {
    let disk = SimDisk::new();
    let to = open(&disk);
    let snapshot = from.snapshot();
    let mut install = to.begin_install();
    for item in snapshot.items_behind(b"") {
        let item = item.unwrap();
        install.push(&item.key, item.flags, &item.stored, item.version).unwrap();
    }
    let requests: Vec<_> = snapshot.requests().collect();
    let (last, membership) = (snapshot.last, StoredMembership::default());
    install.finish(last, membership, requests, snapshot.stamp_ms).unwrap();
    (disk, to)
}

#[test]
fn a_clock_that_jumps_back_finds_no_difference_between_who_merged_and_who_did_not() {
    let disks = [SimDisk::new(), SimDisk::new(), SimDisk::new()];
    let [plain, merging, restarting] = disks.each_ref().map(open);
    for replica in [&plain, &merging, &restarting] {
        take(replica, &until_the_jump());
    }
    assert_eq!(merged(&merging), 40);
    // What the log said before the checkpoint is not read again.
    restarting.checkpoint().unwrap();
    drop(restarting);
    let restarting = open(&disks[2].crash(CrashMode::DropUnsynced));
    let (snapshot_disk, of_snapshot) = installed(&plain);
    let (_, of_merged) = installed(&merging);
    drop(of_snapshot);
    let of_snapshot = open(&snapshot_disk.crash(CrashMode::DropUnsynced));

    let expected = take(&plain, &behind_the_jump());
    let existed: Vec<_> = expected.iter().map(|it| it.existed).collect();
    assert_eq!((expected[0].is_void(), expected[1].sum()), (false, Some(1)));
    assert_eq!(existed, [0, 0, 0, 0, 0, 3], "what had expired was not there, for nobody");
    for replica in [&merging, &restarting, &of_snapshot, &of_merged] {
        assert_eq!(take(replica, &behind_the_jump()), expected);
        assert_eq!(state(replica), state(&plain));
    }
}
