//! A store over the real disk and threads, end to end.

#![expect(clippy::unwrap_used, reason = "a test")]

use esker_engine::{Db, KeyRange, Options, SyncPolicy, WriteBatch};

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
    assert!(db.stats().segments > 3);
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
