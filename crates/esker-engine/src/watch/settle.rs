//! What came of a batch: what the engine remembers, or what is still to be seen of it.

use std::sync::Arc;

use esker_log::{
    Log, Result,
    record::{Record, RecordKind},
};

use super::{ChangeFilter, window::Payload};
use crate::{
    Engine, Judgement, Sums, Version,
    judge::{Sum, parse_integer},
};

/// What came of a batch, as far as its watcher cares.
pub(super) enum Settled {
    /// It was applied.
    Applied(Sums),
    /// Nothing of it is to be shown.
    Void,
}

/// Where it is looked for.
#[derive(Clone, Copy)]
pub(super) struct Settler<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) log: &'a Arc<Log>,
}

impl Settler<'_> {
    /// What came of a batch of which `judgement` is known; `None`: nobody knows any more, and it matters.
    pub(super) fn settle(
        &self,
        payload: &mut Payload<'_>,
        version: Version,
        judgement: Judgement,
        filter: &ChangeFilter,
    ) -> Result<Option<Settled>> {
        match judgement {
            Judgement::Plain => Ok(Some(Settled::Applied(Sums::default()))),
            Judgement::Applied(sums) => Ok(Some(Settled::Applied(sums))),
            Judgement::Void => Ok(Some(Settled::Void)),
            Judgement::Forgotten if !any(payload, is_judged)? => Ok(Some(Settled::Applied(Sums::default()))),
            Judgement::Forgotten if !any(payload, |record| filter.shows(record))? => Ok(Some(Settled::Void)),
            Judgement::Forgotten => Ok(self.recall(payload, version)?.map(Settled::Applied)),
        }
    }

    /// A key that is at the batch's version says that all of it was applied; and what it came to, if that is its only add. `None`:
    /// it was void, or written over.
    fn recall(&self, payload: &mut Payload<'_>, version: Version) -> Result<Option<Sums>> {
        let (mut adds, mut is_applied) = (Vec::new(), false);
        each(payload, |record| {
            if record.kind == RecordKind::Add && adds.len() < 2 {
                adds.push(record.key.to_vec());
            }
            let meta = || self.engine.meta(record.key);
            is_applied |=
                record.kind == RecordKind::Put && meta().is_some_and(|meta| meta.version == version);
        })?;
        let key = match adds.as_slice() {
            [] => return Ok(is_applied.then(Sums::default)),
            [key] => key,
            _ => return Ok(None),
        };
        let mut writes = 0;
        each(payload, |record| {
            let is_write = matches!(record.kind, RecordKind::Put | RecordKind::Delete | RecordKind::Add);
            writes += usize::from(is_write && record.key == key);
        })?;
        let entry = self.engine.get(self.log, key)?.filter(|entry| entry.version == version && writes == 1);
        let sum =
            entry.and_then(|entry| Some(Sum { value: parse_integer(&entry.value)?, expiry: entry.expiry }));
        Ok(sum.map(|sum| Sums(vec![sum])))
    }
}

fn is_judged(record: &Record<'_>) -> bool {
    matches!(record.kind, RecordKind::Condition | RecordKind::Add)
}

/// Whether a batch has such a record.
pub(super) fn any(payload: &mut Payload<'_>, is_one: impl Fn(&Record<'_>) -> bool) -> Result<bool> {
    let mut at = 0;
    while at < payload.len() {
        let (record, next) = payload.record(at)?;
        if is_one(&record) {
            return Ok(true);
        }
        at = next;
    }
    Ok(false)
}

fn each(payload: &mut Payload<'_>, mut look: impl FnMut(&Record<'_>)) -> Result<()> {
    let mut at = 0;
    while at < payload.len() {
        let (record, next) = payload.record(at)?;
        look(&record);
        at = next;
    }
    Ok(())
}
