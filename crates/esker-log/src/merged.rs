//! Writing a merged segment: placed frames, each a row of records with their versions.
//!
//! Nobody knows of the segment before [`Log::install`], so nothing here can harm the log: what fails is given up, and its
//! file goes.

use std::{
    io::IoSlice,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    Error, Index, Log, Position, RecordLocation, Result, SegmentId,
    format::{
        FRAME_HEADER_LEN, FrameHeader, FrameKind, PLACED_VERSION_LEN, SEGMENT_HEADER_LEN, SEGMENT_LEN_MAX,
        SegmentHeader, seal_frame,
    },
    record::{self, array, binding},
    segment::{Segment, segment_name},
};

/// A frame is written when its records come to so many bytes. A longer record has a frame of its own.
const FRAME_BYTES: usize = 1 << 20;
/// What was written is synced so often, so that no sync is long: other syncs of the device wait behind it. Beside a merge at
/// 190 MB/s, a write's sync took 8 ms at p99 with this (7 ms without a merge), with 64 MiB 13 to 17.
const SYNC_BYTES: u64 = 4 << 20;

/// Writes one merged segment. Dropped before [`MergedWriter::finish`], or after a failure, it leaves nothing behind.
pub struct MergedWriter {
    log: Arc<Log>,
    segment: Segment,
    /// Where the next frame goes.
    end: u64,
    /// How much of the file is on the disk.
    synced: u64,
    /// The next frame's records, unbound, each behind its version.
    payload: Vec<u8>,
    records: u32,
    /// Why nothing more is written.
    failed: Option<Error>,
}

impl MergedWriter {
    /// Creates a merged segment with a number that no other has.
    ///
    /// Errors: `DiskFull`, `OutOfFiles`, `Io`, `InvalidRequest` (the numbers are used up).
    pub fn create(log: &Arc<Log>) -> Result<Self> {
        let id = log.take_merged_number()?;
        let header = SegmentHeader { segment: id, store: log.store, previous_end: 0 };
        let created = Segment::create(&log.files, &log.dir, header, SEGMENT_HEADER_LEN as u64);
        let segment = created.inspect_err(|_| log.removals.remove(&log.dir.join(segment_name(id))))?;
        segment.remove_on_drop(&log.removals);
        let header_len = SEGMENT_HEADER_LEN as u64;
        Ok(Self {
            log: Arc::clone(log),
            segment,
            end: header_len,
            synced: header_len,
            payload: Vec::new(),
            records: 0,
            failed: None,
        })
    }

    /// The segment's number.
    pub fn id(&self) -> SegmentId {
        self.segment.id
    }

    /// Whether a record of `len` bytes fits. If not, it is time to [`finish`](Self::finish) and to begin the next segment. The
    /// first record always fits.
    pub fn has_room(&self, len: usize) -> bool {
        let end = self.end_with(self.payload.len() + PLACED_VERSION_LEN + len);
        self.is_empty() || end <= self.log.segment_target().min(SEGMENT_LEN_MAX)
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.end == SEGMENT_HEADER_LEN as u64
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        let buffered = self.payload.len();
        if buffered == 0 { self.end } else { self.end + (FRAME_HEADER_LEN + buffered) as u64 }
    }

    /// Where the segment would end with so many bytes of payload behind what is written. Two frames more than
    /// there will be: the limit need not be met to the byte.
    fn end_with(&self, payload: usize) -> u64 {
        self.end + (2 * FRAME_HEADER_LEN + payload) as u64
    }

    /// Appends the one record that `encode` puts behind what is in the buffer, with an unbound checksum, as the functions of
    /// [`record`] do; gives its place.
    ///
    /// Errors: what `encode` says, and nothing has happened; `InvalidRequest` if it was no record, or had no room; `DiskFull`,
    /// `Io`, after which the segment is given up.
    pub fn push(
        &mut self,
        version: Index,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<Position> {
        self.check()?;
        let start = self.payload.len();
        self.payload.extend_from_slice(&version.to_le_bytes());
        let encoded = encode(&mut self.payload).and_then(|()| self.check_record(start));
        if let Err(error) = encoded {
            self.payload.truncate(start);
            return Err(error);
        }
        self.records += 1;
        let mut at = start;
        if start > 0 && self.payload.len() > FRAME_BYTES {
            self.write_frame(start, self.records - 1)?;
            at = 0;
        }
        let offset = self.end + (FRAME_HEADER_LEN + at + PLACED_VERSION_LEN) as u64;
        if self.payload.len() >= FRAME_BYTES {
            self.write_frame(self.payload.len(), self.records)?;
        }
        Ok(Position { segment: self.segment.id, offset: offset as u32 })
    }

    /// Appends a record as it was read from its place in `segment`, byte for byte: what lay in the checksum's care stays
    /// there.
    ///
    /// Errors: as for [`MergedWriter::push`].
    pub fn copy(&mut self, bytes: &[u8], at: &RecordLocation, segment: &Segment) -> Result<Position> {
        let bound = binding(segment.salt, at.offset, at.index);
        self.push(at.index, |payload| {
            let start = payload.len();
            payload.extend_from_slice(bytes);
            if let Some(checksum) = payload.get_mut(start..start + 4) {
                let unbound = u32::from_le_bytes(array(checksum)) ^ bound;
                checksum.copy_from_slice(&unbound.to_le_bytes());
            }
            Ok(())
        })
    }

    /// What was encoded behind the version at `start` must be one whole record, and have room.
    fn check_record(&self, start: usize) -> Result<()> {
        let bytes = &self.payload[start + PLACED_VERSION_LEN..];
        let is_record = record::decode_record(bytes).is_ok_and(|(_, head)| head.record_len() == bytes.len())
            && record::checksum_matches(bytes, 0);
        if !is_record {
            return Err(Error::InvalidRequest("what is to be merged is no intact record".into()));
        }
        if self.end_with(self.payload.len()) > SEGMENT_LEN_MAX {
            return Err(Error::InvalidRequest("a merged segment would be too long".into()));
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Writes the payload's first `len` bytes, which are `records` records, as a frame.
    fn write_frame(&mut self, len: usize, records: u32) -> Result<()> {
        let header = FrameHeader {
            kind: FrameKind::Placed,
            payload_len: len as u32,
            records,
            index: 0,
            term: 0,
            group: 0,
            durable: 0,
        };
        let payload = &mut self.payload[..len];
        let head = seal_frame(&header, payload, self.segment.salt, self.end as u32);
        let written = write_all(&self.segment, &head, payload, self.end);
        self.note(written)?;
        self.payload.drain(..len);
        self.payload.shrink_to(2 * FRAME_BYTES);
        self.records -= records;
        self.end += header.frame_len();
        self.log.counters.bytes_written.fetch_add(header.frame_len(), Ordering::Relaxed);
        if self.end - self.synced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.log.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = self.segment.file.sync_data();
        let doing = |e| Error::io(format_args!("syncing {}", self.segment.path.display()), e);
        self.note(synced.map_err(doing))?;
        self.synced = self.end;
        Ok(())
    }

    /// Remembers a failure: after it, nothing is known of the file.
    fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    /// Writes and syncs the rest; the file's name is durable since its creation. If the segment is not installed, its file
    /// goes with the handle.
    ///
    /// Errors: `InvalidRequest` if there is no record; `DiskFull`, `Io`.
    pub fn finish(mut self) -> Result<Arc<Segment>> {
        self.check()?;
        if self.is_empty() {
            return Err(Error::InvalidRequest("a merged segment has a record".into()));
        }
        if !self.payload.is_empty() {
            self.write_frame(self.payload.len(), self.records)?;
        }
        if self.synced < self.end {
            self.sync()?;
        }
        self.segment.seal(self.end as u32);
        self.segment.release();
        Ok(Arc::new(self.segment))
    }
}

fn write_all(segment: &Segment, head: &[u8], payload: &[u8], offset: u64) -> Result<()> {
    let doing = |e| Error::io(format_args!("writing {}", segment.path.display()), e);
    segment.file.write_pieces_at(&mut [IoSlice::new(head), IoSlice::new(payload)], offset).map_err(doing)
}
