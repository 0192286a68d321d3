//! What watchers must be told, by the model; and a watcher that is held against it.

use std::ops::Bound;

use esker_engine::{
    KeyRange,
    watch::{Change, ChangeCursor, ChangeFilter, ChangeKind, Changes, ChangesRead},
};

use super::{
    Rng,
    model::{EXPIRES_AT_MS, Op, State, apply},
};

/// A change, as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Put(Vec<u8>, Vec<u8>, Option<u64>),
    Delete(Vec<u8>),
    DeleteRange(KeyRange),
}

/// The state, and what of its keys expires.
#[derive(Default, Clone)]
pub(crate) struct Teller {
    state: State,
    expiring: std::collections::BTreeSet<Vec<u8>>,
}

impl Teller {
    /// What is told of a batch, which is applied.
    pub(crate) fn tell(&mut self, ops: &[Op], version: u64) -> Vec<Told> {
        if apply(&mut self.state.clone(), ops, version).is_void() {
            return Vec::new();
        }
        ops.iter().filter_map(|op| self.tell_one(op, version)).collect()
    }

    fn tell_one(&mut self, op: &Op, version: u64) -> Option<Told> {
        apply(&mut self.state, std::slice::from_ref(op), version);
        self.expiring.retain(|key| self.state.contains_key(key));
        Some(match op {
            Op::Require(..) => return None,
            Op::Put(key, value) => {
                self.expiring.remove(key);
                Told::Put(key.clone(), value.clone(), None)
            }
            Op::PutExpiring(key, value) => {
                self.expiring.insert(key.clone());
                Told::Put(key.clone(), value.clone(), Some(EXPIRES_AT_MS))
            }
            Op::Add(key, _) => {
                let (sum, _) = &self.state[key];
                Told::Put(key.clone(), sum.clone(), self.expiring.contains(key).then_some(EXPIRES_AT_MS))
            }
            Op::Delete(key) => Told::Delete(key.clone()),
            Op::DeleteRange(start, end) => Told::DeleteRange(KeyRange::inclusive(start.clone(), end.clone())),
        })
    }
}

impl Told {
    /// What a watcher of a prefix is told of it.
    pub(crate) fn for_prefix(&self, prefix: &[u8]) -> Option<Self> {
        match self {
            Self::Put(key, ..) | Self::Delete(key) => key.starts_with(prefix).then(|| self.clone()),
            Self::DeleteRange(range) => {
                // All that lies in both: by the model's own words, so that it is no copy of what it is to check.
                let watched = KeyRange::prefix(prefix);
                let (Bound::Included(start), Bound::Included(end)) = (&range.start, &range.end) else {
                    panic!("the model deletes from a key to a key")
                };
                let start = if start.as_slice() < prefix { prefix } else { start };
                let end = match &watched.end {
                    Bound::Excluded(behind) if behind <= end => Bound::Excluded(behind.clone()),
                    _ => Bound::Included(end.clone()),
                };
                let range = KeyRange { start: Bound::Included(start.to_vec()), end };
                (!range.is_empty()).then_some(Self::DeleteRange(range))
            }
        }
    }
}

fn told(change: &Change) -> Told {
    match &change.kind {
        ChangeKind::Put { key, value, expiry } => {
            let value = value.as_ref().expect("not keys only").to_vec();
            Told::Put(key.clone(), value, *expiry)
        }
        ChangeKind::Delete { key } => Told::Delete(key.clone()),
        ChangeKind::DeleteRange(range) => Told::DeleteRange(range.clone()),
    }
}

/// A watcher: what it has been told since it began, or since it began anew.
pub(crate) struct Watcher {
    prefix: Vec<u8>,
    filter: ChangeFilter,
    cursor: ChangeCursor,
    /// The first version that it is to be told.
    first: u64,
    /// What it was told, with versions.
    told: Vec<(u64, Told)>,
    /// How much of that is whole batches.
    whole: usize,
    /// How often it was told to read anew.
    pub(crate) resyncs: usize,
    /// How much it has been told in all.
    pub(crate) total: usize,
}

/// What a watcher found when it looked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    Page,
    CaughtUp,
    Gone,
}

impl Watcher {
    pub(crate) fn new(prefix: &[u8], first: u64) -> Self {
        Self {
            prefix: prefix.to_vec(),
            filter: ChangeFilter::new(prefix, false),
            cursor: ChangeCursor::at(first),
            first,
            told: Vec::new(),
            whole: 0,
            resyncs: 0,
            total: 0,
        }
    }

    /// The version that it wants next.
    pub(crate) fn next(&self) -> u64 {
        self.cursor.next()
    }

    /// Reads a page, on which little has room.
    pub(crate) fn look(&mut self, changes: &Changes, rng: &mut Rng) -> esker_engine::Result<Looked> {
        let bytes = 1 + rng.below(2000) as usize;
        let page = match changes.read(&mut self.cursor, &self.filter, bytes)? {
            ChangesRead::Page(page) => page,
            ChangesRead::CaughtUp => return Ok(Looked::CaughtUp),
            ChangesRead::Gone { from, .. } => {
                assert!(from > self.next(), "what is gone lies before what is there");
                self.resyncs += 1;
                self.begin(from);
                return Ok(Looked::Gone);
            }
        };
        for change in &page {
            self.told.push((change.version, told(change)));
            self.total += 1;
            if change.is_last {
                self.whole = self.told.len();
            }
        }
        Ok(Looked::Page)
    }

    /// Connects again: goes on behind the last whole batch, or behind what it knows to have passed.
    pub(crate) fn resume(&mut self) {
        let next = if self.cursor.is_within() { self.told[self.whole..][0].0 } else { self.next() };
        assert!(next <= self.next());
        self.told.truncate(self.whole);
        self.cursor = ChangeCursor::at(next);
    }

    /// Begins anew.
    pub(crate) fn begin(&mut self, from: u64) {
        (self.first, self.whole) = (from, 0);
        self.told.clear();
        self.cursor = ChangeCursor::at(from);
    }

    /// Holds all it was told against what batches made, of which the first has version 1; says what differs.
    pub(crate) fn check(&self, batches: &[Vec<Told>]) -> Result<(), String> {
        let passed = (self.first..self.next()).flat_map(|version| {
            let told = batches[version as usize - 1].iter();
            told.filter_map(|told| told.for_prefix(&self.prefix)).map(move |told| (version, told))
        });
        let passed: Vec<_> = passed.collect();
        if self.told.get(..passed.len()) != Some(&passed) {
            return Err(format!(
                "a watcher of {:?} from {} was told\n  {:?}\ninstead of\n  {passed:?}",
                self.prefix.escape_ascii().to_string(),
                self.first,
                self.told
            ));
        }
        // What it has of a batch that it is within.
        let rest = &self.told[passed.len()..];
        let within = (rest.is_empty() || self.cursor.is_within()) && self.whole == passed.len();
        let begun = batches.get(self.next() as usize - 1).map_or(&[][..], Vec::as_slice);
        let begun: Vec<_> = begun.iter().filter_map(|told| told.for_prefix(&self.prefix)).collect();
        let is_begin =
            rest.len() < begun.len().max(1) && rest.iter().map(|(_, told)| told).eq(&begun[..rest.len()]);
        if within && is_begin {
            Ok(())
        } else {
            Err(format!("a batch is told as {rest:?} instead of {begun:?}"))
        }
    }
}
