//! What a store must hold after a crash, and whether it does.

use esker_engine::{Options, SyncPolicy};
use esker_log::disk::sim::{CrashMode, SimDisk};

use super::{
    Machine, Rng,
    model::{History, Op, batch, compare},
    seed_factor,
    workload::{Outcome, key, universe},
};

/// What a recovered store may hold.
pub(crate) struct Expected {
    pub(crate) history: History,
    /// It must hold so many batches,
    pub(crate) at_least: usize,
    /// and at most so many.
    pub(crate) at_most: usize,
}

impl Expected {
    pub(crate) fn after(outcome: &Outcome, mode: CrashMode) -> Self {
        let at_least = match mode {
            CrashMode::ProcessKill => outcome.acknowledged,
            _ => outcome.durable,
        };
        Self { history: outcome.history.clone(), at_least, at_most: outcome.history.len() }
    }
}

pub(crate) fn modes(seed: u64) -> Vec<CrashMode> {
    let mut rng = Rng::new(seed);
    let mut modes = vec![CrashMode::ProcessKill, CrashMode::DropUnsynced, CrashMode::KeepUnsynced];
    for _ in 0..2 * seed_factor() {
        modes.push(CrashMode::Prefix { seed: rng.next() });
        modes.push(CrashMode::Reorder { seed: rng.next() });
    }
    modes
}

/// Opens what a crash left, compares, writes on, and opens it again.
pub(crate) fn check(disk: SimDisk, options: &Options, expected: &Expected, seed: u64) -> Result<(), String> {
    let machine = Machine::new(disk);
    let db = machine.open(options).map_err(|e| format!("opening: {e}"))?;
    let batches = db.stats().version as usize;
    if batches < expected.at_least || batches > expected.at_most {
        let allowed = expected.at_least..=expected.at_most;
        return Err(format!("{batches} batches are there, not {allowed:?}; {:?}", db.open_report()));
    }
    let universe = universe();
    compare(&db, expected.history.after(batches), &universe)?;

    let mut history = expected.history.clone();
    history.truncate(batches);
    for ops in more_writes(seed) {
        history.push(&ops);
        let committed =
            db.write(batch(&ops), Some(SyncPolicy::Always)).map_err(|e| format!("writing on: {e}"))?;
        if committed.version as usize != history.len() {
            return Err(format!("version {} instead of {}", committed.version, history.len()));
        }
    }
    compare(&db, history.last(), &universe)?;
    let again = if seed.is_multiple_of(2) {
        db.close().map_err(|e| format!("closing: {e}"))?;
        drop(db);
        machine.clone()
    } else {
        Machine::new(machine.disk.crash(CrashMode::power_loss(seed)))
    };
    let db = again.open(options).map_err(|e| format!("opening again: {e}"))?;
    compare(&db, history.last(), &universe).map_err(|why| format!("opened again: {why}"))?;
    let report = db.verify(&mut |_, _| Ok(())).map_err(|e| format!("verifying: {e}"))?;
    if report.damage.is_empty() { Ok(()) } else { Err(format!("verify finds {:?}", report.damage)) }
}

fn more_writes(seed: u64) -> Vec<Vec<Op>> {
    let mut rng = Rng::new(!seed);
    (0..3)
        .map(|n| {
            let value = vec![n as u8; rng.below(300) as usize];
            vec![Op::Put(key(rng.below(24)), value), Op::Delete(key(rng.below(24)))]
        })
        .collect()
}
