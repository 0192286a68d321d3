//! The definition of linearizability, tried out on every order: slow, and too simple to be wrong.

use crate::checker::register::{ABSENT, RegisterOp, ValueId};

pub(super) fn is_linearizable(ops: &[RegisterOp]) -> bool {
    any_order(ops, &mut vec![false; ops.len()], ABSENT)
}

/// Whether what is not taken yet can follow in some order. Writes that may never happen need not.
fn any_order(ops: &[RegisterOp], taken: &mut [bool], value: ValueId) -> bool {
    let left = || ops.iter().enumerate().filter(|(at, _)| !taken[*at]);
    if left().all(|(_, op)| op.end.is_none()) {
        return true;
    }
    let first_end = left().filter_map(|(_, op)| op.end).min().unwrap_or(u64::MAX);
    // Only what began before everything else had ended can be next.
    let next: Vec<usize> = left().filter(|(_, op)| op.call < first_end).map(|(at, _)| at).collect();
    next.into_iter().any(|at| {
        let Some(after) = ops[at].step.after(value) else { return false };
        taken[at] = true;
        let possible = any_order(ops, taken, after);
        taken[at] = false;
        possible
    })
}
