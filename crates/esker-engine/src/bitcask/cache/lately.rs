//! Which places were read lately.

use std::sync::atomic::{AtomicU64, Ordering};

use super::place::Place;

/// Remembers places that were read lately, in one look at memory and without a lock.
pub(super) struct LatelyRead {
    /// Each holds the marks of the two places noted last of those whose hash leads there, the newer one in the low half.
    cells: Box<[AtomicU64]>,
}

/// At most so many cells, of eight bytes each.
const CELLS_MAX: usize = 1 << 21;

impl LatelyRead {
    /// For a cache of so many values: what is read again after a few times as many others should be known.
    pub(super) fn new(values: usize) -> Self {
        let cells = (2 * values).next_power_of_two().min(CELLS_MAX);
        Self { cells: (0..cells).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether the place was noted lately; if not, notes it. Now and then another one is taken for it, which does no harm.
    pub(super) fn knows(&self, place: Place) -> bool {
        let hash = place.hash();
        let cell = &self.cells[hash as usize & (self.cells.len() - 1)];
        let (held, mark) = (cell.load(Ordering::Relaxed), (hash >> 32) as u32 | 1);
        if [held as u32, (held >> 32) as u32].contains(&mark) {
            return true;
        }
        // If another note comes in between, it is lost: that place is then noted at its next read.
        cell.store(held << 32 | u64::from(mark), Ordering::Relaxed);
        false
    }
}
