//! The least that is still impossible, for readers.
//!
//! What may be taken away without making a good history bad: any read, and any write whose value no remaining read
//! (or swap) has seen. So what is left is as much of a proof as the whole. (A delete is only taken away while no read of an absent
//! key remains.)

use std::collections::BTreeSet;

use super::{
    linear::{Bounds, Finding, search},
    register::{RegisterOp, Step, ValueId},
};

/// A small impossible part of `ops`, which is impossible at the return of `ops[at]`.
pub(super) fn minimize(ops: &[RegisterOp], at: usize, bounds: Bounds) -> Vec<RegisterOp> {
    let mut kept = until(ops, ops[at].end);
    if !is_impossible(&kept, bounds) {
        // The failure was at an inferred return, which the cut took away.
        kept = ops.to_vec();
    }
    let mut chunk = kept.len();
    while chunk > 0 {
        kept = without_chunks(kept, chunk, bounds);
        chunk /= 2;
    }
    kept
}

/// What was called before `end`; what had not returned by then counts as under way for ever.
fn until(ops: &[RegisterOp], end: Option<u64>) -> Vec<RegisterOp> {
    let end = end.unwrap_or(u64::MAX);
    let begun = ops.iter().filter(|op| op.call < end);
    let open = |op: &RegisterOp| op.end.is_none_or(|ended| ended > end);
    begun.filter(|op| !(open(op) && matches!(op.step, Step::Read(_)))).copied().collect()
}

fn without_chunks(mut kept: Vec<RegisterOp>, chunk: usize, bounds: Bounds) -> Vec<RegisterOp> {
    let mut start = 0;
    while start < kept.len() {
        let end = (start + chunk).min(kept.len());
        let candidate = without(&kept, start..end);
        if candidate.len() < kept.len() && is_impossible(&candidate, bounds) {
            kept = candidate;
        } else {
            start = end;
        }
    }
    kept
}

/// Without the reads of a part, and without its writes that no remaining read has seen.
fn without(ops: &[RegisterOp], part: std::ops::Range<usize>) -> Vec<RegisterOp> {
    let in_part = |at: usize| part.contains(&at);
    let remaining_reads = ops.iter().enumerate().filter(|(at, _)| !in_part(*at));
    let seen: BTreeSet<ValueId> = remaining_reads
        .filter_map(|(_, op)| match op.step {
            Step::Read(value) | Step::Swap { from: value, .. } => Some(value),
            Step::Write(_) | Step::Add(_) => None,
        })
        .collect();
    // What an increment comes to depends on all before it.
    let counts = ops.iter().any(|op| matches!(op.step, Step::Add(_)));
    let needed = |op: &RegisterOp| match op.step.puts() {
        Some(value) => counts || seen.contains(&value),
        None => counts && !matches!(op.step, Step::Read(_)),
    };
    let kept = ops.iter().enumerate().filter(|(at, op)| !in_part(*at) || needed(op));
    kept.map(|(_, op)| *op).collect()
}

fn is_impossible(ops: &[RegisterOp], bounds: Bounds) -> bool {
    matches!(search(ops, bounds), Finding::Impossible { .. })
}
