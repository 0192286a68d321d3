//! What the records that were found come to.

use std::collections::BTreeMap;

use esker_log::{
    Result,
    record::{Record, RecordKind},
};

use super::{LostKey, RepairReport, as_loss, fresh::FreshStore, source::Source};
use crate::{
    Version,
    bitcask::{
        collect::slot_of,
        entry,
        index_file::Place,
        keydir::Slot,
        location,
        ranges::{Age, Cover, RangeTombstone},
        scan::stored_sum,
    },
    judge::{self, State as _, Sum, deleted_range, parse_integer},
};

/// The newest of each key, and the ranges that were deleted.
#[derive(Default)]
pub(super) struct State {
    keys: BTreeMap<Vec<u8>, (Place, usize)>,
    ranges: Vec<(RangeTombstone, usize)>,
    /// Numbers what is taken in: the order within one version.
    order: usize,
    /// The highest version met.
    pub(super) version: Version,
    lost: Vec<(Vec<u8>, Version)>,
}

impl State {
    pub(super) fn version_of(&self, key: &[u8]) -> Option<Version> {
        self.keys.get(key).map(|(place, _)| place.version)
    }

    pub(super) fn set(&mut self, key: &[u8], place: Place) {
        self.order += 1;
        self.version = self.version.max(place.version);
        let is_older = self.version_of(key).is_some_and(|version| version > place.version);
        if !is_older {
            self.keys.insert(key.to_vec(), (place, self.order));
        }
    }

    pub(super) fn delete_range(&mut self, range: RangeTombstone) {
        self.order += 1;
        self.version = self.version.max(range.version);
        self.ranges.push((range, self.order));
    }

    /// The same as an index file says it: of one version, its entries come behind.
    pub(super) fn delete_range_before(&mut self, range: RangeTombstone) {
        self.version = self.version.max(range.version);
        self.ranges.push((range, 0));
    }

    /// A write of which only the index says that it was there.
    pub(super) fn lose(&mut self, key: &[u8], version: Version) {
        self.version = self.version.max(version);
        self.lost.push((key.to_vec(), version));
    }

    /// Takes in a record that lies at `offset` of a segment.
    pub(super) fn take(
        &mut self,
        record: &Record<'_>,
        segment: u32,
        offset: u32,
        version: Version,
        sum: Option<&Sum>,
    ) {
        match record.kind {
            RecordKind::Put => self.set(record.key, Place::of(slot_of(record, segment, offset, version))),
            RecordKind::Delete => self.set(record.key, Place::tombstone(version)),
            RecordKind::Add => {
                if let Some(sum) = sum {
                    self.set(record.key, Place::of(Slot::sum(sum.value, version).expiring(sum.expiry)));
                }
            }
            RecordKind::DeleteRange => {
                let end = deleted_range(record).end;
                self.delete_range(RangeTombstone { start: record.key.to_vec(), end, version });
            }
            RecordKind::Request | RecordKind::Condition | RecordKind::Stamp => {}
        }
    }

    /// What lives of a key, as far as is known by now.
    fn living(&self, key: &[u8]) -> Option<Slot> {
        let (place, order) = self.keys.get(key)?;
        let age: Age = (place.version, *order);
        let is_deleted =
            self.ranges.iter().any(|(range, at)| (range.version, *at) > age && range.range().contains(key));
        place.slot.filter(|_| !is_deleted)
    }

    /// Copies what lives into the new store.
    pub(super) fn write(
        mut self,
        source: &Source,
        mut fresh: FreshStore,
        report: &mut RepairReport,
    ) -> Result<()> {
        self.version = self.version.max(source.manifest.judged);
        fresh.at_version(self.version);
        let cover = Cover::new(self.ranges.iter().map(|(range, order)| (range, *order)));
        for (key, (place, order)) in &self.keys {
            let is_deleted = cover.over(key).is_some_and(|age| age > (place.version, *order));
            let Some(slot) = place.slot.filter(|_| !is_deleted) else { continue };
            match copy(&mut fresh, source, key, slot)? {
                Ok(()) => report.keys += 1,
                Err(why) => {
                    report.notices.push(format!("{} could not be read again: {why}", key.escape_ascii()));
                    report.lost_keys.push(LostKey { key: key.clone(), version: place.version, older: None });
                }
            }
        }
        for (key, version) in std::mem::take(&mut self.lost) {
            // What came behind the lost write makes up for it.
            let is_covered = cover.over(&key).is_some_and(|(by, _)| by > version);
            if is_covered || self.version_of(&key).is_some_and(|found| found >= version) {
                continue;
            }
            let older = self.living(&key).map(Slot::version);
            report.lost_keys.push(LostKey { key, version, older });
        }
        report.version = self.version;
        fresh.finish().map(drop)
    }
}

/// Copies one key; or why it cannot be.
fn copy(fresh: &mut FreshStore, source: &Source, key: &[u8], slot: Slot) -> Result<Result<(), String>> {
    if let Some(sum) = slot.as_sum() {
        let (flags, stored) = stored_sum(sum, slot.expiry());
        return fresh.put(key, slot.version(), flags, &stored).map(Ok);
    }
    let Some(found) = source.segments.get(&slot.segment()) else {
        return Ok(Err("its segment is gone".into()));
    };
    let at = location(key, slot);
    match found.segment.read_record(&at) {
        Ok(bytes) => fresh.copy(key, slot, &at, &bytes, &found.segment).map(Ok),
        Err(error) => as_loss(error).map(Err),
    }
}

/// The state as a batch is judged against it.
pub(super) struct Present<'a> {
    pub(super) state: &'a State,
    pub(super) source: &'a Source,
}

impl judge::State for Present<'_> {
    fn version(&self, key: &[u8]) -> Option<(Version, Option<u64>)> {
        self.state.living(key).map(|slot| (slot.version(), slot.expiry()))
    }

    fn integer(&self, key: &[u8]) -> Result<Option<i64>> {
        let Some(slot) = self.state.living(key) else { return Ok(Some(0)) };
        if let Some(sum) = slot.as_sum() {
            return Ok(Some(sum));
        }
        let Some(found) = self.source.segments.get(&slot.segment()) else { return Ok(None) };
        let at = location(key, slot);
        let value = found.segment.read_record(&at).and_then(|bytes| entry(&found.segment, key, &at, bytes));
        Ok(value.ok().and_then(|entry| parse_integer(&entry.value)))
    }
}

impl Present<'_> {
    /// Whether a key that is there was written behind `version`.
    pub(super) fn is_newer(&self, key: &[u8], version: Version) -> bool {
        self.version(key).is_some_and(|(found, _)| found > version)
    }
}
