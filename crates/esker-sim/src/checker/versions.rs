//! Versions: one sequence, in the order of real time, the same for every reader.
//!
//! * Two acknowledged writes have two versions, and one that began after the other was acknowledged has the greater.
//! * A value is always read with one version; if its write was acknowledged, with that one.
//! * A linearizable read finds no version below that of a write of the key that was acknowledged before it began, nor
//!   below that of an earlier read.
//!
//! All of it in time n log n: where the search for linearizability gives up, this still speaks.

use std::collections::BTreeMap;

use esker_cluster::Consistency;

use super::{Failure, register::written};
use crate::history::{History, Key, Operation, Outcome, Value, show};

const CHECK: &str = "versions";

/// How far the promise goes that versions follow real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionOrder {
    /// One sequence over all keys: a log's.
    #[default]
    Global,
    /// Each key has its own.
    PerKey,
}

pub(super) fn check(history: &History, order: VersionOrder) -> Vec<Failure> {
    let mut failures = Vec::new();
    if order == VersionOrder::Global {
        let all: Vec<usize> = (0..history.operations.len()).collect();
        failures.extend(unique(history, &all));
        failures.extend(ordered(history, &all, written_version));
    }
    for (key, of_key) in history.by_key() {
        if order == VersionOrder::PerKey {
            failures.extend(unique(history, &of_key));
        }
        failures.extend(one_version_per_value(history, &key, &of_key));
        failures.extend(ordered(history, &of_key, |operation| version_of_key(operation, &key)));
    }
    failures
}

fn written_version(operation: &Operation) -> Option<Seen> {
    operation.version().map(|version| Seen { version, is_write: true })
}

/// A version that an operation has shown to exist.
#[derive(Clone, Copy)]
struct Seen {
    version: u64,
    is_write: bool,
}

fn version_of_key(operation: &Operation, key: &Key) -> Option<Seen> {
    if operation.action.consistency() == Some(Consistency::Linearizable) {
        let version = operation.found(key).flatten()?.version;
        return Some(Seen { version, is_write: false });
    }
    written_version(operation)
}

fn unique(history: &History, at: &[usize]) -> Vec<Failure> {
    let mut by_version: BTreeMap<u64, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for &at in at {
        let Some(Seen { version, .. }) = written_version(&history.operations[at]) else { continue };
        if let Some(before) = by_version.insert(version, at) {
            let message = format!("two acknowledged writes have version {version}");
            failures.push(Failure::new(CHECK, message, vec![before, at]));
        }
    }
    failures
}

/// Whatever begins after something ended shows no lower version; a write, a higher one.
fn ordered(history: &History, at: &[usize], version: impl Fn(&Operation) -> Option<Seen>) -> Vec<Failure> {
    let mut ends: Vec<(u64, u64, usize)> = Vec::new();
    let mut calls: Vec<(u64, Seen, usize)> = Vec::new();
    for &at in at {
        let operation = &history.operations[at];
        if let (Some(seen), Some(end)) = (version(operation), operation.end) {
            ends.push((end.order, seen.version, at));
            calls.push((operation.call.order, seen, at));
        }
    }
    ends.sort_unstable();
    calls.sort_unstable_by_key(|(order, ..)| *order);
    let mut ends = ends.into_iter().peekable();
    let mut highest: Option<(u64, usize)> = None;
    let mut failures = Vec::new();
    for (call, seen, at) in calls {
        while let Some((_, version, ended)) = ends.next_if(|(end, ..)| *end < call) {
            highest = highest.max(Some((version, ended)));
        }
        let Some((before, ended)) = highest else { continue };
        if seen.version < before || (seen.is_write && seen.version == before) {
            let message = format!("version {} came after version {before} was known", seen.version);
            failures.push(Failure::new(CHECK, message, vec![ended, at]));
        }
    }
    failures
}

/// Reads and acknowledgements agree on the version of each value.
fn one_version_per_value(history: &History, key: &Key, of_key: &[usize]) -> Vec<Failure> {
    let mut writers: BTreeMap<&Value, usize> = BTreeMap::new();
    for &at in of_key {
        if let Some(Some(value)) = written(&history.operations[at], key) {
            *writers.entry(value).or_default() += 1;
        }
    }
    let mut versions: BTreeMap<&Value, (u64, usize)> = BTreeMap::new();
    let mut failures = Vec::new();
    for &at in of_key {
        let operation = &history.operations[at];
        let shown = match (written(operation, key), &operation.outcome) {
            (Some(Some(value)), Outcome::Written { version: Some(version) }) => Some((value, *version)),
            (None, _) => operation.found(key).flatten().map(|found| (&found.value, found.version)),
            _ => None,
        };
        // A value that is written twice rightly has two versions.
        let Some((value, version)) = shown.filter(|(value, _)| writers.get(value) == Some(&1)) else {
            continue;
        };
        let (first, shown_at) = *versions.entry(value).or_insert((version, at));
        if first != version {
            let message = format!("{} = {} has versions {first} and {version}", show(key), show(value));
            failures.push(Failure::new(CHECK, message, vec![shown_at, at]));
        }
    }
    failures
}
