//! Ranges: a walk over a snapshot of the keydir that fetches values on its way.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use esker_log::{
    Log, ReadAhead, RecordLocation, Result,
    segment::{Pin, Segment},
};

use super::{
    Found,
    cache::Cache,
    entry_in,
    held::HeldSnapshot,
    keydir::{Range, Slot, Tree},
    location, name_key, offer, read, record_of, sum_entry,
};
use crate::{Entry, Item, KeyRange, StoredItem, Value};

/// The state at one instant.
pub(crate) struct Snapshot {
    pub(crate) log: Arc<Log>,
    pub(crate) tree: Tree<Slot>,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) _held: HeldSnapshot,
    /// When that was, in milliseconds since 1970.
    pub(crate) now_ms: u64,
}

impl Snapshot {
    fn range(&self, range: &KeyRange) -> Range<Slot> {
        self.tree.range(as_slice(&range.start), as_slice(&range.end))
    }

    /// What a key holds, as far as it is in memory. Whoever asks holds the segments.
    ///
    /// Errors: `Damage`.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Found> {
        let Some(slot) = self.tree.get(key).filter(|slot| !slot.is_expired(self.now_ms)) else {
            return Ok(Found::Absent);
        };
        if let Some(sum) = slot.as_sum() {
            return Ok(Found::Entry(sum_entry(sum, slot)));
        }
        if let Some(entry) = self.cache.as_ref().and_then(|cache| cache.get(slot)) {
            return Ok(Found::Entry(entry));
        }
        let segment = self.log.segment(slot.segment()).map_err(|e| name_key(e, key))?;
        Ok(Found::Record(slot, segment))
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// The segment of a slot. Neighbours often lie in one, above all when they were merged.
fn segment_of(reads: &ReadAhead, log: &Log, slot: Slot) -> Result<Arc<Segment>> {
    match reads.segment(slot.segment()) {
        Some(segment) => Ok(Arc::clone(segment)),
        None => log.segment(slot.segment()),
    }
}

/// Holds its snapshot of the keydir, and so the nodes that change meanwhile, until it is dropped; and the segments with the
/// values, if it reads them.
pub(crate) struct BitcaskScan {
    state: Arc<Snapshot>,
    range: Range<Slot>,
    now_ms: u64,
    keys_only: bool,
    reads: ReadAhead,
    _pin: Option<Pin>,
}

impl BitcaskScan {
    /// `pin` was taken before the state.
    pub(crate) fn new(state: Arc<Snapshot>, pin: Pin, range: &KeyRange, keys_only: bool) -> Self {
        Self {
            range: state.range(range),
            now_ms: state.now_ms,
            state,
            keys_only,
            reads: ReadAhead::default(),
            _pin: (!keys_only).then_some(pin),
        }
    }

    fn item(&mut self, key: Vec<u8>, slot: Slot) -> Result<Item> {
        let (version, expiry) = (slot.version(), slot.expiry());
        let value = if self.keys_only { None } else { Some(self.entry(&key, slot)?.value) };
        Ok(Item { key, value, version, expiry })
    }

    fn entry(&mut self, key: &[u8], slot: Slot) -> Result<Entry> {
        match slot.as_sum() {
            Some(sum) => Ok(sum_entry(sum, slot)),
            None => self.read(key, slot),
        }
    }
}

impl BitcaskScan {
    /// Neighbours are read together; what lies alone comes from the cache, or goes into it.
    fn read(&mut self, key: &[u8], slot: Slot) -> Result<Entry> {
        let at = location(key, slot);
        if self.reads.is_near(&at) {
            let segment = segment_of(&self.reads, &self.state.log, slot)?;
            let bytes = self.reads.read(&segment, &at);
            let entry = bytes.and_then(|bytes| entry_in(&segment, key, &at, &bytes));
            return entry.map_err(|e| name_key(e, key));
        }
        self.reads.note(&at);
        let cache = self.state.cache.as_ref();
        if let Some(entry) = cache.and_then(|cache| cache.get(slot)) {
            return Ok(entry);
        }
        let segment = segment_of(&self.reads, &self.state.log, slot)?;
        let entry = read(&segment, key, slot)?;
        offer(cache, slot, &entry);
        Ok(entry)
    }
}

impl Iterator for BitcaskScan {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let now_ms = self.now_ms;
        let (key, slot) = self.range.find(|(_, slot)| !slot.is_expired(now_ms))?;
        Some(self.item(key, slot))
    }
}

impl DoubleEndedIterator for BitcaskScan {
    fn next_back(&mut self) -> Option<Self::Item> {
        let now_ms = self.now_ms;
        let (key, slot) = self.range.rfind(|(_, slot)| !slot.is_expired(now_ms))?;
        Some(self.item(key, slot))
    }
}

/// The same for other replicas: values as they are stored, and also what has expired.
pub(crate) struct BitcaskStoredScan {
    state: Arc<Snapshot>,
    range: Range<Slot>,
    keys_only: bool,
    reads: ReadAhead,
    _pin: Pin,
}

impl BitcaskStoredScan {
    pub(crate) fn new(state: Arc<Snapshot>, pin: Pin, range: &KeyRange, keys_only: bool) -> Self {
        let range = state.range(range);
        Self { state, range, keys_only, reads: ReadAhead::default(), _pin: pin }
    }

    fn item(&mut self, key: Vec<u8>, slot: Slot) -> Result<StoredItem> {
        let (version, expiry) = (slot.version(), slot.expiry());
        if self.keys_only {
            return Ok(StoredItem { key, version, expiry, flags: 0, stored: Vec::new().into() });
        }
        let (flags, stored) = match slot.as_sum() {
            Some(sum) => stored_sum(sum, expiry),
            None => self.read(&key, slot)?,
        };
        Ok(StoredItem { key, version, expiry, flags, stored })
    }

    fn read(&mut self, key: &[u8], slot: Slot) -> Result<(u8, Value)> {
        let segment = segment_of(&self.reads, &self.state.log, slot)?;
        let at = location(key, slot);
        let bytes = self.reads.read(&segment, &at).and_then(|bytes| stored_in(&segment, key, &at, &bytes));
        bytes.map_err(|e| name_key(e, key))
    }
}

/// A value as it is stored, with its flags.
fn stored_in(segment: &Segment, key: &[u8], at: &RecordLocation, bytes: &Bytes) -> Result<(u8, Value)> {
    let record = record_of(segment, key, at, bytes)?;
    Ok((record.flags, bytes.slice_ref(record.value).into()))
}

/// The sum of adds as the value of a put.
pub(crate) fn stored_sum(sum: i64, expiry: Option<u64>) -> (u8, Value) {
    let digits = sum.to_string();
    match expiry {
        None => (0, digits.into_bytes().into()),
        Some(at) => {
            let stored = [&at.to_le_bytes()[..], digits.as_bytes()].concat();
            (esker_log::record::flags::EXPIRES, stored.into())
        }
    }
}

impl Iterator for BitcaskStoredScan {
    type Item = Result<StoredItem>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, slot) = self.range.next()?;
        Some(self.item(key, slot))
    }
}
