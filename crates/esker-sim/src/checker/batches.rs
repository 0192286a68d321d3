//! CHECKS 16: a batch is seen as a whole or not at all.
//!
//! For *groups* of keys: keys that are written by batches only, each of which writes all keys of the group, and all to
//! the same value. A scan that covers a group must find one value and one version in all of its keys, or none at all.

use std::collections::{BTreeMap, BTreeSet};

use super::Failure;
use crate::history::{Action, History, Key, Outcome, Versioned, show};

pub(super) fn check(history: &History) -> Vec<Failure> {
    let groups = groups(history);
    let mut failures = Vec::new();
    for (at, operation) in history.operations.iter().enumerate() {
        let (Action::Scan { prefix, .. }, Outcome::Scanned { found, .. }) =
            (&operation.action, &operation.outcome)
        else {
            continue;
        };
        let found: BTreeMap<&Key, &Versioned> = found.iter().map(|(key, found)| (key, found)).collect();
        for group in groups.iter().filter(|group| group.iter().all(|key| key.starts_with(prefix))) {
            if let Some((one, other)) = apart(group, &found) {
                let message =
                    format!("a scan saw a part of a batch: {} and {} differ", show(one), show(other));
                failures.push(Failure::new("atomic batches", message, vec![at]));
            }
        }
    }
    failures
}

/// Two keys of the group that the scan found different.
fn apart<'a>(group: &'a BTreeSet<Key>, found: &BTreeMap<&Key, &Versioned>) -> Option<(&'a Key, &'a Key)> {
    let first = group.first()?;
    group.iter().find(|key| found.get(key) != found.get(first)).map(|key| (first, key))
}

fn groups(history: &History) -> Vec<BTreeSet<Key>> {
    let mut written_as: BTreeMap<&Key, BTreeSet<BTreeSet<Key>>> = BTreeMap::new();
    let mut uneven: BTreeSet<&Key> = BTreeSet::new();
    for operation in history.operations.iter().filter(|operation| operation.action.is_write()) {
        let writes = operation.action.writes();
        let keys: BTreeSet<Key> = writes.iter().map(|(key, _)| (*key).clone()).collect();
        let even = keys.len() > 1 && writes.windows(2).all(|pair| pair[0].1 == pair[1].1);
        for (key, _) in writes {
            if even {
                written_as.entry(key).or_default().insert(keys.clone());
            } else {
                uneven.insert(key);
            }
        }
    }
    let all: BTreeSet<&BTreeSet<Key>> = written_as.values().flatten().collect();
    let alone = |key: &Key| !uneven.contains(key) && written_as.get(key).is_some_and(|sets| sets.len() == 1);
    all.into_iter().filter(|group| group.iter().all(alone)).cloned().collect()
}
