//! What this front counts.

use std::time::Duration;

use esker_cluster::metrics::{Counter, Histogram, HistogramSnapshot};

use super::table::TABLE;

/// See the module.
pub(crate) struct RespMetrics {
    /// Commands answered, by their place in the table, with how long what came together took; queued ones count when they are queued.
    commands: Vec<Histogram>,
    /// All of them.
    pub(crate) commands_total: Counter,
    /// Answers that were errors.
    pub(crate) errors: Counter,
    /// From a pipeline's arrival to its answers.
    pipeline: Histogram,
    pub(crate) connections_accepted: Counter,
    /// Over the cap.
    pub(crate) connections_refused: Counter,
    /// Dropped because the client took nothing of an answer.
    pub(crate) connections_stalled: Counter,
}

impl Default for RespMetrics {
    fn default() -> Self {
        Self {
            commands: TABLE.iter().map(|_| Histogram::default()).collect(),
            commands_total: Counter::default(),
            errors: Counter::default(),
            pipeline: Histogram::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_stalled: Counter::default(),
        }
    }
}

impl RespMetrics {
    /// What came together was answered: so many commands of each place in the table.
    pub(super) fn answered(&self, commands: impl Iterator<Item = (usize, u64)>, took: Duration) {
        for (place, count) in commands {
            self.commands[place].record_many(took, count);
            self.commands_total.add(count);
        }
        self.pipeline.record(took);
    }

    /// Of each command that was run, by name.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static str, HistogramSnapshot)> {
        let all = TABLE.iter().zip(&self.commands).map(|(spec, times)| (spec.name, times.snapshot()));
        all.filter(|(_, times)| times.count() > 0)
    }

    /// Of what came together.
    pub(crate) fn pipeline(&self) -> HistogramSnapshot {
        self.pipeline.snapshot()
    }
}
