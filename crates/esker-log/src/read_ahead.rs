//! Reading records one after another: where they lie in a row, many with one read.
//!
//! What was merged, or written in key order, lies in the order in which a scan asks for it. So when a record lies shortly behind
//! the one before it, the next read takes more than the record, and twice as much each time that it was right.

use std::{io, sync::Arc};

use crate::{Error, RecordLocation, Result, segment::Segment};

/// A gap of up to so many bytes between two records is read over.
const GAP_BYTES_MAX: u64 = 4096;
/// How much the first read beyond a record takes, and the longest, in bytes.
const WINDOW_MIN: usize = 8 << 10;
const WINDOW_MAX: usize = 128 << 10;

/// See the module.
#[derive(Default)]
pub struct ReadAhead {
    /// The segment that was read last.
    segment: Option<Arc<Segment>>,
    /// What was read of it, and where that begins.
    buffer: Vec<u8>,
    start: u64,
    /// Behind the record that was asked for last.
    last_end: u64,
    /// How much the next read takes if the record lies behind the last one.
    window: usize,
}

impl ReadAhead {
    /// The segment that was read last, if it has this number.
    pub fn segment(&self, id: crate::SegmentId) -> Option<&Arc<Segment>> {
        self.segment.as_ref().filter(|segment| segment.id == id)
    }

    /// A verified record of `segment`.
    ///
    /// Errors: as for [`Segment::read_record`].
    pub fn read(&mut self, segment: &Arc<Segment>, at: &RecordLocation) -> Result<&[u8]> {
        let (offset, len) = (u64::from(at.offset), at.len());
        if self.segment(segment.id).is_none() {
            self.segment = Some(Arc::clone(segment));
            self.buffer.clear();
            (self.last_end, self.window) = (0, WINDOW_MIN);
        }
        if let Some(from) = self.position_of(offset, len)
            && segment.is_intact(&self.buffer[from..from + len], at)
        {
            self.last_end = offset + len as u64;
            return Ok(&self.buffer[from..from + len]);
        }
        // Also where what was read ahead is no record: it may not have been written when it was read.
        self.fill(segment, offset, len)?;
        self.last_end = offset + len as u64;
        match self.buffer.get(..len) {
            Some(record) if segment.is_intact(record, at) => Ok(&self.buffer[..len]),
            // Says what is wrong with it.
            _ => {
                self.buffer = segment.read_record(at)?;
                self.start = offset;
                Ok(&self.buffer)
            }
        }
    }

    /// Where in the buffer such a stretch of the segment begins, if all of it is there.
    fn position_of(&self, offset: u64, len: usize) -> Option<usize> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (from + len <= self.buffer.len()).then_some(from)
    }

    fn fill(&mut self, segment: &Segment, offset: u64, len: usize) -> Result<()> {
        let is_next = offset >= self.last_end && offset - self.last_end <= GAP_BYTES_MAX && self.last_end > 0;
        let wanted = if is_next { len.max(self.window) } else { len };
        self.window = if is_next { (2 * self.window).min(WINDOW_MAX) } else { WINDOW_MIN };
        self.buffer.resize(wanted, 0);
        self.start = offset;
        let mut filled = 0;
        while filled < wanted {
            match segment.file.read_at(&mut self.buffer[filled..], offset + filled as u64) {
                // The end of the file.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // What is asked for is there; what is behind need not be to be had.
                Err(_) if filled >= len => break,
                Err(e) => {
                    self.buffer.clear();
                    return Err(Error::io(format_args!("reading {} at {offset}", segment.path.display()), e));
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}
