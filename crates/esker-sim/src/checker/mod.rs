//! Whether what clients saw keeps what Esker promises.
//!
//! [`check`] holds a [`History`] against the promises that need nothing else; [`check_end_state`],
//! [`check_replicas_equal`] and [`check_progress`] need to be told more. A failure carries the operations that show it,
//! as few as were found to suffice.

mod batches;
mod end_state;
mod linear;
mod linearizability;
mod minimize;
mod monotonic;
mod progress;
mod register;
#[cfg(test)]
mod tests;
mod versions;

use std::fmt;

use crate::history::History;

pub use end_state::{State, check_end_state, check_replicas_equal};
pub use linear::Bounds;
pub use progress::check_progress;
pub use versions::VersionOrder;

/// What to hold a history against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promises {
    /// How far versions follow real time.
    pub versions: VersionOrder,
    /// When the search for linearizability gives up.
    pub bounds: Bounds,
}

/// A promise that was not kept, or not shown to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which check failed.
    pub check: &'static str,
    /// What is wrong.
    pub message: String,
    /// The operations that show it, by their position in the history.
    pub operations: Vec<usize>,
}

impl Failure {
    pub(crate) fn new(check: &'static str, message: String, operations: Vec<usize>) -> Self {
        Self { check, message, operations }
    }

    /// The failure with its operations, one a line.
    pub fn explain(&self, history: &History) -> String {
        use fmt::Write as _;

        /// More do not help a reader.
        const SHOWN: usize = 40;
        let mut text = format!("{}: {}\n", self.check, self.message);
        for operation in self.operations.iter().take(SHOWN).filter_map(|at| history.operations.get(*at)) {
            writeln!(text, "  {operation}").expect("a String takes everything");
        }
        if self.operations.len() > SHOWN {
            writeln!(text, "  … and {} more", self.operations.len() - SHOWN)
                .expect("a String takes everything");
        }
        text
    }
}

/// Holds a history against the promises; nothing if all are kept.
pub fn check(history: &History, promises: Promises) -> Vec<Failure> {
    let mut failures = linearizability::check(history, promises.bounds);
    failures.extend(batches::check(history));
    failures.extend(versions::check(history, promises.versions));
    failures.extend(monotonic::check(history));
    failures
}

/// Panics with an explanation if there are failures; `replay` says how to make them happen again.
///
/// # Panics
///
/// If `failures` is not empty.
pub fn assert_none(failures: &[Failure], history: &History, replay: &str) {
    /// The first ones mostly share their cause with the others.
    const SHOWN: usize = 5;
    let shown: String = failures.iter().take(SHOWN).map(|failure| failure.explain(history)).collect();
    assert!(failures.is_empty(), "{} promises not kept; replay: {replay}\n{shown}", failures.len());
}
