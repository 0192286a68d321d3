//! Figures over time, for the plots.

use std::{
    path::Path,
    sync::{Condvar, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::drive::Progress;
use crate::process;

/// How things stand, `seconds` after the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    pub seconds: f64,
    /// Since the sample before, as a rate.
    pub rate: f64,
    /// The slowest operation since the sample before.
    pub slowest_ms: f64,
    /// Since the start.
    pub written_bytes: u64,
    pub disk_bytes: u64,
    pub rss_bytes: u64,
}

/// Runs `work` and takes a sample every `interval` meanwhile.
pub fn sampled<T>(
    interval: Duration,
    dir: &Path,
    progress: &Progress,
    work: impl FnOnce() -> T,
) -> (T, Vec<Sample>) {
    let done = (Mutex::new(false), Condvar::new());
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| take(interval, dir, progress, &done));
        let result = work();
        *done.0.lock().expect("nobody panics holding it") = true;
        done.1.notify_all();
        (result, sampler.join().expect("the sampler does not panic"))
    })
}

fn take(interval: Duration, dir: &Path, progress: &Progress, done: &(Mutex<bool>, Condvar)) -> Vec<Sample> {
    let (began, before) = (Instant::now(), process::written_bytes());
    let (mut last, mut operations) = (began, 0);
    let mut samples = Vec::new();
    let mut stop = done.0.lock().expect("nobody panics holding it");
    while !*stop {
        stop = done.1.wait_timeout_while(stop, interval, |stop| !*stop).expect("nobody panics holding it").0;
        let (now, count) = (Instant::now(), progress.operations.load(Ordering::Relaxed));
        // What is left at the end may be too short for a rate.
        if *stop && now - last < interval / 2 && !samples.is_empty() {
            break;
        }
        samples.push(Sample {
            seconds: (now - began).as_secs_f64(),
            rate: (count - operations) as f64 / (now - last).as_secs_f64(),
            slowest_ms: progress.slowest.swap(0, Ordering::Relaxed) as f64 / 1e6,
            written_bytes: process::written_bytes() - before,
            disk_bytes: process::disk_bytes(dir),
            rss_bytes: process::memory().rss,
        });
        (last, operations) = (now, count);
    }
    samples
}
