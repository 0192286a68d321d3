//! What operations took.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::workload::Kind;

/// Three significant digits: latencies are right to a thousandth.
const DIGITS: u8 = 3;

/// One kind's figures. Latencies are in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) latency: Histogram<u64>,
    /// Keys that were not there.
    pub(super) missed: u64,
    pub(super) errors: u64,
}

/// The figures of a run or of a part of it.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    rows: [Row; Kind::ALL.len()],
    first_error: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new(DIGITS).expect("three digits are allowed");
        Self {
            rows: std::array::from_fn(|_| Row { latency: latency.clone(), missed: 0, errors: 0 }),
            first_error: None,
        }
    }

    /// An operation ended; `Ok(false)` where its key was absent.
    pub(super) fn record(&mut self, kind: Kind, took: Duration, outcome: Result<bool, String>) {
        let row = &mut self.rows[kind as usize];
        match outcome {
            Ok(found) => {
                row.missed += u64::from(!found);
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                row.latency.record(nanos).expect("the histogram grows as needed");
            }
            Err(error) => {
                row.errors += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (row, theirs) in self.rows.iter_mut().zip(&other.rows) {
            row.latency.add(&theirs.latency).expect("both histograms grow as needed");
            row.missed += theirs.missed;
            row.errors += theirs.errors;
        }
        if self.first_error.is_none() {
            self.first_error = other.first_error;
        }
    }

    /// The kinds that occurred.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Kind, &Row)> {
        Kind::ALL.into_iter().zip(&self.rows).filter(|(_, row)| row.errors > 0 || !row.latency.is_empty())
    }

    pub(super) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }
}
