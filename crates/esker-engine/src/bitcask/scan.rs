//! Ranges: a walk over a snapshot of the keydir that fetches values on its way.

use std::{ops::Bound, sync::Arc};

use esker_log::{Log, Result, segment::Pin};

use super::{
    keydir::{Range, Slot, Tree},
    read,
};
use crate::{Item, KeyRange, Value};

/// Holds its snapshot of the keydir, and so the nodes that change meanwhile, until it is dropped; and the segments with the
/// values, if it reads them.
pub(crate) struct BitcaskScan {
    log: Arc<Log>,
    range: Range<Slot>,
    keys_only: bool,
    _pin: Option<Pin>,
}

impl BitcaskScan {
    /// `pin` was taken before the tree.
    pub(crate) fn new(log: Arc<Log>, pin: Pin, tree: &Tree<Slot>, range: &KeyRange, keys_only: bool) -> Self {
        let range = tree.range(as_slice(&range.start), as_slice(&range.end));
        Self { log, range, keys_only, _pin: (!keys_only).then_some(pin) }
    }

    fn value(&self, key: &[u8], slot: Slot) -> Result<Value> {
        let segment = self.log.segment(slot.segment())?;
        Ok(read(&self.log, &segment, key, slot)?.value)
    }

    fn item(&self, key: Vec<u8>, slot: Slot) -> Result<Item> {
        let value = if self.keys_only { None } else { Some(self.value(&key, slot)?) };
        Ok(Item { key, value, version: slot.version() })
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

impl Iterator for BitcaskScan {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, slot) = self.range.next()?;
        Some(self.item(key, slot))
    }
}

impl DoubleEndedIterator for BitcaskScan {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (key, slot) = self.range.next_back()?;
        Some(self.item(key, slot))
    }
}
