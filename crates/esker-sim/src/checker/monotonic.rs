//! Stale reads may lag, but what one node answers never goes back while it runs.
//!
//! Checked for the stale reads of each node between its restarts, where one began after another had ended: the node's
//! applied version does not fall, nor does the version of a key; and a key that was there is absent only if somebody
//! may have deleted it, or it may have expired. (A restarted node may begin at an older state: how far it had applied is not durable.)

use std::collections::{BTreeMap, BTreeSet};

use esker_cluster::Consistency;

use super::{Failure, register::written};
use crate::history::{History, Key, Operation, show};

const CHECK: &str = "monotonic stale reads";

pub(super) fn check(history: &History) -> Vec<Failure> {
    let mut by_run: BTreeMap<(u64, usize), Vec<usize>> = BTreeMap::new();
    for (at, operation) in history.operations.iter().enumerate() {
        if operation.action.consistency() == Some(Consistency::Stale)
            && let Some(node) = operation.node
            && let Some(run) = run_of(history, node, operation)
        {
            by_run.entry((node, run)).or_default().push(at);
        }
    }
    let by_key = history.by_key();
    let mut failures = Vec::new();
    for ((node, _), reads) in by_run {
        let applied = |at: usize| history.operations[at].applied();
        failures.extend(falls(history, &reads, applied, &format!("what node {node} had applied")));
        for key in by_key.keys() {
            let version = |at: usize| seen(history, at, key, &by_key[key]);
            let what = format!("the version of {} on node {node}", show(key));
            failures.extend(falls(history, &reads, version, &what));
        }
    }
    failures
}

/// Which run of the node answered, counted from 0; `None` if it was restarted meanwhile.
fn run_of(history: &History, node: u64, operation: &Operation) -> Option<usize> {
    let end = operation.end?.order;
    let restarts = || history.restarts.iter().filter(|restart| restart.node == node);
    let before = restarts().filter(|restart| restart.at.order < operation.call.order).count();
    let until_end = restarts().filter(|restart| restart.at.order < end).count();
    (before == until_end).then_some(before)
}

/// The version that the read found of the key. An absent one counts as 0, unless a delete that began before the read
/// ended may explain it: then it tells nothing.
fn seen(history: &History, at: usize, key: &Key, of_key: &[usize]) -> Option<u64> {
    let read = &history.operations[at];
    match read.found(key)? {
        Some(found) => Some(found.version),
        None => {
            let end = read.end?.order;
            let deleted = of_key.iter().map(|at| &history.operations[*at]).any(|operation| {
                operation.may_have_written()
                    && operation.call.order < end
                    && (written(operation, key) == Some(None) || operation.action.expires())
            });
            (!deleted).then_some(0)
        }
    }
}

/// Reads whose figure is lower than one that was known before they began.
fn falls(
    history: &History,
    reads: &[usize],
    figure: impl Fn(usize) -> Option<u64>,
    what: &str,
) -> Vec<Failure> {
    // By the order of their calls, as the history is.
    let mut under_way: BTreeSet<(u64, u64, usize)> = BTreeSet::new();
    let mut highest: Option<(u64, usize)> = None;
    let mut failures = Vec::new();
    for &at in reads {
        let operation = &history.operations[at];
        let (Some(figure), Some(end)) = (figure(at), operation.end) else { continue };
        while let Some(&(ended, value, before)) = under_way.first()
            && ended < operation.call.order
        {
            under_way.pop_first();
            highest = highest.max(Some((value, before)));
        }
        if let Some((before, shown_at)) = highest.filter(|(before, _)| *before > figure) {
            let message = format!("{what} fell from {before} to {figure}");
            failures.push(Failure::new(CHECK, message, vec![shown_at, at]));
        }
        under_way.insert((end.order, figure, at));
    }
    failures
}
