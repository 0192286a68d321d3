//! Tails of latency while Esker merges, beside those of the same load without merges.
//!
//! The load comes at a fixed rate, whatever becomes of it: an operation's latency counts from when it was due, so that a pause
//! is charged for all that had to wait meanwhile (no coordinated omission). Each run begins with a copy of the same store,
//! which was overwritten until it merged again and again; without merges, it is opened with a trigger that is never reached.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use esker_engine::{Db, Options, SyncPolicy, WriteBatch};

use crate::{
    data::{Random, Values, key},
    files,
};

mod load;
mod report;
mod watch;

use load::{Event, Rates, VALUE_BYTES};
use report::{Figures, Run};

#[derive(Debug, clap::Args)]
pub struct TailsArgs {
    /// Where the stores are kept meanwhile, and the figures, a line of JSON for each run.
    #[arg(long)]
    dir: PathBuf,
    /// Records of 1 KiB.
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Of each run.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Runs with merges, and as many without, in turn.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Synced puts a second.
    #[arg(long, default_value_t = 4000)]
    writes: u64,
    /// Gets a second.
    #[arg(long, default_value_t = 8000)]
    reads: u64,
    /// Where the plot goes: of the last run of each kind.
    #[arg(long)]
    plot: PathBuf,
    /// A document whose part of tails becomes the table; without, it is printed only.
    #[arg(long)]
    into: Option<PathBuf>,
}

/// Of one batch of the load before it all.
const LOAD_BATCH: u64 = 1000;

/// The store is in its steady state when it has merged so often.
const MERGES_BEFORE: u64 = 5;

/// A run with fewer merges shows too little.
const MERGES_MIN: u64 = 3;

/// Who is so late with everything that was due within the last second does not take what is offered.
const BEHIND: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(1);

/// More than this can never be dead with a run's writes on top.
const NEVER: f64 = 0.95;

pub fn tails(args: &TailsArgs) -> Result<()> {
    let (prepared, own) = (args.dir.join("prepared"), args.dir.join("own"));
    prepare(&prepared, args.records)?;
    let (mut figures, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        shown.clear();
        for merging in [false, true] {
            files::copy(&prepared, &own)?;
            let run = measure(&own, args, merging)?;
            let of_run = run.figures();
            println!("{of_run}");
            record(&args.dir.join("tails.jsonl"), &of_run)?;
            figures.push(of_run);
            shown.push(run);
        }
    }
    files::remove(&prepared)?;
    files::remove(&own)?;
    report::plot(&args.plot, &shown)?;
    report::table(args, &figures)
}

fn options(merging: bool, sync: SyncPolicy) -> Options {
    let mut options = Options::default();
    options.sync = sync;
    if !merging {
        options.merge_trigger_ratio = NEVER;
    }
    options
}

/// A store that has been overwritten until it merged again and again.
fn prepare(dir: &Path, records: u64) -> Result<()> {
    files::remove(dir)?;
    std::fs::create_dir_all(dir)?;
    let db = Db::open(dir, options(true, SyncPolicy::Never))?;
    let (mut values, mut random) = (Values::new(VALUE_BYTES), Random::new(1));
    let mut write = |records: &mut dyn Iterator<Item = u64>, generation| -> Result<()> {
        let mut batch = WriteBatch::new();
        for i in records {
            batch.put(&key(i), values.make(i, generation))?;
        }
        db.write(batch, None)?;
        Ok(())
    };
    for from in (0..records).step_by(LOAD_BATCH as usize) {
        write(&mut (from..records.min(from + LOAD_BATCH)), 0)?;
    }
    let mut generation = 0;
    while db.stats().merges.merges < MERGES_BEFORE {
        generation += 1;
        write(&mut (0..LOAD_BATCH).map(|_| random.below(records)), generation)?;
    }
    // What was written so fast has left more dead than there is at the rate that is to come.
    db.merge(false)?;
    db.close()?;
    files::sync(dir)
}

fn measure(dir: &Path, args: &TailsArgs, merging: bool) -> Result<Run> {
    let db = Db::open(dir, options(merging, SyncPolicy::Always))?;
    let rates = Rates { reads: args.reads, writes: args.writes };
    let time = Duration::from_secs_f64(args.seconds);
    let (load, watched) = watch::watched(&db, dir, || load::drive(&db, args.records, rates, time));
    let merges = db.stats().merges.merges;
    db.close()?;
    ensure!(merging || merges == 0, "it merged {merges} times though it was not to");
    ensure!(!merging || merges >= MERGES_MIN, "only {merges} merges: let it run longer, or write more");
    let load = load?;
    ensure!(
        keeps_up(&load.reads, time) && keeps_up(&load.writes, time),
        "it cannot keep up with the rate: offer less"
    );
    Ok(Run { load, merging: watched, merges })
}

fn keeps_up(events: &[Event], time: Duration) -> bool {
    let last = events.iter().filter(|event| event.due + LAST > time);
    last.map(|event| event.took).min().is_none_or(|least| least < BEHIND)
}

fn record(path: &Path, figures: &Figures) -> Result<()> {
    let mut out = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(writeln!(out, "{}", serde_json::to_string(figures)?)?)
}
