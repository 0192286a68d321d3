//! The Store itself.

mod care;
mod committer;
mod config;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use esker_engine::{Committed, Damage, Db, Entry, KeyRange, Lookup, Meta, Reader, Stats, Version};
use esker_log::{Wait, clock::Clock};
use futures_util::future::Either;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    Batch, ClusterView, Consistency, Error, Limits, MemberChange, Result, Scan, ScanOptions, Watch,
    WatchOptions, WriteOptions,
    metrics::StoreMetrics,
    multi_get,
    pool::IoPool,
    raft::RaftNode,
    scan::{Workers, on_pool},
    single::{Accounts, Single},
    watch::Watches,
};

use self::committer::Committer;
pub use self::{
    care::{BackupStream, WorkProgress, is_backup_name},
    config::{Compacted, Status, StoreConfig},
};

/// When a reader may come back to a node that has nothing of the cluster's state yet.
const NOTHING_YET_RETRY: Duration = Duration::from_millis(500);

/// Who waits because merging is behind looks so often whether it still is.
const WAIT_SLICE: Duration = Duration::from_millis(100);

/// The one interface of all fronts. Cloning gives another handle to the same Store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    reader: Reader,
    committer: Committer,
    workers: Workers,
    watches: Watches,
    config: StoreConfig,
    opened: Duration,
    /// Whether a merge, checkpoint, backup or verification that somebody asked for is under way.
    maintenance: AtomicBool,
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
        committer.log_merge_damage();
        let opened = clock.monotonic();
        let workers = Workers { pool, clock, metrics };
        let maintenance = AtomicBool::new(false);
        // The other half is there for reads that somebody waits for.
        let watches = Watches::new(committer.applied()?, config.max_watchers, config.io_threads.get() / 2);
        let inner = Inner { reader, committer, workers, watches, config, opened, maintenance };
        Ok(Self { inner: Arc::new(inner) })
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
    /// [`Committed::refusal`] says why nothing of it was done. The write is submitted (at [home](Store::home), after the turn), whether or not the future is polled, and dropping the
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

    /// Makes the thread that polls this a *home*, until it is dropped on that thread: what the tasks of the thread write is gathered, and
    /// committed together once the tasks that were ready have had their turn. For a runtime of one thread that serves many connections.
    pub async fn home(&self) {
        match &self.inner.committer {
            Committer::Single { committer, .. } => Arc::new(committer.home()).run().await,
            // Proposals are gathered by the consensus.
            Committer::Raft { .. } => std::future::pending().await,
        }
    }

    /// Whether this thread is a home, and tasks of it wrote something in this turn that is not committed: that is next, and may wait for the disk.
    pub fn has_gathered_writes(&self) -> bool {
        match &self.inner.committer {
            Committer::Single { committer, .. } => committer.has_gathered_writes(),
            Committer::Raft { .. } => false,
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

    /// Some of these keys are read next, one after the other: that waits less for memory then. Answers nothing, changes nothing.
    pub fn prefetch(&self, keys: &[&[u8]]) {
        self.inner.reader.prefetch(keys);
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
        multi_get::prefetch(&self.inner.reader, &keys);
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

    /// Watches changes, from a moment on at which this node has applied every write that was acknowledged before the call. The
    /// first thing told is from which version on.
    ///
    /// Errors: `Busy` (too many watch), `NoLeader`, `Closed`.
    pub async fn watch(&self, options: WatchOptions) -> Result<Watch> {
        let inner = &self.inner;
        let seat = inner.watches.seat().inspect_err(|_| inner.workers.metrics.watches_refused.add_one())?;
        let point = self.read_point(Consistency::Linearizable).await?;
        Ok(inner.watches.begin(seat, inner.committer.changes(), inner.workers.clone(), point, options))
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.inner.watches.open()
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
        self.inner.watches.close();
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
