//! What this front counts.

use std::time::Duration;

use esker_cluster::metrics::{Counter, Histogram, HistogramSnapshot};
use esker_wire::binary::Verb;

/// See the module.
#[derive(Default)]
pub(crate) struct BinaryMetrics {
    /// From the arrival of what came together to the answer; by the verb's place.
    latencies: [Histogram; Verb::ALL.len()],
    /// Answers that were errors, or TRY_LATER.
    pub(crate) errors: Counter,
    pub(crate) connections_accepted: Counter,
    /// Over the cap.
    pub(crate) connections_refused: Counter,
    /// Dropped because the client took nothing of an answer.
    pub(crate) connections_stalled: Counter,
}

impl BinaryMetrics {
    pub(super) fn record(&self, verb: Verb, took: Duration) {
        self.latencies[verb as usize].record(took);
    }

    /// Of each verb that was asked for.
    pub(crate) fn latencies(&self) -> impl Iterator<Item = (&'static str, HistogramSnapshot)> {
        let all = Verb::ALL.iter().zip(&self.latencies);
        all.map(|(verb, latency)| (verb.as_str(), latency.snapshot())).filter(|(_, it)| it.count() > 0)
    }
}
