//! A deterministic workload, and what is known of it when the machine stops.

use std::time::Duration;

use esker_engine::{Condition, Db, Error, Options, SyncPolicy};

use super::{
    Machine, Rng,
    model::{History, Op, batch},
};

/// One thing that the workload does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(Vec<Op>, Option<SyncPolicy>),
    Sync,
    Checkpoint,
    /// Merges what is worth it, or everything.
    Merge(bool),
    /// Time passes and maintenance runs.
    Maintain(Duration),
    /// The store is closed and opened again.
    Reopen,
}

impl Step {
    pub(crate) fn is_write(&self) -> bool {
        matches!(self, Self::Write(..))
    }
}

/// What is known when a run ends.
#[derive(Clone)]
pub(crate) struct Outcome {
    /// The batches that were acknowledged, in order, and behind them the one under way if there is one.
    pub(crate) history: History,
    /// How many batches were acknowledged.
    pub(crate) acknowledged: usize,
    /// How many of those must survive a power loss.
    pub(crate) durable: usize,
    /// Why the run ended early, if it did.
    pub(crate) error: Option<Error>,
}

impl Outcome {
    fn new() -> Self {
        Self { history: History::default(), acknowledged: 0, durable: 0, error: None }
    }
}

pub(crate) fn key(number: u64) -> Vec<u8> {
    format!("key/{number:02}").into_bytes()
}

/// All keys that the workload may touch.
pub(crate) fn universe() -> Vec<Vec<u8>> {
    (0..KEYS).map(key).collect()
}

const KEYS: u64 = 24;

fn value(rng: &mut Rng, unique: u64) -> Vec<u8> {
    let len = match rng.below(12) {
        0 => 0,
        1 => 900,
        n => n * 13,
    };
    let mut value = vec![unique as u8; len as usize];
    for (at, byte) in value.iter_mut().enumerate().take(8) {
        *byte = unique.to_be_bytes()[at];
    }
    value
}

fn operations(rng: &mut Rng, unique: u64) -> Vec<Op> {
    let count = if rng.below(3) == 0 { 2 + rng.below(5) } else { 1 };
    (0..count)
        .map(|i| {
            let key = key(rng.below(KEYS));
            let delete = rng.below(4) == 0;
            match rng.below(16) {
                _ if delete => Op::Delete(key),
                0 | 1 => Op::Add(key, unique as i64),
                2 => Op::PutExpiring(key, value(rng, unique * 16 + i)),
                3 => {
                    Op::DeleteRange(key.clone(), format!("key/{:02}", rng.below(KEYS)).into_bytes().max(key))
                }
                _ => Op::Put(key, value(rng, unique * 16 + i)),
            }
        })
        .collect()
}

/// Now and then a condition on top, which may make the batch void.
fn with_condition(rng: &mut Rng, ops: Vec<Op>, unique: u64) -> Vec<Op> {
    let condition = match rng.below(16) {
        0 => Condition::Absent,
        1 => Condition::Present,
        2 => Condition::Version(1 + rng.below(unique + 1)),
        _ => return ops,
    };
    std::iter::once(Op::Require(key(rng.below(KEYS)), condition)).chain(ops).collect()
}

/// `count` writes with syncs, checkpoints, maintenance and reopenings in between.
pub(crate) fn steps(seed: u64, count: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut steps = Vec::new();
    for unique in 0..count {
        let sync = (rng.below(9) == 0).then_some(SyncPolicy::Always);
        let ops = operations(&mut rng, unique);
        steps.push(Step::Write(with_condition(&mut rng, ops, unique), sync));
        match rng.below(24) {
            0 => steps.push(Step::Sync),
            1 => steps.push(Step::Checkpoint),
            2 => steps.push(Step::Reopen),
            7 => steps.push(Step::Merge(rng.below(2) == 0)),
            3..=6 => steps.push(Step::Maintain(Duration::from_millis(rng.below(400)))),
            _ => {}
        }
    }
    steps
}

/// Runs `steps` on `machine`, from opening the store to just before closing it, until one fails.
pub(crate) fn run(machine: &Machine, options: &Options, steps: &[Step]) -> Outcome {
    let mut outcome = Outcome::new();
    if let Err(error) = try_run(machine, options, steps, &mut outcome) {
        outcome.error = Some(error);
    }
    outcome
}

fn try_run(machine: &Machine, options: &Options, steps: &[Step], outcome: &mut Outcome) -> Result<(), Error> {
    let mut db = machine.open(options)?;
    for step in steps {
        match step {
            Step::Write(ops, sync) => write(&db, options, ops, *sync, outcome)?,
            Step::Sync => {
                db.sync()?;
                outcome.durable = outcome.acknowledged;
            }
            Step::Checkpoint => {
                db.checkpoint()?;
                outcome.durable = outcome.acknowledged;
            }
            Step::Merge(all) => {
                db.merge(*all)?;
                outcome.durable = outcome.acknowledged;
            }
            Step::Maintain(pause) => {
                machine.clock.advance(*pause);
                db.maintain();
                if let Some(why) = db.stats().poisoned {
                    return Err(Error::Poisoned(why.into()));
                }
            }
            Step::Reopen => {
                db.close()?;
                outcome.durable = outcome.acknowledged;
                drop(db);
                db = machine.open(options)?;
            }
        }
    }
    // The process is killed here: nobody closes the store.
    if !machine.disk.is_off() {
        machine.disk.fail_at(1, esker_log::disk::sim::Fault::Crash);
    }
    Ok(())
}

fn write(
    db: &Db,
    options: &Options,
    ops: &[Op],
    sync: Option<SyncPolicy>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let expected = outcome.history.push(ops);
    let committed = db.write(batch(ops), sync)?;
    outcome.acknowledged += 1;
    assert_eq!(committed.version, outcome.acknowledged as u64, "versions count the batches");
    assert_eq!(committed, expected);
    if sync.unwrap_or(options.sync).stronger(options.sync) == SyncPolicy::Always {
        outcome.durable = outcome.acknowledged;
    }
    Ok(())
}
