//! The linearizable operations of a whole history, key by key: keys are independent registers, so the history is
//! linearizable if and only if each of them is (Herlihy and Wing, "Linearizability", TOPLAS 1990).

use super::{
    Bounds, Failure,
    linear::{Finding, search},
    minimize::minimize,
    register::operations_on,
};
use crate::history::{History, Key, show};

/// Every key that is not linearizable, or for which the search gave up; the one with the fewest operations first.
pub(super) fn check(history: &History, bounds: Bounds) -> Vec<Failure> {
    let mut failures: Vec<(usize, Failure)> = Vec::new();
    for (key, of_key) in history.by_key() {
        let ops = operations_on(history, &key, &of_key);
        match search(&ops, bounds) {
            Finding::Linearizable => {}
            Finding::Impossible { at } => {
                let proof = minimize(&ops, at, bounds);
                let message = format!("{}: no order of these operations explains them", show(&key));
                let operations = proof.iter().map(|op| op.operation).collect();
                failures.push((ops.len(), Failure::new("linearizability", message, operations)));
            }
            Finding::GaveUp { at } => failures.push((ops.len(), gave_up(&key, ops[at].operation, bounds))),
        }
    }
    failures.sort_by_key(|(len, _)| *len);
    failures.into_iter().map(|(_, failure)| failure).collect()
}

fn gave_up(key: &Key, operation: usize, bounds: Bounds) -> Failure {
    let message = format!(
        "{}: GAVE UP (beyond {} configurations or {} steps): nothing is known; use more keys, fewer clients, or values \
         that are written once",
        show(key),
        bounds.configurations,
        bounds.steps
    );
    Failure::new("linearizability", message, vec![operation])
}
