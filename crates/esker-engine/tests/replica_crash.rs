//! CHECKS 1-3, 5, 6, 12, 13, 16, 19: a replica's machine stops at any disk operation, and comes back with every vote and
//! entry that it promised, the state at some index that it promised to have reached, and goes on from there.

use crate::common;

use common::{
    Machine, is_power_off,
    replica::{Agreed, Known, Planner, Step, check, choices, open, run},
    seed_factor,
    survival::modes,
};
use esker_log::disk::sim::{CrashMode, Fault, SimDisk};

const STOPS: [Fault; 3] = [Fault::Crash, Fault::CrashAfter(50), Fault::CrashAfter(900)];

fn workload(seed: u64) -> (Agreed, Vec<Step>) {
    let agreed = Agreed::new(seed, 40);
    let steps = Planner::plan(&agreed, choices(seed, 60));
    (agreed, steps)
}

/// Runs the workload with `stop` at operation `n`; `None` once it ends before.
fn run_until(n: u64, stop: Fault, agreed: &Agreed, steps: &[Step]) -> Option<(SimDisk, Known)> {
    let machine = Machine::new(SimDisk::new());
    machine.disk.fail_at(n, stop);
    let known = run(&machine, agreed, steps);
    let disk = machine.disk;
    let stopped = match &known.error {
        Some(error) => {
            assert!(is_power_off(error), "operation {n}: {error}");
            true
        }
        None => known.stopped,
    };
    stopped.then_some((disk, known))
}

fn report(why: &str, place: (u64, u64, Fault, CrashMode), disk: &SimDisk) -> ! {
    let (seed, n, stop, mode) = place;
    let trace = disk.op_trace().join("\n  ");
    panic!("workload {seed}, operation {n} ({stop:?}), {mode:?}: {why}\nlast operations:\n  {trace}")
}

fn crash_everywhere(seed: u64) {
    let (agreed, steps) = workload(seed);
    for n in 1.. {
        let stop = STOPS[n as usize % 3];
        let Some((disk, known)) = run_until(n, stop, &agreed, &steps) else {
            assert!(n > 100, "the workload has only {n} operations");
            return;
        };
        for (number, mode) in modes(n).into_iter().enumerate() {
            if let Err(why) = check(disk.crash(mode), &agreed, &known, n + number as u64) {
                report(&why, (seed, n, stop, mode), &disk);
            }
        }
    }
}

#[test]
fn what_was_promised_survives_a_crash_at_every_operation() {
    for seed in 0..seed_factor() {
        crash_everywhere(seed);
    }
}

#[test]
fn other_histories_survive_as_well() {
    for seed in 1000..1000 + seed_factor() {
        crash_everywhere(seed);
    }
}

/// The machine stops again while it recovers, at every operation, and recovers the next time.
#[test]
fn a_crash_during_recovery_loses_nothing_more() {
    let (agreed, steps) = workload(7);
    for n in (1..).step_by(67) {
        let stop = STOPS[n as usize % 3];
        let Some((disk, known)) = run_until(n, stop, &agreed, &steps) else { break };
        for mode in modes(n) {
            for r in 1.. {
                let machine = Machine::new(disk.crash(mode));
                machine.disk.fail_at(r, stop);
                let opened = open(&machine);
                if machine.disk.faults_fired() == 0 {
                    break;
                }
                drop(opened);
                for second in [CrashMode::ProcessKill, CrashMode::power_loss(n * 1000 + r)] {
                    if let Err(why) = check(machine.disk.crash(second), &agreed, &known, n + r) {
                        let why =
                            format!("{why}\nafter a second crash, {second:?}, at operation {r} of recovery");
                        report(&why, (7, n, stop, mode), &machine.disk);
                    }
                }
            }
        }
    }
}
