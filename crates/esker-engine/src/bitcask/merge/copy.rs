//! What lives of a merge's inputs: it is found in key order, a stretch of keys at a time, and copied.

use std::sync::atomic::Ordering;

use esker_log::Result;

use super::{
    Inputs,
    older::{DeletedRange, Outside, Tombstone},
    outputs::{Output, Outputs},
    stretch::{Stretch, What},
};
use crate::{
    Pace, Version,
    bitcask::{
        Bitcask,
        index_file::Place,
        keydir::Slot,
        location,
        ranges::{Cover, RangeTombstone},
    },
    judge::floor_of,
};

/// Also where nothing is copied, it is looked now and then whether to go on.
const KEYS_BETWEEN_LOOKS: u64 = 1024;

/// What a merge made.
pub(super) struct Copied {
    pub(super) outputs: Vec<Output>,
    /// Keys that had expired, and the versions that had.
    pub(super) expired: Vec<(Vec<u8>, Version)>,
}

impl Copied {
    /// The outputs are part of the store.
    pub(super) fn keep(&mut self) {
        self.outputs.iter_mut().for_each(Output::keep);
    }
}

/// Takes the entries of the inputs' index files in key order.
pub(super) struct Copier<'a> {
    engine: &'a Bitcask,
    inputs: &'a Inputs,
    outside: Outside<'a>,
    pace: &'a mut dyn Pace,
    stretch: Stretch,
    outputs: Outputs<'a>,
    expired: Vec<(Vec<u8>, Version)>,
    expired_bytes: usize,
    expired_before_ms: u64,
    /// Keys looked at.
    keys: u64,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        engine: &'a Bitcask,
        inputs: &'a Inputs,
        outside: Outside<'a>,
        outputs: Outputs<'a>,
        pace: &'a mut dyn Pace,
    ) -> Self {
        Self {
            engine,
            inputs,
            outside,
            pace,
            stretch: Stretch::new(engine.policy.buffer_bytes),
            outputs,
            expired: Vec::new(),
            expired_bytes: 0,
            expired_before_ms: floor_of(engine.stamp_ms.load(Ordering::Acquire)),
            keys: 0,
        }
    }

    /// Takes the newest entry that the inputs have of a key.
    pub(super) fn take(&mut self, key: &[u8], place: Place) -> Result<()> {
        self.keys += 1;
        if self.keys.is_multiple_of(KEYS_BETWEEN_LOOKS) {
            self.pace.copied(0)?;
        }
        let present = self.engine.keydir.get(key);
        let Some(entry) = place.slot else {
            // What is newer covers what is older as well as this does.
            let is_covered = present.is_some_and(|slot| slot.version() > place.version);
            let tombstone = What::Tombstone { version: place.version };
            return if is_covered { Ok(()) } else { self.note(key, tombstone) };
        };
        let Some(slot) = present.filter(|slot| self.is_entry(*slot, entry)) else { return Ok(()) };
        // They are noted in no more memory than what is copied: the rest waits for another merge.
        let may_drop = self.expired_bytes < self.engine.policy.buffer_bytes;
        if may_drop && slot.is_expired(self.expired_before_ms) {
            self.expired_bytes += key.len() + size_of::<(Vec<u8>, Version)>();
            self.expired.push((key.to_vec(), slot.version()));
            return self.note(key, What::Tombstone { version: slot.version() });
        }
        match slot.as_sum() {
            Some(sum) => self.note(key, What::Sum { slot, sum }),
            None => self.note_record(key, slot),
        }
    }

    /// Whether the keydir leads to this very entry.
    fn is_entry(&self, slot: Slot, entry: Slot) -> bool {
        slot.version() == entry.version()
            && (slot.as_sum().is_some() || self.inputs.contains(slot.segment()) && slot.same_place(entry))
    }

    fn note(&mut self, key: &[u8], what: What) -> Result<()> {
        if !self.stretch.has_room(key.len(), 0) {
            self.copy_stretch()?;
        }
        self.stretch.push(key, what);
        Ok(())
    }

    fn note_record(&mut self, key: &[u8], slot: Slot) -> Result<()> {
        if !self.stretch.has_room(key.len(), location(key, slot).len()) {
            self.copy_stretch()?;
        }
        self.stretch.push_record(key, slot);
        Ok(())
    }

    /// Copies what was noted: reads it in the order of the files, and writes it in the order of the keys.
    fn copy_stretch(&mut self) -> Result<()> {
        let Self { stretch, outputs, pace, inputs, outside, .. } = self;
        stretch.read(inputs, *pace)?;
        let mut tombstones: Vec<_> = stretch
            .iter()
            .filter_map(|(key, what)| match what {
                What::Tombstone { version } => Some(Tombstone::new(key, version)),
                What::Record { .. } | What::Sum { .. } => None,
            })
            .collect();
        outside.judge(&mut tombstones, *pace)?;
        let mut tombstones = tombstones.iter();
        for (key, what) in stretch.iter() {
            let bytes = match what {
                What::Record { slot, at } => {
                    let record = stretch.record(key, slot, at);
                    let len = outputs.put_record(key, slot, record, inputs.segment(slot.segment())?)?;
                    // The first half was paid when it was read.
                    len - len / 2
                }
                What::Sum { slot, sum } => outputs.put_sum(key, slot, sum)?,
                What::Tombstone { version } => match tombstones.next() {
                    Some(tombstone) if tombstone.is_needed => outputs.put_tombstone(key, version)?,
                    _ => 0,
                },
            };
            pace.copied(bytes as u64)?;
        }
        stretch.clear();
        Ok(())
    }

    /// Takes the deleted ranges of the inputs, behind all keys, and makes durable what was copied.
    pub(super) fn finish<'r>(
        mut self,
        ranges: impl IntoIterator<Item = &'r RangeTombstone>,
        cover: &Cover,
    ) -> Result<Copied> {
        self.copy_stretch()?;
        // One that newer ones cover has nothing to cover that they do not.
        let mut ranges: Vec<_> =
            ranges.into_iter().filter(|range| !cover.supersedes(range)).map(DeletedRange::new).collect();
        self.outside.judge_ranges(&mut ranges, self.pace)?;
        for deleted in ranges.iter().filter(|deleted| deleted.is_needed) {
            let bytes = self.outputs.put_range(deleted.range)?;
            self.pace.copied(bytes as u64)?;
        }
        Ok(Copied { outputs: self.outputs.finish()?, expired: self.expired })
    }
}
