//! CHECKS 8: whatever befalls one file of a store, a repair saves every record that was not hit, says what was, and makes a
//! store that opens and verifies clean.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{
    DIR, is_power_off,
    rich::{self, Contents, contents, options},
    survival::modes,
};
use esker_engine::{Db, Environment, Error, RepairReport, Result, repair};
use esker_log::disk::{
    Disk,
    sim::{CrashMode, Fault, SimDisk},
};

const NEW: &str = "/new";

fn try_repair(disk: &SimDisk) -> Result<RepairReport> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    repair(&disk, DIR, NEW, &options(), || Ok([5; 16]), &mut |_, _| Ok(()))
}

fn open(disk: &SimDisk) -> Result<Db> {
    let environment: Environment = rich::machine(disk.clone()).environment();
    Db::open_in(&environment, NEW, options())
}

/// Repairs, opens, verifies, writes on.
fn repaired(disk: &SimDisk, what: &str) -> (RepairReport, Contents) {
    let report = try_repair(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    let db = open(disk).unwrap_or_else(|e| panic!("{what}: opening: {e}"));
    let found = contents(&db);
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty(), "{what}");
    assert_eq!(db.version(), report.version, "{what}");
    assert_eq!(db.put(b"goes on", b"x").unwrap(), report.version + 1, "{what}");
    (report, found)
}

fn differing<'a>(one: &'a Contents, other: &'a Contents) -> BTreeSet<&'a [u8]> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|key| one.get(*key) != other.get(*key)).map(Vec::as_slice).collect()
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with(DIR) && !path.ends_with("LOCK")).collect()
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log" || extension == "merged")
}

#[test]
fn an_intact_store_is_copied_whole() {
    let (disk, expected) = rich::store();
    let before = disk.copied();
    let (report, found) = repaired(&disk, "intact");
    assert_eq!(differing(&found, &expected), BTreeSet::new());
    assert!(report.is_lossless(), "{report:?}");
    assert_eq!(report.keys, found.len() as u64);
    for path in files(&before) {
        assert_eq!(disk.file_bytes(&path), before.file_bytes(&path), "{} was changed", path.display());
    }
}

/// CHECKS 8: one bit of every byte of every file.
#[test]
fn a_flipped_bit_costs_the_record_that_it_hit() {
    let (disk, expected) = rich::store();
    let (mut lossless, mut lossy, mut total) = (0, 0, 0);
    for path in files(&disk) {
        let used =
            disk.file_bytes(&path).unwrap().iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for at in 0..used as u64 {
            let bad = disk.copied();
            bad.flip_bit(&path, at, (at % 8) as u8).unwrap();
            let what = format!("{} flipped at {at}", path.display());
            let (report, found) = repaired(&bad, &what);
            let differ = differing(&found, &expected);
            let named: BTreeSet<_> = report.lost_keys.iter().map(|lost| lost.key.as_slice()).collect();
            let unnamed: Vec<_> = differ.iter().filter(|key| !named.contains(*key)).collect();
            total += 1;
            if is_segment(&path) {
                assert!(!report.is_lossless(), "{what}: nothing is reported");
                assert!(differ.len() <= 1, "{what}: {differ:?} {report:?}");
                // Of what no index file covers, nobody knows whose it was.
                assert!(
                    unnamed.is_empty() || !report.lost_parts.is_empty(),
                    "{what}: {unnamed:?} {report:?}"
                );
            } else {
                let is_doubtful =
                    report.notices.iter().any(|notice| notice.contains("judged against a state"));
                let only_counters = differ.iter().all(|key| key.starts_with(b"count/"));
                assert!(
                    differ.is_empty() || (is_doubtful && only_counters),
                    "{what}: {differ:?} {:?} {:?} {report:?}",
                    found.get(&b"count/1"[..]),
                    expected.get(&b"count/1"[..])
                );
            }
            if path.ends_with("MANIFEST") {
                // It alone knows what is missing; what merges took the place of is not.
                let lost: Vec<_> = report.lost_parts.iter().map(|part| &part.path).collect();
                assert_eq!(lost, [&path], "{what}: {report:?}");
            }
            lossless += u32::from(differ.is_empty());
            lossy += u32::from(!differ.is_empty());
        }
    }
    assert!(lossless > total / 4 && lossy > total / 8, "{lossless} lossless, {lossy} lossy");
}

/// Half a file, or none of it.
#[test]
fn truncated_and_missing_files_cost_what_was_in_them() {
    let (disk, expected) = rich::store();
    for path in files(&disk) {
        let len = disk.file_bytes(&path).unwrap().len() as u64;
        for cut in [Some(0), Some(len / 3), Some(len / 2), None] {
            let bad = disk.copied();
            match cut {
                Some(len) => bad.truncate(&path, len).unwrap(),
                None => bad.remove(&path).unwrap(),
            }
            let what = format!("{} cut to {cut:?}", path.display());
            let (report, found) = repaired(&bad, &what);
            let differ = differing(&found, &expected);
            if path.ends_with("STORE") {
                assert!(differ.is_empty() && !report.notices.is_empty(), "{what}");
            }
            assert!(
                differ.is_empty() || !report.is_lossless() || !report.notices.is_empty(),
                "{what}: {differ:?}"
            );
        }
    }
}

/// Files of a kind, exchanged: their headers say what they are.
#[test]
fn exchanged_segments_are_put_right() {
    let (disk, expected) = rich::store();
    let all: Vec<_> = files(&disk).into_iter().filter(|path| is_segment(path)).collect();
    for (a, b) in all.iter().zip(&all[1..]).filter(|(a, b)| a.extension() == b.extension()) {
        let bad = disk.copied();
        bad.write_file(a, &disk.file_bytes(b).unwrap());
        bad.write_file(b, &disk.file_bytes(a).unwrap());
        let (report, found) = repaired(&bad, "exchanged");
        assert_eq!(differing(&found, &expected), BTreeSet::new(), "{report:?}");
    }
}

/// Looks at what a repair has left that did not come to its end: no store, or a whole one. What opens as an empty store has nothing of
/// the old one, for an opening would take it for litter.
fn has_whole_store(disk: &SimDisk, expected: &Contents, what: &str) -> bool {
    let has_content = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        path.starts_with(NEW) && (name.contains(".merged") || name.starts_with("MANIFEST"))
    };
    let half_made: Vec<_> = disk.files().into_iter().filter(has_content).collect();
    match open(disk).map(|db| contents(&db)) {
        Ok(found) if found.is_empty() => {
            assert!(half_made.is_empty(), "{what}: {half_made:?}");
            false
        }
        Ok(found) => {
            assert_eq!(differing(&found, expected), BTreeSet::new(), "{what}");
            true
        }
        Err(Error::Damage(_)) => false,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_repair_that_stops_anywhere_leaves_no_store_or_a_whole_one() {
    let (base, expected) = rich::store();
    let mut none = 0;
    for n in 1.. {
        let disk = base.after_crash(CrashMode::KeepUnsynced);
        disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(100)][n as usize % 2]);
        let outcome = try_repair(&disk);
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        if let Err(error) = outcome {
            assert!(is_power_off(&error), "operation {n}: {error}");
        }
        for mode in modes(n) {
            let is_whole = has_whole_store(&disk.crash(mode), &expected, &format!("operation {n}, {mode:?}"));
            none += u32::from(!is_whole);
        }
    }
    assert!(none > 100, "{none}");
}

/// CHECKS 12, 13.
#[test]
fn a_repair_that_meets_a_full_disk_says_so_and_changes_nothing_or_goes_on_without_zeros() {
    let (base, expected) = rich::store();
    let mut without_zeros = 0;
    for n in 1.. {
        let disk = base.after_crash(CrashMode::KeepUnsynced);
        disk.inject(esker_log::disk::sim::FaultPlan::nth(
            esker_log::disk::sim::Ops::Writes,
            n,
            Fault::NoSpace,
        ));
        let outcome = try_repair(&disk);
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        // Zeros ahead of the log's end are what it goes without.
        without_zeros += usize::from(outcome.is_ok());
        disk.clear_faults();
        let is_whole = has_whole_store(&disk, &expected, &format!("write {n}"));
        assert!(is_whole || outcome.is_err(), "write {n}");
        let db = rich::machine(disk).open(&options()).unwrap();
        assert_eq!(differing(&contents(&db), &expected), BTreeSet::new());
    }
    assert!(without_zeros <= 1, "{without_zeros}");
}

/// CHECKS 4: an error of the disk at any operation is an error of the repair or a loss that it tells, and never more than that.
#[test]
fn a_repair_that_meets_an_error_anywhere_says_so() {
    let (base, expected) = rich::store();
    let (mut refused, mut told) = (0, 0);
    for n in 1.. {
        let disk = base.after_crash(CrashMode::KeepUnsynced);
        disk.fail_at(n, Fault::Io);
        let outcome = try_repair(&disk);
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        disk.clear_faults();
        match outcome {
            Ok(report) => {
                let found = contents(&open(&disk).unwrap());
                let differ = differing(&found, &expected);
                let is_told = !report.is_lossless() || !report.notices.is_empty();
                assert!(differ.is_empty() || is_told, "operation {n}: {differ:?} {report:?}");
                told += u32::from(is_told);
            }
            // No store, nor half of one; or the last step failed, and it is there.
            Err(_) => {
                has_whole_store(&disk, &expected, &format!("operation {n}"));
                refused += 1;
            }
        }
        let db = rich::machine(disk).open(&options()).unwrap();
        assert_eq!(differing(&contents(&db), &expected), BTreeSet::new(), "operation {n}: the old store");
    }
    assert!(refused > 20 && told > 5, "{refused} times refused, {told} times told");
}
