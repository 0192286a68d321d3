//! Who merges: a thread of the store's own that sleeps until enough is dead.

use std::{sync::Arc, time::Duration};

use esker_log::{Brake, Error, Log, Position, Result, signal::Signal};
use parking_lot::Mutex;

use crate::{
    Engine, Merged, Merging, Options, Pace,
    merging::{Throttle, Unpaced, drag, rate},
};

/// What lives shall fill at least so many segments, as long as they do not get smaller than this: sealing one costs a sync.
const SEGMENTS_LIVE: u64 = 16;
const SEGMENT_TARGET_MIN: u64 = 8 << 20;

/// The thread looks at least this often: what expires is not announced.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Writers of stores with less than this, or than a full segment, are not slowed before so much is dead.
const LIVE_MIN: u64 = 64 << 20;

/// See the module.
pub(crate) struct Merger {
    /// Raised when something may be due.
    signal: Signal,
    /// Why the last merge failed.
    pub(crate) error: Mutex<Option<String>>,
    trigger_ratio: f64,
    /// After each MiB copied, as long as there is little to gain.
    pause: Duration,
}

/// What is merged: an engine, its log, and who answers for both.
pub(crate) trait Mergeable {
    fn engine(&self) -> &dyn Engine;
    fn log(&self) -> &Arc<Log>;
    /// Where what may still be replayed or sent to others begins.
    fn merge_before(&self) -> Position;
    /// Writes a checkpoint that covers everything applied.
    fn save(&self) -> Result<()>;
    fn is_closing(&self) -> bool;
    /// What slows this store's writers.
    fn brake(&self) -> &Brake;
}

impl Merger {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            signal: Signal::default(),
            error: Mutex::new(None),
            trigger_ratio: options.merge_trigger_ratio,
            pause: options.merge_throttle,
        }
    }

    /// Has the thread look, or end.
    pub(crate) fn wake(&self) {
        self.signal.raise();
    }

    /// The life of the merging thread.
    pub(crate) fn run(&self, store: &impl Mergeable) {
        while !store.is_closing() {
            self.turn(store);
            self.signal.wait(LOOK_INTERVAL);
        }
    }

    fn turn(&self, store: &impl Mergeable) {
        self.merge_due(store, true);
        // Nothing is due, or it failed, or the store closes: nobody would be helped by slower writers.
        store.brake().set(Duration::ZERO);
    }

    /// Sees to it that the segment being written, which cannot be merged, stays a small part of the store.
    pub(crate) fn size_segments(&self, store: &impl Mergeable) {
        let live = store.engine().stats().live_bytes;
        store.log().set_segment_target((live / SEGMENTS_LIVE).max(SEGMENT_TARGET_MIN));
    }

    /// Merges until nothing is due. A failure is kept for the status; it is tried again later.
    pub(crate) fn merge_due(&self, store: &impl Mergeable, paced: bool) {
        while !store.is_closing() && store.engine().is_merge_due(store.log(), store.merge_before()) {
            let merged = self.merge(store, false, paced);
            let is_done = !matches!(merged, Ok(Some(_)));
            *self.error.lock() = match merged {
                Err(Error::Closed) | Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            if is_done {
                return;
            }
        }
    }

    /// Merges at full speed what is worth it, or everything.
    pub(crate) fn merge_now(&self, store: &impl Mergeable, all: bool) -> Result<Merged> {
        // What is not covered by index files cannot be merged.
        store.save()?;
        let mut sum = Merged::default();
        while let Some(merged) = self.merge(store, all, false)? {
            sum = sum.plus(merged);
            if all {
                break;
            }
        }
        *self.error.lock() = None;
        Ok(sum)
    }

    fn merge(&self, store: &impl Mergeable, all: bool, paced: bool) -> Result<Option<Merged>> {
        let is_closing = || store.is_closing();
        let look = || self.look(store);
        let mut throttle: Box<dyn Pace> = match paced {
            true => Box::new(Throttle::new(&is_closing, &look)),
            false => Box::new(Unpaced),
        };
        let mut merging = Merging {
            before: store.merge_before(),
            all,
            pace: throttle.as_mut(),
            save: &mut || store.save(),
        };
        store.engine().merge(store.log(), &mut merging)
    }

    /// Slows writers by how much is dead, and says how fast to copy.
    fn look(&self, store: &impl Mergeable) -> u64 {
        let (dead, live) = dead_and_live(store);
        let live_min = store.log().segment_max_bytes().min(LIVE_MIN);
        store.brake().set(drag(dead, live, live_min));
        rate(dead as f64 / (dead + live).max(1) as f64, self.trigger_ratio, self.pause)
    }
}

/// The bytes of all segments that are dead, and those that live.
fn dead_and_live(store: &impl Mergeable) -> (u64, u64) {
    let log = store.log();
    let sealed = log.segments().into_iter().chain(log.merged()).filter_map(|segment| segment.sealed_end());
    let total: u64 = sealed.map(u64::from).sum::<u64>() + u64::from(log.appended().offset);
    let live = store.engine().stats().live_bytes;
    (total.saturating_sub(live), live)
}

#[cfg(test)]
mod tests {
    use esker_log::{clock::SystemClock, disk::sim::SimDisk};

    use super::*;
    use crate::{Db, Environment};

    /// A store that merges only when it is told to, as on a disk that is too slow for it.
    fn store() -> Db {
        let environment = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::<SystemClock>::default(),
            store_id: || Ok([7; 16]),
            threads: false,
        };
        let options =
            Options { sync: esker_log::SyncPolicy::Never, segment_max_bytes: 64 << 10, ..Options::default() };
        Db::open_in(&environment, "/db", options).unwrap()
    }

    #[test]
    fn writers_wait_a_little_while_dead_bytes_outgrow_live_ones() {
        let db = store();
        let overwrite = || {
            (0..100).for_each(|n| {
                db.put(&[n % 10], &[n; 10_000]).unwrap();
            })
        };
        let inner = db.inner();
        overwrite();
        assert_eq!((db.stats().throttled, inner.brake().per_kib()), (Duration::ZERO, Duration::ZERO));
        db.checkpoint().unwrap();
        inner.merger.merge(inner, false, true).unwrap().unwrap();
        assert!(inner.brake().per_kib() > Duration::ZERO, "{:?}", db.stats());
        overwrite();
        let throttled = db.stats().throttled;
        assert!(throttled > Duration::ZERO && throttled < Duration::from_secs(2), "{throttled:?}");
        // Once it has caught up, nobody waits.
        db.checkpoint().unwrap();
        inner.merger.turn(inner);
        assert_eq!(inner.brake().per_kib(), Duration::ZERO);
        overwrite();
        assert_eq!(db.stats().throttled, throttled);
    }
}
