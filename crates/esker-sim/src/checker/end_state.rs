//! What must be there when all is over: no acknowledged write lost, no refused write visible, all replicas equal.

use std::collections::BTreeMap;

use super::{
    Failure,
    register::{integer, written},
};
use crate::history::{Action, History, Key, Operation, Value, Versioned, show};

const CHECK: &str = "end state";

/// What was found at the end.
pub type State = BTreeMap<Key, Versioned>;

/// Holds `state`, read after the last operation of `history` had ended, against the history.
pub fn check_end_state(history: &History, state: &State) -> Vec<Failure> {
    let by_key = history.by_key();
    let unheard_of = state.keys().filter(|key| !by_key.contains_key(*key));
    let mut failures: Vec<Failure> = unheard_of
        .map(|key| Failure::new(CHECK, format!("{} is there, though nobody wrote it", show(key)), Vec::new()))
        .collect();
    for (key, of_key) in &by_key {
        failures.extend(check_key(history, key, of_key, state.get(key)));
    }
    failures
}

fn check_key(history: &History, key: &Key, of_key: &[usize], there: Option<&Versioned>) -> Option<Failure> {
    let value = there.map(|there| &there.value);
    let operation = |at: &usize| &history.operations[*at];
    if of_key.iter().any(|at| matches!(operation(at).action, Action::Incr { .. })) {
        return check_counter(history, key, of_key, value);
    }
    if value.is_none() && of_key.iter().map(operation).any(|op| op.may_have_written() && op.action.expires())
    {
        // It may have expired.
        return None;
    }
    let writers: Vec<usize> =
        of_key.iter().copied().filter(|at| written(operation(at), key) == Some(value)).collect();
    let possible: Vec<usize> =
        writers.iter().copied().filter(|at| operation(at).may_have_written()).collect();
    let shown = value.map_or("is absent".into(), |value| format!("holds {}", show(value)));
    if possible.is_empty() && value.is_some() {
        let why = if writers.is_empty() { "nobody wrote" } else { "was refused" };
        return Some(Failure::new(CHECK, format!("{} {shown}, which {why}", show(key)), writers));
    }
    // One of them must not lie wholly before an acknowledged write of something else.
    let last = of_key.iter().copied().filter(|at| overwrites(operation(at), key, value));
    let last = last.max_by_key(|at| operation(at).call.order)?;
    let survives = possible.iter().any(|at| !precedes(operation(at), operation(&last)));
    (!survives).then(|| {
        let message = format!("{} {shown}: the acknowledged write was lost", show(key));
        Failure::new(CHECK, message, possible.into_iter().chain([last]).collect())
    })
}

/// A counter holds as many as were acknowledged, and at most those more that nobody knows the outcome of.
fn check_counter(history: &History, key: &Key, of_key: &[usize], value: Option<&Value>) -> Option<Failure> {
    let count = |counts: &dyn Fn(&Operation) -> bool| {
        of_key.iter().filter(|at| counts(&history.operations[**at])).count() as u32
    };
    let (least, most) = (count(&Operation::was_acknowledged), count(&Operation::may_have_written));
    let holds = value.map_or(0, integer);
    (!(least..=most).contains(&holds)).then(|| {
        let message = format!("{} holds {holds} after {least} to {most} increments", show(key));
        Failure::new(CHECK, message, of_key.to_vec())
    })
}

/// Whether it is an acknowledged write of something other than `value`.
fn overwrites(operation: &Operation, key: &Key, value: Option<&Value>) -> bool {
    operation.was_acknowledged() && written(operation, key).is_some_and(|other| other != value)
}

/// Whether `one` was acknowledged before `other` began. One of unknown outcome may come at any later time.
fn precedes(one: &Operation, other: &Operation) -> bool {
    one.acknowledged_at().is_some_and(|end| end < other.call.order)
}

/// CHECKS 26: after healing, every node holds the same.
pub fn check_replicas_equal(states: &BTreeMap<u64, State>) -> Vec<Failure> {
    let Some((first, expected)) = states.first_key_value() else { return Vec::new() };
    let mut failures = Vec::new();
    for (node, state) in states {
        let keys = expected.keys().chain(state.keys());
        if let Some(key) = keys.into_iter().find(|key| expected.get(*key) != state.get(*key)) {
            let message = format!("nodes {first} and {node} differ in {}", show(key));
            failures.push(Failure::new("replicas", message, Vec::new()));
        }
    }
    failures
}
