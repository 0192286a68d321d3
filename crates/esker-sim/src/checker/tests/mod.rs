//! The checkers on histories known to be good and bad.

mod brute_force;
mod known;
mod load;
mod random;

use std::time::Duration;

use bytes::Bytes;
use esker_cluster::Consistency;

use crate::history::{Action, History, Moment, Operation, Outcome, Restart, Versioned};

/// Builds histories by hand.
#[derive(Default)]
pub(super) struct Story(History);

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> Action {
    Action::Put { key: bytes(key), value: bytes(value) }
}

pub(super) fn delete(key: &str) -> Action {
    Action::Delete { key: bytes(key) }
}

pub(super) fn get(key: &str) -> Action {
    Action::Get { key: bytes(key), consistency: Consistency::Linearizable }
}

pub(super) fn stale_get(key: &str) -> Action {
    Action::Get { key: bytes(key), consistency: Consistency::Stale }
}

pub(super) fn scan(prefix: &str) -> Action {
    Action::Scan { prefix: bytes(prefix), consistency: Consistency::Stale }
}

pub(super) fn batch(keys: &[&str], value: &str) -> Action {
    Action::Batch { writes: keys.iter().map(|key| (bytes(key), Some(bytes(value)))).collect() }
}

pub(super) fn done(version: u64) -> Outcome {
    Outcome::Written { version: Some(version) }
}

pub(super) fn found(value: &str, version: u64) -> Outcome {
    Outcome::Read { found: Some(Versioned { value: bytes(value), version }), applied: None }
}

pub(super) fn absent() -> Outcome {
    Outcome::Read { found: None, applied: None }
}

pub(super) fn scanned(items: &[(&str, &str, u64)]) -> Outcome {
    let item = |(key, value, version): &(&str, &str, u64)| {
        (bytes(key), Versioned { value: bytes(value), version: *version })
    };
    Outcome::Scanned { found: items.iter().map(item).collect(), applied: None }
}

pub(super) fn refused() -> Outcome {
    Outcome::Refused("busy".into())
}

pub(super) fn unknown() -> Outcome {
    Outcome::Unknown("timed out".into())
}

fn moment(order: u64) -> Moment {
    Moment { order, at: Duration::from_millis(order) }
}

impl Story {
    /// An operation from `call` to `end`, on node 1, each by a client of its own.
    pub(super) fn op(mut self, call: u64, end: u64, action: Action, outcome: Outcome) -> Self {
        let client = self.0.operations.len() as u32;
        let (call, end) = (moment(call), Some(moment(end)));
        self.0.operations.push(Operation { client, node: Some(1), action, call, end, outcome });
        self
    }

    pub(super) fn restart(mut self, at: u64) -> Self {
        self.0.restarts.push(Restart { node: 1, at: moment(at) });
        self
    }

    pub(super) fn history(self) -> History {
        self.0
    }
}
