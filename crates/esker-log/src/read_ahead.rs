//! Reading records one after another: where they lie in a row, many with one read.
//!
//! What was merged, or written in key order, lies in the order in which a scan asks for it. So when a record lies shortly behind
//! the one before it, the next read takes more than the record, and twice as much each time that it was right.
//!
//! What is given is a part of what was read together, so that no byte is copied; but as long as somebody keeps it, all of that
//! stays in memory. So where most of what was read is not asked for, it is a copy: gaps are read over, or the next record
//! is somewhere else after all. Whoever keeps all that is given holds about three times that at most.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{Error, RecordLocation, Result, SegmentId, segment::Segment};

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
    buffer: Bytes,
    start: u64,
    /// The segment of the record that was asked for last, and where that ends.
    last: Option<(SegmentId, u64)>,
    /// How much the next read takes if the record lies behind the last one.
    window: usize,
    /// How much memory the buffer takes: it may have served for a longer read.
    held: usize,
    /// How many of its bytes were asked for.
    asked: usize,
    /// Whether more was read than one record.
    is_ahead: bool,
    /// Whether most of it will be asked for, as far as can be told: of what was read ahead before, most was.
    is_dense: bool,
}

impl ReadAhead {
    /// The segment that was read last, if it has this number.
    pub fn segment(&self, id: SegmentId) -> Option<&Arc<Segment>> {
        self.segment.as_ref().filter(|segment| segment.id == id)
    }

    /// Whether the record is at hand, or lies shortly behind the one that was asked for last.
    pub fn is_near(&self, at: &RecordLocation) -> bool {
        self.is_next(at) || self.segment(at.segment).is_some() && self.position_of(at).is_some()
    }

    /// Takes note of a record that was read without this.
    pub fn note(&mut self, at: &RecordLocation) {
        self.last = Some((at.segment, u64::from(at.offset) + at.len() as u64));
    }

    /// A verified record of `segment`: a part of what was read together, if most of that is asked for, else a copy.
    ///
    /// Errors: as for [`Segment::read_record`].
    pub fn read(&mut self, segment: &Arc<Segment>, at: &RecordLocation) -> Result<Bytes> {
        let len = at.len();
        if self.segment(segment.id).is_none() {
            self.segment = Some(Arc::clone(segment));
            self.buffer = Bytes::new();
            self.window = WINDOW_MIN;
            self.is_ahead = false;
        }
        if let Some(from) = self.position_of(at)
            && segment.is_intact(&self.buffer[from..from + len], at)
        {
            self.note(at);
            return Ok(self.part(from..from + len));
        }
        // Also where what was read ahead is no record: it may not have been written when it was read.
        self.fill(segment, at)?;
        self.note(at);
        match self.buffer.get(..len) {
            Some(record) if segment.is_intact(record, at) => Ok(self.part(0..len)),
            // Says what is wrong with it.
            _ => segment.read_record(at).map(Bytes::from),
        }
    }

    /// A record in the buffer.
    fn part(&mut self, record: Range<usize>) -> Bytes {
        self.asked += record.len();
        match self.is_dense || is_most(self.asked, self.held) {
            true => self.buffer.slice(record),
            false => Bytes::copy_from_slice(&self.buffer[record]),
        }
    }

    fn is_next(&self, at: &RecordLocation) -> bool {
        self.last.is_some_and(|(segment, end)| {
            let gap = u64::from(at.offset).checked_sub(end);
            segment == at.segment && gap.is_some_and(|gap| gap <= GAP_BYTES_MAX)
        })
    }

    /// Where in the buffer, which is of the record's segment, the record begins, if all of it is there.
    fn position_of(&self, at: &RecordLocation) -> Option<usize> {
        let from = usize::try_from(u64::from(at.offset).checked_sub(self.start)?).ok()?;
        (from + at.len() <= self.buffer.len()).then_some(from)
    }

    fn fill(&mut self, segment: &Segment, at: &RecordLocation) -> Result<()> {
        let (offset, len) = (u64::from(at.offset), at.len());
        let is_next = self.is_next(at);
        self.is_dense = is_next && self.is_ahead && is_most(self.asked, self.buffer.len());
        (self.is_ahead, self.asked) = (is_next, 0);
        let wanted = if is_next { len.max(self.window) } else { len };
        self.window = if is_next { (2 * self.window).min(WINDOW_MAX) } else { WINDOW_MIN };
        // If nobody has a part of it any more, it is used again.
        let mut buffer = std::mem::take(&mut self.buffer).try_into_mut().unwrap_or_default();
        buffer.resize(wanted, 0);
        self.held = buffer.capacity();
        let mut filled = 0;
        while filled < wanted {
            match segment.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                // The end of the file.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // What is asked for is there; what is behind need not be to be had.
                Err(_) if filled >= len => break,
                Err(e) => {
                    return Err(Error::io(format_args!("reading {} at {offset}", segment.path.display()), e));
                }
            }
        }
        buffer.truncate(filled);
        (self.buffer, self.start) = (buffer.freeze(), offset);
        Ok(())
    }
}

fn is_most(asked: usize, of: usize) -> bool {
    2 * asked >= of
}
