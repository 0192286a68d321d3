//! What this front counts.

use esker_cluster::metrics::{Counter, Histogram};

use super::table::TABLE;

/// See the module.
pub(crate) struct RespMetrics {
    /// Commands run, by their place in the table; queued ones count when they are queued.
    commands: Vec<Counter>,
    /// Answers that were errors.
    pub(crate) errors: Counter,
    /// From a pipeline's arrival to its answers.
    pub(crate) pipeline: Histogram,
    pub(crate) connections_accepted: Counter,
    /// Over the cap.
    pub(crate) connections_refused: Counter,
    /// Dropped because the client took nothing of an answer.
    pub(crate) connections_stalled: Counter,
}

impl Default for RespMetrics {
    fn default() -> Self {
        Self {
            commands: TABLE.iter().map(|_| Counter::default()).collect(),
            errors: Counter::default(),
            pipeline: Histogram::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_stalled: Counter::default(),
        }
    }
}

impl RespMetrics {
    /// Counts a command by its place in the table.
    pub(crate) fn count(&self, place: usize) {
        self.commands[place].add_one();
    }

    /// How often each command was run, by name.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TABLE.iter().zip(&self.commands).map(|(spec, count)| (spec.name, count.get()))
    }

    pub(crate) fn commands_total(&self) -> u64 {
        self.commands.iter().map(Counter::get).sum()
    }
}
