//! Writing zeros ahead of the end, where the log is synced often.
//!
//! Space that is reserved is not written yet. The first sync of what is written there has to make durable that it is, too: on ext4 and
//! XFS a commit of the journal, or a block of the file's map. Over zeros that are on the disk, a sync is of data alone, which takes little
//! more than half as long. So a step is written with zeros at a time, and becomes durable with the sync of the append before it; nothing reads them, and
//! a log that ends before zeros ends as one does before reserved space. (Logs that are used again from the beginning, as
//! InnoDB's and SQLite's, have the same from what lay there before.)
//!
//! Only where a block that is written again stays where it is ([`Disk::writes_in_place`](crate::disk::Disk::writes_in_place)). Every byte is written twice for that, in place of the journal's blocks. So it is done where syncs are small: of 4,000 bytes each, the
//! disk has two fifths less to write than without, of 9,000 an eighth less, of 16,000 an eighth more; on ext4 without a journal a
//! fortieth, three tenths and a half more (`docs/benchmarks.md`).

use std::{
    io::{self, IoSlice},
    ops::Range,
};

use crate::disk::File;

/// So much is written at a time: more makes the sync behind it longer, less more of them.
const STEP: u64 = 256 << 10;
/// Where a sync has more than this on the average, no zeros are written, in bytes.
const SYNC_BYTES_MAX: u64 = 16 << 10;

/// Decides where zeros are written, by what it sees of the last step.
#[derive(Debug, Default)]
pub(crate) struct Zeros {
    /// Up to here it is decided.
    until: u64,
    /// Appended since, in bytes,
    appended: u64,
    /// and how many syncs there were before.
    syncs: u64,
}

impl Zeros {
    /// Nothing was appended yet, and so many syncs are not of appends.
    pub(crate) fn new(syncs: u64) -> Self {
        Self { syncs, ..Self::default() }
    }

    /// The file is another, or was cut: nothing is decided.
    pub(crate) fn forget(&mut self) {
        self.until = 0;
    }

    /// For an append of `bytes`, before which there were `syncs` syncs in all: where zeros are to be written, which is behind it and before
    /// `limit`.
    pub(crate) fn behind(&mut self, bytes: Range<u64>, syncs: u64, limit: u64) -> Range<u64> {
        self.appended += bytes.end - bytes.start;
        if bytes.end <= self.until {
            return bytes.end..bytes.end;
        }
        let new_syncs = syncs - self.syncs;
        let is_worth_it = self.appended <= new_syncs * SYNC_BYTES_MAX;
        (self.appended, self.syncs) = (0, syncs);
        let zeros = match is_worth_it {
            // Behind the limit it goes on when there is space.
            true => bytes.end..(bytes.end + STEP).min(limit).max(bytes.end),
            false => bytes.end..bytes.end,
        };
        self.until = if is_worth_it { zeros.end } else { bytes.end + STEP };
        zeros
    }
}

/// Writes zeros there. Errors: as [`File::write_at`].
pub(crate) fn write_zeros(file: &dyn File, at: Range<u64>) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let mut left = (at.end - at.start) as usize;
    let mut pieces = Vec::with_capacity(left.div_ceil(ZEROS.len()));
    while left > 0 {
        let len = left.min(ZEROS.len());
        pieces.push(IoSlice::new(&ZEROS[..len]));
        left -= len;
    }
    file.write_pieces_at(&mut pieces, at.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends up to `to`, `len` bytes at a time with a sync before each, as far as `syncs` says; gives the zeros.
    fn append(
        zeros: &mut Zeros,
        from: u64,
        to: u64,
        len: u64,
        syncs: &mut u64,
        step: u64,
    ) -> Vec<Range<u64>> {
        let mut written = Vec::new();
        let mut at = from;
        while at < to {
            *syncs += step;
            let next = zeros.behind(at..at + len, *syncs, u64::MAX);
            written.extend((!next.is_empty()).then_some(next));
            at += len;
        }
        written
    }

    #[test]
    fn they_lie_ahead_of_small_syncs_without_a_gap() {
        let (mut zeros, mut syncs) = (Zeros::default(), 0);
        let written = append(&mut zeros, 64, 2 << 20, 1000, &mut syncs, 1);
        assert_eq!(written.len(), 8, "{written:?}");
        for pair in written.windows(2) {
            assert!(pair[1].start - pair[0].end <= 1000, "{pair:?}");
            assert_eq!(pair[1].end - pair[1].start, STEP);
        }
    }

    #[test]
    fn there_are_none_where_syncs_are_large_or_rare() {
        for (len, step) in [(SYNC_BYTES_MAX + 1, 1), (1000, 0)] {
            let (mut zeros, mut syncs) = (Zeros::default(), 0);
            assert!(append(&mut zeros, 64, 2 << 20, len, &mut syncs, step).is_empty(), "{len}");
        }
        // Nor at first: those syncs were of what is not known.
        assert!(Zeros::new(7).behind(64..1064, 7, u64::MAX).is_empty());
    }

    #[test]
    fn another_file_begins_with_them_and_its_end_bounds_them() {
        let mut zeros = Zeros::default();
        assert_eq!(zeros.behind(64..1064, 1, u64::MAX), 1064..1064 + STEP);
        assert!(zeros.behind(1064..2064, 2, u64::MAX).is_empty());
        zeros.forget();
        assert_eq!(zeros.behind(64..1064, 3, 5000), 1064..5000);
        // More space was reserved.
        assert_eq!(zeros.behind(1064..5064, 4, 9000), 5064..9000);
        zeros.forget();
        assert!(zeros.behind(64..1064, 5, 1064).is_empty());
        zeros.forget();
        assert!(zeros.behind(64..1064, 6, 500).is_empty(), "a frame that is longer than a segment should be");
    }
}
