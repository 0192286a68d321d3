//! Values kept in memory, by the place of their record.
//!
//! A place (segment and offset) is never written twice and segment numbers are never reused, so what is kept of a place is true
//! for ever: nothing is ever invalidated, and nothing can be stale. What is overwritten, deleted or moved is not asked for any
//! more, and so it is the first to go.
//!
//! Beside the page cache this saves the system call, the checksum and, above all, decompression. A value is taken in when it is
//! read for the second time within a while: a stretch of reads that never come again would otherwise cost each of them a copy, and
//! drive out what is read often.

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_log::clock::Clock;
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{self, DefaultLifecycle},
};

use super::keydir::Slot;
use crate::Entry;

/// Larger values are not kept: reading them costs no more than copying them.
const VALUE_LEN_MAX: usize = 64 << 10;
/// What an entry takes beside its value: the cache's own tables, the counts of references, the allocator.
const ENTRY_OVERHEAD: u64 = 96;
/// The cache's bookkeeping and the notes of what was read lately are sized for values of about this many bytes.
const VALUE_LEN_GUESS: u64 = 512;
/// Parts of the cache with a lock of their own.
const SHARDS: usize = 16;

/// See the module.
pub(crate) struct Cache {
    values: sync::Cache<u64, Arc<Kept>, Weight, PlaceHash>,
    lately_read: LatelyRead,
    /// Reads of places that were not read lately.
    unknown: Counter,
    /// Values are read anew from the disk after this long; `None`: never.
    ttl: Option<Duration>,
    clock: Arc<dyn Clock>,
    /// What was found and was too old.
    expired: AtomicU64,
}

/// A value that was read.
struct Kept {
    value: Box<[u8]>,
    expiry: Option<u64>,
    /// Until when it may be used, in monotonic time.
    until: Duration,
}

/// Entries weigh what they take.
#[derive(Clone)]
struct Weight;

impl Weighter<u64, Arc<Kept>> for Weight {
    fn weight(&self, _place: &u64, kept: &Arc<Kept>) -> u64 {
        kept.value.len() as u64 + ENTRY_OVERHEAD
    }
}

/// What the cache came to since opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Reads that it answered.
    pub hits: u64,
    /// Reads that it did not.
    pub misses: u64,
    /// Bytes held, with what holding them takes.
    pub bytes: u64,
    /// Bytes that it may hold now.
    pub capacity: u64,
    /// Values held.
    pub values: u64,
}

impl CacheStats {
    /// The hits in parts of all reads; 0 if there were none.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

impl Cache {
    /// A cache of so many bytes.
    pub(crate) fn new(bytes_max: u64, ttl: Option<Duration>, clock: Arc<dyn Clock>) -> Self {
        let values = (bytes_max / (VALUE_LEN_GUESS + ENTRY_OVERHEAD)).max(1) as usize;
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(values)
            .weight_capacity(bytes_max)
            .build()
            .expect("all that it needs is given");
        Self {
            values: sync::Cache::with_options(options, Weight, PlaceHash, DefaultLifecycle::default()),
            lately_read: LatelyRead::new(values),
            unknown: Counter::default(),
            ttl,
            clock,
            expired: AtomicU64::new(0),
        }
    }

    /// The value at the slot's place, if it is kept.
    pub(crate) fn get(&self, slot: Slot) -> Option<Entry> {
        let place = place(slot);
        if !self.lately_read.knows(place) {
            self.unknown.add_one(PlaceHash::mix(place));
            return None;
        }
        let kept = self.values.get(&place)?;
        if self.ttl.is_some() && self.clock.monotonic() >= kept.until {
            self.expired.fetch_add(1, Ordering::Relaxed);
            self.values.remove(&place);
            return None;
        }
        Some(Entry { value: kept.value.to_vec().into(), version: slot.version(), expiry: kept.expiry })
    }

    /// Keeps what was read at the slot's place, if it is worth it.
    pub(crate) fn offer(&self, slot: Slot, entry: &Entry) {
        let place = place(slot);
        if entry.value.len() > VALUE_LEN_MAX {
            return;
        }
        if !self.lately_read.knows(place) {
            self.lately_read.note(place);
            return;
        }
        let until = self.ttl.map_or(Duration::MAX, |ttl| self.clock.monotonic().saturating_add(ttl));
        let kept = Kept { value: Box::from(&*entry.value), expiry: entry.expiry, until };
        self.values.insert(place, Arc::new(kept));
    }

    /// Holds no more than so many bytes from now on.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.values.set_capacity(bytes);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let expired = self.expired.load(Ordering::Relaxed);
        CacheStats {
            hits: self.values.hits().saturating_sub(expired),
            misses: self.values.misses() + self.unknown.get() + expired,
            bytes: self.values.weight(),
            capacity: self.values.capacity(),
            values: self.values.len() as u64,
        }
    }
}

/// The place of a slot's record, as one number.
fn place(slot: Slot) -> u64 {
    u64::from(slot.segment()) << 32 | u64::from(slot.offset())
}

/// Spreads places, which differ in few bits. Nobody chooses them, so there is no need for a secret, and runs repeat.
#[derive(Clone)]
struct PlaceHash;

impl PlaceHash {
    fn mix(place: u64) -> u64 {
        let mixed = (place ^ (place >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

impl BuildHasher for PlaceHash {
    type Hasher = PlaceHasher;

    fn build_hasher(&self) -> PlaceHasher {
        PlaceHasher(0)
    }
}

struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn write_u64(&mut self, place: u64) {
        self.0 = PlaceHash::mix(place);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = PlaceHash::mix(self.0 ^ u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Remembers places that were read lately. Asked before the cache itself, since it answers most reads that the cache could not
/// with one look at memory and no lock.
struct LatelyRead {
    /// Each holds the marks of the two places noted last of those whose hash leads there, the newer one in the low half.
    cells: Box<[AtomicU64]>,
}

/// At most so many cells, of eight bytes each.
const CELLS_MAX: usize = 1 << 21;

impl LatelyRead {
    /// For a cache of so many values: what is read again after a few times as many others should be known.
    fn new(values: usize) -> Self {
        let cells = (2 * values).next_power_of_two().min(CELLS_MAX);
        Self { cells: (0..cells).map(|_| AtomicU64::new(0)).collect() }
    }

    fn cell(&self, hash: u64) -> &AtomicU64 {
        &self.cells[hash as usize & (self.cells.len() - 1)]
    }

    /// What stands for a place in its cell; never 0.
    fn mark(hash: u64) -> u32 {
        (hash >> 32) as u32 | 1
    }

    /// Whether the place was noted lately. Now and then another one is taken for it, which does no harm.
    fn knows(&self, place: u64) -> bool {
        let hash = PlaceHash::mix(place);
        let held = self.cell(hash).load(Ordering::Relaxed);
        [held as u32, (held >> 32) as u32].contains(&Self::mark(hash))
    }

    fn note(&self, place: u64) {
        let hash = PlaceHash::mix(place);
        let cell = self.cell(hash);
        // If another note comes in between, it is lost: the place is then noted at its next read.
        cell.store(cell.load(Ordering::Relaxed) << 32 | u64::from(Self::mark(hash)), Ordering::Relaxed);
    }
}

/// A counter that many threads add to, in parts on cache lines of their own.
#[derive(Default)]
struct Counter([Padded; SHARDS]);

#[derive(Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

impl Counter {
    /// Adds one; `hint` spreads the parts.
    fn add_one(&self, hint: u64) {
        self.0[hint as usize % SHARDS].0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|part| part.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use esker_log::clock::ManualClock;

    use super::*;

    fn slot(offset: u32) -> Slot {
        Slot::new(1, offset, 100, u64::from(offset))
    }

    fn entry(slot: Slot, len: usize) -> Entry {
        Entry { value: vec![slot.offset() as u8; len].into(), version: slot.version(), expiry: None }
    }

    fn offer_twice(cache: &Cache, offset: u32, len: usize) {
        for _ in 0..2 {
            cache.offer(slot(offset), &entry(slot(offset), len));
        }
    }

    fn cache(bytes: u64, ttl: Option<Duration>) -> (Cache, Arc<ManualClock>) {
        let clock = Arc::<ManualClock>::default();
        (Cache::new(bytes, ttl, Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    #[test]
    fn what_is_read_twice_is_kept() {
        let (cache, _) = cache(1 << 20, None);
        cache.offer(slot(64), &entry(slot(64), 100));
        assert_eq!(cache.get(slot(64)), None);
        cache.offer(slot(64), &entry(slot(64), 100));
        assert_eq!(cache.get(slot(64)), Some(entry(slot(64), 100)));
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.values), (1, 1, 1));
        assert_eq!(stats.hit_rate(), 0.5);
    }

    #[test]
    fn it_stays_within_its_bytes_and_gives_them_back() {
        let (cache, _) = cache(1 << 20, None);
        for offset in 0..10_000 {
            offer_twice(&cache, offset * 64, 1000);
            assert!(cache.stats().bytes <= 1 << 20);
        }
        assert!(cache.stats().bytes > 1 << 19, "{:?}", cache.stats());
        cache.set_capacity(1 << 16);
        assert!(cache.stats().bytes <= 1 << 16, "{:?}", cache.stats());
    }

    #[test]
    fn large_values_are_not_kept() {
        let (cache, _) = cache(64 << 20, None);
        offer_twice(&cache, 0, VALUE_LEN_MAX);
        offer_twice(&cache, 64, VALUE_LEN_MAX + 1);
        assert!(cache.get(slot(0)).is_some() && cache.get(slot(64)).is_none());
    }

    #[test]
    fn after_its_time_a_value_is_read_anew() {
        let (cache, clock) = cache(1 << 20, Some(Duration::from_secs(1)));
        offer_twice(&cache, 0, 10);
        clock.advance(Duration::from_millis(999));
        assert!(cache.get(slot(0)).is_some());
        clock.advance(Duration::from_millis(1));
        assert!(cache.get(slot(0)).is_none());
        assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().values), (1, 1, 0));
    }
}
