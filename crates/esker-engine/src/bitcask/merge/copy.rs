//! Copying what lives of a merge's inputs, in key order.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use esker_log::{
    GroupEnd, Log, MergedWriter, Position, Result, SegmentId,
    disk::Disk,
    format::SEGMENT_HEADER_LEN,
    record::{RecordKind, encode_record_of, record_len},
    segment::Segment,
};

use super::{beside::Held, older::Outside};
use crate::{
    Pace, Version,
    bitcask::{
        Bitcask,
        index_file::{IndexFile, IndexName, IndexWriter, Place, Stretch},
        keydir::Slot,
        location, name_key,
        ranges::RangeTombstone,
        scan::stored_sum,
    },
    range::encode_deletion,
};

/// A batch is judged by the stamp of whoever proposed it, and that may be so much behind the latest: then it must find what had not
/// expired for it. The most that the clocks of a cluster may differ, and a proposal wait.
const EXPIRY_GRACE_MS: u64 = 60_000;

/// Keys that have expired are noted to be dropped from the keydir. When there are so many bytes of them, the rest waits for
/// another merge.
const EXPIRED_BYTES_MAX: usize = 64 << 20;

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
        self.outputs.iter_mut().for_each(|output| output.is_kept = true);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is left, the next opening removes: it knows of no such segment.
            drop(self.disk.remove(&self.index_path));
        }
    }
}

/// A new segment, and its index file, which goes with it unless it is kept.
pub(super) struct Output {
    pub(super) segment: Arc<Segment>,
    record_bytes: u64,
    tombstone_bytes: u64,
    /// The size of its index file.
    pub(super) index_bytes: u64,
    index_path: PathBuf,
    disk: Arc<dyn Disk>,
    is_kept: bool,
}

impl Output {
    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.segment.sealed_end().map_or(0, u64::from)
    }

    /// What it holds beside records that live.
    pub(super) fn beside(&self) -> Held {
        let overhead = self.bytes().saturating_sub(self.record_bytes + self.tombstone_bytes);
        Held::new(overhead, self.tombstone_bytes)
    }

    pub(super) fn open_index(&self, log: &Log) -> Result<IndexFile> {
        IndexFile::open(log.disk().as_ref(), &self.index_path, log.store())
    }
}

/// Takes the entries of the inputs' index files in key order.
pub(super) struct Copier<'a> {
    log: &'a Arc<Log>,
    engine: &'a Bitcask,
    inputs: &'a HashSet<SegmentId>,
    outside: &'a Outside<'a>,
    pace: &'a mut dyn Pace,
    writer: Option<Writing>,
    /// The input that was read from last.
    reading: Option<Arc<Segment>>,
    copied: Copied,
    expired_bytes: usize,
    expired_before_ms: u64,
    /// No version that is copied is higher.
    newest: Version,
    /// Keys looked at.
    keys: u64,
}

/// A segment being written, with the entries of its index file.
struct Writing {
    merged: MergedWriter,
    index: IndexWriter,
    /// Of those that live.
    record_bytes: u64,
    tombstone_bytes: u64,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        log: &'a Arc<Log>,
        engine: &'a Bitcask,
        inputs: &'a HashSet<SegmentId>,
        outside: &'a Outside<'a>,
        newest: Version,
        pace: &'a mut dyn Pace,
    ) -> Self {
        Self {
            log,
            engine,
            inputs,
            outside,
            pace,
            writer: None,
            reading: None,
            copied: Copied { outputs: Vec::new(), expired: Vec::new() },
            expired_bytes: 0,
            expired_before_ms: engine.stamp_ms.load(Ordering::Acquire).saturating_sub(EXPIRY_GRACE_MS),
            newest,
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
            return if is_covered { Ok(()) } else { self.take_tombstone(key, place.version) };
        };
        let Some(slot) = present.filter(|slot| self.is_entry(*slot, entry)) else { return Ok(()) };
        let may_drop = self.expired_bytes < EXPIRED_BYTES_MAX;
        if may_drop && slot.is_expired(self.expired_before_ms) {
            self.expired_bytes += key.len() + size_of::<(Vec<u8>, Version)>();
            self.copied.expired.push((key.to_vec(), slot.version()));
            return self.take_tombstone(key, slot.version());
        }
        match slot.as_sum() {
            Some(sum) => self.copy_sum(key, slot, sum),
            None => self.copy_record(key, slot),
        }
    }

    /// Whether the keydir leads to this very entry.
    fn is_entry(&self, slot: Slot, entry: Slot) -> bool {
        slot.version() == entry.version()
            && (slot.as_sum().is_some() || self.inputs.contains(&slot.segment()) && slot.same_place(entry))
    }

    /// A tombstone is needed as long as something older could come back without it.
    fn take_tombstone(&mut self, key: &[u8], version: Version) -> Result<()> {
        if !self.outside.has_older(key, version)? {
            return Ok(());
        }
        self.push(key, version, RecordKind::Delete, 0, &[])?;
        self.writing()?.index.push(key, Place::tombstone(version));
        Ok(())
    }

    /// The same for a deleted range.
    pub(super) fn take_range(&mut self, range: &RangeTombstone) -> Result<()> {
        if !self.outside.has_older_in(range)? {
            return Ok(());
        }
        let (start, end) = encode_deletion(&range.range());
        self.push(&start, range.version, RecordKind::DeleteRange, 0, &end)?;
        self.writing()?.index.push_range(range);
        Ok(())
    }

    fn copy_sum(&mut self, key: &[u8], slot: Slot, sum: i64) -> Result<()> {
        let (flags, stored) = stored_sum(sum, slot.expiry());
        let at = self.push(key, slot.version(), RecordKind::Put, flags, &stored)?;
        self.note(key, slot, at, stored.len() as u32)
    }

    fn copy_record(&mut self, key: &[u8], slot: Slot) -> Result<()> {
        let segment = self.segment(slot.segment())?;
        let from = location(key, slot);
        let bytes = segment.read_record(&from).map_err(|e| name_key(e, key))?;
        let (len, value_len) = (bytes.len(), slot.value_len());
        self.make_room(len)?;
        let writing = self.writing()?;
        let at = writing.merged.copy(&bytes, &from, &segment)?;
        writing.record_bytes += len as u64;
        self.note(key, slot, at, value_len)?;
        self.go_on(len)
    }

    fn note(&mut self, key: &[u8], slot: Slot, at: Position, value_len: u32) -> Result<()> {
        let place = Slot::new(at.segment, at.offset, value_len, slot.version())
            .compressed(slot.is_compressed())
            .expiring(slot.expiry());
        self.writing()?.index.push(key, Place::of(place));
        Ok(())
    }

    fn push(
        &mut self,
        key: &[u8],
        version: Version,
        kind: RecordKind,
        flags: u8,
        value: &[u8],
    ) -> Result<Position> {
        let len = record_len(key.len(), value.len());
        self.make_room(len)?;
        let writing = self.writing()?;
        let at = writing.merged.push(version, |buf| encode_record_of(buf, kind, flags, key, &[value]))?;
        match kind {
            RecordKind::Put => writing.record_bytes += len as u64,
            _ => writing.tombstone_bytes += len as u64,
        }
        self.go_on(len)?;
        Ok(at)
    }

    fn segment(&mut self, id: SegmentId) -> Result<Arc<Segment>> {
        match &self.reading {
            Some(segment) if segment.id == id => Ok(Arc::clone(segment)),
            _ => {
                let segment = self.log.segment(id)?;
                self.reading = Some(Arc::clone(&segment));
                Ok(segment)
            }
        }
    }

    fn go_on(&mut self, bytes: usize) -> Result<()> {
        self.pace.copied(bytes as u64)
    }

    /// The segment that is being written.
    fn writing(&mut self) -> Result<&mut Writing> {
        if self.writer.is_none() {
            let merged = MergedWriter::create(self.log)?;
            let stretch = Stretch {
                segment: merged.id(),
                group: 0,
                from: SEGMENT_HEADER_LEN as u32,
                // Not known yet.
                to: 0,
                // No version that is copied is higher.
                last: GroupEnd { index: self.newest, term: 0 },
            };
            let index = IndexWriter::new(self.log.store(), stretch);
            self.writer = Some(Writing { merged, index, record_bytes: 0, tombstone_bytes: 0 });
        }
        Ok(self.writer.as_mut().expect("it was just put there"))
    }

    fn make_room(&mut self, len: usize) -> Result<()> {
        if self.writer.as_ref().is_some_and(|writing| !writing.merged.has_room(len)) {
            self.finish_segment()?;
        }
        Ok(())
    }

    fn finish_segment(&mut self) -> Result<()> {
        if let Some(writing) = self.writer.take() {
            let output = writing.finish(self.log)?;
            self.copied.outputs.push(output);
        }
        Ok(())
    }

    /// Makes durable what was copied.
    pub(super) fn finish(mut self) -> Result<Copied> {
        self.finish_segment()?;
        Ok(self.copied)
    }
}

impl Writing {
    fn finish(self, log: &Log) -> Result<Output> {
        let segment = self.merged.finish()?;
        let name = IndexName::Hint(segment.id);
        let mut output = Output {
            record_bytes: self.record_bytes,
            tombstone_bytes: self.tombstone_bytes,
            index_bytes: 0,
            index_path: log.dir().join(name.to_string()),
            disk: Arc::clone(log.disk()),
            is_kept: false,
            segment,
        };
        let index = self.index.up_to(output.segment.sealed_end().unwrap_or_default());
        output.index_bytes = index.finish(log.disk().as_ref(), log.dir(), log.store(), &name)?;
        Ok(output)
    }
}
