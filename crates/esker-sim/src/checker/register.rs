//! One key of a history as a register: writes and reads of numbered values, each with the interval it fell into.

use std::collections::{BTreeMap, HashMap};

use esker_cluster::Consistency;

use crate::history::{Action, History, Key, Operation, Outcome, Value};

/// A value's number within its key; [`ABSENT`] is the deleted key.
pub(super) type ValueId = u32;

pub(super) const ABSENT: ValueId = 0;

/// What an operation does to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Write(ValueId),
    Read(ValueId),
    /// A compare-and-set that found what it wanted.
    Swap {
        from: ValueId,
        to: ValueId,
    },
    /// An increment of which nobody knows what it came to. Values of a counter are its integers.
    Add(u32),
}

impl Step {
    /// What the register holds behind it, if it can be taken where the register holds `value`.
    pub(super) fn after(self, value: ValueId) -> Option<ValueId> {
        match self {
            Self::Write(written) => Some(written),
            Self::Read(read) => (read == value).then_some(value),
            Self::Swap { from, to } => (from == value).then_some(to),
            Self::Add(by) => Some(value + by),
        }
    }

    /// The value that it puts, if it is one that can be told.
    pub(super) fn puts(self) -> Option<ValueId> {
        match self {
            Self::Write(value) | Self::Swap { to: value, .. } => Some(value),
            Self::Read(_) | Self::Add(_) => None,
        }
    }
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
/// writes each of its keys, a delete of a range deletes each, a scan reads each key it covers. A condition that did not hold is a
/// read of what was there instead.
pub(super) fn operations_on(history: &History, key: &Key, of_key: &[usize]) -> Vec<RegisterOp> {
    let mut register = Register::new(history, key, of_key);
    let mut ops = Vec::with_capacity(of_key.len());
    for &at in of_key {
        let operation = &history.operations[at];
        let Some(step) = register.step(operation) else { continue };
        let known = matches!(step, Step::Read(_)) || operation.was_acknowledged();
        let end = operation.end.filter(|_| known).map(|end| end.order);
        ops.push(RegisterOp { operation: at, step, call: operation.call.order, end });
    }
    ops
}

/// A key, as far as its operations tell what is in it.
struct Register<'a> {
    key: &'a Key,
    values: Values<'a>,
    /// Which value each version that was told put.
    versions: BTreeMap<u64, &'a Value>,
    is_counter: bool,
    /// Whether it may be absent without a delete. Then absence says nothing: what has expired is up to each node's clock.
    expires: bool,
}

impl<'a> Register<'a> {
    fn new(history: &'a History, key: &'a Key, of_key: &[usize]) -> Self {
        let operations = || of_key.iter().map(|at| &history.operations[*at]);
        let told =
            operations().filter_map(|operation| match (written(operation, key), operation.version()) {
                (Some(Some(value)), Some(version)) => Some((version, value)),
                _ => operation.found(key).flatten().map(|found| (found.version, &found.value)),
            });
        Self {
            key,
            values: Values::default(),
            versions: told.collect(),
            is_counter: operations().any(|operation| matches!(operation.action, Action::Incr { .. })),
            expires: operations().any(|operation| operation.action.expires()),
        }
    }

    fn step(&mut self, operation: &'a Operation) -> Option<Step> {
        match (&operation.action, &operation.outcome) {
            (action, Outcome::Refused(_)) if action.is_write() => None,
            (Action::Incr { .. }, Outcome::Sum { value, .. }) => {
                Some(Step::Swap { from: value.wrapping_sub(1), to: *value })
            }
            (Action::Incr { .. }, _) => Some(Step::Add(1)),
            (Action::PutIf { .. }, Outcome::Failed { present }) => self.at_version(*present).map(Step::Read),
            (Action::PutIf { value, expected, .. }, _) => {
                let to = self.values.id(Some(value));
                // Nobody can expect a version that nobody was told.
                Some(self.at_version(*expected).map_or(Step::Write(to), |from| Step::Swap { from, to }))
            }
            (action, _) if action.is_write() => written(operation, self.key).map(|value| {
                let value = self.values.id(value);
                Step::Write(value)
            }),
            (action, _) if action.consistency() == Some(Consistency::Linearizable) => {
                let found = operation.found(self.key)?;
                self.read(found.map(|found| &found.value))
            }
            _ => None,
        }
    }

    fn read(&mut self, found: Option<&'a Value>) -> Option<Step> {
        match found {
            None if self.expires => None,
            Some(value) if self.is_counter => Some(Step::Read(integer(value))),
            value => Some(Step::Read(self.values.id(value))),
        }
    }

    /// The value of a version; `None` if nobody ever told.
    fn at_version(&mut self, version: Option<u64>) -> Option<ValueId> {
        match version {
            None => Some(ABSENT),
            Some(version) => self.versions.get(&version).map(|value| self.values.id(Some(*value))),
        }
    }
}

/// What a counter holds; what is no integer is a value that no counter comes to.
pub(super) fn integer(value: &Value) -> ValueId {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(ValueId::MAX)
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
