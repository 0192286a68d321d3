//! How things stand with a process and its store.

use std::{fs, mem::replace, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use esker_client::Client;
use esker_log::clock::{Clock, SystemClock};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::Running;

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// As allocated.
    pub(crate) disk_bytes: u64,
    pub(crate) rss_bytes: u64,
    /// What the program has of the allocator.
    pub(crate) allocated_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) operations_per_second: f64,
    pub(crate) put_p999_ms: f64,
    pub(crate) get_p999_ms: f64,
}

impl Sample {
    pub(crate) fn to_json(&self, phase: &str) -> Value {
        json!({
            "phase": phase,
            "seconds": self.at.as_secs_f64(),
            "disk_bytes": self.disk_bytes,
            "rss_bytes": self.rss_bytes,
            "allocated_bytes": self.allocated_bytes,
            "open_files": self.open_files,
            "operations_per_second": self.operations_per_second,
            "put_p999_ms": self.put_p999_ms,
            "get_p999_ms": self.get_p999_ms,
        })
    }
}

/// Looks at one process and its directory.
pub(crate) struct Sampler {
    process: String,
    dir: PathBuf,
    clock: SystemClock,
    began: Duration,
    last: Duration,
}

impl Sampler {
    pub(crate) fn new(process: String, dir: PathBuf) -> Self {
        let clock = SystemClock::new();
        let now = clock.monotonic();
        Self { process, dir, clock, began: now, last: now }
    }

    /// From here on it is measured.
    pub(crate) fn begin(&mut self, running: &Running) {
        let _before = running.take();
        self.began = self.clock.monotonic();
        self.last = self.began;
    }

    /// Since then.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.monotonic() - self.began
    }

    pub(crate) async fn take(&mut self, running: &Running, client: &Client) -> Sample {
        let allocated_bytes = allocated_bytes(client).await;
        let (now, done) = (self.clock.monotonic(), running.take());
        let since = (now - replace(&mut self.last, now)).as_secs_f64();
        Sample {
            at: now - self.began,
            disk_bytes: self.disk_bytes(),
            rss_bytes: self.rss_bytes(),
            allocated_bytes,
            open_files: fs::read_dir(format!("/proc/{}/fd", self.process)).unwrap().count() as u64,
            operations_per_second: done.operations as f64 / since,
            put_p999_ms: p999_ms(&done.puts),
            get_p999_ms: p999_ms(&done.gets),
        }
    }

    /// Files that go meanwhile do not count.
    fn disk_bytes(&self) -> u64 {
        let files = fs::read_dir(&self.dir).unwrap().flatten().filter_map(|entry| entry.metadata().ok());
        files.map(|file| file.blocks() * 512).sum()
    }

    fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

/// As the server's allocator counts them.
async fn allocated_bytes(client: &Client) -> u64 {
    let metrics = client.metrics().await.unwrap();
    let mut lines = metrics.lines();
    let figure = lines.find_map(|line| line.strip_prefix("esker_memory_allocated_bytes ")).unwrap();
    figure.parse::<f64>().unwrap() as u64
}

fn p999_ms(histogram: &Histogram<u64>) -> f64 {
    histogram.value_at_quantile(0.999) as f64 / 1e6
}
