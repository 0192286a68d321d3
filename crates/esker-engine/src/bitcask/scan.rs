//! Ranges: a walk over a snapshot of the keydir that fetches values on its way.

use std::{ops::Bound, sync::Arc};

use esker_log::{
    Error, Log, Result,
    record::decode_record,
    segment::{Pin, Segment},
};

use super::{
    Found,
    cache::Cache,
    held::HeldSnapshot,
    keydir::{Range, Slot, Tree},
    location, name_key, read, sum_entry,
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

/// The segment that a scan read from last: neighbours often lie in one, above all when they were merged.
#[derive(Default)]
struct LastSegment(Option<Arc<Segment>>);

impl LastSegment {
    fn get(&mut self, log: &Log, slot: Slot) -> Result<&Segment> {
        if self.0.as_ref().is_none_or(|held| held.id != slot.segment()) {
            self.0 = Some(log.segment(slot.segment())?);
        }
        Ok(self.0.as_deref().expect("it was put there"))
    }
}

/// Holds its snapshot of the keydir, and so the nodes that change meanwhile, until it is dropped; and the segments with the
/// values, if it reads them.
pub(crate) struct BitcaskScan {
    log: Arc<Log>,
    range: Range<Slot>,
    now_ms: u64,
    keys_only: bool,
    segment: LastSegment,
    _pin: Option<Pin>,
}

impl BitcaskScan {
    /// `pin` was taken before the state.
    pub(crate) fn new(state: Arc<Snapshot>, pin: Pin, range: &KeyRange, keys_only: bool) -> Self {
        Self {
            log: Arc::clone(&state.log),
            range: state.range(range),
            now_ms: state.now_ms,
            keys_only,
            segment: LastSegment::default(),
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
            None => read(self.segment.get(&self.log, slot)?, key, slot),
        }
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
    log: Arc<Log>,
    range: Range<Slot>,
    keys_only: bool,
    segment: LastSegment,
    _pin: Pin,
}

impl BitcaskStoredScan {
    pub(crate) fn new(state: Arc<Snapshot>, pin: Pin, range: &KeyRange, keys_only: bool) -> Self {
        let range = state.range(range);
        Self { log: Arc::clone(&state.log), range, keys_only, segment: LastSegment::default(), _pin: pin }
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
        let segment = self.segment.get(&self.log, slot)?;
        read_stored(segment, key, slot).map_err(|e| name_key(e, key))
    }
}

/// A value as it is stored, with its flags.
///
/// Errors: `Damage`, `Io`.
pub(crate) fn read_stored(segment: &Segment, key: &[u8], slot: Slot) -> Result<(u8, Value)> {
    let at = location(key, slot);
    let bytes = segment.read_record(&at)?;
    let damage = |what: &str| Error::damage(&segment.path, u64::from(at.offset), what);
    let (record, _) = decode_record(&bytes).map_err(damage)?;
    if record.key != key {
        return Err(damage("the record is of another key"));
    }
    let (flags, len) = (record.flags, record.value.len());
    let window = bytes.len() - len..bytes.len();
    Ok((flags, Value::new(bytes, window)))
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
