//! Values kept in memory, by the place of their record.
//!
//! A place (segment and offset) is never written twice and segment numbers are never reused, so what is kept of a place is true
//! for ever: nothing is ever invalidated, and nothing can be stale. What is overwritten, deleted or moved is not asked for any
//! more, and so it is the first to go.
//!
//! Beside the page cache this saves the system call, the checksum, a copy and, above all, decompression. As long as there is room,
//! whatever is read is taken in. Later only some of what is read again within a while: a stretch of reads that never come again
//! would otherwise drive out what is read often, and cost each of them the change.

mod lately;
mod place;
mod shard;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrayvec::ArrayVec;
use esker_log::clock::Clock;
use parking_lot::Mutex;
use triomphe::ThinArc;

use self::{lately::LatelyRead, place::Place, shard::Shard};
use super::keydir::{LANES, Slot};
use crate::{Entry, Value};

/// Larger values are not kept: reading them costs no more than copying them.
const VALUE_LEN_MAX: usize = 64 << 10;
/// What an entry takes beside its value: header, count, allocator, its part of a bucket.
const ENTRY_OVERHEAD: usize = 80;
/// The notes of what was read lately are sized for values of about this many bytes.
const VALUE_LEN_GUESS: u64 = 512;
/// A full cache takes in one of so many values that are read again.
const ONE_OF: u64 = 8;
/// Parts of the cache with a lock of their own have about so many bytes, so that none is long in growing its table.
const SHARD_BYTES: u64 = 2 << 20;
/// [`Cache::prefetch`] holds one in so many of them at most.
const SHARDS_TO_SPARE: usize = 4;
/// Most such parts, a power of two.
const SHARDS_MAX: u64 = 1024;

/// See the module.
pub(crate) struct Cache {
    /// A power of two.
    shards: Box<[Mutex<Shard>]>,
    /// There once the cache has been full.
    lately_read: OnceLock<LatelyRead>,
    /// Bytes taken in as long as it was not.
    taken_in: AtomicU64,
    /// Reads again of what a full cache did not hold.
    reads_again: AtomicU64,
    /// What it may hold at most, and now.
    bytes_max: u64,
    capacity: AtomicU64,
    /// Values are read anew from the disk after this long; `None`: never.
    ttl: Option<Duration>,
    clock: Arc<dyn Clock>,
}

/// A value that is kept; cloning gives another handle.
pub(crate) type Kept = ThinArc<KeptHeader, u8>;

/// What stands before the value.
#[derive(Debug)]
pub(crate) struct KeptHeader {
    place: Place,
    expiry: Option<u64>,
    /// Until when it may be used, in monotonic time.
    until: Duration,
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
        let shards = (bytes_max / SHARD_BYTES).clamp(1, SHARDS_MAX).next_power_of_two();
        let shard = |_| Mutex::new(Shard::new((bytes_max / shards) as usize));
        Self {
            shards: (0..shards).map(shard).collect(),
            lately_read: OnceLock::new(),
            taken_in: AtomicU64::new(0),
            reads_again: AtomicU64::new(0),
            bytes_max,
            capacity: AtomicU64::new(bytes_max),
            ttl,
            clock,
        }
    }

    /// The value at the slot's place, if it is kept.
    pub(crate) fn get(&self, slot: Slot) -> Option<Entry> {
        let place = Place::of(slot);
        let hash = place.hash();
        let mut shard = self.shard(hash).lock();
        let kept = shard.get(place, hash)?;
        if self.ttl.is_some() && self.clock.monotonic() >= kept.header.header.until {
            shard.remove(place, hash);
            shard.hits -= 1;
            shard.misses += 1;
            return None;
        }
        drop(shard);
        let expiry = kept.header.header.expiry;
        Some(Entry { value: Value::kept(kept), version: slot.version(), expiry })
    }

    /// Reads what [`Cache::get`] of the first [`LANES`] slots, of records, will read, of all of them at once. Counts as no read. Of a shard only
    /// one is read so, and none if somebody else is just using it; a cache of few shards is left alone, for who holds many of them is
    /// in everybody's way.
    pub(crate) fn prefetch(&self, slots: impl Iterator<Item = Slot>) {
        if self.shards.len() < SHARDS_TO_SPARE * LANES {
            return;
        }
        let hashes = slots.take(LANES).map(|slot| Place::of(slot).hash());
        // All locks first: each makes the processor wait for the loads before it. None is waited for, so the order is of no matter.
        let locked = hashes.filter_map(|hash| Some((self.shard(hash).try_lock()?, hash)));
        let mut shards: ArrayVec<_, LANES> = locked.collect();
        shards.iter_mut().for_each(|(shard, hash)| shard.touch_bucket(*hash));
        shards.iter_mut().for_each(|(shard, hash)| shard.touch_value(*hash));
    }

    /// Keeps what was read at the slot's place, if it is worth it.
    pub(crate) fn offer(&self, slot: Slot, entry: &Entry) {
        if entry.value.len() > VALUE_LEN_MAX || self.capacity.load(Ordering::Relaxed) == 0 {
            return;
        }
        let place = Place::of(slot);
        let has_room = self.has_room((entry.value.len() + ENTRY_OVERHEAD) as u64);
        if !has_room && !self.is_worth_it(place) {
            return;
        }
        let until = self.ttl.map_or(Duration::MAX, |ttl| self.clock.monotonic().saturating_add(ttl));
        let header = KeptHeader { place, expiry: entry.expiry, until };
        let (kept, hash) = (Kept::from_header_and_slice(header, &entry.value), place.hash());
        // What was read again counts as asked for: the hand passes it once.
        self.shard(hash).lock().insert(kept, hash, !has_room);
    }

    /// A record was moved: what is kept of it goes along.
    pub(crate) fn moved(&self, from: Slot, to: Slot) {
        let (from, place) = (Place::of(from), Place::of(to));
        let Some((kept, touched)) = self.shard(from.hash()).lock().remove(from, from.hash()) else { return };
        let KeptHeader { expiry, until, .. } = kept.header.header;
        let moved = Kept::from_header_and_slice(KeptHeader { place, expiry, until }, &kept.slice);
        self.shard(place.hash()).lock().insert(moved, place.hash(), touched);
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // Bits that neither the number of a bucket has nor its marks.
        &self.shards[(hash >> 40) as usize & (self.shards.len() - 1)]
    }

    /// Whether the cache has not been full yet.
    fn has_room(&self, weight: u64) -> bool {
        self.lately_read.get().is_none()
            && self.taken_in.fetch_add(weight, Ordering::Relaxed) + weight
                <= self.capacity.load(Ordering::Relaxed)
    }

    /// Whether a full cache takes a value in: of those that were read before within a while, one of some. Reads that are spread
    /// evenly over more than it holds would otherwise change it all the time, and gain nothing by it; what is read often comes again
    /// soon.
    fn is_worth_it(&self, place: Place) -> bool {
        let values = || (self.bytes_max / (VALUE_LEN_GUESS + ENTRY_OVERHEAD as u64)).max(1) as usize;
        let lately_read = self.lately_read.get_or_init(|| LatelyRead::new(values()));
        lately_read.knows(place) && self.reads_again.fetch_add(1, Ordering::Relaxed).is_multiple_of(ONE_OF)
    }

    /// Holds no more than so many bytes from now on.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.capacity.store(bytes, Ordering::Relaxed);
        let share = (bytes / self.shards.len() as u64) as usize;
        self.shards.iter().for_each(|shard| shard.lock().set_capacity(share));
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let mut stats =
            CacheStats { capacity: self.capacity.load(Ordering::Relaxed), ..CacheStats::default() };
        for shard in &self.shards {
            let shard = shard.lock();
            stats.hits += shard.hits;
            stats.misses += shard.misses;
            stats.bytes += shard.weight() as u64;
            stats.values += shard.values() as u64;
        }
        stats
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
    fn while_there_is_room_all_that_is_read_is_kept_and_later_what_is_read_twice() {
        let (cache, _) = cache(100 * (1000 + ENTRY_OVERHEAD) as u64, None);
        for offset in 0..100 {
            cache.offer(slot(offset), &entry(slot(offset), 1000));
            assert_eq!(cache.get(slot(offset)), Some(entry(slot(offset), 1000)));
        }
        cache.offer(slot(200), &entry(slot(200), 1000));
        assert_eq!(cache.get(slot(200)), None);
        for _ in 0..ONE_OF {
            cache.offer(slot(200), &entry(slot(200), 1000));
        }
        assert_eq!(cache.get(slot(200)), Some(entry(slot(200), 1000)));
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.values), (101, 1, 100));
    }

    #[test]
    fn it_stays_within_its_bytes_and_gives_them_back() {
        let (cache, _) = cache(16 << 20, None);
        for offset in 0..40_000 {
            cache.offer(slot(offset * 64), &entry(slot(offset * 64), 1000));
            assert!(cache.stats().bytes <= 16 << 20);
        }
        assert!(cache.stats().bytes > 14 << 20, "{:?}", cache.stats());
        cache.set_capacity(1 << 20);
        assert!(cache.stats().bytes <= 1 << 20, "{:?}", cache.stats());
    }

    #[test]
    fn what_is_kept_goes_along_when_its_record_moves() {
        let (cache, _) = cache(1 << 20, None);
        cache.offer(slot(64), &entry(slot(64), 100));
        cache.moved(slot(64), slot(128));
        cache.moved(slot(256), slot(512));
        let moved = cache.get(slot(128)).expect("it went along");
        assert_eq!(moved.value, entry(slot(64), 100).value);
        assert!(cache.get(slot(64)).is_none() && cache.get(slot(512)).is_none());
        assert_eq!(cache.stats().values, 1);
    }

    #[test]
    fn looking_ahead_counts_as_no_read_and_waits_for_nobody() {
        let (cache, _) = cache(256 << 20, None);
        (0..100).for_each(|offset| offer_twice(&cache, offset, 100));
        let before = cache.stats();
        let kept_and_not = || (0..200).map(slot);
        cache.prefetch(kept_and_not());
        let held: Vec<_> = cache.shards.iter().map(|shard| shard.lock()).collect();
        cache.prefetch(kept_and_not());
        drop(held);
        assert_eq!(cache.stats(), before);
        assert!((0..100).all(|offset| cache.get(slot(offset)) == Some(entry(slot(offset), 100))));
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
