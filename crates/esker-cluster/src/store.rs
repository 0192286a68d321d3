//! The Store itself.

mod care;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use esker_engine::{
    BackupArchive, BackupReport, Committed, Damage, Db, Entry, KeyRange, Lookup, Merged, Meta, Progress,
    Reader, Stats, Version,
};
use esker_log::{Wait, clock::Clock};
use futures_util::future::Either;
use tokio::{sync::oneshot, task::JoinHandle};

pub use self::care::{BackupStream, WorkProgress, is_backup_name};
use crate::{
    Batch, ClusterView, Consistency, Error, Limits, MemberChange, Result, Scan, ScanOptions, WriteOptions,
    metrics::StoreMetrics,
    multi_get,
    pool::IoPool,
    raft::RaftNode,
    scan::{Workers, on_pool},
    single::{Accounts, Single},
};

/// When a reader may come back to a node that has nothing of the cluster's state yet.
const NOTHING_YET_RETRY: Duration = Duration::from_millis(500);

/// Who waits because merging is behind looks so often whether it still is.
const WAIT_SLICE: Duration = Duration::from_millis(100);

/// The settings of a Store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// This node's number in its cluster. Default 1.
    pub node_id: u64,
    /// How large requests may be.
    pub limits: Limits,
    /// Writes are refused with `Busy` while more than so many bytes of them wait for their commit. Default 128 MiB.
    pub write_bytes_under_way: usize,
    /// Threads that read what is not in memory. Default: twice the cores, at least 4: they mostly wait.
    pub io_threads: NonZeroUsize,
    /// Reads are refused with `Busy` while more than so many wait for such a thread. Default 4,096.
    pub io_queue: usize,
    /// Where [`Store::backup`] makes backups; without it, it makes none. Default: none.
    pub backup_dir: Option<PathBuf>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            node_id: 1,
            limits: Limits::default(),
            write_bytes_under_way: 128 << 20,
            io_threads: NonZeroUsize::new((2 * cores).max(4)).expect("at least 4"),
            io_queue: 4096,
            backup_dir: None,
        }
    }
}

/// What a node is and how it fares.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// This node's number.
    pub node_id: u64,
    /// The leader's number, if one is known.
    pub leader_id: Option<u64>,
    /// The present term; 0 outside Raft.
    pub term: u64,
    /// The version of the last committed write.
    pub commit_index: Version,
    /// Since the Store was opened.
    pub uptime: Duration,
    /// Why writes are refused, if they are; else what damage was met.
    pub trouble: Option<String>,
    /// The engine's figures.
    pub stats: Stats,
}

/// What a merge that was asked for came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// What was merged.
    pub merged: Merged,
    /// Bytes of the log before.
    pub before: u64,
    /// Bytes of the log after.
    pub after: u64,
}

/// The one interface of all fronts. Cloning gives another handle to the same Store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    reader: Reader,
    committer: Committer,
    workers: Workers,
    config: StoreConfig,
    opened: Duration,
    /// Whether a merge, checkpoint, backup or verification that somebody asked for is under way.
    maintenance: AtomicBool,
}

/// How writes are committed. Everything else is the same in every mode.
enum Committer {
    /// This node commits for itself.
    Single { db: Db, committer: Single },
    /// The cluster commits.
    Raft { node: Arc<RaftNode>, accounts: Arc<Accounts> },
}

impl Committer {
    fn stats(&self) -> Stats {
        match self {
            Self::Single { db, .. } => db.stats(),
            Self::Raft { node, .. } => node.replica().stats(),
        }
    }

    fn checkpoint(&self) -> Result<Version> {
        let version = self.stats().version;
        match self {
            Self::Single { db, .. } => db.checkpoint()?,
            Self::Raft { node, .. } => node.replica().checkpoint()?,
        }
        Ok(version)
    }

    fn merge(&self, all: bool, progress: Progress<'_>) -> Result<Merged> {
        Ok(match self {
            Self::Single { db, .. } => db.merge_with(all, progress)?,
            Self::Raft { node, .. } => node.replica().merge_with(all, progress)?,
        })
    }

    fn backup(&self, dir: &Path, progress: Progress<'_>) -> Result<BackupReport> {
        Ok(match self {
            Self::Single { db, .. } => db.backup(dir, progress)?,
            Self::Raft { node, .. } => node.replica().backup(dir, progress)?,
        })
    }

    fn backup_archive(&self, progress: Progress<'_>) -> Result<BackupArchive> {
        Ok(match self {
            Self::Single { db, .. } => db.backup_archive()?,
            Self::Raft { node, .. } => node.replica().backup_archive(progress)?,
        })
    }

    fn close(&self) -> Result<()> {
        match self {
            Self::Single { db, .. } => db.close()?,
            Self::Raft { node, .. } => node.replica().close()?,
        }
        Ok(())
    }
}

impl Store {
    /// A Store over a node of a cluster, which has its limit of bytes under way in its own settings.
    pub fn raft(node: Arc<RaftNode>, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let reader = node.replica().reader();
        let bytes_max = config.write_bytes_under_way;
        Self::new(reader, config, clock, |clock, metrics| {
            let accounts = Accounts::new(bytes_max, Arc::clone(clock), Arc::clone(metrics));
            Committer::Raft { node, accounts: Arc::new(accounts) }
        })
    }

    /// A Store over this node's engine alone.
    pub fn single(db: Db, config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let bytes_max = config.write_bytes_under_way;
        Self::new(db.reader(), config, clock, |clock, metrics| {
            let committer = Single::new(db.clone(), bytes_max, Arc::clone(clock), Arc::clone(metrics));
            Committer::Single { db, committer }
        })
    }

    fn new(
        reader: Reader,
        config: StoreConfig,
        clock: Arc<dyn Clock>,
        committer: impl FnOnce(&Arc<dyn Clock>, &Arc<StoreMetrics>) -> Committer,
    ) -> Result<Self> {
        let metrics = Arc::<StoreMetrics>::default();
        let pool = Arc::new(IoPool::new(config.io_threads, config.io_queue)?);
        let committer = committer(&clock, &metrics);
        let opened = clock.monotonic();
        let workers = Workers { pool, clock, metrics };
        let maintenance = AtomicBool::new(false);
        Ok(Self { inner: Arc::new(Inner { reader, committer, workers, config, opened, maintenance }) })
    }

    /// How large requests may be, and how the values of the next batch are compressed.
    pub fn limits(&self) -> Limits {
        let compressor = match &self.inner.committer {
            Committer::Single { db, .. } => db.compressor(),
            Committer::Raft { node, .. } => node.replica().compressor(),
        };
        Limits { compressor, ..self.inner.config.limits }
    }

    /// Commits a batch. One that could not be applied, because a condition did not hold, say, is committed too:
    /// [`Committed::refusal`] says why nothing of it was done. The write is submitted at once, whether or not the future is polled, and dropping the
    /// future does not take it back.
    pub fn write(
        &self,
        batch: Batch,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Committed>> + Send + use<> {
        match &self.inner.committer {
            Committer::Single { committer, .. } => Either::Left(committer.write(batch, options)),
            Committer::Raft { node, accounts } => {
                Either::Right(write_replicated(node, accounts, batch, options))
            }
        }
    }

    /// Waits until [`Store::get`], [`Store::meta`] and [`Store::scan`] see what `consistency` promises; says what version
    /// they then see at least.
    ///
    /// Errors: `NoLeader`.
    pub async fn read_point(&self, consistency: Consistency) -> Result<Version> {
        match (&self.inner.committer, consistency) {
            // A single node's reads see every acknowledged write: it is applied before it is acknowledged.
            (Committer::Single { db, .. }, _) => Ok(db.version()),
            (Committer::Raft { node, .. }, Consistency::Linearizable) => node.read_point().await,
            // Whoever has nothing yet, as until its first snapshot, cannot say that a key is absent.
            (Committer::Raft { node, .. }, Consistency::Stale) => match node.applied() {
                0 => Err(Error::NoLeader { retry_after: NOTHING_YET_RETRY }),
                applied => Ok(applied),
            },
        }
    }

    /// The cluster as this node sees it; `None` in mode `single`.
    pub fn cluster(&self) -> Option<ClusterView> {
        match &self.inner.committer {
            Committer::Single { .. } => None,
            Committer::Raft { node, .. } => Some(node.view()),
        }
    }

    /// Changes the membership, on any node; answers with the number of the member it is about.
    ///
    /// Errors: `NoLeader`, `Refused`.
    pub async fn change_members(&self, change: MemberChange) -> Result<u64> {
        match &self.inner.committer {
            Committer::Single { .. } => {
                Err(Error::Refused("this node is in mode single: it has no cluster to change".into()))
            }
            Committer::Raft { node, .. } => node.change_members(change).await,
        }
    }

    /// Reads a key: at once if it is in memory, else through the I/O pool.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        match self.inner.reader.try_get(key)? {
            Lookup::Absent => Ok(None),
            Lookup::Found(entry) => Ok(Some(entry)),
            Lookup::Cold(read) => {
                let workers = &self.inner.workers;
                let start = workers.clock.monotonic();
                let entry = on_pool(workers, move || read.fetch().map_err(Error::from)).await;
                workers.metrics.cold_read.record(workers.clock.monotonic().saturating_sub(start));
                entry.map(Some)
            }
        }
    }

    /// Reads many keys at one snapshot; says of each, in their order, what it holds. `admit` is asked about the length of
    /// each value as it is read, so that the caller bounds what is held: it may say no.
    ///
    /// Errors: `TooLarge` if it does, `Busy`, and those of the engine.
    pub async fn multi_get(
        &self,
        keys: Vec<Vec<u8>>,
        admit: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Result<Vec<Option<Entry>>> {
        multi_get::read(self.inner.reader.view(), keys, Arc::new(admit), &self.inner.workers).await
    }

    /// A key's version and value length, from memory.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.inner.reader.meta(key)
    }

    /// Reads a range as it is now, however late the chunks are asked for.
    pub fn scan(&self, range: &KeyRange, options: ScanOptions) -> Scan {
        Scan::new(&self.inner.reader, range, options, self.inner.workers.clone())
    }

    /// What this node is and how it fares.
    pub fn status(&self) -> Status {
        let stats = self.inner.committer.stats();
        let full = stats.disk_full.then(|| esker_engine::Error::DiskFull.to_string());
        let view = self.cluster();
        let me = self.inner.config.node_id;
        Status {
            node_id: view.as_ref().map_or(me, |view| view.node_id),
            leader_id: view.as_ref().map_or(Some(me), |view| view.leader),
            term: view.as_ref().map_or(0, |view| view.term),
            commit_index: view.as_ref().map_or(stats.version, |view| view.committed),
            uptime: self.inner.workers.clock.monotonic().saturating_sub(self.inner.opened),
            trouble: stats.poisoned.clone().or(full).or_else(|| damage_trouble(&stats)),
            stats,
        }
    }

    /// Notes damage that a reader came upon: [`Store::status`] tells it until the node is started again.
    pub fn note_damage(&self, damage: &Damage) {
        match &self.inner.committer {
            Committer::Single { db, .. } => db.note_damage(damage),
            Committer::Raft { node, .. } => node.replica().note_damage(damage),
        }
    }

    /// What the Store measures of itself.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.inner.workers.metrics
    }

    /// The clock the Store was given.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.workers.clock
    }

    /// Hands on the leadership if this node has it, commits what was submitted, writes a checkpoint, ends the threads.
    /// Reads and writes fail from then on.
    pub async fn close(&self) -> Result<()> {
        if let Committer::Raft { node, .. } = &self.inner.committer {
            node.shutdown().await;
        }
        let inner = Arc::clone(&self.inner);
        on_own_thread("esker-close", move || {
            inner.workers.pool.close();
            inner.committer.close()
        })
        .await
    }
}

/// What an operator has to know of damage that was met.
fn damage_trouble(stats: &Stats) -> Option<String> {
    stats.damage.last.is_some().then(|| {
        format!("{}: `esker verify` lists all there is; everything else is served as before", stats.damage)
    })
}

/// Has the cluster commit a batch. A task of its own does so, which goes on when nobody waits any more, and gives back its
/// share of the budget only when the write is decided: who asks and goes away cannot pile writes up.
fn write_replicated(
    node: &Arc<RaftNode>,
    accounts: &Arc<Accounts>,
    batch: Batch,
    options: WriteOptions,
) -> impl Future<Output = Result<Committed>> + Send + use<> {
    let written = submit_replicated(node, accounts, batch, options);
    async move { written?.await.map_err(|_| Error::WorkerDied)? }
}

fn submit_replicated(
    node: &Arc<RaftNode>,
    accounts: &Arc<Accounts>,
    batch: Batch,
    options: WriteOptions,
) -> Result<JoinHandle<Result<Committed>>> {
    let batch = batch.into_encoded()?;
    let permit = Accounts::permit(accounts, batch.encoded_len())?;
    let wait = node.replica().drag(batch.encoded_len());
    node.replica().check_memory(&batch)?;
    node.replica().learn(&batch);
    let node = Arc::clone(node);
    Ok(tokio::spawn(async move {
        take_slowly(wait, || node.replica().is_released(&wait)).await;
        // Not before: it is stamped with the time.
        let committed = node.write(batch, options).await?;
        permit.committed();
        Ok(committed)
    }))
}

/// Waits for what merging is behind, or until it is not any more.
async fn take_slowly(wait: Wait, is_released: impl Fn() -> bool) {
    let mut left = wait.time();
    while !left.is_zero() && !is_released() {
        let slice = left.min(WAIT_SLICE);
        tokio::time::sleep(slice).await;
        left -= slice;
    }
}

async fn on_own_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    start_thread(name, move || {
        // Whoever asked may have gone away; the work is done all the same.
        let _gone = answer.send(work()).is_err();
    })?;
    answered.await.map_err(|_| Error::WorkerDied)?
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(|e| esker_engine::Error::io("starting a thread", e).into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use esker_engine::{Environment, Options};
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
        assert!(
            collect(store.scan(&KeyRange::inclusive(*b"b", *b"a"), ScanOptions::default())).await.is_empty()
        );
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
}
