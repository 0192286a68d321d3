//! CHECKS 5, 12, 13: the machine stops at every disk operation of one merge, in every way it can. Nothing goes back in time,
//! and no segment is gone before what takes its place is durable.

use crate::common;

use std::path::PathBuf;

use common::{
    is_power_off,
    rich::{self, contents, options},
    survival::modes,
};
use esker_log::disk::sim::{CrashMode, Fault, SimDisk};

/// What a merge takes away, or makes.
fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "log" || extension == "merged")
    };
    disk.files().into_iter().filter(is_segment).collect()
}

/// CHECKS 5, 12, 13.
#[test]
fn a_merge_that_stops_anywhere_has_happened_or_not() {
    let (base, expected) = rich::store();
    let before = segments(&base);
    let (mut undone, mut done) = (0, 0);
    for n in 1.. {
        let disk = base.copied();
        let db = rich::machine(disk.clone()).open(&options()).unwrap();
        disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(40), Fault::CrashAfter(900)][n as usize % 3]);
        let outcome = db.merge(true);
        if disk.faults_fired() == 0 {
            assert!(outcome.unwrap().inputs > 2);
            assert!(n > 30, "a merge has only {n} operations");
            break;
        }
        // Behind the point of no return, what goes wrong with removing the inputs is left to the next opening.
        assert!(outcome.as_ref().map_or_else(is_power_off, |_| true), "operation {n}: {outcome:?}");
        drop(db);
        for mode in modes(n).into_iter().chain((0..6).map(|seed| CrashMode::power_loss(n * 10 + seed))) {
            let what = format!("operation {n}, {mode:?}");
            let left = disk.crash(mode);
            let db = rich::machine(left.clone()).open(&options()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(contents(&db) == expected, "{what}: another content");
            assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty(), "{what}");
            // What opening leaves is all inputs, or none: of the old segments only the last of the log, which is never merged.
            let kept = before.iter().filter(|path| segments(&left).contains(path)).count();
            assert!(kept == before.len() || kept == 1, "{what}: {kept} of {} are left", before.len());
            undone += u32::from(kept > 1);
            done += u32::from(kept == 1);
            // The next merge works, and comes to the same.
            db.merge(true).unwrap_or_else(|e| panic!("{what}: merging again: {e}"));
            assert!(contents(&db) == expected, "{what}: another content after the next merge");
            db.close().unwrap();
            drop(db);
            let db = rich::machine(left).open(&options()).unwrap();
            assert!(contents(&db) == expected, "{what}: another content after that");
        }
    }
    assert!(undone > 50 && done > 5, "{undone} times nothing had happened, {done} times all had");
}
