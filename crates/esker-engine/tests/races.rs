//! SPEC 1.6, 1.8: conditions and counters raced by many threads, on the real disk, while the store merges.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use esker_engine::{Condition, Db, Entry, Options, SyncPolicy, WriteBatch};

const THREADS: u64 = 16;

fn options() -> Options {
    let mut options = Options::default();
    options.sync = SyncPolicy::Never;
    options.segment_max_bytes = 64 << 10;
    options.checkpoint_ops = 500;
    options
}

/// Opens a store, has `work` done by all threads while merges go on, and hands it to `check`, twice: as it is, and opened again.
fn race(work: impl Fn(&Db) + Sync, check: impl Fn(&Db)) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| work(&db))).collect();
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                db.merge(true).unwrap();
            }
        });
        let outcomes: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    assert!(db.stats().merges.merges > 0);
    check(&db);
    db.close().unwrap();
    drop(db);
    check(&Db::open(dir.path(), options()).unwrap());
}

fn number(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

/// No increment is lost, and no two of them come to the same.
#[test]
fn thousands_of_racing_increments_are_all_counted() {
    const EACH: u64 = 1000;
    let sums = parking_lot::Mutex::new(Vec::new());
    let work = |db: &Db| {
        let own: Vec<_> = (0..EACH).map(|_| db.add(b"n", 1).unwrap()).collect();
        assert!(own.is_sorted());
        sums.lock().extend(own);
    };
    race(work, |db| assert_eq!(number(&db.get(b"n").unwrap().unwrap()), THREADS * EACH));
    let mut sums = sums.into_inner();
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=(THREADS * EACH) as i64));
}

/// Of those who saw one version, one goes on from it; what is put beside it comes with it or not at all.
#[test]
fn thousands_of_racing_compare_and_sets_lose_no_update() {
    const EACH: u64 = 250;
    let refused = AtomicU64::new(0);
    let work = |db: &Db| {
        for _ in 0..EACH {
            loop {
                let seen = db.get(b"k").unwrap();
                let next = seen.as_ref().map_or(0, number) + 1;
                let condition = seen.map_or(Condition::Absent, |entry| Condition::Version(entry.version));
                let mut batch = WriteBatch::new();
                batch.require(b"k", condition).unwrap();
                batch.put(b"k", next.to_string().as_bytes()).unwrap();
                batch.put(format!("beside/{next:05}").as_bytes(), b"x").unwrap();
                if !db.write(batch, None).unwrap().is_void() {
                    break;
                }
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    race(work, |db| {
        assert_eq!(number(&db.get(b"k").unwrap().unwrap()), THREADS * EACH);
        assert_eq!(db.stats().keys, THREADS * EACH + 1);
    });
    assert!(refused.into_inner() > 0, "nobody raced");
}
