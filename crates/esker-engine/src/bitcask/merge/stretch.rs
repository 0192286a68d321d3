//! A stretch of keys on their way from the inputs of a merge to its outputs.
//!
//! Inputs are in the order of writing, outputs in that of the keys. Read in key order, every record would be a random read, which is
//! what a merge cost where the inputs are not in memory. So keys are noted until their records fill a buffer; then the records
//! are read in the order of the files, those close together with one read, and after that written in the order of the keys.

use esker_log::{Gather, RecordLocation, Result};

use super::Inputs;
use crate::{
    Pace, Version,
    bitcask::{keydir::Slot, location, name_key},
};

/// Of a key that is copied.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// A record, which goes to this place in the buffer.
    Record { slot: Slot, at: usize },
    /// The sum of adds, which becomes a record.
    Sum { slot: Slot, sum: i64 },
    /// A tombstone, of which it is not known yet whether it is needed.
    Tombstone { version: Version },
}

/// See the module.
pub(super) struct Stretch {
    /// What it may take, in bytes.
    limit: usize,
    keys: Vec<u8>,
    items: Vec<Item>,
    /// Where the next record goes in the buffer.
    records_end: usize,
    buffer: Vec<u8>,
    gather: Gather,
}

struct Item {
    key_at: usize,
    key_len: u16,
    what: What,
}

/// What a key takes beside itself and its record: the item and its share of what sorts them.
const ITEM_BYTES: usize = size_of::<Item>() + size_of::<u32>() + size_of::<RecordLocation>();

impl Stretch {
    /// A stretch that takes `limit` bytes, or one record.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            keys: Vec::new(),
            items: Vec::new(),
            records_end: 0,
            buffer: Vec::new(),
            gather: Gather::default(),
        }
    }

    /// Whether there is room for a key of this length with a record of that. The first always fits.
    pub(super) fn has_room(&self, key_len: usize, record_len: usize) -> bool {
        let taken = self.keys.len() + self.items.len() * ITEM_BYTES + self.records_end;
        self.items.is_empty() || taken + key_len + ITEM_BYTES + record_len <= self.limit
    }

    /// Notes a key. They ascend.
    pub(super) fn push(&mut self, key: &[u8], what: What) {
        self.items.push(Item { key_at: self.keys.len(), key_len: key.len() as u16, what });
        self.keys.extend_from_slice(key);
    }

    /// Notes a key whose record is to be read.
    pub(super) fn push_record(&mut self, key: &[u8], slot: Slot) {
        self.push(key, What::Record { slot, at: self.records_end });
        self.records_end += location(key, slot).len();
    }

    /// The keys that were noted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], What)> {
        self.items.iter().map(|item| (self.key(item), item.what))
    }

    fn key(&self, item: &Item) -> &[u8] {
        &self.keys[item.key_at..item.key_at + usize::from(item.key_len)]
    }

    /// The record of a key, once it was read.
    pub(super) fn record(&self, key: &[u8], slot: Slot, at: usize) -> &[u8] {
        &self.buffer[at..at + location(key, slot).len()]
    }

    /// Reads the records, in the order of the files. Half of what is due for copying them is paid here, the other half where they
    /// are written.
    ///
    /// Errors: `Damage`, `Io`, and what `pace` says.
    pub(super) fn read(&mut self, inputs: &Inputs, pace: &mut dyn Pace) -> Result<()> {
        self.buffer.resize(self.buffer.len().max(self.records_end), 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut gather = std::mem::take(&mut self.gather);
        let order = self.in_file_order();
        let same_segment = |a: &(RecordLocation, u32), b: &(RecordLocation, u32)| a.0.segment == b.0.segment;
        for of_segment in order.chunk_by(same_segment) {
            let segment = inputs.segment(of_segment[0].0.segment)?;
            let places: Vec<_> = of_segment.iter().map(|(place, _)| *place).collect();
            gather.read(segment, &places, |number, record| {
                let item = &self.items[of_segment[number].1 as usize];
                let record = record.map_err(|e| name_key(e, self.key(item)))?;
                if let What::Record { at, .. } = item.what {
                    buffer[at..at + record.len()].copy_from_slice(record);
                }
                pace.copied(record.len() as u64 / 2)
            })?;
        }
        (self.buffer, self.gather) = (buffer, gather);
        Ok(())
    }

    /// Where the records lie, and the numbers of their items.
    fn in_file_order(&self) -> Vec<(RecordLocation, u32)> {
        let place = |(number, item): (usize, &Item)| match item.what {
            What::Record { slot, .. } => Some((location(self.key(item), slot), number as u32)),
            What::Sum { .. } | What::Tombstone { .. } => None,
        };
        let mut order: Vec<_> = self.items.iter().enumerate().filter_map(place).collect();
        order.sort_unstable_by_key(|(place, _)| (place.segment, place.offset));
        order
    }

    /// Forgets the keys. A record that was longer than the limit leaves no buffer behind for good.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.items.clear();
        self.records_end = 0;
        self.buffer.truncate(self.limit);
        self.buffer.shrink_to(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_takes_so_much_or_one_record() {
        let mut stretch = Stretch::new(2000);
        assert!(stretch.has_room(10, 1 << 30));
        stretch.push_record(b"a", Slot::new(9, 500, 700, 1));
        assert!(
            !stretch.has_room(10, 1 << 30) && !stretch.has_room(1, 2000 - 700) && stretch.has_room(1, 700)
        );
        stretch.push_record(b"b", Slot::new(7, 900, 100, 2));
        stretch.push(b"c", What::Tombstone { version: 3 });
        stretch.push_record(b"d", Slot::new(9, 64, 100, 4));
        let order: Vec<_> =
            stretch.in_file_order().iter().map(|(at, n)| (at.segment, at.offset, *n)).collect();
        assert_eq!(order, [(7, 900, 1), (9, 64, 3), (9, 500, 0)]);
        stretch.buffer.resize(1 << 20, 0);
        stretch.clear();
        assert!(stretch.has_room(10, 1 << 30) && stretch.iter().next().is_none());
        assert!(stretch.buffer.capacity() < 1 << 12, "{}", stretch.buffer.capacity());
    }
}
