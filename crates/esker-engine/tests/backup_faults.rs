//! CHECKS 1, 12, 13: the machine stops, or the disk refuses, at every disk operation of a backup and of a restore. What is
//! there then is the backup before or the new one, and no store or a whole one.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::sync::Arc;

use common::{
    is_power_off,
    rich::{self, Contents, contents, options},
    survival::modes,
};
use esker_engine::{Db, Environment, Error, Result, restore};
use esker_log::disk::{
    Disk,
    sim::{CrashMode, Fault, FaultPlan, Ops, SimDisk},
};

const BACKUP: &str = "/backup";
const RESTORED: &str = "/restored";

fn backup(db: &Db) -> Result<()> {
    db.backup(BACKUP, &mut |_, _| Ok(())).map(drop)
}

fn restore_from(disk: &SimDisk) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&disk, BACKUP, RESTORED, &mut |_, _| Ok(())).map(drop)
}

fn open(disk: &SimDisk) -> Result<Db> {
    let environment =
        Environment { disk: Arc::new(disk.clone()), ..rich::machine(disk.clone()).environment() };
    Db::open_in(&environment, RESTORED, options())
}

fn restored(disk: &SimDisk) -> Contents {
    restore_from(disk).unwrap();
    let db = open(disk).unwrap();
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
    contents(&db)
}

/// A store before its next backup, what the last one holds if there is one, and what the store holds.
fn prepared(has_earlier: bool, no_links: bool) -> (SimDisk, Option<Contents>, Contents) {
    let (disk, _) = rich::store();
    disk.set_no_links(no_links);
    let db = rich::machine(disk.clone()).open(&options()).unwrap();
    let earlier = has_earlier.then(|| {
        backup(&db).unwrap();
        let earlier = contents(&db);
        db.put(b"later", &[1; 3000]).unwrap();
        db.merge(true).unwrap();
        db.put(b"later still", &[2; 300]).unwrap();
        earlier
    });
    let now = contents(&db);
    (disk.crash(CrashMode::KeepUnsynced), earlier, now)
}

/// What the backup comes back as; `None` if there is no complete one.
fn found(disk: &SimDisk, what: &str) -> Option<Contents> {
    match restore_from(disk) {
        Ok(()) => Some(contents(&open(disk).unwrap())),
        Err(Error::InvalidRequest(why)) if why.contains("no complete backup") => None,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_backup_that_stops_anywhere_is_the_old_one_or_the_new() {
    for (has_earlier, no_links) in [(false, false), (false, true), (true, false), (true, true)] {
        let (base, earlier, now) = prepared(has_earlier, no_links);
        let (mut old, mut new) = (0, 0);
        for n in 1.. {
            let disk = base.after_crash(CrashMode::KeepUnsynced);
            let db = rich::machine(disk.clone()).open(&options()).unwrap();
            disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(100)][n as usize % 2]);
            let outcome = backup(&db);
            if disk.faults_fired() == 0 {
                outcome.unwrap();
                break;
            }
            assert!(is_power_off(&outcome.unwrap_err()));
            for mode in modes(n) {
                let what = format!("operation {n}, {mode:?}");
                let left = disk.crash(mode);
                let found = found(&left, &what);
                let is_new = found.as_ref() == Some(&now);
                assert!(is_new || found == earlier, "{what}: a mixture");
                old += u32::from(!is_new);
                new += u32::from(is_new);
                // The store is as it was, and the next backup is whole.
                let db = rich::machine(left.clone()).open(&options()).unwrap();
                assert_eq!(contents(&db), now, "{what}");
                backup(&db).unwrap();
                drop(db);
                assert_eq!(again(&left), now, "{what}");
            }
        }
        assert!(old > 100 && new > 2, "{old} times the old one, {new} times the new one");
    }
}

/// What the backup holds, restored to a directory that nobody used.
fn again(disk: &SimDisk) -> Contents {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&shared, BACKUP, "/again", &mut |_, _| Ok(())).unwrap();
    let environment = rich::machine(disk.clone()).environment();
    contents(&Db::open_in(&environment, "/again", options()).unwrap())
}

#[test]
fn a_backup_that_meets_an_error_anywhere_leaves_one_that_is_whole() {
    for (no_links, fault) in
        [(true, Fault::Io), (true, Fault::NoSpace), (false, Fault::Io), (false, Fault::NoSpace)]
    {
        let (base, earlier, now) = prepared(true, no_links);
        for n in 1.. {
            let disk = base.after_crash(CrashMode::KeepUnsynced);
            let db = rich::machine(disk.clone()).open(&options()).unwrap();
            disk.fail_at(n, fault);
            let outcome = backup(&db);
            if disk.faults_fired() == 0 {
                outcome.unwrap();
                break;
            }
            disk.clear_faults();
            let what = format!("operation {n}, {fault:?}");
            let left = disk.after_crash(CrashMode::power_loss(n));
            let found = found(&left, &what);
            assert!(
                found.as_ref() == Some(&now) || (found == earlier && outcome.is_err()),
                "{what}: {outcome:?}"
            );
            if db.stats().poisoned.is_some() {
                continue;
            }
            for m in [1, 3, 4, 5, 6, 8, 20] {
                let disk = disk.after_crash(CrashMode::ProcessKill);
                let db = rich::machine(disk.clone()).open(&options()).unwrap();
                disk.inject(FaultPlan::nth(Ops::Any, m, Fault::Crash).on_path(BACKUP));
                backup(&db).unwrap_err();
                let left = disk.crash(CrashMode::power_loss(n * 100 + m));
                let then = self::found(&left, &format!("{what}, then {m}"));
                assert!(then.as_ref() == Some(&now) || then == earlier);
            }
            backup(&db).unwrap();
            assert_eq!(restored(&disk), now, "{what}");
        }
    }
}

#[test]
fn a_restore_that_stops_anywhere_leaves_no_store_or_a_whole_one() {
    let (base, _, now) = prepared(false, false);
    backup(&rich::machine(base.clone()).open(&options()).unwrap()).unwrap();
    let base = base.crash(CrashMode::DropUnsynced);
    let (mut none, mut whole) = (0, 0);
    for n in 1.. {
        let disk = base.after_crash(CrashMode::DropUnsynced);
        disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(100)][n as usize % 2]);
        let outcome = restore_from(&disk);
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        assert!(is_power_off(&outcome.unwrap_err()));
        for mode in modes(n) {
            let left = disk.crash(mode);
            let what = format!("operation {n}, {mode:?}");
            let opened = open(&left.after_crash(CrashMode::KeepUnsynced));
            match opened.map(|db| contents(&db)) {
                // Before the first step nothing says that there is to be anything.
                Ok(found) if found.is_empty() => none += 1,
                Ok(found) => {
                    assert_eq!(found, now, "{what}");
                    whole += 1;
                    continue;
                }
                Err(Error::InvalidRequest(why)) if why.contains("run the restore to it again") => none += 1,
                Err(other) => panic!("{what}: {other}"),
            }
            assert_eq!(restored(&left), now, "{what}: restored again");
        }
    }
    assert!(none > 100 && whole > 0, "{none} times no store, {whole} times a whole one");
}

#[test]
fn a_restore_that_meets_an_error_anywhere_can_be_made_again() {
    let (base, _, now) = prepared(false, false);
    backup(&rich::machine(base.clone()).open(&options()).unwrap()).unwrap();
    let base = base.crash(CrashMode::DropUnsynced);
    for fault in [Fault::Io, Fault::NoSpace] {
        for n in 1.. {
            let disk = base.after_crash(CrashMode::DropUnsynced);
            disk.fail_at(n, fault);
            let outcome = restore_from(&disk);
            if disk.faults_fired() == 0 {
                outcome.unwrap();
                break;
            }
            outcome.unwrap_err();
            disk.clear_faults();
            match restore_from(&disk) {
                // What failed was the last sync: the store is there.
                Err(Error::InvalidRequest(why)) => assert!(why.contains("not empty"), "{why}"),
                other => other.unwrap(),
            }
            assert_eq!(contents(&open(&disk).unwrap()), now, "operation {n}, {fault:?}");
        }
    }
}
