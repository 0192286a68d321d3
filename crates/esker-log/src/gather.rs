//! Reading many records of a segment in the order of the file, whatever order they are wanted in.
//!
//! Where the bytes are not in memory, a disk takes as long to begin a read as to read some tens of KiB. So records that lie close to
//! one another are had with one read, and what lies between them is read over.

use std::io;

use crate::{RecordLocation, Result, segment::Segment};

/// A gap of up to so many bytes between two records is read over: a solid-state disk reads them in the time in which it would
/// begin another read, and a rented one counts reads before it counts bytes.
const GAP_BYTES_MAX: u64 = 32 << 10;

/// One read takes no more, but for a longer record.
const READ_BYTES_MAX: u64 = 1 << 20;

/// See the module. Holds a buffer of one read.
#[derive(Default)]
pub struct Gather {
    buffer: Vec<u8>,
}

impl Gather {
    /// Reads the records of a sealed `segment` that lie at `places`, which ascend, and gives each, verified, to `on_record`, with its
    /// number among them, or what is wrong with it: `Damage`, `Io`.
    ///
    /// Errors: what `on_record` says; then no more are read.
    pub fn read(
        &mut self,
        segment: &Segment,
        places: &[RecordLocation],
        mut on_record: impl FnMut(usize, Result<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0;
        while let Some(first) = places.get(number) {
            let start = u64::from(first.offset);
            let count = close_together(&places[number..]);
            self.fill(segment, start, end_of(&places[number + count - 1]));
            for (number, at) in (number..).zip(&places[number..number + count]) {
                let from = (u64::from(at.offset) - start) as usize;
                match self.buffer.get(from..from + at.len()).filter(|bytes| segment.is_intact(bytes, at)) {
                    Some(record) => on_record(number, Ok(record))?,
                    // The one record may be fine where a gap before it cannot be read; or this says what is wrong.
                    None => match segment.read_record(at) {
                        Ok(record) => on_record(number, Ok(&record))?,
                        Err(error) => on_record(number, Err(error))?,
                    },
                }
            }
            number += count;
        }
        Ok(())
    }

    /// Reads from `start` to `end`, or as far as that can be done.
    fn fill(&mut self, segment: &Segment, start: u64, end: u64) {
        let wanted = (end - start) as usize;
        self.buffer.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            match segment.file.read_at(&mut self.buffer[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Whoever misses a record reads it alone, and is told.
                Err(_) => break,
            }
        }
        self.buffer.truncate(filled);
        // A record that was longer than most leaves no buffer behind for good.
        self.buffer.shrink_to(2 * READ_BYTES_MAX as usize);
    }
}

fn end_of(at: &RecordLocation) -> u64 {
    u64::from(at.offset) + at.len() as u64
}

/// How many of the places, from the first on, are had with one read.
fn close_together(places: &[RecordLocation]) -> usize {
    let Some(first) = places.first() else { return 0 };
    let fits = |pair: &&[RecordLocation]| {
        let gap = u64::from(pair[1].offset).saturating_sub(end_of(&pair[0]));
        gap <= GAP_BYTES_MAX && end_of(&pair[1]) - u64::from(first.offset) <= READ_BYTES_MAX
    };
    1 + places.windows(2).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u32, value_len: u32) -> RecordLocation {
        RecordLocation { segment: 1, offset, key_len: 4, value_len, index: 1 }
    }

    #[test]
    fn what_lies_close_together_is_had_with_one_read() {
        let gap = GAP_BYTES_MAX as u32;
        let len = place(0, 100).len() as u32;
        let places = [place(64, 100), place(64 + len, 100), place(64 + 2 * len + gap, 100)];
        assert_eq!(close_together(&places), 3);
        assert_eq!(close_together(&[places[0], place(64 + len + gap + 1, 100)]), 1);
        let long = READ_BYTES_MAX as u32;
        assert_eq!(close_together(&[place(64, 2 * long), place(64 + 3 * long, 100)]), 1);
        let many: Vec<_> = (0..2000).map(|n| place(64 + n * 1024, 1000)).collect();
        assert_eq!(close_together(&many), (READ_BYTES_MAX / 1024) as usize);
        assert_eq!(close_together(&[]), 0);
    }
}
