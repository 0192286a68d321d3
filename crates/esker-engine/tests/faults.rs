//! CHECKS 4, 14, 20: any disk operation fails, in any way. The error is clear, reads go on, nothing is acknowledged that
//! is lost, nothing that was refused appears, and the store opens again.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use common::{
    Machine,
    model::{History, batch, compare},
    small_options,
    survival::{Expected, check, modes},
    workload::{Outcome, Step, steps, universe},
};
use esker_engine::{Db, Error, Options, Result, SyncPolicy};
use esker_log::disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk};

/// A store on its way through a workload with faults.
struct Run {
    machine: Machine,
    options: Options,
    db: Option<Db>,
    outcome: Outcome,
    /// Operations that failed, the store's openings included.
    failures: u64,
    poisoned: bool,
}

impl Run {
    fn new(disk: SimDisk, sync: SyncPolicy) -> Self {
        let outcome = Outcome { history: History::default(), acknowledged: 0, durable: 0, error: None };
        let (machine, options) = (Machine::new(disk), small_options(sync));
        Self { machine, options, db: None, outcome, failures: 0, poisoned: false }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the store is open")
    }

    /// Opens the store; if that fails, the fault goes away and it must open.
    fn open(&mut self) {
        let db = self.machine.open(&self.options).or_else(|error| {
            assert!(matches!(error, Error::Io { .. } | Error::DiskFull | Error::Poisoned(_)), "{error:?}");
            assert!(!error.to_string().is_empty());
            self.failures += 1;
            self.machine.disk.clear_faults();
            self.machine.open(&self.options)
        });
        self.db = Some(db.unwrap_or_else(|error| panic!("opening without the fault: {error}")));
    }

    /// Goes through `steps` until the store is poisoned.
    fn go(&mut self, steps: &[Step]) {
        self.open();
        for step in steps {
            let result = self.step(step);
            self.poisoned = self.db().stats().poisoned.is_some();
            match result {
                Ok(()) => {}
                Err(Error::Poisoned(_)) => assert!(self.poisoned),
                Err(Error::Io { .. } | Error::DiskFull) => assert!(!self.poisoned || !step.is_write()),
                Err(other) => panic!("{other:?}"),
            }
            if self.poisoned {
                break;
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let result = match step {
            Step::Write(ops, sync) => self.write(ops, *sync),
            Step::Sync => self.db().sync().inspect(|()| self.outcome.durable = self.outcome.acknowledged),
            Step::Checkpoint => {
                self.db().checkpoint().inspect(|()| self.outcome.durable = self.outcome.acknowledged)
            }
            Step::Merge(all) => {
                let merged = self.db().merge(*all).map(drop);
                merged.inspect(|()| self.outcome.durable = self.outcome.acknowledged)
            }
            Step::Maintain(pause) => {
                self.machine.clock.advance(*pause);
                self.db().maintain();
                Ok(())
            }
            Step::Reopen => {
                // What it could not save is replayed.
                self.failures += u64::from(self.db().close().is_err());
                self.db = None;
                self.open();
                Ok(())
            }
        };
        self.failures += u64::from(result.is_err());
        result
    }

    fn write(&mut self, ops: &[common::model::Op], sync: Option<SyncPolicy>) -> Result<()> {
        self.outcome.history.push(ops);
        match self.db().write(batch(ops), sync) {
            Ok(committed) => {
                self.outcome.acknowledged += 1;
                assert_eq!(committed.version, self.outcome.acknowledged as u64);
                if sync == Some(SyncPolicy::Always) || self.options.sync == SyncPolicy::Always {
                    self.outcome.durable = self.outcome.acknowledged;
                }
                Ok(())
            }
            Err(Error::DiskFull) => {
                // It was refused: nothing of it may ever be seen.
                self.outcome.history.truncate(self.outcome.acknowledged);
                Err(Error::DiskFull)
            }
            other => other.map(drop),
        }
    }

    /// Reads go on; a poisoned store takes no writes and says why, any other does.
    fn check_live(&mut self) {
        let now = self.outcome.history.after(self.outcome.acknowledged).clone();
        compare(self.db(), &now, &universe()).unwrap_or_else(|why| panic!("reads after the fault: {why}"));
        let ops = vec![common::model::Op::Put(b"key/00".to_vec(), b"after the fault".to_vec())];
        if self.poisoned {
            for _ in 0..2 {
                let error = self.db().write(batch(&ops), None).expect_err("a poisoned store takes no writes");
                assert!(matches!(&error, Error::Poisoned(why) if !why.is_empty()), "{error:?}");
            }
        } else {
            self.write(&ops, Some(SyncPolicy::Always))
                .unwrap_or_else(|e| panic!("writes do not resume: {e}"));
        }
    }

    /// What is found after every kind of crash, and by the next process on the same machine.
    fn check_reopened(mut self, seed: u64) {
        for (number, mode) in modes(seed).into_iter().enumerate() {
            let expected = Expected::after(&self.outcome, mode);
            let disk = self.machine.disk.after_crash(mode);
            check(disk, &self.options, &expected, seed + number as u64)
                .unwrap_or_else(|why| panic!("after {mode:?}: {why}"));
        }
        self.db = None;
        let expected = Expected::after(&self.outcome, CrashMode::ProcessKill);
        for seed in [seed, seed + 1] {
            check(self.machine.disk.after_crash(CrashMode::ProcessKill), &self.options, &expected, seed)
                .unwrap_or_else(|why| panic!("after closing: {why}"));
        }
    }
}

/// Runs the workload under `plan`; false if it met no fault.
fn run(plan: FaultPlan, sync: SyncPolicy, n: u64) -> bool {
    let disk = SimDisk::new();
    disk.inject(plan);
    let mut run = Run::new(disk.clone(), sync);
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run.go(&steps(2, 60));
        disk.clear_faults();
        run.check_live();
        let fired = disk.faults_fired() > 0;
        run.check_reopened(n);
        fired
    }));
    checked.unwrap_or_else(|panic| {
        eprintln!("with the fault at {n}, sync {sync}; last operations:\n  {}", disk.op_trace().join("\n  "));
        std::panic::resume_unwind(panic)
    })
}

const POLICIES: [SyncPolicy; 2] = [SyncPolicy::Always, SyncPolicy::Never];

fn everywhere(plan: impl Fn(u64) -> FaultPlan) {
    for sync in POLICIES {
        let met = (1..).take_while(|&n| run(plan(n), sync, n)).count();
        assert!(met > 10, "only {met} operations");
    }
}

/// CHECKS 4.
#[test]
fn eio_at_any_operation_loses_nothing_acknowledged() {
    everywhere(|n| FaultPlan::nth(Ops::Any, n, Fault::Io));
}

/// CHECKS 4: a write that was half done.
#[test]
fn eio_in_the_middle_of_a_write_loses_nothing_acknowledged() {
    everywhere(|n| FaultPlan::nth(Ops::Only(OpKind::Write), n, Fault::ShortThenIo(n as usize * 7 % 90)));
}

/// CHECKS 4: after the first failed sync none is believed, also if all later ones succeed.
#[test]
fn a_disk_whose_syncs_all_fail_acknowledges_nothing_synced() {
    everywhere(|n| FaultPlan::from_nth(Ops::Syncs, n, Fault::Io));
}

/// CHECKS 14, 20.
#[test]
fn enospc_at_any_operation_refuses_and_passes() {
    everywhere(|n| FaultPlan::nth(Ops::Any, n, Fault::NoSpace));
}

/// CHECKS 14, 20.
#[test]
fn enospc_from_any_operation_on_refuses_until_there_is_space() {
    everywhere(|n| FaultPlan::from_nth(Ops::Any, n, Fault::NoSpace));
}

/// CHECKS 1, 2, 4, 6: any operation of a recovery fails; the next process on the same machine recovers, writes, and
/// then the power fails. What the failed sync of the first recovery lost must not be built upon.
#[test]
fn a_recovery_that_fails_is_done_again() {
    let options = small_options(SyncPolicy::Never);
    for n in (20..220).step_by(9) {
        let machine = Machine::new(SimDisk::new());
        machine.disk.fail_at(n, Fault::CrashAfter(n as usize * 31 % 400));
        let outcome = common::workload::run(&machine, &options, &steps(4, 70));
        for mode in [CrashMode::ProcessKill, CrashMode::power_loss(n)] {
            for (r, fault) in (1..).flat_map(|r| [(r, Fault::Io), (r, Fault::NoSpace)]) {
                let disk = machine.disk.crash(mode);
                disk.fail_at(r, fault);
                drop(Machine::new(disk.clone()).open(&options));
                if disk.faults_fired() == 0 {
                    break;
                }
                disk.clear_faults();
                let expected = Expected::after(&outcome, mode);
                check(disk.clone(), &options, &expected, 2 * (n + r) + 1).unwrap_or_else(|why| {
                    let trace = disk.op_trace().join("\n  ");
                    panic!("operation {n}, {mode:?}, then {fault:?} at {r} of the recovery: {why}\n  {trace}")
                });
            }
        }
    }
}

/// What is short or interrupted is gone on with: nobody sees it.
#[test]
fn short_and_interrupted_reads_and_writes_are_no_faults() {
    for kind in [OpKind::Read, OpKind::Write] {
        for fault in [Fault::Short(1), Fault::Short(61), Fault::Interrupted] {
            for n in (1..).step_by(3) {
                let disk = SimDisk::new();
                disk.inject(FaultPlan::nth(Ops::Only(kind), n, fault));
                let mut run = Run::new(disk.clone(), SyncPolicy::Always);
                run.go(&steps(2, 60));
                assert_eq!(run.failures, 0, "{kind:?} {n} {fault:?}");
                assert!(!run.poisoned);
                run.check_live();
                if disk.faults_fired() == 0 {
                    break;
                }
            }
        }
    }
}

/// CHECKS 14, 20: a disk of every size fills up; reads go on, writes resume when there is space, and the store opens
/// while the disk is full.
#[test]
fn a_full_disk_refuses_writes_and_recovers_without_reopening() {
    for sync in POLICIES {
        let mut refused = 0;
        for capacity in (600..40_000).step_by(401) {
            let disk = SimDisk::new();
            disk.set_capacity(Some(capacity));
            let machine = Machine::new(disk.clone());
            let mut run = Run::new(disk.clone(), sync);
            if let Err(error) = machine.open(&run.options) {
                assert!(matches!(error, Error::DiskFull), "{error:?}");
                continue;
            }
            run.go(&steps(3, 80)
                .into_iter()
                .filter(|step| !matches!(step, Step::Reopen))
                .collect::<Vec<_>>());
            assert!(!run.poisoned, "{:?}", run.db().stats().poisoned);
            refused += run.failures;
            let now = run.outcome.history.last().clone();
            compare(run.db(), &now, &universe()).unwrap();
            opens_while_full(&run, capacity);
            disk.set_capacity(None);
            run.check_live();
            run.check_reopened(capacity);
        }
        assert!(refused > 100, "only {refused} refusals");
    }
}

fn opens_while_full(run: &Run, capacity: u64) {
    let disk = run.machine.disk.after_crash(CrashMode::ProcessKill);
    disk.set_capacity(Some(disk.used_space()));
    let machine = Machine::new(disk);
    let db = machine
        .open(&run.options)
        .unwrap_or_else(|e| panic!("opening on a full disk of {capacity} bytes: {e}"));
    compare(&db, run.outcome.history.last(), &universe()).unwrap();
}

/// Index files that cannot be joined cost the next opening time: the status tells it until they are.
#[test]
fn index_files_that_cannot_be_joined_are_told() {
    let disk = SimDisk::new();
    let machine = Machine::new(disk.clone());
    let mut options = small_options(SyncPolicy::Always);
    options.segment_max_bytes = 4096;
    let db = machine.open(&options).unwrap();
    let put = |n: u32| assert!(db.put(format!("key/{n:02}").as_bytes(), &[7; 100]).unwrap() > 0);
    // More files than a row keeps, all of the first segment.
    for n in 0..6 {
        put(n);
        db.checkpoint().unwrap();
    }
    assert_eq!(db.stats().active_segment, 1);
    disk.inject(FaultPlan::from_nth(Ops::Any, 1, Fault::Io).on_path("0000000001.hint"));
    (6..60).for_each(put);
    db.checkpoint().unwrap();
    let told = db.stats().checkpoint_error.expect("it failed");
    assert!(told.contains("0000000001.hint"), "{told}");
    disk.clear_faults();
    db.checkpoint().unwrap();
    assert_eq!(db.stats().checkpoint_error, None);
    let names: Vec<_> = disk.files().into_iter().map(|path| path.display().to_string()).collect();
    assert!(names.iter().any(|name| name.ends_with("0000000001.hint")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("/0000000001-")), "{names:?}");
}
