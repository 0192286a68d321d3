//! Reading a segment from front to back.

use crate::{
    Error, Result,
    format::{FRAME_HEADER_LEN, FrameHeader, starts_frame, verify_frame},
    segment::{Position, Segment},
};

/// Bytes read at a time, unless a frame is longer.
const READ_BYTES: usize = 1 << 20;

/// A verified frame in a scanner's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Where it begins.
    pub position: Position,
    /// Its records, with bound checksums.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Where the record at `at` of the payload lies in the segment.
    pub fn record_offset(&self, at: usize) -> u32 {
        self.position.offset + (FRAME_HEADER_LEN + at) as u32
    }

    /// The first byte behind the frame.
    pub fn end(&self) -> Position {
        Position {
            segment: self.position.segment,
            offset: self.position.offset + FRAME_HEADER_LEN as u32 + self.payload.len() as u32,
        }
    }
}

/// What a scanner finds where it stands.
#[derive(Debug)]
pub enum Step<'a> {
    /// A whole, verified frame; the scanner moved behind it.
    Frame(Frame<'a>),
    /// No frame: the limit, or zeros where a header would be. The scanner stays.
    End,
    /// Bytes that are no valid frame. The scanner stays.
    Bad(&'static str),
}

/// Reads frames one after another, verifying each, in memory bounded by the largest frame.
pub struct FrameScanner<'a> {
    segment: &'a Segment,
    offset: u64,
    limit: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl<'a> FrameScanner<'a> {
    /// Reads `segment` from `offset` to at most `limit`, which must not be behind the file's end.
    pub fn new(segment: &'a Segment, offset: u64, limit: u64) -> Self {
        Self { segment, offset, limit, buffer: Vec::new(), buffer_start: offset }
    }

    /// Where the next frame would begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves the scanner, for the search behind a bad frame.
    fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Reads and verifies the next frame.
    ///
    /// (Not an `Iterator`: the frame borrows the scanner's buffer.) Errors: `Io`.
    pub fn step(&mut self) -> Result<Step<'_>> {
        let left = self.limit.saturating_sub(self.offset);
        if left < FRAME_HEADER_LEN as u64 {
            let rest_is_zero = self.fill(left as usize)?.iter().all(|&b| b == 0);
            return Ok(if rest_is_zero { Step::End } else { Step::Bad("too few bytes for a frame") });
        }
        let head = self.fill(FRAME_HEADER_LEN)?;
        if head.iter().all(|&b| b == 0) {
            return Ok(Step::End);
        }
        let head: &[u8; FRAME_HEADER_LEN] =
            head.first_chunk().expect("fill gives as many bytes as asked for");
        let len = match FrameHeader::decode(head) {
            Ok(header) if header.frame_len() > left => return Ok(Step::Bad("the frame runs past the end")),
            Ok(header) => header.frame_len(),
            Err(why) => return Ok(Step::Bad(why)),
        };
        let (salt, offset) = (self.segment.salt, self.offset as u32);
        let position = Position { segment: self.segment.id, offset };
        let bytes = self.fill(len as usize)?;
        let header = match verify_frame(bytes, salt, offset) {
            Ok(header) => header,
            Err(why) => return Ok(Step::Bad(why)),
        };
        let start = (self.offset - self.buffer_start) as usize;
        self.offset += len;
        let payload = &self.buffer[start + FRAME_HEADER_LEN..start + len as usize];
        Ok(Step::Frame(Frame { header, position, payload }))
    }

    /// Whether everything from here to the limit is zero.
    pub fn rest_is_zero(&mut self) -> Result<bool> {
        let mut at = self.offset;
        let mut chunk = vec![0; self.limit.saturating_sub(at).min(READ_BYTES as u64) as usize];
        while at < self.limit {
            let len = (self.limit - at).min(READ_BYTES as u64) as usize;
            self.read(&mut chunk[..len], at)?;
            if chunk[..len].iter().any(|&b| b != 0) {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }

    /// Moves on from a bad place to the next whole frame; false if there is none.
    pub fn skip_to_frame(&mut self) -> Result<bool> {
        let mut at = self.offset + 1;
        while let Some(candidate) = self.find_magic(at)? {
            self.seek(candidate);
            if matches!(self.step()?, Step::Frame(_)) {
                self.seek(candidate);
                return Ok(true);
            }
            at = candidate + 1;
        }
        Ok(false)
    }

    /// Looks behind a bad place for whole frames, and gives the highest `durable` mark among them: how far the
    /// segment is known to have been on the disk.
    pub fn durable_mark_behind(&mut self) -> Result<u32> {
        let mut mark = 0;
        let mut at = self.offset + 1;
        while let Some(candidate) = self.find_magic(at)? {
            self.seek(candidate);
            at = match self.step()? {
                Step::Frame(frame) => {
                    mark = mark.max(frame.header.durable);
                    u64::from(frame.end().offset)
                }
                Step::End | Step::Bad(_) => candidate + 1,
            };
        }
        Ok(mark)
    }

    /// The next place at or behind `from` where a frame's magic stands.
    fn find_magic(&mut self, from: u64) -> Result<Option<u64>> {
        let mut at = from;
        while at + FRAME_HEADER_LEN as u64 <= self.limit {
            self.seek(at);
            let len = (self.limit - at).min(READ_BYTES as u64) as usize;
            let window = self.fill(len)?;
            if let Some(found) = (0..len - 3).find(|&i| window[i] == b'E' && starts_frame(&window[i..])) {
                return Ok(Some(at + found as u64));
            }
            at += (len - 3) as u64;
        }
        Ok(None)
    }

    /// The `len` bytes at the scanner's offset; the caller has checked them against the limit.
    fn fill(&mut self, len: usize) -> Result<&[u8]> {
        let buffered = self.buffer_start..self.buffer_start + self.buffer.len() as u64;
        if !(buffered.start <= self.offset && self.offset + len as u64 <= buffered.end) {
            let want = (self.limit - self.offset).min(READ_BYTES.max(len) as u64) as usize;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(want, 0);
            let read = self.read(&mut buffer, self.offset);
            self.buffer = buffer;
            self.buffer_start = self.offset;
            if let Err(e) = read {
                self.buffer.clear();
                return Err(e);
            }
        }
        let start = (self.offset - self.buffer_start) as usize;
        Ok(&self.buffer[start..start + len])
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.segment
            .file
            .read_exact_at(buf, offset)
            .map_err(|e| Error::io(format_args!("reading {} at {offset}", self.segment.path.display()), e))
    }
}

/// Reads a stretch of a segment whose frames must all be there.
///
/// Errors: `Damage`, `Io`, and whatever `on_frame` says.
pub fn scan_stretch(
    segment: &Segment,
    start: u64,
    end: u64,
    on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<()> {
    let mut scanner = FrameScanner::new(segment, start, end);
    while scanner.offset() < end {
        let offset = scanner.offset();
        match scanner.step()? {
            Step::Frame(frame) => on_frame(frame)?,
            Step::End => return Err(Error::damage(&segment.path, offset, "zeros where a frame was")),
            Step::Bad(why) => return Err(Error::damage(&segment.path, offset, why)),
        }
    }
    Ok(())
}
