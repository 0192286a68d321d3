//! Who merges: a thread of the store's own that sleeps until enough is dead.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use esker_log::{Brake, Damage, Error, Log, Position, Result, signal::Signal};
use parking_lot::Mutex;

use crate::{
    Engine, Merged, Merging, Options, Progress,
    merging::{Throttle, Trigger, drag, rate},
};

/// What lives shall fill at least so many segments, as long as they do not get smaller than this: sealing one costs a sync.
const SEGMENTS_LIVE: u64 = 16;
const SEGMENT_TARGET_MIN: u64 = 16 << 20;

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
    witness: Mutex<Witness>,
    trigger: Trigger,
    /// After each MiB copied, as long as there is little to gain.
    pause: Duration,
}

type Tell = Box<dyn Fn(&Damage) + Send>;

/// Who is told of damage that nobody asked about, and of which files it was told: a merge that fails is tried again and again,
/// and no file's name is used twice.
#[derive(Default)]
struct Witness {
    tell: Option<Tell>,
    told: BTreeSet<PathBuf>,
}

impl Witness {
    fn note(&mut self, damage: &Damage) {
        if let Some(tell) = &self.tell
            && self.told.insert(damage.path.clone())
        {
            tell(damage);
        }
    }
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
    /// What is told to whoever asks how the store fares.
    fn note_damage(&self, damage: &Damage);
}

impl Merger {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            signal: Signal::default(),
            error: Mutex::new(None),
            witness: Mutex::default(),
            trigger: Trigger {
                ratio: options.merge_trigger_ratio,
                bytes: options.merge_trigger_bytes.unwrap_or(u64::MAX),
                store_bytes_min: options.segment_max_bytes,
            },
            pause: options.merge_throttle,
        }
    }

    /// From now on `tell` is told of damage that merges in the background meet, once for each file.
    pub(crate) fn on_damage(&self, tell: impl Fn(&Damage) + Send + 'static) {
        self.witness.lock().tell = Some(Box::new(tell));
    }

    /// Has the thread look, or end.
    pub(crate) fn wake(&self) {
        self.signal.raise();
    }

    /// The life of the merging thread.
    pub(crate) fn run(&self, store: &impl Mergeable) {
        while !store.is_closing() {
            self.merge_due(store, true);
            self.signal.wait(LOOK_INTERVAL);
        }
    }

    /// Sees to it that the segment being written, which cannot be merged, stays a small part of the store.
    pub(crate) fn size_segments(&self, store: &impl Mergeable) {
        let live = store.engine().stats().live_bytes;
        store.log().set_segment_target((live / SEGMENTS_LIVE).max(SEGMENT_TARGET_MIN));
    }

    /// Merges until nothing is due. A failure is kept for the status; it is tried again later.
    pub(crate) fn merge_due(&self, store: &impl Mergeable, is_paced: bool) {
        self.merge_while_due(store, is_paced);
        // Nothing is due, or it failed, or the store closes: nobody would be helped by slower writers.
        store.brake().set(Duration::ZERO);
    }

    fn merge_while_due(&self, store: &impl Mergeable, is_paced: bool) {
        while !store.is_closing() && store.engine().is_merge_due(store.log(), store.merge_before()) {
            let merged = self.merge(store, false, is_paced, &mut |_| Ok(()));
            let is_done = !matches!(merged, Ok(Some(_)));
            if let Err(Error::Damage(damage)) = &merged {
                store.note_damage(damage);
                self.witness.lock().note(damage);
            }
            *self.error.lock() = match merged {
                Err(Error::Closed) | Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            if is_done {
                return;
            }
        }
    }

    /// Merges at full speed what is worth it, or everything. `progress` is told how many bytes were copied; how many will be
    /// is not known.
    pub(crate) fn merge_now(
        &self,
        store: &impl Mergeable,
        all: bool,
        progress: Progress<'_>,
    ) -> Result<Merged> {
        let merged = self.merge_asked(store, all, progress);
        // If the background has to go on, it looks by itself how fast writers may be.
        store.brake().set(Duration::ZERO);
        self.wake();
        merged
    }

    fn merge_asked(&self, store: &impl Mergeable, all: bool, progress: Progress<'_>) -> Result<Merged> {
        // What is not covered by index files cannot be merged.
        store.save()?;
        let mut sum = Merged::default();
        loop {
            let before = sum.bytes_copied;
            match self.merge(store, all, false, &mut |copied| progress(before + copied, 0))? {
                Some(merged) => sum = sum.plus(merged),
                None => break,
            }
            if all {
                break;
            }
        }
        *self.error.lock() = None;
        Ok(sum)
    }

    /// Merges once, or everything. `go_on` is told now and then how many bytes were copied; an error ends the merge.
    fn merge(
        &self,
        store: &impl Mergeable,
        all: bool,
        is_paced: bool,
        go_on: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<Merged>> {
        let look = || {
            // Writers are slowed by how much is dead, whoever merges.
            let rate = self.look(store);
            if is_paced { rate } else { u64::MAX }
        };
        let mut go_on = |copied| if store.is_closing() { Err(Error::Closed) } else { go_on(copied) };
        let mut merging = Merging {
            before: store.merge_before(),
            all,
            pace: &mut Throttle::new(&mut go_on, &look),
            save: &mut || store.save(),
        };
        store.engine().merge(store.log(), &mut merging)
    }

    /// Slows writers by how much is dead, and says how fast to copy.
    fn look(&self, store: &impl Mergeable) -> u64 {
        let (dead, live) = dead_and_live(store);
        // Not before merging has begun, and goes as fast as it can.
        let live_min = store.log().segment_max_bytes().min(LIVE_MIN).max(self.trigger.live_min());
        store.brake().set(drag(dead, live, live_min));
        rate(dead, dead + live, self.trigger, self.pause)
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
    use std::sync::atomic::Ordering;

    use esker_log::{clock::SystemClock, disk::sim::SimDisk, segment::segment_name};

    use super::*;
    use crate::{Db, Environment};

    /// A store that merges only when it is told to, as on a disk that is too slow for it.
    fn store() -> Db {
        store_on(&SimDisk::new())
    }

    fn store_on(disk: &SimDisk) -> Db {
        let environment = Environment {
            disk: Arc::new(disk.clone()),
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
        inner.merger.merge(inner, false, true, &mut |_| Ok(())).unwrap().unwrap();
        assert!(inner.brake().per_kib() > Duration::ZERO, "{:?}", db.stats());
        overwrite();
        let throttled = db.stats().throttled;
        assert!(throttled > Duration::ZERO && throttled < Duration::from_secs(2), "{throttled:?}");
        // Once it has caught up, nobody waits.
        db.checkpoint().unwrap();
        inner.merger.merge_due(inner, true);
        assert_eq!(inner.brake().per_kib(), Duration::ZERO);
        overwrite();
        assert_eq!(db.stats().throttled, throttled);
    }

    /// Whoever asked for a merge is told; of one that nobody asked for, the figures tell.
    #[test]
    fn a_merge_in_the_background_that_meets_damage_notes_it() {
        let disk = SimDisk::new();
        let db = store_on(&disk);
        // In each segment something lives, and most is dead.
        (0..100_u8).for_each(|n| {
            db.put(&[if n % 5 == 0 { n } else { 255 }], &[n; 10_000]).unwrap();
        });
        db.checkpoint().unwrap();
        let first = std::path::Path::new("/db").join(segment_name(1));
        let len = disk.file_bytes(&first).unwrap().len() as u64;
        (1000..len).step_by(5000).for_each(|at| disk.flip_bit(&first, at, 3).unwrap());
        assert_eq!(db.stats().damage, Default::default());
        let told = Arc::<Mutex<Vec<Damage>>>::default();
        let witness = Arc::clone(&told);
        db.on_merge_damage(move |damage| witness.lock().push(damage.clone()));
        let inner = db.inner();
        inner.merger.merge_due(inner, true);
        let stats = db.stats();
        assert_eq!(stats.damage.times, 1, "{stats:?}");
        assert_eq!(*told.lock(), [stats.damage.last.clone().unwrap()]);
        assert_eq!(stats.damage.last.as_ref().unwrap().path, first);
        assert!(stats.merge_error.unwrap().contains("is damaged"), "{:?}", stats.damage);
        // It is tried again, and told no more.
        inner.merger.merge_due(inner, true);
        assert_eq!((db.stats().damage.times, told.lock().len()), (2, 1));
    }

    /// While a compaction runs, the background waits for it and cannot look.
    #[test]
    fn a_merge_that_was_asked_for_slows_writers_as_long_as_it_lasts() {
        let db = store();
        let inner = db.inner();
        (0..100_u8).for_each(|n| {
            db.put(&[n % 10], &[n; 10_000]).unwrap();
        });
        let mut slowed = 0;
        let mut note = |_, _| {
            slowed += u64::from(inner.brake().per_kib() > Duration::ZERO);
            Ok(())
        };
        db.merge_with(true, &mut note).unwrap();
        assert!(slowed > 0);
        assert_eq!(inner.brake().per_kib(), Duration::ZERO);
    }

    #[test]
    fn a_merge_that_was_asked_for_ends_when_nobody_wants_it_or_the_store_closes() {
        let db = store();
        (0..100_u8).for_each(|n| {
            db.put(&[n], &[n; 10_000]).unwrap();
        });
        let mut told = Vec::new();
        let cancelled = db.merge_with(true, &mut |copied, _| {
            told.push(copied);
            if copied > 20_000 { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
        assert!(told.is_sorted() && told.last().is_some_and(|last| *last < 40_000), "{told:?}");
        let closing = &db.inner().closing;
        let closed = db.merge_with(true, &mut |_, _| {
            closing.store(true, Ordering::Release);
            Ok(())
        });
        assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
        closing.store(false, Ordering::Release);
        assert_eq!(db.stats().merges.merges, 0);
        assert!(db.merge(true).unwrap().bytes_copied > 1_000_000);
    }

    /// However fast ranges are deleted, so that some are never counted when it is asked.
    #[test]
    fn what_was_just_cut_out_makes_merging_due() {
        let db = store();
        (0..100_u8).for_each(|n| {
            db.put(&[n], &[n; 10_000]).unwrap();
        });
        db.checkpoint().unwrap();
        let inner = db.inner();
        let is_due = || inner.engine.is_merge_due(inner.commit.log(), inner.merge_before());
        assert!(!is_due());
        db.delete_range(&crate::KeyRange::all()).unwrap();
        assert!(is_due());
    }
}
