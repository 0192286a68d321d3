//! What happened in a simulation, line by line with virtual times: for reading, and for telling whether two runs
//! under one seed were the same.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many of the last lines are kept; the digest covers all.
const LINES_KEPT: usize = 100_000;

/// A log of a simulation; clones share it.
#[derive(Debug, Clone)]
pub struct Trace {
    start: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    /// The number of lines ever noted.
    count: u64,
    digest: u64,
}

/// All that is compared of two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// How many lines there were.
    pub count: u64,
    /// FNV-1a of them all.
    pub digest: u64,
    /// The last ones.
    pub lines: VecDeque<String>,
}

impl Trace {
    /// An empty one; its times count from now. Needs a tokio runtime.
    pub fn new() -> Self {
        Self { start: Instant::now(), inner: Arc::default() }
    }

    /// Notes a line.
    pub fn note(&self, what: impl fmt::Display) {
        let line = format!("{:>12.6} {what}", self.elapsed().as_secs_f64());
        let mut inner = self.inner.lock();
        let before = if inner.count == 0 { 0xcbf2_9ce4_8422_2325 } else { inner.digest };
        inner.digest = line
            .bytes()
            .chain([b'\n'])
            .fold(before, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        inner.count += 1;
        if inner.lines.len() == LINES_KEPT {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The last lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.inner.lock().lines.iter().cloned().collect()
    }

    /// What is compared of two runs.
    pub fn fingerprint(&self) -> Fingerprint {
        let inner = self.inner.lock();
        Fingerprint { count: inner.count, digest: inner.digest, lines: inner.lines.clone() }
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}
