//! The model: what a store must hold after each batch of its history.

use std::{collections::BTreeMap, sync::Arc};

use esker_engine::{Db, KeyRange, Lookup, WriteBatch};

/// One operation of a batch: a put, or a delete where there is no value.
pub(crate) type Op = (Vec<u8>, Option<Vec<u8>>);

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

    /// Adds a batch; says how many of its operations met a key that was present.
    pub(crate) fn push(&mut self, ops: &[Op]) -> u32 {
        let version = self.states.len() as u64;
        let mut state = self.last().clone();
        let mut existed = 0;
        for (key, value) in ops {
            let old = match value {
                Some(value) => state.insert(key.clone(), (value.clone(), version)),
                None => state.remove(key),
            };
            existed += u32::from(old.is_some());
        }
        self.states.push(Arc::new(state));
        existed
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
    for (key, value) in ops {
        match value {
            Some(value) => batch.put(key, value).unwrap(),
            None => batch.delete(key).unwrap(),
        }
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
