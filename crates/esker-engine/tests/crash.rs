//! CHECKS 1, 2, 5, 6, 7, 10, 11, 12, 16: the machine stops at every disk operation of a workload, in every way it can,
//! and the store comes back with exactly a prefix of its history that holds all that was promised.

use crate::common;

use std::time::Duration;

use common::{
    Machine, Rng, is_power_off,
    model::History,
    seed_factor, small_options,
    survival::{Expected, check, modes},
    workload::{Outcome, run, steps},
};
use esker_engine::{Options, SyncPolicy};
use esker_log::disk::sim::{CrashMode, Fault, SimDisk};

/// Faults that stop the machine at one operation; of a write, at some bytes too.
fn stops(seed: u64) -> [Fault; 3] {
    let mut rng = Rng::new(seed);
    let early = rng.below(60) as usize;
    [Fault::Crash, Fault::CrashAfter(early), Fault::CrashAfter(60 + rng.below(1500) as usize)]
}

/// Runs the workload with `stop` at operation `n`; `None` once it ends before.
fn run_until(n: u64, stop: Fault, options: &Options, seed: u64, writes: u64) -> Option<(SimDisk, Outcome)> {
    let machine = Machine::new(SimDisk::new());
    machine.disk.fail_at(n, stop);
    let outcome = run(&machine, options, &steps(seed, writes));
    let disk = machine.disk;
    let stopped = match &outcome.error {
        Some(error) => {
            assert!(is_power_off(error), "operation {n} of seed {seed}: {error}");
            true
        }
        // A failed checkpoint is no failure of the store; the run ends at its next operation.
        None => disk.faults_fired() > 1,
    };
    stopped.then_some((disk, outcome))
}

fn report(why: &str, n: u64, stop: Fault, mode: CrashMode, seed: u64, disk: &SimDisk) -> ! {
    panic!(
        "operation {n} ({stop:?}), {mode:?}, workload seed {seed}: {why}\nlast operations:\n  {}",
        disk.op_trace().join("\n  ")
    )
}

fn crash_everywhere(sync: SyncPolicy, writes: u64) {
    let options = small_options(sync);
    for workload in 0..seed_factor() {
        for n in 1.. {
            let mut ended = false;
            for stop in stops(n ^ workload << 32) {
                let Some((disk, outcome)) = run_until(n, stop, &options, workload, writes) else {
                    ended = true;
                    break;
                };
                for (number, mode) in modes(n).into_iter().enumerate() {
                    let expected = Expected::after(&outcome, mode);
                    if let Err(why) = check(disk.crash(mode), &options, &expected, n + number as u64) {
                        report(&why, n, stop, mode, workload, &disk);
                    }
                }
            }
            if ended {
                assert!(n > 100, "the workload has only {n} operations");
                break;
            }
        }
    }
}

/// CHECKS 1, 2, 5, 7, 16.
#[test]
fn synced_writes_survive_a_crash_at_every_operation() {
    crash_everywhere(SyncPolicy::Always, 70);
}

/// CHECKS 1, 5, 16: a killed process loses nothing; a power loss keeps a prefix that holds all that was synced.
#[test]
fn unsynced_writes_are_lost_from_the_end_only() {
    crash_everywhere(SyncPolicy::Never, 100);
}

/// CHECKS 1, 5, 16.
#[test]
fn periodically_synced_writes_are_lost_from_the_end_only() {
    crash_everywhere(SyncPolicy::Every(Duration::from_millis(100)), 100);
}

/// CHECKS 1, 5, 6, 12: the machine stops again while it recovers, at every operation, and recovers the next time.
#[test]
fn a_crash_during_recovery_loses_nothing_more() {
    for (sync, stride) in [(SyncPolicy::Always, 61), (SyncPolicy::Never, 37)] {
        let options = small_options(sync);
        for n in (1..).step_by(stride) {
            let stop = stops(n)[n as usize % 3];
            let Some((disk, outcome)) = run_until(n, stop, &options, 1, 70) else { break };
            for mode in modes(n) {
                crash_during_recovery(&disk, &outcome, &options, (n, stop, mode));
            }
        }
    }
}

fn crash_during_recovery(
    disk: &SimDisk,
    outcome: &Outcome,
    options: &Options,
    (n, stop, mode): (u64, Fault, CrashMode),
) {
    for r in 1.. {
        let found = disk.crash(mode);
        let machine = Machine::new(found.clone());
        machine.disk.fail_at(r, stop);
        let opened = machine.open(options);
        if found.faults_fired() == 0 {
            break;
        }
        assert!(opened.is_err(), "opening goes on without its operation {r}");
        for second in [CrashMode::ProcessKill, CrashMode::power_loss(n * 1000 + r)] {
            let at_least = match (mode, second) {
                (CrashMode::ProcessKill, CrashMode::ProcessKill) => outcome.acknowledged,
                _ => outcome.durable,
            };
            let expected = Expected { at_least, ..Expected::after(outcome, mode) };
            if let Err(why) = check(found.crash(second), options, &expected, n + r) {
                let why =
                    format!("{why}\nafter a second crash, {second:?}, at operation {r} of the recovery");
                report(&format!("{why}\n  {}", found.op_trace().join("\n  ")), n, stop, mode, 1, disk);
            }
        }
    }
}

/// CHECKS 5, 10, 11: the machine stops while the store is created, at every operation.
#[test]
fn a_crash_during_creation_leaves_a_store_that_opens_empty() {
    let options = small_options(SyncPolicy::Always);
    for n in 1.. {
        for stop in stops(n) {
            let machine = Machine::new(SimDisk::new());
            machine.disk.fail_at(n, stop);
            let opened = machine.open(&options);
            if machine.disk.faults_fired() == 0 {
                assert!(n > 8, "creating a store takes only {n} operations");
                return;
            }
            assert!(opened.is_err(), "operation {n}");
            for mode in modes(n).into_iter().chain((0..20).map(|seed| CrashMode::Reorder { seed })) {
                let expected = Expected { history: History::default(), at_least: 0, at_most: 0 };
                if let Err(why) = check(machine.disk.crash(mode), &options, &expected, n) {
                    report(&why, n, stop, mode, 0, &machine.disk);
                }
            }
        }
    }
}
