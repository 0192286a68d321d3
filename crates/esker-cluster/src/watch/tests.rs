use std::{num::NonZeroUsize, sync::atomic::AtomicBool};

use esker_engine::{Environment, Options};
use esker_log::{
    clock::ManualClock,
    disk::sim::{Ops, SimDisk},
};

use super::*;
use crate::{Batch, Store, StoreConfig, WriteOptions};

fn store(disk: &SimDisk, configure: impl FnOnce(&mut StoreConfig)) -> Store {
    let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
    let db = Db::open_in(&environment, "/d", Options::default()).unwrap();
    let mut config = StoreConfig { io_threads: NonZeroUsize::MIN, ..StoreConfig::default() };
    configure(&mut config);
    Store::single(db, config, Arc::new(ManualClock::default())).unwrap()
}

async fn put(store: &Store, key: &[u8]) -> Version {
    let mut batch = Batch::new(store.limits());
    batch.put(key, b"value").unwrap();
    store.write(batch, WriteOptions::default()).await.unwrap().version
}

async fn watch(store: &Store, prefix: &[u8], from: Option<Version>) -> Watch {
    store.watch(WatchOptions { prefix: prefix.to_vec(), from, keys_only: false }).await.unwrap()
}

#[track_caller]
fn versions(event: Option<Result<WatchEvent>>) -> Vec<Version> {
    match event.unwrap().unwrap() {
        WatchEvent::Changes(changes) => changes.iter().map(|change| change.version).collect(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn progress(event: Option<Result<WatchEvent>>) -> Version {
    match event.unwrap().unwrap() {
        WatchEvent::Progress(version) => version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_told_nothing_else_is_told_how_far_it_is() {
    let store = store(&SimDisk::new(), |_| ());
    put(&store, b"b").await;
    let mut watch = watch(&store, b"a", None).await;
    assert_eq!(progress(watch.next().await), 1);
    for version in 2..5 {
        put(&store, b"b").await;
        let began = Instant::now();
        assert_eq!(progress(watch.next().await), version);
        assert!(began.elapsed() >= PROGRESS_EVERY && began.elapsed() < PROGRESS_EVERY + ROOM_EVERY);
    }
    put(&store, b"a").await;
    assert_eq!(versions(watch.next().await), [5]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_watch_that_waits_is_woken_by_a_write_and_ended_by_a_close() {
    let store = store(&SimDisk::new(), |_| ());
    let mut watch = watch(&store, b"", None).await;
    assert_eq!(progress(watch.next().await), 0);
    for version in 1..20 {
        let (event, written) = tokio::join!(watch.next(), put(&store, b"k"));
        assert_eq!((versions(event), written), (vec![version], version));
    }
    let (event, closed) = tokio::join!(watch.next(), store.close());
    closed.unwrap();
    assert!(matches!(event, Some(Err(Error::Engine(esker_engine::Error::Closed)))), "{event:?}");
    assert!(watch.next().await.is_none());
}

/// Whoever does not wait for the end of a call calls again, and nothing is lost.
#[tokio::test]
async fn a_call_that_was_given_up_loses_nothing() {
    let disk = SimDisk::new();
    let store = store(&disk, |_| ());
    for _ in 0..3 {
        put(&store, b"k").await;
    }
    let mut watch = watch(&store, b"", Some(1)).await;
    assert_eq!(progress(watch.next().await), 0);
    disk.stall(Ops::Reads);
    for _ in 0..3 {
        let given_up = futures_util::poll!(std::pin::pin!(watch.next()));
        assert!(given_up.is_pending());
    }
    disk.wait_until_stalled(1);
    disk.end_stall();
    assert_eq!(versions(watch.next().await), [1, 2, 3]);
    assert_eq!(progress(watch.next().await), 3);
    store.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_page_waits_for_room_and_not_for_ever() {
    let store = store(&SimDisk::new(), |_| ());
    put(&store, b"k").await;
    let has_room = Arc::<AtomicBool>::default();
    let asked = Arc::<AtomicUsize>::default();
    let admit = {
        let (has_room, asked) = (Arc::clone(&has_room), Arc::clone(&asked));
        Arc::new(move |bytes: usize| {
            assert!(bytes > 5);
            has_room.store(asked.fetch_add(1, Ordering::Relaxed) == 3, Ordering::Relaxed);
            has_room.load(Ordering::Relaxed).then(|| Box::new(bytes) as Room)
        })
    };
    let mut watch = watch(&store, b"", Some(1)).await.admitting(admit);
    assert_eq!(progress(watch.next().await), 0);
    assert_eq!(versions(watch.next().await), [1]);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    assert!(watch.take_room().unwrap().is::<usize>() && watch.take_room().is_none());
    assert_eq!(progress(watch.next().await), 1);
    put(&store, b"k").await;
    let began = Instant::now();
    let event = watch.next().await;
    assert!(matches!(event, Some(Err(Error::Engine(esker_engine::Error::Busy { .. })))), "{event:?}");
    assert!((ROOM_PATIENCE..2 * ROOM_PATIENCE).contains(&began.elapsed()));
    assert!(watch.next().await.is_none());
}

/// More watches than threads, none of them being read: whoever comes next has its turn.
#[tokio::test]
async fn a_watch_that_nobody_reads_holds_no_turn() {
    let store = store(&SimDisk::new(), |config| config.max_watchers = 9);
    put(&store, b"k").await;
    let mut left_alone = Vec::new();
    for _ in 0..8 {
        let mut watch = watch(&store, b"", Some(1)).await;
        assert_eq!(progress(watch.next().await), 0);
        // It begins to look, and nobody asks for what it found, unless that was there at once.
        let _given_up = futures_util::poll!(std::pin::pin!(watch.next()));
        left_alone.push(watch);
    }
    let mut last = watch(&store, b"", Some(1)).await;
    let refused = store.watch(WatchOptions::default()).await.err();
    assert!(matches!(refused, Some(Error::Engine(esker_engine::Error::Busy { .. }))), "{refused:?}");
    assert_eq!((store.watchers(), progress(last.next().await)), (9, 0));
    assert_eq!(versions(last.next().await), [1]);
    drop(left_alone);
    assert_eq!(store.watchers(), 1);
    store.close().await.unwrap();
}
