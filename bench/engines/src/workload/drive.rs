//! Runs an operation on several threads until its count or its time is used up, and records how long each took.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of each thread.
    pub operations: u64,
    pub time: Duration,
}

/// What a sampler looks at while threads are running.
#[derive(Debug, Default)]
pub struct Progress {
    pub operations: AtomicU64,
    /// The slowest operation since it was last looked at, in nanoseconds.
    pub slowest: AtomicU64,
}

/// What came of it.
pub struct Outcome {
    pub operations: u64,
    pub took: Duration,
    pub reads: Histogram<u64>,
    pub writes: Histogram<u64>,
}

/// The usual quantiles, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let max = histogram.max() as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max })
    }
}

impl Outcome {
    pub fn all(&self) -> Option<Latency> {
        let mut all = self.reads.clone();
        all.add(&self.writes).expect("both resize themselves");
        Latency::of(&all)
    }
}

/// Takes the time of one thread's operations.
pub struct Recorder<'a> {
    progress: &'a Progress,
    operations: u64,
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    now: Instant,
}

impl<'a> Recorder<'a> {
    fn new(progress: &'a Progress) -> Self {
        Self { progress, operations: 0, reads: histogram(), writes: histogram(), now: Instant::now() }
    }

    /// One read.
    pub fn read<T>(&mut self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let (result, nanoseconds) = self.time(1, operation);
        self.reads.record(nanoseconds).expect("it grows");
        result
    }

    /// One call that writes `count` records.
    pub fn write<T>(&mut self, count: u64, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let (result, nanoseconds) = self.time(count, operation);
        self.writes.record(nanoseconds).expect("it grows");
        result
    }

    fn time<T>(&mut self, count: u64, operation: impl FnOnce() -> Result<T>) -> (Result<T>, u64) {
        let began = Instant::now();
        let result = operation();
        self.now = Instant::now();
        let nanoseconds = (self.now - began).as_nanos() as u64;
        self.operations += count;
        self.progress.operations.fetch_add(count, Ordering::Relaxed);
        if nanoseconds > self.progress.slowest.load(Ordering::Relaxed) {
            self.progress.slowest.fetch_max(nanoseconds, Ordering::Relaxed);
        }
        (result, nanoseconds)
    }
}

/// Two digits, which keeps it small where memory is scarce; grows with what is recorded.
fn histogram() -> Histogram<u64> {
    Histogram::new(2).expect("two digits are allowed")
}

/// One thread's operation; its argument counts up from 0.
pub type Operation<'a> = Box<dyn FnMut(u64, &mut Recorder<'_>) -> Result<()> + 'a>;

/// Calls the operation that `make` gives to each thread until a limit is reached.
pub fn drive<'a>(
    threads: usize,
    limits: Limits,
    progress: &Progress,
    make: &(dyn Fn(usize) -> Result<Operation<'a>> + Sync),
) -> Result<Outcome> {
    let ready = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let ready = &ready;
                scope.spawn(move || {
                    let operation = make(thread);
                    let mut recorder = Recorder::new(progress);
                    ready.wait();
                    let began = Instant::now();
                    run(operation?, limits, &mut recorder)?;
                    anyhow::Ok((began, recorder))
                })
            })
            .collect();
        let mut outcome =
            Outcome { operations: 0, took: Duration::ZERO, reads: histogram(), writes: histogram() };
        let mut span: Option<(Instant, Instant)> = None;
        for thread in running {
            let (began, recorder) = thread.join().expect("no thread panics")?;
            let (first, last) = span.unwrap_or((began, recorder.now));
            span = Some((first.min(began), last.max(recorder.now)));
            outcome.operations += recorder.operations;
            outcome.reads.add(&recorder.reads)?;
            outcome.writes.add(&recorder.writes)?;
        }
        outcome.took = span.map_or(Duration::ZERO, |(first, last)| last - first);
        Ok(outcome)
    })
}

fn run(mut operation: Operation<'_>, limits: Limits, recorder: &mut Recorder<'_>) -> Result<()> {
    let end = Instant::now() + limits.time;
    for i in 0..limits.operations {
        operation(i, recorder)?;
        if recorder.now >= end {
            break;
        }
    }
    Ok(())
}
