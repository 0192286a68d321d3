//! CHECKS 4, 7-9, 14, 16: whatever fails, and whatever befalls a file, a replica gives what the cluster agreed on or an error.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::path::{Path, PathBuf};

use common::{
    DIR, Machine,
    replica::{Agreed, Known, Planner, Step, check, check_state, choices, is_difference, open, run},
};
use esker_engine::{Error, Replica, verify_dir};
use esker_log::disk::sim::{CrashMode, Fault, SimDisk};
use proptest::prelude::*;

fn workload(seed: u64, count: usize) -> (Agreed, Vec<Step>) {
    let agreed = Agreed::new(seed, 30);
    let steps = Planner::plan(&agreed, choices(seed, count));
    (agreed, steps)
}

#[test]
fn a_fault_at_any_operation_loses_nothing_and_brings_nothing_back() {
    let faults = [Fault::Io, Fault::NoSpace, Fault::Interrupted, Fault::Short(9), Fault::ShortThenIo(60)];
    let (agreed, steps) = workload(3, 50);
    for (number, fault) in faults.into_iter().enumerate() {
        for n in (1 + number as u64..).step_by(2) {
            let machine = Machine::new(SimDisk::new());
            machine.disk.fail_at(n, fault);
            let known = run(&machine, &agreed, &steps);
            if machine.disk.op_count() < n {
                assert!(n > 100, "the workload has only {n} operations");
                break;
            }
            if matches!(fault, Fault::Short(_)) {
                assert!(known.error.is_none(), "{fault:?} at operation {n}: {:?}", known.error);
            }
            for mode in [CrashMode::ProcessKill, CrashMode::power_loss(n)] {
                if let Err(why) = check(machine.disk.crash(mode), &agreed, &known, n) {
                    let trace = machine.disk.op_trace().join("\n  ");
                    panic!("{fault:?} at operation {n}, {mode:?}, {:?}: {why}\n  {trace}", known.error);
                }
            }
        }
    }
}

/// A closed replica with every kind of file and frame, a snapshot among them.
struct Fixture {
    disk: SimDisk,
    agreed: Agreed,
    known: Known,
}

impl Fixture {
    fn new() -> Self {
        let fixtures = (0..100).map(Self::of);
        let has_all = |fixture: &Self| {
            let names: Vec<_> =
                fixture.files().iter().map(|path| path.to_string_lossy().into_owned()).collect();
            let kinds = ["REPLICA", "STORE", ".log", ".hint", ".ckpt"];
            kinds.iter().all(|ending| names.iter().any(|name| name.ends_with(ending)))
                && !names.iter().any(|name| name.ends_with("0000000001.log"))
        };
        fixtures.into_iter().find(has_all).expect("a history that leaves every kind of file")
    }

    fn of(seed: u64) -> Self {
        let (agreed, steps) = workload(seed, 60);
        let machine = Machine::new(SimDisk::new());
        let known = run(&machine, &agreed, &steps);
        let disk = machine.disk.crash(CrashMode::ProcessKill);
        open(&Machine::new(disk.clone())).unwrap().close().unwrap();
        Self { disk: disk.crash(CrashMode::KeepUnsynced), agreed, known }
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = self.disk.files().into_iter();
        files.filter(|path| path.starts_with(DIR) && !path.ends_with("LOCK")).collect()
    }

    /// Opens a damaged copy: never is anything else read than what was agreed on, and nothing is missing in silence.
    fn judge(&self, disk: SimDisk, path: &Path, what: &str) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let noticed = verify_dir(&disk, DIR, &mut |_, _| Ok(()));
        let machine = Machine::new(disk);
        let replica = match open(&machine) {
            Ok(replica) => replica,
            Err(Error::Damage(damage)) => {
                assert!(!damage.what.is_empty());
                return;
            }
            Err(Error::UnsupportedFormat { .. } | Error::InvalidRequest(_)) => return,
            Err(other) => panic!("{what} of {name}: {other}"),
        };
        let applied = replica.applied().index;
        let notices = replica.open_report().notices;
        let said = !notices.is_empty() || noticed.is_ok_and(|report| !report.damage.is_empty());
        assert!(said || applied >= self.known.applied, "{what} of {name}: only {applied} is applied");
        match check_state(&replica, &self.agreed, applied) {
            Err(why) if is_difference(&why) => panic!("{what} of {name}: {why} {notices:?}"),
            Err(_) | Ok(()) => {}
        }
        self.check_index_file(&replica, &name, what);
    }

    /// Index files can be lost without any loss.
    fn check_index_file(&self, replica: &Replica, name: &str, what: &str) {
        if name.ends_with(".hint") || name.ends_with(".ckpt") {
            check_state(replica, &self.agreed, self.known.applied)
                .unwrap_or_else(|why| panic!("{what} of {name}: {why}"));
        }
    }
}

#[test]
fn damage_gives_an_error_or_is_mended_and_never_other_data() {
    let fixture = Fixture::new();
    for path in fixture.files() {
        let len = fixture.disk.file_bytes(&path).unwrap().len() as u64;
        for at in (0..len).step_by(1 + len as usize / 150) {
            let disk = fixture.disk.after_crash(CrashMode::KeepUnsynced);
            disk.flip_bit(&path, at, (at % 8) as u8).unwrap();
            fixture.judge(disk, &path, &format!("bit {} of byte {at}", at % 8));
            let disk = fixture.disk.after_crash(CrashMode::KeepUnsynced);
            disk.truncate(&path, at).unwrap();
            fixture.judge(disk, &path, &format!("all behind byte {at}"));
        }
    }
}

/// Without index files the whole log is replayed, and comes to the same.
#[test]
fn a_replica_without_its_index_files_comes_to_the_same() {
    for seed in 0..8 {
        let (agreed, steps) = workload(seed, 60);
        let machine = Machine::new(SimDisk::new());
        let known = run(&machine, &agreed, &steps);
        let disk = machine.disk.crash(CrashMode::ProcessKill);
        for path in disk.files() {
            if [".hint", ".ckpt"].iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                esker_log::disk::Disk::remove(&disk, &path).unwrap();
            }
        }
        check(disk, &agreed, &known, seed).unwrap_or_else(|why| panic!("workload {seed}: {why}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any history, with restarts, comes to what the cluster agreed on.
    #[test]
    fn any_history_comes_to_what_was_agreed_on(
        seed in 0_u64..1000,
        choices in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..80),
        loss in any::<u64>(),
    ) {
        let agreed = Agreed::new(seed, 40);
        let steps = Planner::plan(&agreed, choices);
        let machine = Machine::new(SimDisk::new());
        let known = run(&machine, &agreed, &steps);
        prop_assert!(known.error.is_none(), "{:?}", known.error);
        for mode in [CrashMode::ProcessKill, CrashMode::power_loss(loss)] {
            let checked = check(machine.disk.after_crash(mode), &agreed, &known, loss);
            prop_assert_eq!(checked, Ok(()), "{:?} {:?}", mode, &steps);
        }
    }
}
