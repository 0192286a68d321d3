//! The Store over an engine on a simulated disk.

use std::{num::NonZeroUsize, sync::atomic::Ordering};

use esker_engine::{Environment, Options, SyncPolicy};
use esker_log::{
    clock::ManualClock,
    disk::sim::{Ops, SimDisk},
};

use super::*;

fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let config = StoreConfig { io_threads: NonZeroUsize::MIN, ..StoreConfig::default() };
    (Store::single(db, config, Arc::new(ManualClock::default())).unwrap(), dir)
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_merges_waits_no_longer_than_they_are_behind() {
    let clock = Arc::<ManualClock>::default();
    let brake = esker_log::Brake::new(clock);
    brake.set(Duration::from_millis(10));
    let wait = brake.owe(|| 1 << 20);
    let start = tokio::time::Instant::now();
    take_slowly(wait, || brake.is_released(&wait)).await;
    assert!(start.elapsed() >= wait.time() && wait.time() > Duration::from_secs(2));
    let start = tokio::time::Instant::now();
    let let_go = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        brake.set(Duration::ZERO);
    };
    tokio::join!(take_slowly(wait, || brake.is_released(&wait)), let_go);
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_fronts_build_is_compressed_as_the_store_is_set_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.compression = esker_engine::Compression::Lz4;
    let db = Db::open(dir.path(), options).unwrap();
    let store = Store::single(db, StoreConfig::default(), Arc::new(ManualClock::default())).unwrap();
    let mut batch = Batch::with_capacity(store.limits(), 2000);
    batch.put(b"plain", &[b'v'; 1000]).unwrap();
    batch.put_expiring(b"expiring", &[b'w'; 1000], 2_524_608_000_000).unwrap();
    store.write(batch, WriteOptions::default()).await.unwrap();
    let stats = store.status().stats;
    assert_eq!(stats.compression.bytes_given, 2000);
    assert!(stats.compression.bytes_stored < 200 && stats.live_bytes < 300, "{stats:?}");
    for (key, byte) in [(&b"plain"[..], b'v'), (b"expiring", b'w')] {
        assert_eq!(store.get(key).await.unwrap().unwrap().value.to_vec(), [byte; 1000]);
    }
}

async fn fill(store: &Store, keys: u32) {
    let mut batch = Batch::new(store.limits());
    for key in 0..keys {
        batch.put(&key.to_be_bytes(), b"value").unwrap();
    }
    store.write(batch, WriteOptions::default()).await.unwrap();
}

async fn collect(mut scan: Scan) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    while let Some(chunk) = scan.next_chunk().await {
        let chunk = chunk.unwrap();
        assert!(!chunk.is_empty());
        keys.extend(chunk.into_iter().map(|item| item.key));
    }
    keys
}

#[tokio::test]
async fn what_is_written_is_read() {
    let (store, _dir) = store();
    let mut batch = Batch::new(store.limits());
    batch.put(b"k", b"v").unwrap();
    let committed = store.write(batch, WriteOptions::default()).await.unwrap();
    let entry = store.get(b"k").await.unwrap().unwrap();
    assert_eq!((&*entry.value, entry.version), (&b"v"[..], committed.version));
    assert_eq!(store.meta(b"k").unwrap().value_len, Some(1));
    assert!(store.get(b"absent").await.unwrap().is_none());
    assert_eq!(store.status().commit_index, committed.version);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_scan_spans_chunks_in_both_directions_and_stops_at_its_limit() {
    let (store, _dir) = store();
    fill(&store, 5000).await;
    let forward = collect(store.scan(&KeyRange::all(), ScanOptions::default())).await;
    assert_eq!(forward.len(), 5000);
    assert!(forward.is_sorted());
    let options = ScanOptions { reverse: true, keys_only: true, limit: Some(2000) };
    let backward = collect(store.scan(&KeyRange::all(), options)).await;
    assert!(backward.iter().eq(forward.iter().rev().take(2000)));
    let nothing = ScanOptions { limit: Some(0), ..ScanOptions::default() };
    assert!(collect(store.scan(&KeyRange::all(), nothing)).await.is_empty());
    assert!(collect(store.scan(&KeyRange::inclusive(*b"b", *b"a"), ScanOptions::default())).await.is_empty());
}

/// A scan sees the store at the call, not when its first chunk is made.
#[tokio::test]
async fn a_scan_pins_its_snapshot_at_the_call() {
    let (store, _dir) = store();
    fill(&store, 3000).await;
    let scan = store.scan(&KeyRange::all(), ScanOptions::default());
    fill(&store, 5000).await;
    assert_eq!(collect(scan).await.len(), 3000);
}

/// SPEC 1.11.
#[tokio::test]
async fn many_keys_are_read_at_one_snapshot_in_their_order() {
    let (store, _dir) = store();
    fill(&store, 3000).await;
    let key = |at: u32| at.to_be_bytes().to_vec();
    for count in [0_u32, 1, 40, 2999] {
        let mut keys: Vec<_> = (0..count).rev().map(key).collect();
        keys.extend([b"absent".to_vec(), key(7), key(7)]);
        let read = store.multi_get(keys, |_| true).await.unwrap();
        assert_eq!(read.len(), count as usize + 3);
        assert!(read[count as usize].is_none());
        let present = read.iter().flatten().filter(|entry| &*entry.value == b"value");
        assert_eq!(present.count(), count as usize + 2);
    }
    let keys = || (0..100).map(key).collect::<Vec<_>>();
    let room = |bytes: usize| {
        let left = std::sync::atomic::AtomicUsize::new(bytes);
        move |len| {
            let take = |left: usize| left.checked_sub(len);
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        }
    };
    assert!(store.multi_get(keys(), room(500)).await.is_ok());
    assert!(matches!(store.multi_get(keys(), room(499)).await, Err(Error::TooLarge(_))));
}

/// What is not in memory is read by several threads of the pool, and beyond its queue refused.
#[tokio::test]
async fn cold_keys_of_a_multi_get_go_through_the_pool() {
    let disk = SimDisk::new();
    let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
    let db = Db::open_in(&environment, "/d", uncached()).unwrap();
    let config = StoreConfig { io_threads: NonZeroUsize::MIN, io_queue: 4, ..StoreConfig::default() };
    let store = Store::single(db, config, Arc::new(ManualClock::default())).unwrap();
    fill(&store, 100).await;
    disk.set_cold(true);
    let keys = || (0..100_u32).map(|at| at.to_be_bytes().to_vec()).collect::<Vec<_>>();
    let read = store.multi_get(keys(), |_| true).await.unwrap();
    assert!(read.iter().all(|entry| &*entry.as_ref().unwrap().value == b"value"));
    disk.stall(Ops::Reads);
    let first = {
        let store = store.clone();
        tokio::spawn(async move { store.multi_get(keys(), |_| true).await })
    };
    tokio::task::yield_now().await;
    disk.wait_until_stalled(1);
    let refused = store.multi_get(keys(), |_| true).await.unwrap_err();
    assert!(matches!(refused, Error::Engine(esker_engine::Error::Busy { .. })), "{refused}");
    disk.end_stall();
    assert_eq!(first.await.unwrap().unwrap().len(), 100);
    store.close().await.unwrap();
}

/// Where every read asks the disk.
fn uncached() -> Options {
    let mut options = Options::default();
    options.cache_max_bytes = 0;
    options
}

/// CHECKS 33: reads of what is not in memory wait in the pool; beyond its queue they are told to come back.
#[tokio::test]
async fn cold_reads_go_through_the_pool_and_its_bound() {
    let disk = SimDisk::new();
    let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
    let db = Db::open_in(&environment, "/d", uncached()).unwrap();
    let config = StoreConfig { io_threads: NonZeroUsize::MIN, io_queue: 1, ..StoreConfig::default() };
    let store = Store::single(db, config, Arc::new(ManualClock::default())).unwrap();
    fill(&store, 1).await;
    disk.set_cold(true);
    assert_eq!(&*store.get(&0_u32.to_be_bytes()).await.unwrap().unwrap().value, b"value");
    assert_eq!(store.metrics().cold_read.snapshot().count(), 1);
    disk.stall(Ops::Reads);
    let read = || {
        let store = store.clone();
        tokio::spawn(async move { store.get(&0_u32.to_be_bytes()).await })
    };
    // One is being read, one waits; there is room for no third.
    let first = read();
    tokio::task::yield_now().await;
    disk.wait_until_stalled(1);
    let second = read();
    tokio::task::yield_now().await;
    let refused = store.get(&0_u32.to_be_bytes()).await.unwrap_err();
    assert!(matches!(refused, Error::Engine(esker_engine::Error::Busy { .. })), "{refused}");
    // What needs no disk is answered meanwhile.
    assert!(store.get(b"absent").await.unwrap().is_none());
    disk.end_stall();
    for waiting in [first, second] {
        assert_eq!(&*waiting.await.unwrap().unwrap().unwrap().value, b"value");
    }
    store.close().await.unwrap();
}

/// More scans than threads, none of them being read: a thread is free for whoever comes next.
#[tokio::test]
async fn a_scan_that_nobody_reads_holds_no_thread() {
    let (store, _dir) = store();
    fill(&store, 5000).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut scan = store.scan(&KeyRange::all(), ScanOptions::default());
        scan.next_chunk().await.unwrap().unwrap();
        stalled.push(scan);
    }
    assert_eq!(collect(store.scan(&KeyRange::all(), ScanOptions::default())).await.len(), 5000);
}

#[tokio::test]
async fn maintenance_runs_one_at_a_time() {
    let (store, _dir) = store();
    store.inner.maintenance.store(true, Ordering::Release);
    assert!(matches!(store.verify(&WorkProgress::default()).await, Err(Error::AlreadyRunning(_))));
    store.inner.maintenance.store(false, Ordering::Release);
    fill(&store, 1).await;
    assert_eq!(store.checkpoint().await.unwrap(), 1);
    assert!(store.verify(&WorkProgress::default()).await.unwrap().damage.is_empty());
}

/// A merge reads for long: who does not wait for it any more does not have it go on.
#[tokio::test]
async fn a_merge_that_nobody_waits_for_ends() {
    let disk = SimDisk::new();
    let mut options = uncached();
    options.segment_max_bytes = 4096;
    let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
    let db = Db::open_in(&environment, "/d", options).unwrap();
    let config = StoreConfig { io_threads: NonZeroUsize::MIN, ..StoreConfig::default() };
    let store = Store::single(db, config, Arc::new(ManualClock::default())).unwrap();
    // Nothing of it is dead, so that nothing is merged that nobody asks for.
    for n in 0..20_u32 {
        let mut batch = Batch::new(store.limits());
        (0..100_u32).for_each(|key| batch.put(&(100 * n + key).to_be_bytes(), b"value").unwrap());
        store.write(batch, WriteOptions::default()).await.unwrap();
    }
    store.checkpoint().await.unwrap();
    disk.stall(Ops::Reads);
    let merge = {
        let store = store.clone();
        tokio::spawn(async move { store.merge(true).await })
    };
    tokio::task::yield_now().await;
    disk.wait_until_stalled(1);
    merge.abort();
    assert!(merge.await.unwrap_err().is_cancelled());
    disk.end_stall();
    while matches!(store.checkpoint().await, Err(Error::AlreadyRunning(_))) {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.status().stats.merges.merges, 0);
    assert!(store.merge(true).await.unwrap().merged.inputs > 0);
    store.close().await.unwrap();
}

/// Runs `work` on a thread of its own that is a home of the Store.
fn at_home<F: Future<Output = ()>>(store: &Store, work: impl FnOnce(Store) -> F + Send) {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let here = store.clone();
                drop(tokio::spawn(async move { here.home().await }));
                tokio::task::yield_now().await;
                work(store.clone()).await;
            });
        });
        work.join().unwrap();
    });
}

fn one(store: &Store, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new(store.limits());
    batch.put(key, value).unwrap();
    batch
}

/// What the tasks of a home write in a turn is one group, synced or not, and each is answered.
#[test]
fn the_writes_of_a_turn_are_committed_together() {
    let (store, _dir) = store();
    at_home(&store, |store| async move {
        for sync in [None, Some(SyncPolicy::Always)] {
            let groups = store.status().stats.groups;
            let writers: Vec<_> = (0..50_u8)
                .map(|n| {
                    let store = store.clone();
                    tokio::spawn(async move {
                        let options = WriteOptions { sync, ..WriteOptions::default() };
                        store.write(one(&store, &[n], b"v"), options).await.unwrap().version
                    })
                })
                .collect();
            let mut versions = Vec::new();
            for writer in writers {
                versions.push(writer.await.unwrap());
            }
            assert!(versions.is_sorted_by(|a, b| a < b), "in the order of the tasks: {versions:?}");
            assert_eq!(store.status().stats.groups, groups + 1);
        }
    });
}

/// Lets a disk go on, also where a test has failed.
struct EndOfStall<'a>(&'a SimDisk);

impl Drop for EndOfStall<'_> {
    fn drop(&mut self) {
        self.0.end_stall();
    }
}

/// While a thread of the store syncs what a home wrote, the home gathers what its tasks write next; but where others queue up behind
/// that sync, so does it.
#[test]
fn a_home_waits_for_what_others_commit_for_it() {
    let disk = SimDisk::new();
    let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
    let mut options = Options::default();
    options.sync = SyncPolicy::Always;
    let db = Db::open_in(&environment, "/d", options).unwrap();
    let store = Store::single(db, StoreConfig::default(), Arc::new(ManualClock::default())).unwrap();
    let write = |key: Vec<u8>, value: Vec<u8>| {
        let store = store.clone();
        async move { store.write(one(&store, &key, &value), WriteOptions::default()).await.unwrap().version }
    };
    let alone = |write| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(write);
    // So many that syncs are known to be quick.
    let warm: Vec<u64> = (0..50_u8).map(|n| alone(write(vec![n], Vec::new()))).collect();
    let queued = || store.status().stats.queued_batches;
    let (_ends, write, alone, queued) = (EndOfStall(&disk), &write, &alone, &queued);
    std::thread::scope(|scope| {
        at_home(&store, |_| async {
            // The tasks have their turn, then the home has its own.
            let turn = async || {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            };
            disk.stall(Ops::Syncs);
            // More than a home syncs itself.
            let mut written = vec![tokio::spawn(write(b"long".to_vec(), vec![0; 300 << 10]))];
            turn().await;
            disk.wait_until_stalled(1);
            for n in 0..3 {
                written.extend((0..4).map(|_| tokio::spawn(write(vec![n], Vec::new()))));
                turn().await;
                assert_eq!(queued(), 0);
            }
            let other = scope.spawn(move || alone(write(b"other".to_vec(), Vec::new())));
            while queued() == 0 {
                std::thread::yield_now();
            }
            written.push(tokio::spawn(write(b"behind".to_vec(), Vec::new())));
            turn().await;
            assert_eq!(queued(), 1 + 12 + 1);
            disk.end_stall();
            let mut versions = warm;
            for written in written {
                versions.push(written.await.unwrap());
            }
            other.join().unwrap();
            assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        });
    });
}

/// Writes with a request id, which are looked up first, keep their place behind those without.
#[test]
fn at_home_writes_of_both_kinds_are_in_order() {
    let (store, _dir) = store();
    at_home(&store, |store| async move {
        for n in 0..20 {
            let request = Some(esker_engine::RequestId { client: 7, sequence: n + 1 });
            let first = store.write(one(&store, b"k", b"first"), WriteOptions::default());
            let second =
                store.write(one(&store, b"k", b"second"), WriteOptions { request, ..Default::default() });
            let (first, second) = tokio::join!(first, second);
            assert!(first.unwrap().version < second.unwrap().version);
            assert_eq!(store.get(b"k").await.unwrap().unwrap().value.to_vec(), b"second");
        }
    });
}

/// What was submitted when its home ended is committed.
#[test]
fn a_home_that_ends_leaves_nothing_behind() {
    let (store, _dir) = store();
    let mut written = None;
    at_home(&store, |store| {
        // Not waited for, and the home's task has no turn any more.
        written = Some(store.write(one(&store, b"k", b"v"), WriteOptions::default()));
        async {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(written.unwrap()).unwrap();
    assert!(runtime.block_on(store.get(b"k")).unwrap().is_some());
}

/// Who writes if nothing has changed since it read is committed at once, where nothing has to be waited for: not after all others of the turn have read the
/// same.
#[test]
fn at_home_conditions_are_judged_where_they_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.sync = SyncPolicy::Never;
    let db = Db::open(dir.path(), options).unwrap();
    let store = Store::single(db, StoreConfig::default(), Arc::new(ManualClock::default())).unwrap();
    at_home(&store, |store| async move {
        store.write(one(&store, b"k", b"v"), WriteOptions::default()).await.unwrap();
        let contend = async || {
            let writers = (0..50).map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let seen = store.meta(b"k").unwrap().version;
                    let mut batch = one(&store, b"k", b"v");
                    batch.require(b"k", esker_engine::Condition::Version(seen)).unwrap();
                    store.write(batch, WriteOptions::default()).await.unwrap().refusal().is_some()
                })
            });
            let mut refused = 0;
            for writer in writers.collect::<Vec<_>>() {
                refused += u32::from(writer.await.unwrap());
            }
            refused
        };
        // A committer that has just answered may not have gone yet, and takes the first along; the others read the same then.
        for _ in 0..1000 {
            if contend().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("somebody always came between");
    });
}
