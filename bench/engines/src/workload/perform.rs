//! Performs one workload on one engine, in a process of its own.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Action, Dataset, Mix, Scale, Wanted, Workload,
    drive::{Latency, Limits, Operation, Outcome, Progress, Recorder, drive},
    sample,
};
use crate::{
    data::{Chooser, KEY_LEN, Key, Random, Values, Zipf, key},
    process,
    result::Figures,
    stores::{Engine, Reader, Settings, Store},
};

/// What a child process is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub engine: Engine,
    pub dir: PathBuf,
    pub settings: Settings,
    pub scale: Scale,
    pub seed: u64,
}

/// Records in a batch where the batch is not what is measured.
const LOAD_BATCH: u64 = 1000;

/// Records put one by one before the process is killed: fewer than any engine brings to its tables by itself, and no multiple of
/// what redb syncs after by itself.
const KILLED_RECORDS: u64 = 404_000;

/// Where keys begin that are never put.
const ABSENT: u64 = 1 << 60;

/// Writes a dataset, not synced, and leaves the store closed and everything on the disk.
pub fn prepare(task: &Task, dataset: Dataset) -> Result<()> {
    let mut store = task.engine.open(&task.dir, &task.settings)?;
    let mut values = Values::new(dataset.value_bytes());
    let records = dataset.records(&task.scale);
    for from in (0..records).step_by(LOAD_BATCH as usize) {
        store.write(&batch(&mut values, from..records.min(from + LOAD_BATCH)))?;
    }
    store.settle()?;
    if dataset == Dataset::MediumMerged {
        store.compact()?;
    }
    store.close()
}

/// Puts more records one by one, says so on the standard output, and waits to be killed.
pub fn fill_and_stay(task: &Task, dataset: Dataset) -> Result<()> {
    let store = task.engine.open(&task.dir, &task.settings)?;
    let mut values = Values::new(dataset.value_bytes());
    let records = dataset.records(&task.scale);
    for i in records..records + task.scale.count(KILLED_RECORDS) {
        store.put(&key(i), values.make(i, 0))?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    // Ends only if whoever started this ends first.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Performs `workload` on the store in the task's directory.
pub fn perform(task: &Task, workload: &Workload) -> Result<Figures> {
    let usage = (process::processor_time(), process::written_bytes());
    if workload.action == Action::Open {
        return open(task, workload, usage);
    }
    let mut store = task.engine.open(&task.dir, &task.settings)?;
    let records = workload.start.dataset().map_or(0, |dataset| dataset.records(&task.scale));
    let stage = Stage::new(task, workload, store.as_ref(), records);
    if !workload.writes() && !workload.beyond_memory() {
        read_all(store.as_ref(), records)?;
    } else if !workload.writes() {
        let time = Duration::from_secs_f64(task.scale.seconds(workload.seconds / 4.0));
        stage.run(Limits { operations: u64::MAX, time }, &Progress::default())?;
    }
    let usage = if workload.start.dataset().is_some() {
        (process::processor_time(), process::written_bytes())
    } else {
        usage
    };
    let progress = Progress::default();
    let (outcome, samples) = if workload.sampled {
        let interval = Duration::from_secs_f64(task.scale.0.clamp(0.05, 1.0));
        sample::sampled(interval, &task.dir, &progress, || stage.run(limits(task, workload), &progress))
    } else {
        (stage.run(limits(task, workload), &progress), Vec::new())
    };
    let outcome = outcome?;
    let rss_anonymous_bytes = process::memory().anonymous;
    let records = records + stage.inserted.load(Ordering::Relaxed);
    let settling = Instant::now();
    if workload.writes() {
        store.settle()?;
    }
    store.close()?;
    let record_bytes = (KEY_LEN + workload.value_bytes) as u64;
    Ok(Figures {
        settle_seconds: settling.elapsed().as_secs_f64(),
        samples,
        rss_anonymous_bytes,
        user_bytes: outcome.written() * record_bytes,
        live_bytes: records * record_bytes,
        ..figures(task, &outcome, usage)
    })
}

/// Reads every record once, so that caches hold what they can hold.
fn read_all(store: &dyn Store, records: u64) -> Result<()> {
    let mut reader = store.reader()?;
    for i in 0..records {
        ensure!(reader.get(&key(i), &mut touch)?, "a record is missing");
    }
    Ok(())
}

impl Outcome {
    /// Records that were written. What reads and writes differs in the count of calls alone for batches, which only write.
    fn written(&self) -> u64 {
        self.operations - self.reads.len()
    }
}

fn limits(task: &Task, workload: &Workload) -> Limits {
    let per_call = if let Action::FillBatches(count) = workload.action { count } else { 1 };
    let calls = workload.operations.map_or(u64::MAX, |operations| {
        (task.scale.count(operations) / per_call).div_ceil(workload.threads as u64)
    });
    let least = if workload.operations.is_some() { 5.0 } else { 0.0 };
    let time = Duration::from_secs_f64(task.scale.seconds(workload.seconds).max(least));
    Limits { operations: calls, time }
}

fn figures(task: &Task, outcome: &Outcome, (processor, written): (Duration, u64)) -> Figures {
    let memory = process::memory();
    Figures {
        operations: outcome.operations,
        seconds: outcome.took.as_secs_f64(),
        latency: outcome.all().unwrap_or_default(),
        reads: Latency::of(&outcome.reads),
        writes: Latency::of(&outcome.writes),
        processor_seconds: (process::processor_time() - processor).as_secs_f64(),
        written_bytes: process::written_bytes() - written,
        disk_bytes: process::disk_bytes(&task.dir),
        rss_peak_bytes: memory.peak,
        rss_anonymous_bytes: memory.anonymous,
        ..Figures::default()
    }
}

/// Opens the store, reads one key, and then looks how many of the records are there that were put last.
fn open(task: &Task, workload: &Workload, usage: (Duration, u64)) -> Result<Figures> {
    let dataset = workload.start.dataset().expect("there is something to open");
    let records = dataset.records(&task.scale);
    let progress = Progress::default();
    let limits = Limits { operations: 1, time: Duration::from_secs(3600) };
    let opened = std::sync::Mutex::new(None);
    let outcome = drive(1, limits, &progress, &|_| {
        Ok(Box::new(|_, recorder: &mut Recorder<'_>| {
            let store = recorder.read(|| {
                let store = task.engine.open(&task.dir, &task.settings)?;
                ensure!(store.reader()?.get(&key(records / 2), &mut touch)?, "a record is missing");
                Ok(store)
            })?;
            *opened.lock().expect("one thread") = Some(store);
            Ok(())
        }))
    })?;
    let figures = figures(task, &outcome, usage);
    let store = opened.into_inner()?.expect("it was opened");
    let mut lost = 0;
    if matches!(workload.start, super::Start::Killed(_)) {
        let mut reader = store.reader()?;
        for i in records..records + task.scale.count(KILLED_RECORDS) {
            lost += u64::from(!reader.get(&key(i), &mut touch)?);
        }
    }
    store.close()?;
    Ok(Figures { lost, live_bytes: records * (KEY_LEN + workload.value_bytes) as u64, ..figures })
}

/// A workload on an open store.
struct Stage<'a> {
    task: &'a Task,
    workload: &'a Workload,
    store: &'a dyn Store,
    records: u64,
    chooser: Chooser,
    /// Records put beyond those that were there.
    inserted: AtomicU64,
}

impl<'a> Stage<'a> {
    fn new(task: &'a Task, workload: &'a Workload, store: &'a dyn Store, records: u64) -> Self {
        let zipfian = matches!(workload.action, Action::Ycsb(_) | Action::Read(Wanted::Zipf));
        let chooser = if zipfian { Chooser::Zipf(Zipf::new(records)) } else { Chooser::Uniform(records) };
        Self { task, workload, store, records, chooser, inserted: AtomicU64::new(0) }
    }

    fn run(&self, limits: Limits, progress: &Progress) -> Result<Outcome> {
        drive(self.workload.threads, limits, progress, &|thread| self.operation(thread))
    }

    fn operation(&self, thread: usize) -> Result<Operation<'_>> {
        let mut random = Random::new(self.task.seed ^ (thread as u64) << 32);
        let mut values = Values::new(self.workload.value_bytes);
        let store = self.store;
        Ok(match self.workload.action {
            Action::Fill => Box::new(move |_, recorder| {
                let i = self.new_records(1);
                let (key, value) = (key(i), values.make(i, 0));
                recorder.write(1, || store.put(&key, value))
            }),
            Action::FillBatches(count) => Box::new(move |_, recorder| {
                let from = self.new_records(count);
                let batch = batch(&mut values, from..from + count);
                recorder.write(count, || store.write(&batch))
            }),
            Action::Overwrite => Box::new(move |generation, recorder| {
                let i = self.chooser.choose(&mut random);
                let (key, value) = (key(i), values.make(i, generation + 1));
                recorder.write(1, || store.put(&key, value))
            }),
            Action::Read(wanted) => self.read(wanted, random)?,
            Action::Scan(count) => {
                let mut reader = store.reader()?;
                Box::new(move |_, recorder| {
                    let from = key(self.chooser.choose(&mut random));
                    recorder.read(|| scan(reader.as_mut(), &from, count))
                })
            }
            Action::Ycsb(mix) => {
                let mut client =
                    Client { stage: self, reader: store.reader()?, random, values, buffer: Vec::new() };
                Box::new(move |_, recorder| client.step(mix, recorder))
            }
            Action::Open => unreachable!("opening has no open store"),
        })
    }

    fn read(&self, wanted: Wanted, mut random: Random) -> Result<Operation<'_>> {
        let mut reader = self.store.reader()?;
        let (present, offset) = if wanted == Wanted::Absent { (false, ABSENT) } else { (true, 0) };
        Ok(Box::new(move |_, recorder| {
            let key = key(offset + self.chooser.choose(&mut random));
            let found = recorder.read(|| reader.get(&key, &mut touch))?;
            ensure!(found == present, "a record is missing, or one too many");
            Ok(())
        }))
    }

    /// The first of `count` records that nobody has put.
    fn new_records(&self, count: u64) -> u64 {
        self.records + self.inserted.fetch_add(count, Ordering::Relaxed)
    }
}

/// One thread of YCSB.
struct Client<'a> {
    stage: &'a Stage<'a>,
    reader: Box<dyn Reader + 'a>,
    random: Random,
    values: Values,
    buffer: Vec<u8>,
}

impl Client<'_> {
    fn step(&mut self, mix: Mix, recorder: &mut Recorder<'_>) -> Result<()> {
        let i = self.stage.chooser.choose(&mut self.random);
        let mut kind = self.random.below(100);
        let mut is = |share| {
            let is = kind < share;
            kind = kind.wrapping_sub(share);
            is
        };
        if is(mix.read) {
            self.read(i, recorder)
        } else if is(mix.update) {
            self.write(i, recorder)
        } else if is(mix.insert) {
            self.write(self.stage.new_records(1), recorder)
        } else if is(mix.scan) {
            self.scan(i, recorder)
        } else {
            self.read_modify_write(i, recorder)
        }
    }

    fn read(&mut self, i: u64, recorder: &mut Recorder<'_>) -> Result<()> {
        let key = key(i);
        let found = recorder.read(|| {
            self.reader.refresh()?;
            self.reader.get(&key, &mut touch)
        })?;
        ensure!(found, "a record is missing");
        Ok(())
    }

    fn write(&mut self, i: u64, recorder: &mut Recorder<'_>) -> Result<()> {
        let (key, value) = (key(i), self.values.make(i, self.random.next()));
        recorder.write(1, || self.stage.store.put(&key, value))
    }

    fn scan(&mut self, i: u64, recorder: &mut Recorder<'_>) -> Result<()> {
        let (from, count) = (key(i), 1 + self.random.below(100) as usize);
        recorder.read(|| {
            self.reader.refresh()?;
            scan(self.reader.as_mut(), &from, count)
        })
    }

    fn read_modify_write(&mut self, i: u64, recorder: &mut Recorder<'_>) -> Result<()> {
        let (key, change) = (key(i), self.random.next());
        let Self { stage, reader, buffer, .. } = self;
        recorder.write(1, || {
            buffer.clear();
            reader.refresh()?;
            ensure!(reader.get(&key, &mut |value| buffer.extend_from_slice(value))?, "a record is missing");
            for (byte, change) in buffer.iter_mut().zip(change.to_le_bytes()) {
                *byte ^= change;
            }
            stage.store.put(&key, buffer)
        })
    }
}

fn batch(values: &mut Values, records: std::ops::Range<u64>) -> Vec<(Key, Vec<u8>)> {
    records.map(|i| (key(i), values.make(i, 0).to_vec())).collect()
}

/// Looks at every cache line of a value, so that no engine gets away with a pointer to what it has not read.
fn touch(value: &[u8]) {
    let sum = value.iter().step_by(64).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    std::hint::black_box(sum);
}

fn scan(reader: &mut dyn Reader, from: &Key, count: usize) -> Result<()> {
    let found = reader.scan(from, count, &mut |key, value| {
        touch(key);
        touch(value);
    })?;
    ensure!(found > 0, "the key to begin with is missing");
    Ok(())
}
