//! Scans in room that is short.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use esker_engine::{Db, Options};
use esker_log::clock::ManualClock;

use super::*;
use crate::{Batch, Store, StoreConfig, WriteOptions};

const MIB: usize = 1 << 20;
const SMALL: usize = 2000;
const LARGE: usize = 12;

/// Small values first, large ones behind.
async fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let store = Store::single(db, StoreConfig::default(), Arc::new(ManualClock::default())).unwrap();
    let mut batch = Batch::new(store.limits());
    for n in 0..SMALL {
        batch.put(format!("a{n:04}").as_bytes(), b"value").unwrap();
    }
    store.write(batch, WriteOptions::default()).await.unwrap();
    for n in 0..LARGE {
        let mut batch = Batch::new(store.limits());
        batch.put(format!("b{n:04}").as_bytes(), &vec![n as u8; MIB]).unwrap();
        store.write(batch, WriteOptions::default()).await.unwrap();
    }
    (store, dir)
}

/// So many bytes of room, and the most of them that was ever taken.
#[derive(Clone)]
struct Purse(Arc<Mutex<(usize, usize)>>, usize);

struct Taken(Purse, usize);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0 -= self.1;
    }
}

impl Purse {
    fn of(bytes: usize) -> Self {
        Self(Arc::default(), bytes)
    }

    fn admit(&self) -> Admit {
        let purse = self.clone();
        Arc::new(move |bytes| {
            let mut taken = purse.0.lock().unwrap();
            if taken.0 + bytes > purse.1 {
                return None;
            }
            taken.0 += bytes;
            taken.1 = taken.1.max(taken.0);
            Some(Box::new(Taken(purse.clone(), bytes)) as Room)
        })
    }

    fn taken(&self) -> usize {
        self.0.lock().unwrap().0
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

fn scan(store: &Store, reverse: bool) -> Scan {
    store.scan(&KeyRange::all(), ScanOptions { reverse, ..ScanOptions::default() })
}

/// What is made ahead is counted where it is made, not by what came before; and whoever waits gets it all, in order and once.
#[tokio::test]
async fn each_chunk_has_the_room_that_it_holds() {
    let (store, _dir) = store().await;
    for reverse in [false, true] {
        // For one large value, and not for the next one beside it.
        let purse = Purse::of(MIB + MIB / 2);
        let mut scan = scan(&store, reverse).admitting(purse.admit(), Duration::from_secs(30));
        let mut keys = Vec::new();
        while let Some(chunk) = scan.next_chunk().await {
            let _held = scan.take_room().unwrap();
            keys.extend(chunk.unwrap().into_iter().map(|item| item.key));
        }
        assert!(purse.most() > MIB && purse.taken() == 0, "{}", purse.most());
        assert_eq!(keys.len(), SMALL + LARGE);
        keys.dedup();
        assert_eq!(keys.len(), SMALL + LARGE);
        assert!(if reverse { keys.is_sorted_by(|a, b| a > b) } else { keys.is_sorted() });
    }
}

/// What was refused is read again at the same instant, and within the same limit.
#[tokio::test]
async fn what_is_read_again_is_what_was_read() {
    let (store, _dir) = store().await;
    let asked = Arc::<AtomicUsize>::default();
    let refuses_every_other = {
        let asked = Arc::clone(&asked);
        Arc::new(move |_| {
            let odd = asked.fetch_add(1, Ordering::Relaxed) % 2 == 1;
            odd.then(|| Box::new(()) as Room)
        })
    };
    let options = ScanOptions { limit: Some(1500), ..ScanOptions::default() };
    let scan = store.scan(&KeyRange::all(), options);
    let mut batch = Batch::new(store.limits());
    batch.put(b"a", b"later").unwrap();
    batch.delete(b"a0700").unwrap();
    store.write(batch, WriteOptions::default()).await.unwrap();
    let mut scan = scan.admitting(refuses_every_other, Duration::from_secs(30));
    let mut keys = Vec::new();
    while let Some(chunk) = scan.next_chunk().await {
        keys.extend(chunk.unwrap().into_iter().map(|item| item.key));
    }
    assert!(keys.into_iter().eq((0..1500).map(|n| format!("a{n:04}").into_bytes())));
    assert!(asked.load(Ordering::Relaxed) >= 4);
}

#[tokio::test]
async fn without_room_a_scan_does_not_begin_and_does_not_wait_for_ever() {
    let (store, _dir) = store().await;
    let nothing = Purse::of(0);
    let mut refused = scan(&store, false).admitting(nothing.admit(), Duration::from_secs(3600));
    assert!(matches!(refused.next_chunk().await, Some(Err(Error::NoRoom { .. }))));
    assert!(refused.next_chunk().await.is_none());
    let some = Purse::of(MIB / 2);
    let mut broken = scan(&store, false).admitting(some.admit(), Duration::from_millis(120));
    let (mut items, mut last) = (0, None);
    while let Some(chunk) = broken.next_chunk().await {
        match chunk {
            Ok(chunk) => items += chunk.len(),
            Err(e) => last = Some(e),
        }
    }
    assert!((1..=SMALL).contains(&items) && matches!(last, Some(Error::NoRoom { .. })), "{items} {last:?}");
}

#[tokio::test]
async fn chunks_are_made_into_what_is_wanted_where_they_are_read() {
    let (store, _dir) = store().await;
    let runtime = std::thread::current().id();
    let mut scan = scan(&store, false).shaped(move |chunk| {
        assert_ne!(std::thread::current().id(), runtime);
        (chunk.len(), 1)
    });
    let mut items = 0;
    while let Some(len) = scan.next_chunk().await {
        items += len.unwrap();
    }
    assert_eq!(items, SMALL + LARGE);
}
