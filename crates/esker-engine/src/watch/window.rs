//! Reading the log for watchers, from front to back: a piece at a time, each batch checked before anything of it is shown.

use std::sync::Arc;

use esker_log::{
    Error, Position, Result,
    format::{FRAME_HEADER_LEN, FrameHeader, verify_frame},
    record::{self, Record, RecordHeader, decode_record},
    segment::Segment,
};

use crate::{Version, judge::VERIFIED};

/// So much is read at a time, unless one record is longer. Frames up to this length are checked as a whole, longer ones record
/// by record.
const READ_BYTES: u64 = 256 << 10;

/// A piece of a segment.
#[derive(Default)]
pub(super) struct Window {
    segment: Option<Arc<Segment>>,
    start: u64,
    bytes: Vec<u8>,
}

/// A frame where a window found it.
#[derive(Clone, Copy)]
pub(super) struct FrameAt {
    pub(super) header: FrameHeader,
    /// Where it begins in its segment.
    pub(super) offset: u32,
    /// Whether all of it was checked.
    is_checked: bool,
}

impl FrameAt {
    /// The first byte behind it.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + self.header.frame_len()
    }
}

impl Window {
    /// The `len` bytes at `offset` of the segment, which goes on to `limit`.
    ///
    /// Errors: `Damage`, `Io`.
    fn bytes(&mut self, segment: &Arc<Segment>, offset: u64, len: u64, limit: u64) -> Result<&[u8]> {
        if offset + len > limit {
            return Err(damage(segment, offset, "a frame runs past the end"));
        }
        let is_here = self.segment.as_ref().is_some_and(|held| Arc::ptr_eq(held, segment))
            && self.start <= offset
            && offset + len <= self.start + self.bytes.len() as u64;
        if !is_here {
            let wanted = (limit - offset).min(READ_BYTES.max(len)) as usize;
            self.segment = None;
            self.bytes.resize(wanted, 0);
            segment
                .file
                .read_exact_at(&mut self.bytes, offset)
                .map_err(|e| Error::io(format_args!("reading {} at {offset}", segment.path.display()), e))?;
            (self.segment, self.start) = (Some(Arc::clone(segment)), offset);
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + len as usize])
    }

    /// The frame at `offset`, checked as far as it can be at once: whoever reads records of a longer one has them checked then.
    ///
    /// Errors: `Damage`, `Io`.
    pub(super) fn frame(&mut self, segment: &Arc<Segment>, offset: u32, limit: u64) -> Result<FrameAt> {
        let at = u64::from(offset);
        let head = self.bytes(segment, at, FRAME_HEADER_LEN as u64, limit)?;
        let head = head.first_chunk().expect("as many bytes as asked for");
        let header = FrameHeader::decode(head).map_err(|why| damage(segment, at, why))?;
        let is_checked = header.frame_len() <= READ_BYTES;
        if is_checked {
            let whole = self.bytes(segment, at, header.frame_len(), limit)?;
            verify_frame(whole, segment.salt, offset).map_err(|why| damage(segment, at, why))?;
        } else if at + header.frame_len() > limit {
            return Err(damage(segment, at, "a frame runs past the end"));
        }
        Ok(FrameAt { header, offset, is_checked })
    }

    /// The record at `at` of a frame's payload, checked, and where the next one begins.
    fn record(&mut self, segment: &Arc<Segment>, frame: &FrameAt, at: usize) -> Result<(Record<'_>, usize)> {
        let offset = frame.offset as usize + FRAME_HEADER_LEN + at;
        let (place, limit) = (offset as u64, frame.end());
        let bad = |why: &str| damage(segment, place, why);
        let head = self.bytes(segment, place, record::RECORD_HEADER_LEN as u64, limit)?;
        let len = RecordHeader::decode(head).map_err(bad)?.record_len();
        let bytes = self.bytes(segment, place, len as u64, limit)?;
        let bound = record::binding(segment.salt, offset as u32, frame.header.index);
        if !frame.is_checked && !record::checksum_matches(bytes, bound) {
            return Err(bad("a record's checksum does not match"));
        }
        let (record, _) = decode_record(bytes).map_err(bad)?;
        Ok((record, at + len))
    }
}

fn damage(segment: &Segment, offset: u64, what: &str) -> Error {
    Error::damage(&segment.path, offset, what)
}

/// The records of one batch, wherever they are.
pub(super) enum Payload<'a> {
    /// In memory, checked when they came in.
    Memory(&'a [u8]),
    /// In the log.
    Log(&'a mut Window, Arc<Segment>, FrameAt),
}

impl Payload<'_> {
    /// How many bytes they have.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(payload) => payload.len(),
            Self::Log(_, _, frame) => frame.header.payload_len as usize,
        }
    }

    /// The record at `at`, and where the next one begins.
    ///
    /// Errors: `Damage`, `Io`.
    pub(super) fn record(&mut self, at: usize) -> Result<(Record<'_>, usize)> {
        match self {
            Self::Memory(payload) => {
                let (record, header) = decode_record(&payload[at..]).expect(VERIFIED);
                Ok((record, at + header.record_len()))
            }
            Self::Log(window, segment, frame) => window.record(segment, frame, at),
        }
    }

    /// What is wrong with the record at `at`, in an error with its place.
    pub(super) fn bad(&self, at: usize, version: Version, what: &Error) -> Error {
        match self {
            Self::Memory(_) => Error::InvalidRequest(format!("version {version}: {what}")),
            Self::Log(_, segment, frame) => {
                let offset = frame.offset as usize + FRAME_HEADER_LEN + at;
                damage(segment, offset as u64, &what.to_string())
            }
        }
    }
}

/// The place behind a frame.
pub(super) fn behind(segment: &Segment, frame: &FrameAt) -> Position {
    Position { segment: segment.id, offset: frame.end() as u32 }
}
