//! The model: what a store must hold after each batch of its history.

use std::{collections::BTreeMap, sync::Arc};

use esker_engine::{Committed, Condition, Db, KeyRange, Lookup, Outcome, Refusal, WriteBatch};

/// One part of a batch. Conditions come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Require(Vec<u8>, Condition),
    Put(Vec<u8>, Vec<u8>),
    /// Expires when the test has long ended.
    PutExpiring(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Add(Vec<u8>, i64),
    /// Both ends are in it.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// In the year 2050.
pub(crate) const EXPIRES_AT_MS: u64 = 2_524_608_000_000;

impl Op {
    /// A put, or a delete where there is no value.
    pub(crate) fn key(&self) -> &Vec<u8> {
        match self {
            Self::Require(key, _)
            | Self::Put(key, _)
            | Self::PutExpiring(key, _)
            | Self::Delete(key)
            | Self::Add(key, _)
            | Self::DeleteRange(key, _) => key,
        }
    }
}

/// Applies a batch to a state, all of it or nothing; says what came of it.
pub(crate) fn apply(state: &mut State, ops: &[Op], version: u64) -> Committed {
    let mut next = state.clone();
    match try_apply(&mut next, ops, version) {
        Ok(committed) => {
            *state = next;
            committed
        }
        Err(refusal) => Committed { outcome: Outcome::Refused(refusal), ..Committed::applied(version, 0) },
    }
}

fn try_apply(state: &mut State, ops: &[Op], version: u64) -> Result<Committed, Refusal> {
    let mut committed = Committed::applied(version, 0);
    for op in ops {
        let old = match op {
            Op::Require(key, condition) => {
                let present = state.get(key).map(|(_, version)| *version);
                condition.holds(present).then_some(()).ok_or(Refusal::Condition(present))?;
                None
            }
            Op::Put(key, value) | Op::PutExpiring(key, value) => {
                state.insert(key.clone(), (value.clone(), version))
            }
            Op::Delete(key) => state.remove(key),
            Op::Add(key, by) => {
                let old: i64 = match state.get(key) {
                    Some((value, _)) => integer(value).ok_or(Refusal::NotAnInteger)?,
                    None => 0,
                };
                let sum = old.checked_add(*by).ok_or(Refusal::Overflow)?;
                committed.outcome = Outcome::Sum(sum);
                state.insert(key.clone(), (sum.to_string().into_bytes(), version))
            }
            Op::DeleteRange(start, end) => {
                let before = state.len();
                state.retain(|key, _| key < start || key > end);
                committed.existed += (before - state.len()) as u32;
                None
            }
        };
        committed.existed += u32::from(old.is_some());
    }
    Ok(committed)
}

/// As it is printed, and in no other way.
fn integer(value: &[u8]) -> Option<i64> {
    let integer: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (integer.to_string().as_bytes() == value).then_some(integer)
}

/// Keys with value and version.
pub(crate) type State = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// The states after 0, 1, 2 … batches; a batch's version is its number.
#[derive(Clone)]
pub(crate) struct History {
    states: Vec<Arc<State>>,
}

impl Default for History {
    fn default() -> Self {
        Self { states: vec![Arc::default()] }
    }
}

impl History {
    /// How many batches there were.
    pub(crate) fn len(&self) -> usize {
        self.states.len() - 1
    }

    /// Adds a batch; says what comes of it.
    pub(crate) fn push(&mut self, ops: &[Op]) -> Committed {
        let version = self.states.len() as u64;
        let mut state = self.last().clone();
        let committed = apply(&mut state, ops, version);
        self.states.push(Arc::new(state));
        committed
    }

    /// Forgets all batches behind the first `batches`.
    pub(crate) fn truncate(&mut self, batches: usize) {
        self.states.truncate(batches + 1);
    }

    pub(crate) fn last(&self) -> &State {
        self.states.last().unwrap()
    }

    pub(crate) fn after(&self, batches: usize) -> &State {
        &self.states[batches]
    }
}

pub(crate) fn batch(ops: &[Op]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for op in ops {
        match op {
            Op::Require(key, condition) => batch.require(key, *condition),
            Op::Put(key, value) => batch.put(key, value),
            Op::PutExpiring(key, value) => batch.put_expiring(key, value, EXPIRES_AT_MS),
            Op::Delete(key) => batch.delete(key),
            Op::Add(key, by) => batch.add(key, *by),
            Op::DeleteRange(start, end) => {
                batch.delete_range(&KeyRange::inclusive(start.clone(), end.clone()))
            }
        }
        .unwrap();
    }
    batch
}

/// Everything a scan returns. Panics on an error.
pub(crate) fn contents(db: &Db) -> State {
    db.scan(&KeyRange::all(), false)
        .map(|item| {
            let item = item.unwrap();
            (item.key, (item.value.unwrap().to_vec(), item.version))
        })
        .collect()
}

/// Compares all ways of reading with `state`; says what differs.
pub(crate) fn compare(db: &Db, state: &State, also_ask_for: &[Vec<u8>]) -> Result<(), String> {
    let found = contents(db);
    if found != *state {
        return Err(format!("a scan shows\n  {}\ninstead of\n  {}", brief(&found), brief(state)));
    }
    let keys = db.stats().keys;
    if keys != state.len() as u64 {
        return Err(format!("stats count {keys} keys, there are {}", state.len()));
    }
    for key in state.keys().chain(also_ask_for) {
        let expected = state.get(key);
        let got = db.get(key).map_err(|e| e.to_string())?.map(|entry| (entry.value.to_vec(), entry.version));
        if got.as_ref() != expected {
            return Err(format!("get {} differs", String::from_utf8_lossy(key)));
        }
        let tried = match db.try_get(key).map_err(|e| e.to_string())? {
            Lookup::Absent => None,
            Lookup::Found(entry) => Some(entry),
            Lookup::Cold(read) => Some(read.fetch().map_err(|e| e.to_string())?),
        };
        if tried.map(|entry| (entry.value.to_vec(), entry.version)).as_ref() != expected {
            return Err(format!("try_get {} differs", String::from_utf8_lossy(key)));
        }
        let meta = db.meta(key).map(|meta| (meta.version, meta.value_len));
        if meta != expected.map(|(value, version)| (*version, Some(value.len() as u64))) {
            return Err(format!("meta {} differs", String::from_utf8_lossy(key)));
        }
    }
    Ok(())
}

pub(crate) fn brief(state: &State) -> String {
    let items = state
        .iter()
        .map(|(key, (value, version))| format!("{}@{version}+{}", String::from_utf8_lossy(key), value.len()));
    items.collect::<Vec<_>>().join(" ")
}
