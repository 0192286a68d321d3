//! Writing a merge's outputs: new segments in key order, each with its index file.

use std::{path::PathBuf, sync::Arc};

use esker_log::{
    GroupEnd, Log, MergedWriter, Position, Result,
    disk::Disk,
    format::SEGMENT_HEADER_LEN,
    record::{RecordKind, encode_record_of, record_len},
    segment::Segment,
};

use super::beside::Held;
use crate::{
    Version,
    bitcask::{
        index_file::{IndexFile, IndexName, IndexWriter, Place, Stretch},
        keydir::Slot,
        location,
        ranges::RangeTombstone,
        scan::stored_sum,
    },
    range::encode_deletion,
};

/// A new segment, and its index file, which goes with it unless it is kept.
pub(super) struct Output {
    pub(super) segment: Arc<Segment>,
    /// Which part of the keys it holds, of those that the merge's cuts make.
    pub(super) part: usize,
    record_bytes: u64,
    tombstone_bytes: u64,
    /// The size of its index file.
    pub(super) index_bytes: u64,
    index_path: PathBuf,
    disk: Arc<dyn Disk>,
    is_kept: bool,
}

impl Output {
    /// It is part of the store.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

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

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is left, the next opening removes: it knows of no such segment.
            drop(self.disk.remove(&self.index_path));
        }
    }
}

/// Takes what is to be written in key order.
pub(super) struct Outputs<'a> {
    log: &'a Arc<Log>,
    /// No version that is written is higher.
    newest: Version,
    /// At each of these keys a segment ends and the next begins.
    cuts: &'a [Vec<u8>],
    /// How many of them were passed.
    part: usize,
    writing: Option<Writing>,
    done: Vec<Output>,
}

/// A segment being written, with the entries of its index file.
struct Writing {
    merged: MergedWriter,
    index: IndexWriter,
    /// Of those that live.
    record_bytes: u64,
    tombstone_bytes: u64,
}

impl<'a> Outputs<'a> {
    pub(super) fn new(log: &'a Arc<Log>, newest: Version, cuts: &'a [Vec<u8>]) -> Self {
        Self { log, newest, cuts, part: 0, writing: None, done: Vec::new() }
    }

    /// Writes a record as it was read from its place in `segment`; says how long it is.
    pub(super) fn put_record(
        &mut self,
        key: &[u8],
        slot: Slot,
        record: &[u8],
        segment: &Segment,
    ) -> Result<usize> {
        self.come_to(key)?;
        let writing = self.writing_with(record.len())?;
        let at = writing.merged.copy(record, &location(key, slot), segment)?;
        writing.note(key, slot, at, record.len(), slot.value_len());
        Ok(record.len())
    }

    /// Makes a record of a sum; says how long it is.
    pub(super) fn put_sum(&mut self, key: &[u8], slot: Slot, sum: i64) -> Result<usize> {
        self.come_to(key)?;
        let (flags, stored) = stored_sum(sum, slot.expiry());
        let len = record_len(key.len(), stored.len());
        let writing = self.writing_with(len)?;
        let at = writing.push(key, slot.version(), RecordKind::Put, flags, &stored)?;
        writing.note(key, slot, at, len, stored.len() as u32);
        Ok(len)
    }

    /// Writes a tombstone; says how long it is.
    pub(super) fn put_tombstone(&mut self, key: &[u8], version: Version) -> Result<usize> {
        self.come_to(key)?;
        let len = record_len(key.len(), 0);
        let writing = self.writing_with(len)?;
        writing.push(key, version, RecordKind::Delete, 0, &[])?;
        writing.tombstone_bytes += len as u64;
        writing.index.push(key, Place::tombstone(version));
        Ok(len)
    }

    /// Writes a deleted range; says how long its record is. They come behind all keys.
    pub(super) fn put_range(&mut self, range: &RangeTombstone) -> Result<usize> {
        let (start, end) = encode_deletion(&range.range());
        let len = record_len(start.len(), end.len());
        let writing = self.writing_with(len)?;
        writing.push(&start, range.version, RecordKind::DeleteRange, 0, &end)?;
        writing.tombstone_bytes += len as u64;
        writing.index.push_range(range);
        Ok(len)
    }

    /// Ends the segment at a cut.
    fn come_to(&mut self, key: &[u8]) -> Result<()> {
        while self.cuts.get(self.part).is_some_and(|cut| cut.as_slice() <= key) {
            self.finish_segment()?;
            self.part += 1;
        }
        Ok(())
    }

    /// The segment that is being written, with room for so many bytes.
    fn writing_with(&mut self, len: usize) -> Result<&mut Writing> {
        if self.writing.as_ref().is_some_and(|writing| !writing.merged.has_room(len)) {
            self.finish_segment()?;
        }
        if self.writing.is_none() {
            self.writing = Some(Writing::new(self.log, self.newest)?);
        }
        Ok(self.writing.as_mut().expect("it was just put there"))
    }

    fn finish_segment(&mut self) -> Result<()> {
        if let Some(writing) = self.writing.take() {
            self.done.push(writing.finish(self.log, self.part)?);
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn finish(mut self) -> Result<Vec<Output>> {
        self.finish_segment()?;
        Ok(self.done)
    }
}

impl Writing {
    fn new(log: &Arc<Log>, newest: Version) -> Result<Self> {
        let merged = MergedWriter::create(log)?;
        let stretch = Stretch {
            segment: merged.id(),
            group: 0,
            from: SEGMENT_HEADER_LEN as u32,
            // Not known yet.
            to: 0,
            last: GroupEnd { index: newest, term: 0 },
        };
        let index = IndexWriter::new(log.store(), stretch);
        Ok(Self { merged, index, record_bytes: 0, tombstone_bytes: 0 })
    }

    fn push(
        &mut self,
        key: &[u8],
        version: Version,
        kind: RecordKind,
        flags: u8,
        value: &[u8],
    ) -> Result<Position> {
        self.merged.push(version, |buf| encode_record_of(buf, kind, flags, key, &[value]))
    }

    /// Notes where a record lies now that is `len` bytes long.
    fn note(&mut self, key: &[u8], slot: Slot, at: Position, len: usize, value_len: u32) {
        self.record_bytes += len as u64;
        let place = Slot::new(at.segment, at.offset, value_len, slot.version())
            .compressed(slot.is_compressed())
            .expiring(slot.expiry());
        self.index.push(key, Place::of(place));
    }

    fn finish(self, log: &Log, part: usize) -> Result<Output> {
        let segment = self.merged.finish()?;
        let name = IndexName::Hint(segment.id);
        let mut output = Output {
            part,
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
