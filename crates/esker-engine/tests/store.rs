//! A store over the real disk and threads, end to end.

#![expect(clippy::unwrap_used, reason = "a test")]

use esker_engine::{Db, Error, KeyRange, Options, SyncPolicy, WriteBatch};

fn options() -> Options {
    let mut options = Options::default();
    options.segment_max_bytes = 64 << 10;
    options.checkpoint_ops = 500;
    options
}

fn contents(db: &Db) -> Vec<(Vec<u8>, Vec<u8>, u64)> {
    db.scan(&KeyRange::all(), false)
        .map(|item| {
            let item = item.unwrap();
            (item.key, item.value.unwrap().to_vec(), item.version)
        })
        .collect()
}

#[test]
fn what_is_written_is_read_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    for i in 0..3000_u32 {
        db.write(one(i), Some(SyncPolicy::Never)).unwrap();
    }
    for i in (0..3000_u32).step_by(3) {
        assert_eq!(db.delete(format!("key/{i:05}").as_bytes()).unwrap().existed, 1);
    }
    let before = contents(&db);
    assert_eq!(before.len(), 2000);
    assert!(db.stats().active_segment > 3);
    db.close().unwrap();
    assert!(db.put(b"k", b"v").is_err());
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(db.open_report().replayed, 0);
    assert!(db.open_report().notices.is_empty(), "{:?}", db.open_report());
    assert_eq!(contents(&db), before);
    assert_eq!(db.stats().keys, 2000);
    assert_eq!(db.put(b"key/00001", b"again").unwrap(), 4001);
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
}

fn one(i: u32) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(format!("key/{i:05}").as_bytes(), &vec![i as u8; (i % 200) as usize]).unwrap();
    batch
}

/// Whoever keeps what a scan gives keeps that, and not what was read over between it. Where all that is read is asked for, nothing
/// is copied.
#[test]
fn values_of_a_scan_hold_no_more_than_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.segment_max_bytes = 16 << 20;
    let db = Db::open(dir.path(), options).unwrap();
    let put = |key: String, len: usize| {
        let mut batch = WriteBatch::new();
        batch.put(key.as_bytes(), &vec![1; len]).unwrap();
        db.write(batch, Some(SyncPolicy::Never)).unwrap();
    };
    for n in 0..1000 {
        put(format!("gaps/{n:05}"), 100);
        put(format!("between/{n:05}"), 3000);
    }
    (0..1000).for_each(|n| put(format!("row/{n:05}"), 1000));
    let copied = |prefix: &'static str| {
        let mut scan = db.scan(&KeyRange::prefix(prefix), false);
        let kept: Vec<_> = scan.by_ref().map(|item| item.unwrap().value.unwrap().into_bytes()).collect();
        assert_eq!(kept.len(), 1000);
        let copied = kept.iter().filter(|value| value.is_unique()).count();
        drop(scan);
        copied
    };
    assert_eq!(copied("gaps/"), 1000);
    assert!(copied("row/") < 20, "{}", copied("row/"));
}

#[test]
fn many_writers_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let db = &db;
            scope.spawn(move || {
                for i in 0..100 {
                    db.put(format!("{writer}/{i}").as_bytes(), b"value").unwrap();
                }
            });
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        for i in 0..500 {
            let mut batch = WriteBatch::new();
            batch.put(format!("submitted/{i}").as_bytes(), b"value").unwrap();
            let sender = sender.clone();
            db.submit(batch, None, Box::new(move |outcome| sender.send(outcome.unwrap().version).unwrap()))
                .unwrap();
        }
        let versions: std::collections::BTreeSet<_> = receiver.iter().take(500).collect();
        assert_eq!(versions.len(), 500);
    });
    let stats = db.stats();
    assert_eq!((stats.keys, stats.version, stats.batches), (1300, 1300, 1300));
    assert!(stats.syncs < 1300, "{} syncs", stats.syncs);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _db = Db::open(dir.path(), options()).unwrap();
    let error = Db::open(dir.path(), options()).err().unwrap();
    assert!(matches!(error, esker_engine::Error::Locked { .. }), "{error}");
}

/// A callback that panics harms nobody else, and one that holds the last handle closes the store.
#[test]
fn callbacks_may_panic_and_may_hold_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    db.submit(one(1), None, Box::new(|_| panic!("a defect of the caller"))).unwrap();
    db.put(b"after", b"it").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (last, gate) = std::sync::mpsc::channel::<()>();
    let held = db.clone();
    let done = move |outcome: esker_engine::Result<_>| {
        gate.recv().unwrap_err();
        let refused = held.close().unwrap_err();
        sender.send((outcome.is_ok(), refused.to_string())).unwrap();
    };
    db.submit(one(2), None, Box::new(done)).unwrap();
    drop(db);
    drop(last);
    let (committed, refused) = receiver.recv().unwrap();
    assert!(committed && refused.contains("callback"), "{refused}");
    let reopened = loop {
        match Db::open(dir.path(), options()) {
            Err(esker_engine::Error::Locked { .. }) => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!((reopened.stats().keys, reopened.open_report().replayed), (3, 0));
}

/// The same where the call that submits commits, and calls back by itself.
#[test]
fn a_callback_on_the_submitters_thread_cannot_close_the_store_either() {
    let dir = tempfile::tempdir().unwrap();
    let mut unsynced = options();
    unsynced.sync = SyncPolicy::Never;
    let db = Db::open(dir.path(), unsynced).unwrap();
    let (held, (sender, receiver)) = (db.clone(), std::sync::mpsc::channel());
    let done = move |outcome: esker_engine::Result<_>| {
        let again = held.clone();
        held.submit(one(2), None, Box::new(move |_| drop(again))).unwrap();
        let thread = std::thread::current().id();
        sender.send((outcome.is_ok(), thread, held.close().unwrap_err().to_string())).unwrap();
    };
    db.submit(one(1), None, Box::new(done)).unwrap();
    let (committed, thread, refused) = receiver.recv().unwrap();
    assert!(committed && refused.contains("callback"), "{refused}");
    assert_eq!(thread, std::thread::current().id(), "nothing had to be waited for");
    db.close().unwrap();
    drop(db);
    let reopened = loop {
        match Db::open(dir.path(), options()) {
            // A callback may still hold a handle.
            Err(Error::Locked { .. }) => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!(reopened.stats().keys, 2);
}

/// A cache never gives what was.
#[test]
fn what_is_cached_is_never_stale() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.cache_max_bytes = 1 << 20;
    let db = Db::open(dir.path(), options).unwrap();
    let read = |key: &[u8]| {
        let reads = [(); 4].map(|()| db.get(key).unwrap().map(|entry| (entry.value.to_vec(), entry.version)));
        assert!(reads.iter().all(|read| *read == reads[0]), "{reads:?}");
        reads[0].clone()
    };
    for round in 0..20_u8 {
        let version = db.put(b"k", &[round; 100]).unwrap();
        assert_eq!(read(b"k"), Some((vec![round; 100], version)));
        db.delete(b"k").unwrap();
        assert_eq!(read(b"k"), None);
        let version = db.put(b"k", &[round; 200]).unwrap();
        assert_eq!(read(b"k"), Some((vec![round; 200], version)));
        db.merge(true).unwrap();
        assert_eq!(read(b"k"), Some((vec![round; 200], version)), "after a merge");
    }
    let cache = db.stats().cache;
    assert!(cache.hits >= 20 * 6 && cache.bytes <= cache.capacity, "{cache:?}");
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.cache_max_bytes = 0;
    let db = Db::open(dir.path(), options).unwrap();
    db.put(b"k", b"v").unwrap();
    (0..4).for_each(|_| assert!(db.get(b"k").unwrap().is_some()));
    assert_eq!(db.stats().cache, esker_engine::CacheStats::default());
}

#[test]
fn new_keys_are_refused_when_the_index_has_filled_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.sync = SyncPolicy::Never;
    options.memory_budget = 1 << 20;
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let key = |i: usize| format!("a key of some length, number {i:08}").into_bytes();
    let refused = (0..1_000_000).find_map(|i| db.put(&key(i), b"v").err().map(|error| (i, error)));
    let (keys, error) = refused.unwrap();
    assert!(matches!(error, Error::MemoryFull), "{error}");
    let stats = db.stats();
    assert!(stats.memory_full && stats.index_bytes < 600 << 10 && keys > 3000, "{stats:?}");
    assert!(matches!(db.add(b"counter", 1), Err(Error::MemoryFull)));
    // Everything else goes on, also after it was opened again.
    db.put(&key(0), b"overwritten").unwrap();
    assert_eq!(&*db.get(&key(0)).unwrap().unwrap().value, b"overwritten");
    db.close().unwrap();
    drop(db);
    let db = Db::open(dir.path(), options).unwrap();
    assert!(matches!(db.put(b"new", b"v"), Err(Error::MemoryFull)));
    for i in 0..keys / 2 {
        db.delete(&key(i)).unwrap();
    }
    db.put(b"new", b"v").unwrap();
    assert!(!db.stats().memory_full);
}

#[test]
fn what_a_snapshot_holds_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.sync = SyncPolicy::Never;
    let db = Db::open(dir.path(), options).unwrap();
    let fill = |value: u8| {
        (0..2000_u32).for_each(|n| {
            db.put(&n.to_be_bytes(), &[value; 100]).unwrap();
        })
    };
    fill(1);
    assert_eq!(db.stats().snapshots.held, 0);
    let scan = db.scan(&KeyRange::all(), false);
    let before = db.stats().snapshots;
    assert_eq!((before.held, before.index_bytes), (1, 0));
    fill(2);
    db.merge(true).unwrap();
    let stats = db.stats();
    let held = stats.snapshots;
    assert!(held.index_bytes > stats.index_bytes / 2 && held.retired_bytes > 200_000, "{stats:?}");
    assert!(scan.map(Result::unwrap).all(|item| item.value.unwrap()[..] == [1; 100]));
    let after = db.stats().snapshots;
    assert_eq!((after.held, after.index_bytes, after.retired_bytes), (0, 0, 0));
}
