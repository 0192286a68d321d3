//! Rows of index files: however many checkpoints a segment gets, they stay short, and joining them loses nothing.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use crate::common;

use common::{Machine, model::contents, small_options, survival::modes};
use esker_engine::{Db, KeyRange, Options, SyncPolicy};
use esker_log::disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk};

/// So many files a row has before some of them are joined.
const FILES_MAX: usize = 16;

/// All is in one segment that is not sealed, and a checkpoint is written when it is asked for.
fn options() -> Options {
    let mut options = small_options(SyncPolicy::Always);
    options.segment_max_bytes = 256 << 10;
    options.checkpoint_ops = 1_000_000;
    options.max_files = 8;
    options
}

/// Puts, deletes, deleted ranges, and adds, of which the index files alone say what they came to.
fn write(db: &Db, n: u32) {
    db.put(format!("{:02}", n % 37).as_bytes(), &n.to_le_bytes()).unwrap();
    db.add(format!("sum/{}", n % 3).as_bytes(), 1).unwrap();
    if n % 5 == 4 {
        db.delete(format!("{:02}", (n + 7) % 37).as_bytes()).unwrap();
    }
    if n % 11 == 10 {
        db.delete_range(&KeyRange::prefix(*b"1")).unwrap();
    }
}

fn row(machine: &Machine) -> usize {
    machine.disk.files().iter().filter(|path| path.to_string_lossy().ends_with(".ckpt")).count()
}

/// A store whose row is as long as it may be, with writes behind it.
fn with_long_row() -> Machine {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    for n in 0..FILES_MAX as u32 {
        write(&db, n);
        db.checkpoint().unwrap();
    }
    assert_eq!(row(&machine), FILES_MAX);
    write(&db, 100);
    Machine::new(machine.disk.crash(CrashMode::ProcessKill))
}

#[test]
fn however_many_checkpoints_there_are_rows_stay_short() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    for n in 0..300 {
        write(&db, n);
        db.checkpoint().unwrap();
        assert!(row(&machine) <= FILES_MAX, "{n}: {}", row(&machine));
    }
    let stats = db.stats();
    assert_eq!((stats.segments, stats.checkpoint_error), (1, None));
    let most = machine.disk.counters().open_handles_max;
    assert!(most <= 16, "{most} files");
    let expected = contents(&db);
    let machine = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
    let db = machine.open(&options()).unwrap();
    assert_eq!((contents(&db), db.open_report().replayed), (expected, 0));
    // The next segment: now this one can be merged.
    let mut large = options();
    large.segment_max_bytes = 4096;
    drop(db);
    let db = machine.open(&large).unwrap();
    (300..330).for_each(|n| write(&db, n));
    let expected = contents(&db);
    assert!(db.merge(true).unwrap().inputs > 0);
    assert_eq!(contents(&db), expected);
}

/// CHECKS 12: a crash at any operation of the checkpoint that joins some of a row.
#[test]
fn a_crash_while_a_row_is_joined_loses_nothing() {
    let long = with_long_row();
    let expected = contents(&Machine::new(long.disk.copied()).open(&options()).unwrap());
    for n in 1.. {
        let machine = Machine::new(long.disk.copied());
        let db = machine.open(&options()).unwrap();
        machine.disk.fail_at(n, if n % 2 == 0 { Fault::Crash } else { Fault::CrashAfter(n as usize % 300) });
        let written = db.checkpoint();
        let fired = machine.disk.faults_fired() > 0;
        if !fired {
            assert!(written.is_ok() && row(&machine) < 3 && n > 20, "operation {n}: {} files", row(&machine));
            break;
        }
        for mode in modes(n) {
            let found = Machine::new(machine.disk.crash(mode));
            let db = found.open(&options()).unwrap_or_else(|e| panic!("operation {n}, {mode:?}: {e}"));
            assert_eq!(contents(&db), expected, "operation {n}, {mode:?}");
            db.checkpoint().unwrap();
            let again = Machine::new(found.disk.crash(CrashMode::DropUnsynced));
            assert_eq!(
                contents(&again.open(&options()).unwrap()),
                expected,
                "operation {n}, {mode:?}, again"
            );
        }
    }
}

/// Files that were joined and cannot be removed do not count, whoever comes upon them.
#[test]
fn what_goes_wrong_while_a_row_is_joined_is_made_up_for() {
    let long = with_long_row();
    for n in 1.. {
        let machine = Machine::new(long.disk.copied());
        let db = machine.open(&options()).unwrap();
        machine.disk.inject(FaultPlan::nth(Ops::Any, n, Fault::Io).on_path(".ckpt"));
        let first = db.checkpoint().is_ok() && db.stats().checkpoint_error.is_none();
        let fired = machine.disk.faults_fired() > 0;
        assert_eq!(fired, !first, "operation {n} is not told");
        machine.disk.clear_faults();
        // As it is found by an opening, by a merge, and by the next checkpoint.
        write(&db, 101);
        let expected = contents(&db);
        let found = Machine::new(machine.disk.after_crash(CrashMode::ProcessKill));
        assert_eq!(contents(&found.open(&options()).unwrap()), expected, "operation {n}, opened");
        let db = if n % 2 == 0 {
            db
        } else {
            drop(db);
            let mut small = options();
            small.segment_max_bytes = 4096;
            machine.open(&small).unwrap()
        };
        (102..130).for_each(|n| write(&db, n));
        let expected = contents(&db);
        db.merge(true).unwrap();
        assert_eq!(contents(&db), expected, "operation {n}, merged");
        assert_eq!(db.stats().checkpoint_error, None, "operation {n}");
        let found = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
        assert_eq!(contents(&found.open(&options()).unwrap()), expected, "operation {n}, opened at last");
        if !fired {
            assert!(n > 20, "{n} operations");
            break;
        }
    }
}

/// As long as they cannot be removed, files come behind them.
#[test]
fn files_that_were_joined_and_stay_do_not_hide_those_behind_them() {
    let machine = with_long_row();
    let db = machine.open(&options()).unwrap();
    let removals = FaultPlan::from_nth(Ops::Only(OpKind::Remove), 1, Fault::Io).on_path(".ckpt");
    machine.disk.inject(removals);
    for n in 101..104 {
        db.checkpoint().unwrap();
        assert!(db.stats().checkpoint_error.is_some());
        write(&db, n);
    }
    // The checkpoint's own file gets its name, the joined one does not.
    machine.disk.inject(FaultPlan::from_nth(Ops::Only(OpKind::Rename), 2, Fault::Io).on_path(".ckpt"));
    db.checkpoint().unwrap();
    assert!(row(&machine) > FILES_MAX);
    let expected = contents(&db);
    let found = Machine::new(machine.disk.after_crash(CrashMode::ProcessKill));
    let again = found.open(&options()).unwrap();
    assert_eq!((contents(&again), again.open_report().replayed), (expected, 0));
    machine.disk.clear_faults();
    db.checkpoint().unwrap();
    assert_eq!((row(&machine) < 3, db.stats().checkpoint_error), (true, None));
}
