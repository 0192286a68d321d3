//! Which byte ranges of a file take space on the device: what was written or allocated, not the holes.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent ranges, by start.
#[derive(Debug, Clone, Default)]
pub(super) struct Extents(BTreeMap<u64, u64>);

impl Extents {
    /// Bytes taken.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Bytes of `start..end` that are not taken yet.
    pub(super) fn missing(&self, start: u64, end: u64) -> u64 {
        let before = self.0.range(..start).next_back();
        let taken: u64 = before
            .into_iter()
            .chain(self.0.range(start..end))
            .map(|(&from, &to)| to.min(end).saturating_sub(from.max(start)))
            .sum();
        end.saturating_sub(start) - taken
    }

    /// How many of the `len` bytes at `start` can be taken with `free` bytes to spend.
    pub(super) fn fitting(&self, start: u64, len: u64, free: u64) -> u64 {
        if self.missing(start, start + len) <= free {
            return len;
        }
        let (mut fits, mut too_many) = (0, len);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if self.missing(start, start + middle) <= free { fits = middle } else { too_many = middle }
        }
        fits
    }

    /// Takes `start..end`.
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((&from, &to)) = self.0.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            start = start.min(from);
            end = end.max(to);
            self.0.remove(&from);
        }
        self.0.insert(start, end);
    }

    /// Gives back what lies at and past `len`.
    pub(super) fn truncate(&mut self, len: u64) {
        self.0.split_off(&len);
        if let Some(mut last) = self.0.last_entry() {
            let end = (*last.get()).min(len);
            *last.get_mut() = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Extents;

    #[test]
    fn ranges_merge_and_are_counted_once() {
        let mut extents = Extents::default();
        extents.insert(0, 10);
        extents.insert(20, 30);
        extents.insert(10, 15);
        assert_eq!(extents.total(), 25);
        assert_eq!(extents.missing(5, 25), 5);
        extents.insert(0, 30);
        assert_eq!((extents.total(), extents.0.len()), (30, 1));
        extents.truncate(7);
        assert_eq!((extents.total(), extents.missing(0, 10)), (7, 3));
    }

    #[test]
    fn what_fits_counts_only_new_bytes() {
        let mut extents = Extents::default();
        extents.insert(4, 8);
        assert_eq!(extents.fitting(0, 10, 0), 0);
        assert_eq!(extents.fitting(0, 10, 4), 8);
        assert_eq!(extents.fitting(0, 10, 5), 9);
        assert_eq!(extents.fitting(0, 10, 6), 10);
        assert_eq!(extents.fitting(4, 4, 0), 4);
    }
}
