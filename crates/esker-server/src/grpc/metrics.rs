//! What this front counts.

use std::{sync::atomic::AtomicUsize, time::Duration};

use esker_cluster::metrics::{Counter, Histogram, HistogramSnapshot};
use tonic::Code;

use super::methods::METHODS;

/// The codes that there are, by number, as the protocol spells them.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A code as the protocol spells it.
pub(super) fn spelled(code: Code) -> &'static str {
    CODES[code as usize]
}

/// See the module.
pub(crate) struct GrpcMetrics {
    /// By the method's place. On the heap: a counter has a cache line a thread.
    calls: Vec<CallMetrics>,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_accepted: Counter,
    /// Over the cap.
    pub(crate) connections_refused: Counter,
    /// Dropped because the client took nothing of an answer.
    pub(crate) connections_stalled: Counter,
    /// Dropped because the client gave up too many calls.
    pub(crate) connections_abusive: Counter,
}

struct CallMetrics {
    /// To the head of the answer.
    latency: Histogram,
    /// By the code's number.
    codes: Vec<Counter>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self { latency: Histogram::default(), codes: CODES.iter().map(|_| Counter::default()).collect() }
    }
}

impl Default for GrpcMetrics {
    fn default() -> Self {
        Self {
            calls: METHODS.iter().map(|_| CallMetrics::default()).collect(),
            connections: AtomicUsize::new(0),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_stalled: Counter::default(),
            connections_abusive: Counter::default(),
        }
    }
}

impl GrpcMetrics {
    /// An answer begins.
    pub(super) fn began(&self, method: usize, took: Duration) {
        self.calls[method].latency.record(took);
    }

    /// A call has ended.
    pub(super) fn ended(&self, method: usize, code: Code) {
        self.calls[method].codes[code as usize].add_one();
    }

    /// How many calls of each method ended with each code, by their names.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = METHODS.iter().zip(&self.calls);
        all.flat_map(|(method, calls)| {
            CODES.iter().zip(&calls.codes).map(|(code, count)| (method.name, *code, count.get()))
        })
    }

    /// How long each method took, by name.
    pub(crate) fn latencies(&self) -> impl Iterator<Item = (&'static str, HistogramSnapshot)> {
        METHODS.iter().zip(&self.calls).map(|(method, calls)| (method.name, calls.latency.snapshot()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_as_they_are_numbered() {
        for (number, spelled) in CODES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            assert_eq!(format!("{code:?}").to_lowercase(), spelled.replace('_', "").to_lowercase());
        }
    }
}
