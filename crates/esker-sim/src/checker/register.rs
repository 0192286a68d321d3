//! One key of a history as a register: writes and reads of numbered values, each with the interval it fell into.

use std::collections::HashMap;

use esker_cluster::Consistency;

use crate::history::{History, Key, Operation, Value};

/// A value's number within its key; [`ABSENT`] is the deleted key.
pub(super) type ValueId = u32;

pub(super) const ABSENT: ValueId = 0;

/// What an operation does to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Write(ValueId),
    Read(ValueId),
}

/// An operation on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RegisterOp {
    /// Its position in the history.
    pub(super) operation: usize,
    pub(super) step: Step,
    /// The order of its call.
    pub(super) call: u64,
    /// The order of its return; `None` if it may take effect at any time after the call, or never.
    pub(super) end: Option<u64>,
}

/// What the linearizable operations say of `key`. Refused operations and reads without an answer say nothing; a batch
/// writes each of its keys, a scan reads each key it covers.
pub(super) fn operations_on(history: &History, key: &Key, of_key: &[usize]) -> Vec<RegisterOp> {
    let mut values = Values::default();
    let mut ops = Vec::with_capacity(of_key.len());
    for &at in of_key {
        let operation = &history.operations[at];
        let step = match written(operation, key) {
            Some(_) if !operation.may_have_written() => continue,
            Some(value) => Step::Write(values.id(value)),
            None if operation.action.consistency() == Some(Consistency::Linearizable) => {
                let Some(found) = operation.found(key) else { continue };
                Step::Read(values.id(found.map(|found| &found.value)))
            }
            None => continue,
        };
        let known = matches!(step, Step::Read(_)) || operation.was_acknowledged();
        let end = operation.end.filter(|_| known).map(|end| end.order);
        ops.push(RegisterOp { operation: at, step, call: operation.call.order, end });
    }
    ops
}

/// What `operation` sets `key` to: the last word of a batch that names it twice. `None` if it does not write it.
pub(super) fn written<'a>(operation: &'a Operation, key: &Key) -> Option<Option<&'a Value>> {
    operation.action.writes().into_iter().rev().find(|(written, _)| *written == key).map(|(_, value)| value)
}

#[derive(Default)]
struct Values<'a> {
    ids: HashMap<&'a Value, ValueId>,
}

impl<'a> Values<'a> {
    fn id(&mut self, value: Option<&'a Value>) -> ValueId {
        let next = self.ids.len() as ValueId + 1;
        value.map_or(ABSENT, |value| *self.ids.entry(value).or_insert(next))
    }
}
