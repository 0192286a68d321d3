//! Collecting the entries of an index file from a stretch of the log.
//!
//! What apply did is mostly to be seen in the frames, so the background thread reads back what was just written, from the
//! page cache, and writers keep no books. Only what came of judged batches is remembered until then ([`Judged`]).

use std::{cmp::Ordering, collections::BTreeMap};

use arrayvec::ArrayVec;
use esker_log::{
    GroupEnd, Position, Result, SegmentId,
    format::{FrameKind, StoreId},
    record::{PlacedRecords, Record, RecordKind, Records},
    scan::Frame,
};

use super::{
    index_file::{IndexWriter, Place, Stretch},
    keydir::Slot,
    prefix::common_prefix,
    ranges::{Age, Cover, RangeTombstone},
};
use crate::{
    Version,
    judge::{Sum, VERIFIED, Verdict, deleted_range},
    stored::Stored,
};

/// What came of the judged batches since the last checkpoint, by where their frames lie.
pub(crate) type Judged = BTreeMap<Position, Verdict>;

/// Gathers the newest place of each key in a stretch.
#[derive(Default)]
pub(crate) struct Collector {
    keys: Vec<u8>,
    entries: Vec<Entry>,
    /// Deleted ranges, and before which of the gathered key bytes they came.
    ranges: Vec<(RangeTombstone, usize)>,
    last: GroupEnd,
}

#[derive(Clone, Copy)]
struct Entry {
    key_at: usize,
    key_len: u16,
    place: Place,
}

impl Collector {
    /// A collector for a stretch before which the group ended at `last`.
    pub(crate) fn behind(last: GroupEnd) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes in a frame. Frames come in log order. What `counts` says no to moves the group's end all the same. False: it was
    /// judged, and `judged` does not know what came of it.
    pub(crate) fn add(&mut self, frame: &Frame<'_>, counts: bool, judged: &Judged) -> bool {
        let header = &frame.header;
        let end = GroupEnd { index: header.index, term: header.term };
        self.last = end.behind(self.last, header.kind).unwrap_or(end);
        if counts && header.kind == FrameKind::Placed {
            self.add_placed(frame);
        } else if counts {
            return self.add_entry(frame, judged);
        }
        true
    }

    fn add_placed(&mut self, frame: &Frame<'_>) {
        for (at, version, record) in PlacedRecords::new(frame.payload).map(|it| it.expect(VERIFIED)) {
            let place =
                RecordPlace { segment: frame.position.segment, offset: frame.record_offset(at), version };
            self.add_record(&record, place, None);
            if record.kind == RecordKind::DeleteRange
                && let Some((_, before)) = self.ranges.last_mut()
            {
                // A merged segment has them behind its keys, and none that they cover.
                *before = 0;
            }
        }
    }

    fn add_entry(&mut self, frame: &Frame<'_>, judged: &Judged) -> bool {
        let verdict = judged.get(&frame.position);
        let mut sums = match verdict {
            Some(Verdict::Void(_)) => return true,
            Some(Verdict::Applies(sums)) => sums.iter(),
            None => [].iter(),
        };
        for (at, record) in Records::new(frame.payload).map(|it| it.expect(VERIFIED)) {
            let is_judged = matches!(record.kind, RecordKind::Condition | RecordKind::Add);
            if is_judged && verdict.is_none() {
                return false;
            }
            let sum = if record.kind == RecordKind::Add { sums.next() } else { None };
            let version = frame.header.index;
            let place =
                RecordPlace { segment: frame.position.segment, offset: frame.record_offset(at), version };
            self.add_record(&record, place, sum);
        }
        true
    }

    fn add_record(&mut self, record: &Record<'_>, at: RecordPlace, sum: Option<&Sum>) {
        let place = match record.kind {
            RecordKind::Put => Place::of(slot_of(record, at.segment, at.offset, at.version)),
            RecordKind::Delete => Place::tombstone(at.version),
            RecordKind::Add => match sum {
                Some(sum) => Place::of(Slot::sum(sum.value, at.version).expiring(sum.expiry)),
                None => return,
            },
            RecordKind::DeleteRange => {
                let range = deleted_range(record);
                let tombstone =
                    RangeTombstone { start: record.key.to_vec(), end: range.end, version: at.version };
                self.ranges.push((tombstone, self.keys.len()));
                return;
            }
            RecordKind::Request | RecordKind::Condition | RecordKind::Stamp => return,
        };
        let key_at = self.keys.len();
        self.keys.extend_from_slice(record.key);
        self.entries.push(Entry { key_at, key_len: record.key.len() as u16, place });
    }

    /// The last frame taken in.
    pub(crate) fn last(&self) -> GroupEnd {
        self.last
    }

    /// The index file's content: keys ascending, of each only the last entry, and that only if no range was deleted over it
    /// since.
    pub(crate) fn into_index(self, store: &StoreId, mut stretch: Stretch) -> IndexWriter {
        let Self { keys, entries, ranges, .. } = self;
        // A snapshot's values may come before anything that says how far its versions go.
        let newest = entries.iter().map(|entry| entry.place.version);
        let newest = newest.chain(ranges.iter().map(|(range, _)| range.version)).max();
        stretch.last.index = stretch.last.index.max(newest.unwrap_or(0));
        let cover = Cover::new(ranges.iter().map(|(range, at)| (range, *at)));
        let key = |entry: &Entry| &keys[entry.key_at..entry.key_at + usize::from(entry.key_len)];
        let mut writer = IndexWriter::new(store, stretch);
        let order = Order::of(&entries, key);
        let mut newest = order.newest();
        loop {
            // They lie all over the list: so many are waited for together.
            let some: ArrayVec<Entry, 16> = newest.by_ref().take(16).copied().collect();
            if some.is_empty() {
                break;
            }
            for entry in &some {
                let key = key(entry);
                if cover.is_empty() || cover.over(key).is_none_or(|age| age <= entry.age()) {
                    writer.push(key, entry.place);
                }
            }
        }
        ranges.iter().for_each(|(range, _)| writer.push_range(range));
        writer
    }
}

impl Entry {
    /// Keys were gathered in log order, so `key_at` orders those of one version from old to new. A range that came before the
    /// entry has the same number, and not a higher one.
    fn age(&self) -> Age {
        (self.place.version, self.key_at)
    }
}

/// Where a record lies.
#[derive(Clone, Copy)]
struct RecordPlace {
    segment: SegmentId,
    offset: u32,
    version: Version,
}

/// What the keydir keeps of a put that lies there.
pub(crate) fn slot_of(record: &Record<'_>, segment: SegmentId, offset: u32, version: Version) -> Slot {
    let slot = Slot::new(segment, offset, record.value.len() as u32, version);
    match record.flags {
        0 => slot,
        // Whoever made the batch saw to it that what the flags say is there.
        flags => match Stored::new(flags, record.value) {
            Ok(stored) => slot.expiring(stored.expiry).compressed(stored.is_compressed()),
            Err(_) => slot,
        },
    }
}

/// Entries by key, those of one key from old to new.
///
/// A look at an entry, or at its key, is a wait for memory, of which a segment's worth does not fit into the processor's caches. So what
/// is sorted is small and decides by itself where keys are short: all keys of a stretch often begin alike, and what it has are the bytes
/// behind that.
struct Order<'a, K> {
    entries: &'a [Entry],
    key: K,
    /// With so many bytes all keys begin alike.
    shared: usize,
    /// Whether entries were gathered from old to new.
    is_by_age: bool,
    sorted: Vec<Sorted>,
}

/// An entry's place in the list, and what decides most comparisons.
#[derive(Clone, Copy)]
struct Sorted {
    head: u64,
    /// A segment, whose offsets have as many bits, holds no more.
    at: u32,
    key_len: u16,
}

impl<'a, K: Fn(&Entry) -> &'a [u8]> Order<'a, K> {
    fn of(entries: &'a [Entry], key: K) -> Self {
        let shared = shared_len(entries.iter().map(&key));
        let is_by_age = entries.is_sorted_by_key(Entry::age);
        let sorted = entries.iter().zip(0..).map(|(entry, at)| Sorted {
            head: head(&key(entry)[shared..]),
            at,
            key_len: entry.key_len,
        });
        let mut sorted: Vec<Sorted> = sorted.collect();
        let longest = entries.iter().map(|entry| usize::from(entry.key_len)).max().unwrap_or(0);
        let order = Self { entries, key, shared, is_by_age, sorted: Vec::new() };
        match is_by_age && longest <= shared + size_of::<u64>() {
            // Numbers are compared without a branch, of which half would be mispredicted.
            true => sorted.sort_unstable_by_key(Sorted::rank),
            false => sorted.sort_unstable_by(|a, b| order.compare(a, b)),
        }
        Self { sorted, ..order }
    }

    /// Of each key the last entry, by key.
    fn newest(&self) -> impl Iterator<Item = &'a Entry> {
        let is_last = |(i, sorted): &(usize, &Sorted)| {
            self.sorted.get(i + 1).is_none_or(|next| !self.is_same_key(sorted, next))
        };
        self.sorted.iter().enumerate().filter(is_last).map(|(_, sorted)| self.entry(sorted))
    }

    fn compare(&self, a: &Sorted, b: &Sorted) -> Ordering {
        let keys = || match self.are_whole(a, b) {
            // Of two that are padded to the same number the shorter is the smaller.
            true => a.key_len.cmp(&b.key_len),
            false => self.key(a).cmp(self.key(b)),
        };
        a.head.cmp(&b.head).then_with(keys).then_with(|| self.compare_ages(a, b))
    }

    fn compare_ages(&self, a: &Sorted, b: &Sorted) -> Ordering {
        match self.is_by_age {
            true => a.at.cmp(&b.at),
            false => self.entry(a).age().cmp(&self.entry(b).age()).then(a.at.cmp(&b.at)),
        }
    }

    fn is_same_key(&self, a: &Sorted, b: &Sorted) -> bool {
        a.head == b.head && a.key_len == b.key_len && (self.are_whole(a, b) || self.key(a) == self.key(b))
    }

    /// Whether the heads hold all of both keys that is not shared.
    fn are_whole(&self, a: &Sorted, b: &Sorted) -> bool {
        usize::from(a.key_len.max(b.key_len)) <= self.shared + size_of::<u64>()
    }

    fn entry(&self, sorted: &Sorted) -> &'a Entry {
        &self.entries[sorted.at as usize]
    }

    fn key(&self, sorted: &Sorted) -> &'a [u8] {
        (self.key)(self.entry(sorted))
    }
}

impl Sorted {
    /// Sorts like [`Order::compare`] where heads hold all of the keys that is not shared, and entries were gathered from old to new.
    fn rank(&self) -> u128 {
        u128::from(self.head) << 64 | u128::from(self.key_len) << 32 | u128::from(self.at)
    }
}

/// With how many bytes all the keys begin alike.
fn shared_len<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |shared, key| common_prefix(&first[..shared], key))
}

/// A key's first eight bytes as a number that sorts like them, padded with zeros.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

/// Reads a stretch of the log's bytes into a collector; `scan` yields its frames, `last` is the group's end before it. `None`: a
/// frame was judged, and `judged` does not know what came of it.
pub(crate) fn collect(
    last: GroupEnd,
    counts: &dyn Fn(&Frame<'_>) -> bool,
    judged: &Judged,
    scan: impl FnOnce(&mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<()>,
) -> Result<Option<Collector>> {
    let mut collector = Collector::behind(last);
    let mut all_known = true;
    scan(&mut |frame| {
        all_known &= collector.add(&frame, counts(&frame), judged);
        Ok(())
    })?;
    Ok(all_known.then_some(collector))
}

/// Where every entry of the log counts, and everything in a merged segment: what has records.
pub(crate) fn every_entry(frame: &Frame<'_>) -> bool {
    matches!(frame.header.kind, FrameKind::Records | FrameKind::Placed)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn entry(key: &[u8], keys: &mut Vec<u8>, version: Version) -> Entry {
        let key_at = keys.len();
        keys.extend_from_slice(key);
        Entry { key_at, key_len: key.len() as u16, place: Place::tombstone(version) }
    }

    /// Keys that are one another's beginnings, with NULs, behind a common start or none, shorter and longer than what is
    /// sorted by, or none longer.
    fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = || prop::sample::select(vec![0_u8, 1, b'a', 0xff]);
        let ends = prop_oneof![
            vec(vec(byte(), 0..12), 0..60),
            vec(vec(byte(), 0..9), 0..60),
            vec(vec(byte(), 0..3), 0..60)
        ];
        let start = prop::sample::select(vec![&b""[..], b"key:", b"a long common start/"]);
        (start, ends)
            .prop_map(|(start, ends)| ends.into_iter().map(|end| [start, end.as_slice()].concat()).collect())
    }

    proptest! {
        #[test]
        fn entries_are_sorted_by_key_and_then_by_age(keys in keys(), ascending: bool, versions in vec(0_u64..9, 60)) {
            let mut bytes = Vec::new();
            let entries: Vec<Entry> = keys.iter().zip(0_u64..).map(|(key, number)| {
                entry(key, &mut bytes, if ascending { number } else { versions[number as usize] })
            }).collect();
            let key = |entry: &Entry| &bytes[entry.key_at..][..usize::from(entry.key_len)];
            let order = Order::of(&entries, key);
            let mut expected: Vec<&Entry> = entries.iter().collect();
            expected.sort_by_key(|entry| (key(entry), entry.age()));
            let sorted: Vec<&Entry> = order.sorted.iter().map(|sorted| order.entry(sorted)).collect();
            prop_assert!(sorted.iter().map(|entry| entry.key_at).eq(expected.iter().map(|entry| entry.key_at)));
            // Of each key the last is the newest.
            let newest: BTreeMap<_, _> = expected.iter().map(|entry| (key(entry), entry.key_at)).collect();
            prop_assert!(order.newest().map(|entry| (key(entry), entry.key_at)).eq(newest));
            for pair in order.sorted.windows(2) {
                let same = key(order.entry(&pair[0])) == key(order.entry(&pair[1]));
                prop_assert_eq!(order.is_same_key(&pair[0], &pair[1]), same);
            }
        }
    }
}
