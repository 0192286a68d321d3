//! How the memory budget is shared: the index comes first, the cache gives way, and where the index alone would be too much, keys
//! that are new are refused.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use esker_log::clock::Clock;

use super::cache::Cache;
use crate::Options;

/// The cache gives way in so many steps: each one costs a look at all its parts.
const STEPS: u64 = 16;

/// See the module.
pub(crate) struct Budget {
    /// What index and cache may take together, in bytes.
    share: u64,
    /// What the cache may take where there is room.
    cache_max: u64,
    cache: Option<Arc<Cache>>,
    /// What the cache was told last.
    cache_capacity: AtomicU64,
    is_full: AtomicBool,
}

impl Budget {
    pub(crate) fn new(options: &Options, clock: Arc<dyn Clock>) -> Self {
        // However little there is, the queue's bound and the merge's buffer leave half of it.
        let others = options.queue_max_bytes as u64 + options.merge_buffer_bytes();
        let share = options.memory_budget.saturating_sub(others);
        let share = share.max(options.memory_budget / 2);
        let cache_max = options.cache_max_bytes.min(share);
        let cache = (cache_max > 0).then(|| Arc::new(Cache::new(cache_max, options.cache_ttl, clock)));
        let cache_capacity = AtomicU64::new(cache_max);
        Self { share, cache_max, cache, cache_capacity, is_full: AtomicBool::new(false) }
    }

    pub(crate) fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    /// Whether keys that are new are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// The index takes so much now.
    pub(crate) fn note_index(&self, bytes: u64) {
        let is_full = bytes >= self.share;
        // Both lines are read by everybody: they are written only if that changes something.
        if is_full != self.is_full() {
            self.is_full.store(is_full, Ordering::Relaxed);
        }
        let Some(cache) = &self.cache else { return };
        let capacity = self.capacity_for(self.share.saturating_sub(bytes));
        if self.cache_capacity.load(Ordering::Relaxed) != capacity {
            self.cache_capacity.store(capacity, Ordering::Relaxed);
            cache.set_capacity(capacity);
        }
    }

    /// What the cache may take where there is so much room, in whole steps. It grows only with a step to spare: an index that
    /// goes up and down a little would change it all the time.
    fn capacity_for(&self, room: u64) -> u64 {
        let (present, step) = (self.cache_capacity.load(Ordering::Relaxed), self.cache_max.div_ceil(STEPS));
        let of = |room: u64| if room >= self.cache_max { self.cache_max } else { room / step * step };
        if of(room) <= present { of(room) } else { of(room.saturating_sub(step)).max(present) }
    }
}

#[cfg(test)]
mod tests {
    use esker_log::clock::ManualClock;

    use super::*;

    #[test]
    fn the_cache_gives_way_before_keys_are_refused() {
        let options = Options {
            memory_budget: 112 << 20,
            // Merging takes a sixteenth.
            queue_max_bytes: 25 << 20,
            cache_max_bytes: 32 << 20,
            ..Options::default()
        };
        let budget = Budget::new(&options, Arc::<ManualClock>::default());
        let capacity = |index_mib: u64| {
            budget.note_index(index_mib << 20);
            (budget.cache().unwrap().stats().capacity >> 20, budget.is_full())
        };
        assert_eq!(capacity(48), (32, false));
        assert_eq!(capacity(49), (30, false));
        assert_eq!(capacity(48), (30, false));
        assert_eq!(capacity(46), (32, false));
        assert_eq!(capacity(79), (0, false));
        assert_eq!(capacity(80), (0, true));
        assert_eq!(capacity(10), (32, false));
    }

    #[test]
    fn without_a_cache_there_is_none() {
        let options = Options { cache_max_bytes: 0, ..Options::default() };
        let budget = Budget::new(&options, Arc::<ManualClock>::default());
        budget.note_index(1 << 60);
        assert!(budget.cache().is_none() && budget.is_full());
    }
}
