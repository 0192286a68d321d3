//! A write with a request id is applied once, however often it comes, and answered alike: at the same time, later, after a
//! restart, after a crash at any moment (CHECKS 19).

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use crate::common;

use std::sync::{Barrier, mpsc};

use common::{Machine, is_power_off, small_options, survival::modes};
use esker_engine::{Committed, Condition, Db, Error, Options, RequestId, SyncPolicy, WriteBatch};
use esker_log::disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk};

const FILE: &str = "REQUESTS";

fn id(sequence: u64) -> RequestId {
    // Two clients, in turn.
    RequestId { client: 7 + sequence % 2, sequence }
}

/// Adds one to `sum`, and to a key of its own, so that the log grows and is merged.
fn request(sequence: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(format!("{:02}", sequence % 13).as_bytes(), &[sequence as u8; 200]).unwrap();
    batch.add(b"sum", 1).unwrap();
    batch.identified(id(sequence)).unwrap()
}

fn sum(db: &Db) -> u64 {
    db.get(b"sum").unwrap().map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().unwrap())
}

#[test]
fn a_copy_is_answered_as_the_first_was() {
    let machine = Machine::new(SimDisk::new());
    let options = small_options(SyncPolicy::Always);
    let absent = |sequence| {
        let mut batch = WriteBatch::new();
        batch.require(b"once", Condition::Absent).unwrap();
        batch.put(b"once", b"1").unwrap();
        batch.identified(id(sequence)).unwrap()
    };
    let mut delete = WriteBatch::new();
    delete.delete(b"once").unwrap();
    let delete = delete.identified(id(4)).unwrap();
    let batches = [request(1), absent(2), absent(3), delete];

    let db = machine.open(&options).unwrap();
    let first: Vec<Committed> = batches.iter().map(|batch| db.write(batch.clone(), None).unwrap()).collect();
    assert_eq!((first[0].sum(), first[2].is_void(), first[3].existed), (Some(1), true, 1));
    let again =
        |db: &Db| batches.iter().map(|batch| db.write(batch.clone(), None).unwrap()).collect::<Vec<_>>();
    assert_eq!((again(&db), db.version()), (first.clone(), 4));
    // What is replayed is remembered,
    let killed = Machine::new(machine.disk.after_crash(CrashMode::ProcessKill));
    let found = killed.open(&options).unwrap();
    assert_eq!((found.open_report().replayed, again(&found)), (4, first.clone()));
    // and what is not, too.
    drop(db);
    let db = machine.open(&options).unwrap();
    assert_eq!((db.open_report().replayed, again(&db), db.version()), (0, first, 4));
}

#[test]
fn copies_that_come_at_the_same_time_wait_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let (threads, rounds) = (8, 50);
    let barrier = Barrier::new(threads);
    let answers = std::thread::scope(|scope| {
        let run = |submits: bool| {
            let (db, barrier) = (&db, &barrier);
            scope.spawn(move || {
                let mut answers = Vec::new();
                for sequence in 0..rounds {
                    barrier.wait();
                    answers.push(if submits { submitted(db, sequence) } else { written(db, sequence) });
                }
                answers
            })
        };
        let running: Vec<_> = (0..threads).map(|n| run(n % 2 == 0)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(|thread| *thread == answers[0]));
    assert_eq!((sum(&db), db.version()), (rounds, rounds));
}

fn written(db: &Db, sequence: u64) -> Committed {
    db.write(request(sequence), None).unwrap()
}

fn submitted(db: &Db, sequence: u64) -> Committed {
    let (answer, answered) = mpsc::channel();
    db.submit(request(sequence), None, Box::new(move |result| answer.send(result).unwrap())).unwrap();
    answered.recv().unwrap().unwrap()
}

/// A write that was refused was not done: its id may come again.
#[test]
fn a_refused_request_may_be_tried_again() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&small_options(SyncPolicy::Always)).unwrap();
    db.write(request(0), None).unwrap();
    machine.disk.set_capacity(Some(machine.disk.used_space()));
    let refused = (1..).find_map(|n| db.write(request(n), None).err().map(|error| (n, error))).unwrap();
    assert!(matches!(refused.1, Error::DiskFull), "{refused:?}");
    machine.disk.set_capacity(None);
    db.maintain();
    let before = sum(&db);
    db.write(request(refused.0), None).unwrap();
    db.write(request(refused.0), None).unwrap();
    assert_eq!(sum(&db), before + 1);
}

/// How far a run came before the machine stopped.
struct Ran {
    acknowledged: u64,
    tried: u64,
}

/// Writes requests, each of them twice, with checkpoints, merges and restarts in between.
fn run(machine: &Machine, options: &Options, requests: u64) -> Ran {
    let mut ran = Ran { acknowledged: 0, tried: 0 };
    let stopped = (|| -> Result<(), Error> {
        let mut db = machine.open(options)?;
        for n in 0..requests {
            ran.tried = n + 1;
            let first = db.write(request(n), None)?;
            ran.acknowledged = n + 1;
            match n % 9 {
                3 => db.checkpoint()?,
                5 => drop(db.merge(true)?),
                7 => {
                    drop(db);
                    db = machine.open(options)?;
                }
                _ => {}
            }
            assert_eq!(db.write(request(n), None)?, first, "request {n}");
        }
        db.close()
    })();
    if let Err(error) = stopped {
        assert!(is_power_off(&error), "{error}");
    }
    ran
}

/// After any crash, a client that tries everything again has each of its requests done once.
fn crash_everywhere(sync: SyncPolicy) {
    let options = small_options(sync);
    let mut kept = 0;
    for n in 1.. {
        let machine = Machine::new(SimDisk::new());
        machine.disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(n as usize % 300)][n as usize % 2]);
        let ran = run(&machine, &options, 30);
        if machine.disk.faults_fired() == 0 {
            assert!(n > 200 && kept > 0, "{n} operations, {kept} answers kept");
            return;
        }
        for mode in modes(n) {
            let found = Machine::new(machine.disk.crash(mode));
            let db = found.open(&options).unwrap();
            let before = sum(&db);
            if sync == SyncPolicy::Always || mode == CrashMode::ProcessKill {
                assert!(
                    before >= ran.acknowledged,
                    "operation {n}, {mode:?}: {before} of {}",
                    ran.acknowledged
                );
            }
            assert!(before <= ran.tried, "operation {n}, {mode:?}: {before} of {}", ran.tried);
            let version = db.version();
            for sequence in 0..ran.tried {
                kept += u64::from(db.write(request(sequence), None).unwrap().version <= version);
            }
            assert_eq!(sum(&db), ran.tried, "operation {n}, {mode:?}");
        }
    }
}

#[test]
fn after_a_crash_at_any_operation_each_synced_request_is_done_once() {
    crash_everywhere(SyncPolicy::Always);
}

/// A power loss takes unsynced writes; then nothing may say that they were done.
#[test]
fn after_a_crash_at_any_operation_each_unsynced_request_is_done_once() {
    crash_everywhere(SyncPolicy::Never);
}

/// Index files never get ahead of the file: what they cover is not replayed.
#[test]
fn while_the_file_cannot_be_written_nothing_is_covered() {
    let machine = Machine::new(SimDisk::new());
    let options = small_options(SyncPolicy::Always);
    let db = machine.open(&options).unwrap();
    db.write(request(0), None).unwrap();
    machine.disk.inject(FaultPlan::from_nth(Ops::Only(OpKind::Create), 1, Fault::NoSpace).on_path(FILE));
    assert!(db.checkpoint().is_err() && db.stats().checkpoint_error.is_some());
    machine.disk.clear_faults();
    let killed = Machine::new(machine.disk.after_crash(CrashMode::ProcessKill));
    let found = killed.open(&options).unwrap();
    assert_eq!((found.open_report().replayed, written(&found, 0).version), (1, 1));
    db.checkpoint().unwrap();
    let killed = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
    let found = killed.open(&options).unwrap();
    assert_eq!((found.open_report().replayed, written(&found, 0).version), (0, 1));
}

#[test]
fn a_damaged_file_is_noticed_and_made_anew() {
    let machine = Machine::new(SimDisk::new());
    let options = small_options(SyncPolicy::Always);
    let db = machine.open(&options).unwrap();
    db.write(request(0), None).unwrap();
    db.close().unwrap();
    drop(db);
    let path = machine.disk.files().into_iter().find(|path| path.ends_with(FILE)).unwrap();
    machine.disk.flip_bit(&path, 30, 1).unwrap();
    let db = machine.open(&options).unwrap();
    let notices = db.open_report().notices;
    assert!(notices.iter().any(|notice| notice.contains(FILE)), "{notices:?}");
    db.write(request(1), None).unwrap();
    db.close().unwrap();
    drop(db);
    let db = machine.open(&options).unwrap();
    assert_eq!((db.open_report().notices, written(&db, 1).version), (Vec::new(), 2));
}

/// Stores whose writers have no ids have no such file.
#[test]
fn without_ids_there_is_no_file() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&small_options(SyncPolicy::Always)).unwrap();
    db.put(b"k", b"v").unwrap();
    db.close().unwrap();
    assert!(!machine.disk.files().iter().any(|path| path.ends_with(FILE)));
}
