//! Counting without contention: each thread adds to a shard of its own, a reader sums them up.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Enough for the threads that count often; more threads share.
const SHARDS: usize = 16;
/// The first bucket ends at 2^10 ns, about a microsecond; each next one is twice as wide.
const FIRST_BUCKET_LOG2: u32 = 10;
/// The last bound is 2^36 ns, about 69 s; what is slower counts in the overflow bucket.
const BOUNDS: usize = 27;

/// The shard of the calling thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS));
    MINE.with(Cell::get)
}

/// A counter.
#[derive(Debug, Default)]
pub struct Counter([Padded; SHARDS]);

/// On a cache line of its own, so that threads do not slow each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.0[shard()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds so many.
    pub fn add(&self, count: u64) {
        self.0[shard()].0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum over all threads.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }
}

/// A histogram of times, with bounds at powers of two.
#[derive(Debug, Default)]
pub struct Histogram([HistogramShard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct HistogramShard {
    sum_ns: AtomicU64,
    buckets: [AtomicU64; BOUNDS + 1],
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// All times together, in nanoseconds.
    pub sum_ns: u64,
    /// Each bucket's inclusive upper bound in nanoseconds (`u64::MAX` for the last) and count.
    pub buckets: Vec<(u64, u64)>,
}

impl HistogramSnapshot {
    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Histogram {
    /// Records one time.
    pub fn record(&self, took: Duration) {
        self.record_many(took, 1);
    }

    /// Records that so many took so long, each.
    pub fn record_many(&self, took: Duration, count: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let shard = &self.0[shard()];
        shard.sum_ns.fetch_add(ns.saturating_mul(count), Ordering::Relaxed);
        shard.buckets[bucket_of(ns)].fetch_add(count, Ordering::Relaxed);
    }

    /// The sum over all threads.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let sum_ns = self.0.iter().map(|shard| shard.sum_ns.load(Ordering::Relaxed)).sum();
        let count = |at: usize| self.0.iter().map(|shard| shard.buckets[at].load(Ordering::Relaxed)).sum();
        let buckets = (0..=BOUNDS).map(|at| (bound_of(at), count(at))).collect();
        HistogramSnapshot { sum_ns, buckets }
    }
}

fn bucket_of(ns: u64) -> usize {
    let ceil_log2 = u64::BITS - ns.saturating_sub(1).leading_zeros();
    (ceil_log2.saturating_sub(FIRST_BUCKET_LOG2) as usize).min(BOUNDS)
}

fn bound_of(bucket: usize) -> u64 {
    if bucket == BOUNDS { u64::MAX } else { 1 << (FIRST_BUCKET_LOG2 + bucket as u32) }
}

/// What the Store measures of itself. Reads answered from memory are too quick to be worth a clock's reading;
/// the fronts time them with the rest of the request.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// From a write's submission to its answer.
    pub write: Histogram,
    /// Reads that had to go to the disk, the wait for a thread included.
    pub cold_read: Histogram,
    /// Chunks of scans, the wait for a thread included.
    pub scan_chunk: Histogram,
    /// Writes refused because too many bytes were under way.
    pub writes_refused: Counter,
    /// Changes that watchers were told.
    pub watch_changes: Counter,
    /// Watchers that were told to read anew.
    pub watch_resyncs: Counter,
    /// Watchers for whom there was no room.
    pub watches_refused: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_under_the_first_bound_that_holds_it() {
        for ns in [0, 1, 1023, 1024, 1025, 4096, 1 << 36, (1 << 36) + 1, u64::MAX] {
            let bucket = bucket_of(ns);
            assert!(ns <= bound_of(bucket), "{ns}");
            assert!(bucket == 0 || ns > bound_of(bucket - 1), "{ns}");
        }
    }

    #[test]
    fn threads_are_summed_up() {
        let (histogram, counter) = (Histogram::default(), Counter::default());
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    histogram.record(Duration::from_micros(3));
                    counter.add_one();
                });
            }
        });
        assert_eq!((histogram.snapshot().count(), histogram.snapshot().sum_ns), (20, 60_000));
        histogram.record_many(Duration::from_micros(3), 5);
        assert_eq!((histogram.snapshot().count(), histogram.snapshot().sum_ns), (25, 75_000));
        assert_eq!(counter.get(), 20);
    }
}
