//! A replica: a log whose order another decides, and the state it leads to, across restarts, cuts, repeats and snapshots.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use esker_engine::{
    Db, Environment, Error, KeyRange, Lookup, Options, Replica, RequestId, WriteBatch,
    replica::{Hooks, Install, LogEntry, StoredMembership},
    verify_dir,
};
use esker_log::{
    GroupEnd,
    clock::ManualClock,
    disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk},
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
    assert!(replica.reader().verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
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
    for item in snapshot.items() {
        let item = item.unwrap();
        install.push(&item.key, 0, &item.value.unwrap(), item.version).unwrap();
    }
    let untouched = contents(&open(&target.after_crash(CrashMode::DropUnsynced)));
    assert_eq!(untouched, [row("gone", "old", 1)]);
    install.finish(last, membership.clone(), requests, snapshot.stamp_ms).unwrap();

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

/// A replica whose queue is pumped by the test alone.
fn open_unpumped(disk: &SimDisk) -> Replica {
    let hooks = Hooks { queued: Some(Box::new(|| ())), ..Hooks::default() };
    Replica::open(&environment(disk), DIR, options(), hooks).unwrap()
}

fn append_unpumped(replica: &Replica, entries: &[LogEntry]) {
    replica.append(entries, Box::new(|outcome| outcome.unwrap())).unwrap();
}

/// Pushes `rows` keys with values of version `version`.
fn push_rows(install: &mut Install, rows: u64, version: u64) {
    for n in 0..rows {
        install.push(format!("s{n:03}").as_bytes(), 0, &[b'v'; 100], version).unwrap();
    }
}

fn end(index: u64, term: u64) -> GroupEnd {
    GroupEnd { index, term }
}

fn finish(install: &mut Install, last: GroupEnd) -> esker_engine::Result<()> {
    install.finish(last, StoredMembership::default(), [], 0)
}

#[test]
fn an_entry_that_was_cut_before_it_was_written_does_not_lend_its_place_to_its_twin() {
    let disk = SimDisk::new();
    let replica = open_unpumped(&disk);
    let id = Some(RequestId { client: 5, sequence: 1 });
    let entries =
        [repeated(1, 1, "k", "first", id), entry(2, 1, "k", "second"), repeated(3, 1, "k", "first", id)];
    append_unpumped(&replica, &entries);
    replica.truncate_after(end(2, 1));
    append_unpumped(&replica, &entries[2..]);
    append_unpumped(&replica, &[entry(4, 1, "z", "z")]);
    assert!(replica.pump());
    let all = replica.read(1..5, usize::MAX).unwrap();
    commit(&replica, &all);
    replica.checkpoint().unwrap();
    let expected = contents(&replica);
    assert_eq!(expected[0], row("k", "second", 2));
    assert_eq!(contents(&open(&disk.crash(CrashMode::DropUnsynced))), expected);
}

/// Verifying reads for minutes. What takes in a snapshot holds, at its end, locks for which the consensus waits.
#[test]
fn a_verification_does_not_hold_up_a_snapshot() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let old = [entry(1, 1, "a", "1")];
    append(&replica, &old);
    commit(&replica, &old);
    replica.checkpoint().unwrap();
    let mut last = 100;
    let mut install_meanwhile = |_: u64, _: u64| {
        last += 1;
        let (replica, at) = (replica.clone(), end(last, 3));
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut install = replica.begin_install();
            push_rows(&mut install, 5, 50);
            finish(&mut install, at).unwrap();
            tell.send(()).unwrap();
        });
        told.recv_timeout(std::time::Duration::from_secs(10)).expect("it is held up");
        Ok(())
    };
    replica.reader().verify(&mut install_meanwhile).unwrap();
    assert!(last > 101, "while index files were read, too");
    assert_eq!(replica.applied(), end(last, 3));
}

/// CHECKS 12: the old state stands, and the log goes on from its end, now and after a restart.
#[test]
fn an_installation_that_fails_at_its_last_step_leaves_the_old_state() {
    for fault in [Fault::Io, Fault::NoSpace] {
        let disk = SimDisk::new();
        let replica = open(&disk);
        let old = [entry(1, 1, "a", "1"), entry(2, 1, "b", "2")];
        append(&replica, &old);
        commit(&replica, &old);
        let mut install = replica.begin_install();
        push_rows(&mut install, 5, 50);
        disk.inject(FaultPlan::from_nth(Ops::Any, 1, fault).on_path("REPLICA"));
        assert!(finish(&mut install, end(100, 3)).is_err());
        disk.clear_faults();
        assert_eq!((replica.log_end(), replica.last(), replica.applied()), (end(2, 1), end(2, 1), end(2, 1)));
        let more = [entry(3, 1, "c", "3")];
        append(&replica, &more);
        commit(&replica, &more);
        append(&replica, &[entry(4, 1, "d", "4")]);
        let replica = open(&disk.crash(CrashMode::DropUnsynced));
        assert_eq!(contents(&replica), [row("a", "1", 1), row("b", "2", 2), row("c", "3", 3)]);
        assert_eq!(replica.last(), end(4, 1));
    }
}

/// CHECKS 14: a full disk holds an installation up at whatever it writes; the old state stands, and when there is space it
/// goes on as if nothing had been.
#[test]
fn a_full_disk_holds_a_snapshot_up_and_costs_nothing_of_it() {
    let rows = |install: &mut Install, disk: &SimDisk| {
        let mut held_up = 0;
        for n in 0..12_u8 {
            let mut push = || install.push(&[b'a' + n], 0, &vec![n; 300_000], 50);
            if let Err(error) = push() {
                assert!(matches!(error, Error::DiskFull), "{error}");
                held_up += 1;
                disk.set_capacity(None);
                push().unwrap();
            }
        }
        held_up
    };
    // Space for what, and which operations do not find it: none, where the whole disk is full.
    let cases = [("values", None), (".log", Some(Ops::Only(OpKind::Write))), ("REPLICA", Some(Ops::Any))];
    for (path, lacking) in cases {
        let disk = SimDisk::new();
        let replica = open(&disk);
        let old = [entry(1, 1, "old", "1")];
        append(&replica, &old);
        commit(&replica, &old);
        let mut install = replica.begin_install();
        disk.set_capacity(lacking.is_none().then_some(0));
        assert_eq!(rows(&mut install, &disk) > 0, lacking.is_none());
        if let Some(operations) = lacking {
            disk.inject(FaultPlan::from_nth(operations, 0, Fault::NoSpace).on_path(path));
            for _ in 0..3 {
                let outcome = finish(&mut install, end(100, 3));
                assert!(matches!(outcome, Err(Error::DiskFull)), "{path}: {outcome:?}");
                assert_eq!(contents(&replica), [row("old", "1", 1)]);
            }
            disk.clear_faults();
        }
        let found = open(&disk.after_crash(CrashMode::KeepUnsynced));
        assert_eq!((contents(&found), found.last()), (vec![row("old", "1", 1)], end(1, 1)));
        finish(&mut install, end(100, 3)).unwrap();
        let keys = |replica: &Replica| contents(replica).into_iter().map(|(key, ..)| key).collect::<String>();
        assert_eq!(keys(&replica), "abcdefghijkl");
        assert_eq!(keys(&open(&disk.after_crash(CrashMode::DropUnsynced))), "abcdefghijkl");
        append(&replica, &[entry(101, 3, "m", "1")]);
        assert_eq!(open(&disk.crash(CrashMode::DropUnsynced)).last(), end(101, 3));
    }
}

/// What a full disk holds up of an installation is one frame, however often it is tried.
#[test]
fn a_snapshot_that_is_held_up_does_not_gather_in_memory() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let mut install = replica.begin_install();
    disk.set_capacity(Some(0));
    let held_up =
        (0..60_u64).filter(|n| install.push(&n.to_be_bytes(), 0, &[0; 300_000], 5).is_err()).count();
    assert!(held_up > 40, "{held_up}");
    assert!(replica.stats().queued_bytes < 3 << 20, "{}", replica.stats().queued_bytes);
}

#[test]
fn what_is_left_of_a_snapshot_that_was_given_up_does_not_get_into_the_next() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let mut first = replica.begin_install();
    disk.set_capacity(Some(0));
    let mut pushed = (0..40).map(|n| first.push(&[b'a' + n], 0, &vec![n; 300_000], 5));
    assert!(pushed.any(|outcome| matches!(outcome, Err(Error::DiskFull))));
    drop(pushed);
    // Its frame is still queued when the second begins.
    let mut second = replica.begin_install();
    disk.set_capacity(None);
    push_rows(&mut second, 3, 7);
    finish(&mut second, end(10, 1)).unwrap();
    let keys: Vec<_> = contents(&replica).into_iter().map(|(key, _, version)| (key, version)).collect();
    assert_eq!(keys, [("s000".into(), 7), ("s001".into(), 7), ("s002".into(), 7)]);
    let found = open(&disk.after_crash(CrashMode::DropUnsynced));
    assert_eq!(contents(&found), contents(&replica));
    assert!(matches!(first.seal(), Err(Error::InvalidRequest(_))));
}

/// CHECKS 13: entries behind a snapshot's last survive it, also those that came while it did.
#[test]
fn entries_behind_a_snapshot_stay() {
    for crash in [false, true] {
        let disk = SimDisk::new();
        let replica = open(&disk);
        let entries: Vec<_> = (1..=20).map(|n| entry(n, 1, &format!("k{n:02}"), "v")).collect();
        append(&replica, &entries[..12]);
        commit(&replica, &entries[..5]);
        let mut install = replica.begin_install();
        push_rows(&mut install, 3, 10);
        append(&replica, &entries[12..15]);
        finish(&mut install, end(10, 1)).unwrap();
        append(&replica, &entries[15..18]);
        let (disk, replica) = if crash {
            let disk = disk.crash(CrashMode::DropUnsynced);
            (disk.clone(), open(&disk))
        } else {
            (disk, replica)
        };
        assert_eq!(
            (replica.applied(), replica.purged(), replica.last()),
            (end(10, 1), end(10, 1), end(18, 1))
        );
        assert_eq!(replica.read(11..19, usize::MAX).unwrap(), entries[10..18]);
        commit(&replica, &entries[10..18]);
        replica.checkpoint().unwrap();
        append(&replica, &entries[18..]);
        let expected = contents(&replica);
        assert_eq!(expected.len(), 3 + 8);
        let found = open(&disk.crash(CrashMode::DropUnsynced));
        assert_eq!(contents(&found), expected);
        assert_eq!(found.last(), end(20, 1));
    }
}

/// A checkpoint that fails costs the next opening no more than what came since the last that did not.
#[test]
fn checkpoints_that_fail_leave_the_one_before() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let mut next = 1;
    let mut write = |count: u64| {
        for n in next..next + count {
            let one = [entry(n, 1, &format!("k{:02}", n % 40), &"x".repeat(100))];
            append(&replica, &one);
            commit(&replica, &one);
        }
        next += count;
    };
    write(50);
    replica.checkpoint().unwrap();
    disk.inject(FaultPlan::from_nth(Ops::Any, 1, Fault::NoSpace).on_path(".ckpt"));
    for _ in 0..3 {
        write(10);
        assert!(replica.checkpoint().is_err());
        assert!(replica.checkpoint().is_err(), "nothing was saved: it is not done");
    }
    disk.clear_faults();
    let expected = contents(&replica);
    let found = open(&disk.after_crash(CrashMode::ProcessKill));
    assert_eq!(contents(&found), expected);
    assert!(found.open_report().replayed < 100, "{:?}", found.open_report());
    replica.checkpoint().unwrap();
    let found = open(&disk.crash(CrashMode::ProcessKill));
    assert_eq!(contents(&found), expected);
    assert!(found.open_report().replayed < 5, "{:?}", found.open_report());
}

#[test]
fn entries_are_applied_one_behind_the_other() {
    let replica = open(&SimDisk::new());
    let entries: Vec<_> = (1..=3).map(|n| entry(n, 1, "k", "v")).collect();
    append(&replica, &entries);
    let gap = [entries[0].clone(), entries[2].clone()];
    assert!(matches!(replica.apply(&gap), Err(Error::InvalidRequest(_))));
    assert!(matches!(replica.apply(&entries[1..]), Err(Error::InvalidRequest(_))));
    let other_term = [LogEntry { id: end(1, 2), ..entries[0].clone() }];
    assert!(matches!(replica.apply(&other_term), Err(Error::InvalidRequest(_))));
    assert_eq!(replica.apply(&entries).unwrap().len(), 3);
}

/// The log goes on behind what it is said to be forgotten up to, now and after a restart.
#[test]
fn purging_beyond_the_end_moves_the_end() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    append(&replica, &[entry(1, 1, "a", "1")]);
    replica.purge(end(7, 2));
    assert_eq!((replica.purged(), replica.last(), replica.log_end()), (end(7, 2), end(7, 2), end(7, 2)));
    let behind = [entry(8, 2, "b", "2")];
    append(&replica, &behind);
    assert_eq!(replica.read(1..10, usize::MAX).unwrap(), behind);
    let replica = open(&disk.crash(CrashMode::DropUnsynced));
    assert_eq!((replica.purged(), replica.last()), (end(7, 2), end(8, 2)));
}

/// What an installed snapshot replaced is gone from the disk, and what is left verifies, open or closed.
#[test]
fn behind_an_installed_snapshot_nothing_old_is_left() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    for n in 1..=100 {
        let one = [entry(n, 1, &format!("k{n:03}"), &"x".repeat(100))];
        append(&replica, &one);
        commit(&replica, &one);
        if n % 20 == 0 {
            replica.checkpoint().unwrap();
        }
    }
    let mut install = replica.begin_install();
    push_rows(&mut install, 100, 150);
    finish(&mut install, end(200, 2)).unwrap();
    drop(install);
    let verify = |replica: &Replica| replica.reader().verify(&mut |_, _| Ok(())).unwrap();
    assert_eq!(verify(&replica).damage, []);
    let more = [entry(201, 2, "z", "z")];
    append(&replica, &more);
    commit(&replica, &more);
    replica.checkpoint().unwrap();
    assert_eq!(verify(&replica).damage, []);
    replica.close().unwrap();
    drop(replica);
    let replica = open(&disk);
    assert_eq!(verify(&replica).damage, []);
    let first = replica.log().segments()[0].id;
    assert!(first > 1);
    drop(replica);
    let numbered = disk.files().into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        name.get(..10)?.parse::<u32>().ok()
    });
    assert!(numbered.collect::<Vec<_>>().iter().all(|id| *id >= first), "{:?}", disk.files());
    let report = verify_dir(&disk, DIR, &mut |_, _| Ok(())).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(report.notices, Vec::<String>::new());
    disk.flip_bit("/replica/REPLICA", 30, 3).unwrap();
    let report = verify_dir(&disk, DIR, &mut |_, _| Ok(())).unwrap();
    assert_eq!(report.damage.len(), 1);
}

/// The files that a snapshot replaced are closed when nobody reads from them any more, and who does reads to the end.
#[test]
fn what_a_snapshot_replaced_is_closed_behind_its_last_reader() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let value = "x".repeat(100);
    for n in 1..=100 {
        let one = [entry(n, 1, &format!("k{n:03}"), &value)];
        append(&replica, &one);
        commit(&replica, &one);
    }
    let segments: Vec<_> = replica.log().segments().iter().map(Arc::downgrade).collect();
    let mut scan = replica.reader().scan(&KeyRange::all(), false);
    let snapshot = replica.snapshot();
    let keys = replica.reader().scan(&KeyRange::all(), true);
    for round in 1..=2 {
        let mut install = replica.begin_install();
        push_rows(&mut install, 100, 150 * round);
        finish(&mut install, end(200 * round, 2)).unwrap();
    }
    let open_segments = || segments.iter().filter(|segment| segment.upgrade().is_some()).count();
    let first = replica.log().segments()[0].id as usize;
    assert!(segments.len() > 3 && first > segments.len(), "{first}");
    assert_eq!(open_segments(), segments.len());
    assert!(scan.all(|item| *item.unwrap().value.unwrap() == *value.as_bytes()));
    drop(scan);
    assert_eq!(open_segments(), segments.len(), "the snapshot still needs them");
    assert_eq!(snapshot.items().count(), 100);
    assert_eq!(snapshot.items_behind(b"k040").map(Result::unwrap).next().unwrap().key, b"k041");
    drop(snapshot);
    assert_eq!(open_segments(), 0);
    assert_eq!(keys.count(), 100);
}

/// What a chunk of a snapshot takes in memory is what is in it, whatever lies between that in the log and was read over.
#[test]
fn values_of_a_snapshot_hold_no_more_than_themselves() {
    let disk = SimDisk::new();
    let mut options = options();
    options.segment_max_bytes = 4 << 20;
    let replica = Replica::open(&environment(&disk), DIR, options, Hooks::default()).unwrap();
    let mut entries = Vec::new();
    let mut add = |key: String, len: usize| {
        let next = entries.len() as u64 + 1;
        entries.push(entry(next, 1, &key, &"v".repeat(len)));
    };
    // Behind one another, then with gaps that are read over, then with larger ones.
    (0..500).for_each(|n| add(format!("a/{n:03}"), 100));
    for (prefix, other, gap) in [("b", "x", 3000), ("c", "y", 6000)] {
        for n in 0..100 {
            add(format!("{prefix}/{n:03}"), 100);
            add(format!("{other}/{n:03}"), gap);
        }
    }
    append(&replica, &entries);
    commit(&replica, &entries);
    let mut items = replica.snapshot().items_behind(b"");
    let stored = items.by_ref().map(Result::unwrap).map(|item| (item.key[0], item.stored.into_bytes()));
    let kept: Vec<_> = stored.filter(|(prefix, _)| b"bc".contains(prefix)).collect();
    assert_eq!(kept.len(), 200);
    let alone = kept.into_iter().filter_map(|(_, value)| value.try_into_mut().ok());
    let alone = alone.filter(|value| value.capacity() < 1000).count();
    // But for those in the one read that the row before them let expect more of.
    assert!(alone > 150, "{alone}");
    drop(items);
}

/// CHECKS 12: whenever a snapshot takes the place of the state, a read finds one or the other.
#[test]
fn reads_go_on_while_snapshots_are_put_in_place() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let first = entry(1, 1, "s007", "old");
    append(&replica, std::slice::from_ref(&first));
    commit(&replica, &[first]);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = replica.reader();
                while done.load(Ordering::Relaxed) == 0 {
                    assert!(reader.get(b"s007").unwrap().is_some());
                    match reader.try_get(b"s007").unwrap() {
                        Lookup::Found(_) => {}
                        Lookup::Cold(cold) => drop(cold.fetch().unwrap()),
                        Lookup::Absent => panic!("it was never deleted"),
                    }
                    assert!(reader.scan(&KeyRange::all(), false).all(|item| item.is_ok()));
                    replica.read(1..u64::MAX, 1000).unwrap();
                }
            });
        }
        for n in 1..100 {
            let mut install = replica.begin_install();
            push_rows(&mut install, 60, 100 * n);
            finish(&mut install, end(100 * n, 2)).unwrap();
            append(&replica, &[entry(100 * n + 1, 2, "z", "z")]);
        }
        done.store(1, Ordering::Relaxed);
    });
}

/// CHECKS 12, 13: a snapshot arrives slowly, and a new leader's entries meanwhile, which are applied, saved and forgotten, so that
/// nothing keeps the segment with the placed values but the snapshot that is to come of them.
#[test]
fn a_merge_leaves_what_an_arriving_snapshot_has_placed() {
    for is_finished in [true, false] {
        let disk = SimDisk::new();
        let replica = open(&disk);
        let write = |indexes: std::ops::RangeInclusive<u64>, term| {
            for n in indexes {
                let one = [entry(n, term, &format!("k{:02}", n % 10), &"x".repeat(100))];
                append(&replica, &one);
                commit(&replica, &one);
            }
        };
        write(1..=100, 1);
        let mut install = replica.begin_install();
        push_rows(&mut install, 3, 500);
        install.seal().unwrap();
        let placed_in = replica.log().appended().segment;
        write(101..=300, 2);
        replica.checkpoint().unwrap();
        replica.purge(end(300, 2));
        assert!(replica.merge(true).unwrap().inputs > 2, "what lies before it is merged");
        assert_eq!(replica.log().segments()[0].id, placed_in);
        if !is_finished {
            drop(install);
            assert!(replica.merge(true).unwrap().inputs > 2);
            assert!(replica.log().segments()[0].id > placed_in, "given up, it is as dead as anything");
            assert_eq!(contents(&replica).len(), 10);
            continue;
        }
        finish(&mut install, end(1000, 3)).unwrap();
        let expected: Vec<_> = (0..3).map(|n| row(&format!("s{n:03}"), &"v".repeat(100), 500)).collect();
        assert_eq!(contents(&replica), expected);
        let found = open(&disk.after_crash(CrashMode::DropUnsynced));
        assert_eq!(contents(&found), expected);
        assert_eq!(found.reader().verify(&mut |_, _| Ok(())).unwrap().damage, []);
        // Also while whoever brought it still has it.
        write(1001..=1100, 3);
        replica.checkpoint().unwrap();
        replica.purge(end(1100, 3));
        assert!(replica.merge(true).unwrap().inputs > 2);
        assert!(replica.log().segments()[0].id > placed_in);
        let expected = contents(&replica);
        assert_eq!(expected.len(), 13);
        assert_eq!(contents(&open(&disk.crash(CrashMode::DropUnsynced))), expected);
    }
}

/// A snapshot cannot take back what was applied.
#[test]
fn a_snapshot_older_than_the_state_is_refused() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let entries = [entry(1, 1, "a", "1"), entry(2, 1, "b", "2")];
    append(&replica, &entries);
    commit(&replica, &entries);
    let mut install = replica.begin_install();
    push_rows(&mut install, 3, 1);
    assert!(matches!(finish(&mut install, end(1, 1)), Err(Error::InvalidRequest(_))));
    assert_eq!(contents(&replica).len(), 2);
}

/// A replica's state as a store of its own: at the same version, also where that was a delete.
#[test]
fn a_replica_is_copied_to_a_single_store() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    let mut entries: Vec<_> =
        (1..=40).map(|n| entry(n, 1, &format!("key/{:02}", n % 30), &"v".repeat(200))).collect();
    let mut delete = WriteBatch::new();
    delete.delete(b"key/29").unwrap();
    delete.stamp(7);
    let (payload, records) = delete.into_payload();
    let id = GroupEnd { index: 41, term: 1 };
    entries.push(LogEntry { id, kind: FrameKind::Records, payload: payload.into(), records });
    append(&replica, &entries);
    commit(&replica, &entries);
    let report = replica.copy_to("/copy", || Ok([1; 16]), &mut |_, _| Ok(())).unwrap();
    assert_eq!(report.version, 41);
    assert!(replica.copy_to("/copy", || Ok([1; 16]), &mut |_, _| Ok(())).is_err(), "it is not empty");
    let expected = contents(&replica);
    let left = disk.crash(CrashMode::DropUnsynced);
    assert_eq!(verify_dir(&left, "/copy", &mut |_, _| Ok(())).unwrap().damage, []);
    let db = Db::open_in(&environment(&left), "/copy", options()).unwrap();
    let found = db.scan(&KeyRange::all(), false).map(|item| {
        let item = item.unwrap();
        row(
            std::str::from_utf8(&item.key).unwrap(),
            std::str::from_utf8(&item.value.unwrap()).unwrap(),
            item.version,
        )
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(db.put(b"goes on", b"x").unwrap(), 42);
}

fn present(replica: &Replica) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let items = replica.reader().scan(&KeyRange::all(), false);
    items.map(|item| item.unwrap()).map(|it| (it.key, it.version, it.value.unwrap().to_vec())).collect()
}

/// What a backup in `/backup` restores as.
fn of_backup(disk: &SimDisk, dir: &str) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let shared: Arc<dyn esker_log::disk::Disk> = Arc::new(disk.clone());
    esker_engine::restore(&shared, "/backup", dir, &mut |_, _| Ok(())).unwrap();
    let db = Db::open_in(&environment(disk), dir, options()).unwrap();
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
    let items = db.scan(&KeyRange::all(), false).map(|item| item.unwrap());
    items.map(|it| (it.key, it.version, it.value.unwrap().to_vec())).collect()
}

fn filled(replica: &Replica, indexes: std::ops::Range<u64>) {
    let entries: Vec<_> =
        indexes.map(|n| entry(n, 1, &format!("key/{:02}", n % 30), &"v".repeat(200))).collect();
    append(replica, &entries);
    commit(replica, &entries);
}

const NOTHING: [&str; 0] = [];

fn left_of_copy(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter().map(|path| path.to_string_lossy().into_owned());
    files.filter(|path| path.contains("/copy/") && !path.ends_with("LOCK")).collect()
}

/// SPEC 2.13: a node of a cluster is backed up as a single store, in a directory, again and again, or as a stream.
#[test]
fn a_replica_is_backed_up() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    filled(&replica, 1..41);
    let first = replica.backup("/backup", &mut |_, _| Ok(())).unwrap();
    assert_eq!((first.version, first.files > 4), (40, true), "{first:?}");
    assert_eq!(left_of_copy(&disk), NOTHING);
    assert_eq!(of_backup(&disk, "/first"), present(&replica));

    filled(&replica, 41..50);
    let made = replica.backup_archive(&mut |_, _| Ok(())).unwrap();
    let then = present(&replica);
    filled(&replica, 50..55);
    assert!(replica.backup("/backup", &mut |_, _| Ok(())).is_err(), "one at a time");
    let mut bytes = Vec::new();
    made.write_to(&mut bytes, &mut |_, _| Ok(())).unwrap();
    drop(made);
    assert_eq!(left_of_copy(&disk), NOTHING);
    // An archive of the same node may take the place of its directory, and the other way round.
    let shared: Arc<dyn esker_log::disk::Disk> = Arc::new(disk.clone());
    let name = std::path::Path::new("a.tar");
    esker_engine::unpack_archive(&shared, &mut &bytes[..], name, "/backup", &mut |_| Ok(())).unwrap();
    assert_eq!(of_backup(&disk, "/second"), then);
    replica.backup("/backup", &mut |_, _| Ok(())).unwrap();
    assert_eq!(of_backup(&disk, "/third"), present(&replica));
}

/// CHECKS 1, 4, 12: a backup of a node that fails or stops anywhere costs neither the node anything nor the backup before.
#[test]
fn a_backup_of_a_replica_that_fails_anywhere_costs_nothing() {
    let base = SimDisk::new();
    let replica = open(&base);
    filled(&replica, 1..41);
    replica.backup("/backup", &mut |_, _| Ok(())).unwrap();
    let earlier = present(&replica);
    filled(&replica, 41..50);
    let now = present(&replica);
    replica.close().unwrap();
    drop(replica);
    let base = base.crash(CrashMode::KeepUnsynced);
    let mut failed = 0;
    for fault in [Fault::Io, Fault::NoSpace, Fault::Crash] {
        for n in 1.. {
            let disk = base.after_crash(CrashMode::KeepUnsynced);
            let replica = open(&disk);
            disk.fail_at(n, fault);
            let outcome = replica.backup("/backup", &mut |_, _| Ok(()));
            if disk.faults_fired() == 0 {
                outcome.unwrap();
                break;
            }
            disk.clear_faults();
            let what = format!("operation {n}, {fault:?}");
            failed += u32::from(outcome.is_err());
            if outcome.is_err() && fault != Fault::Crash {
                assert_eq!(left_of_copy(&disk), NOTHING, "{what}: on the disk of a node that goes on");
            }
            let left = disk.after_crash(CrashMode::power_loss(n));
            let found = of_backup(&left, "/found");
            assert!(found == now || (found == earlier && outcome.is_err()), "{what}: {outcome:?}");
            drop(replica);
            let replica = open(&left);
            assert_eq!(present(&replica), now, "{what}");
            assert_eq!(left_of_copy(&left), NOTHING, "{what}");
            filled(&replica, 50..52);
            replica.backup("/backup", &mut |_, _| Ok(())).unwrap();
            assert_eq!(of_backup(&left, "/again"), present(&replica), "{what}");
        }
    }
    assert!(failed > 100, "{failed}");
}

/// What a state file names stays within reach when the index files before it are joined.
#[test]
fn many_checkpoints_of_one_segment_make_few_files() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    for index in 1..=24 {
        let entries = [entry(index, 1, &format!("{:02}", index % 7), &index.to_string())];
        append(&replica, &entries);
        commit(&replica, &entries);
        replica.checkpoint().unwrap();
        let is_checkpoint = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(".ckpt");
        let files = disk.files().iter().filter(is_checkpoint).count();
        assert!(files <= 16, "{index}: {files}");
        let found = open(&disk.after_crash(CrashMode::ProcessKill));
        assert_eq!((found.applied().index, contents(&found)), (index, contents(&replica)));
    }
    assert_eq!((replica.stats().active_segment, replica.stats().checkpoint_error), (1, None));
}

/// CHECKS 12: whoever cancels a backup, wherever that is, has the space back at once.
#[test]
fn a_backup_of_a_replica_that_is_cancelled_leaves_nothing() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    filled(&replica, 1..41);
    let cancelled_after = |steps: u32| {
        let mut left = steps;
        move |_: u64, _: u64| -> esker_engine::Result<()> {
            left = left.checked_sub(1).ok_or(Error::Cancelled)?;
            Ok(())
        }
    };
    let mut steps = 0;
    while let Err(error) = replica.backup("/backup", &mut cancelled_after(steps)) {
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(left_of_copy(&disk), NOTHING, "cancelled after {steps}");
        steps += 1;
    }
    assert!(steps > 30, "{steps}");
    let archive = replica.backup_archive(&mut cancelled_after(7));
    assert!(matches!(archive.map(drop), Err(Error::Cancelled)));
    assert_eq!(left_of_copy(&disk), NOTHING);
}

/// Whoever watches a backup sees it go on, from nothing to all there is, in one unit.
#[test]
fn a_backup_of_a_replica_says_in_bytes_how_far_it_is() {
    let disk = SimDisk::new();
    let replica = open(&disk);
    filled(&replica, 1..41);
    for _ in 0..2 {
        let mut steps = Vec::new();
        let report = replica.backup("/backup", &mut |done, total| {
            steps.push((done, total));
            Ok(())
        });
        let report = report.unwrap();
        let (first, last) = (steps[0], steps[steps.len() - 1]);
        assert_eq!(last.0, last.1, "{steps:?}");
        // What lives, and then that again, with index files and what else a store has.
        let live = replica.stats().live_bytes;
        assert_eq!((first.1, last.1), (2 * live, live + report.bytes));
        assert!(first.0 > 100 && first.0 < live / 10, "{steps:?}");
        for pair in steps.windows(2) {
            let ((before, before_of), (done, of)) = (pair[0], pair[1]);
            assert!(before <= done && done <= of && before_of <= of, "{steps:?}");
            let parts = [(before, before_of), (done, of)].map(|(done, of)| done as f64 / of as f64);
            assert!(parts[1] > parts[0] - 0.1, "{steps:?}");
        }
    }
    let mut steps = Vec::new();
    let archive = replica.backup_archive(&mut |done, total| {
        steps.push((done, total));
        Ok(())
    });
    drop(archive.unwrap());
    let live = replica.stats().live_bytes;
    assert_eq!(steps.last(), Some(&(live, live)), "{steps:?}");
}
