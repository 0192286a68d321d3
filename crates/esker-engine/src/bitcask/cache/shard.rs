//! One part of the cache: a table of buckets, and a hand that goes round it to make room.
//!
//! ```text
//! bucket   marks [7] | touched | kept [7]            one cache line
//! kept     references | place, expiry, until | value   one allocation
//! ```
//!
//! So a hit costs two lines of memory that are not near: the bucket's, and that in which the value begins. A value has one bucket where it can be; when
//! that is full, one of its seven goes. Room is made by second chance (Corbató's clock, 1969): the hand goes from bucket to bucket and takes what
//! was not touched since it came by last.

use triomphe::ThinArc;

use super::{Kept, KeptHeader, place::Place};

/// Values in a bucket.
const WAYS: usize = 7;
/// With more values a bucket than this in the mean, the table doubles: few buckets are full by then.
const MEAN_MAX: usize = 4;

/// See the module.
pub(super) struct Shard {
    /// A power of two.
    buckets: Vec<Bucket>,
    values: usize,
    /// Bytes held, and how many may be.
    weight: usize,
    capacity: usize,
    /// The bucket that the hand comes to next.
    hand: usize,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

#[derive(Default)]
#[repr(align(64))]
struct Bucket {
    /// Some bits of the hashes: what has others need not be looked at.
    marks: [u8; WAYS],
    /// A bit for each value: it was asked for since the hand came by.
    touched: u8,
    kept: [Option<Kept>; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is a cache line");

/// Bits of the hash that no bucket's number and no shard's has.
fn mark(hash: u64) -> u8 {
    (hash >> 56) as u8
}

impl Bucket {
    fn find(&self, place: Place, mark: u8) -> Option<usize> {
        (0..WAYS).find(|&way| {
            self.marks[way] == mark
                && self.kept[way].as_ref().is_some_and(|kept| kept.header.header.place == place)
        })
    }

    /// A way that is free; if none is, one that was not touched; or else the first.
    fn way_for_another(&self) -> usize {
        let free = self.kept.iter().position(Option::is_none);
        free.unwrap_or((!self.touched).trailing_zeros() as usize % WAYS)
    }
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self { buckets: vec![Bucket::default()], values: 0, weight: 0, capacity, hand: 0, hits: 0, misses: 0 }
    }

    pub(super) fn get(&mut self, place: Place, hash: u64) -> Option<Kept> {
        let bucket = self.bucket(hash);
        let found = bucket.find(place, mark(hash)).map(|way| {
            bucket.touched |= 1 << way;
            bucket.kept[way].clone().expect("it was found")
        });
        match &found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Reads the bucket, so that it is near when it is looked into.
    pub(super) fn touch_bucket(&mut self, hash: u64) {
        std::hint::black_box(self.bucket(hash).touched);
    }

    /// Reads where the value begins and where it ends. Its bucket is near.
    pub(super) fn touch_value(&mut self, hash: u64) {
        let bucket = self.bucket(hash);
        let way = bucket.marks.iter().position(|&has| has == mark(hash));
        if let Some(kept) = way.and_then(|way| bucket.kept[way].as_ref()) {
            std::hint::black_box((kept.header.header.place, kept.slice.last().copied()));
        }
    }

    /// Takes a value in, if it is not there; `touched`: as one that was asked for already.
    pub(super) fn insert(&mut self, kept: Kept, hash: u64, touched: bool) {
        if weight(&kept) > self.capacity {
            return;
        }
        if self.values >= MEAN_MAX * self.buckets.len() {
            self.grow();
        }
        if self.bucket(hash).find(kept.header.header.place, mark(hash)).is_none() {
            self.put(kept, hash, touched);
            self.make_room();
        }
    }

    /// Lets a value go; gives it, and whether it was asked for since the hand came by.
    pub(super) fn remove(&mut self, place: Place, hash: u64) -> Option<(Kept, bool)> {
        let bucket = self.bucket(hash);
        let way = bucket.find(place, mark(hash))?;
        let touched = bucket.touched & 1 << way != 0;
        let removed = bucket.kept[way].take()?;
        self.forget(Some(&removed));
        Some((removed, touched))
    }

    pub(super) fn set_capacity(&mut self, bytes: usize) {
        self.capacity = bytes;
        self.make_room();
    }

    pub(super) fn values(&self) -> usize {
        self.values
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    fn bucket(&mut self, hash: u64) -> &mut Bucket {
        let number = hash as usize & (self.buckets.len() - 1);
        &mut self.buckets[number]
    }

    fn put(&mut self, kept: Kept, hash: u64, touched: bool) {
        self.weight += weight(&kept);
        self.values += 1;
        let bucket = self.bucket(hash);
        let way = bucket.way_for_another();
        bucket.marks[way] = mark(hash);
        bucket.touched = bucket.touched & !(1 << way) | u8::from(touched) << way;
        let old = bucket.kept[way].replace(kept);
        self.forget(old.as_ref());
    }

    fn forget(&mut self, gone: Option<&Kept>) {
        if let Some(kept) = gone {
            self.weight -= weight(kept);
            self.values -= 1;
        }
    }

    fn make_room(&mut self) {
        while self.weight > self.capacity {
            let number = self.hand;
            self.hand = (number + 1) & (self.buckets.len() - 1);
            let touched = std::mem::take(&mut self.buckets[number].touched);
            for way in (0..WAYS).filter(|way| touched & 1 << way == 0) {
                if self.weight <= self.capacity {
                    break;
                }
                let gone = self.buckets[number].kept[way].take();
                self.forget(gone.as_ref());
            }
        }
    }

    fn grow(&mut self) {
        let doubled = 2 * self.buckets.len();
        let old = std::mem::replace(&mut self.buckets, (0..doubled).map(|_| Bucket::default()).collect());
        (self.values, self.weight, self.hand) = (0, 0, 0);
        for Bucket { touched, kept, .. } in old {
            for (way, kept) in kept.into_iter().enumerate().filter_map(|(way, kept)| Some((way, kept?))) {
                let hash = kept.header.header.place.hash();
                self.put(kept, hash, touched & 1 << way != 0);
            }
        }
    }
}

/// What a value takes: itself, its header and count, what the allocator adds, and its part of a bucket.
fn weight(kept: &ThinArc<KeptHeader, u8>) -> usize {
    kept.slice.len() + super::ENTRY_OVERHEAD
}
