//! Mode `single`: this node commits for itself. What a replicated mode will do otherwise is all in here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use esker_engine::{Committed, Db};
use esker_log::clock::Clock;
use tokio::sync::oneshot;

use crate::{Batch, Error, Result, WriteOptions, home::Home, metrics::StoreMetrics};

/// When a writer may come back that found the budget spent: about what a sync or two take.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(crate) struct Single {
    db: Db,
    /// What a write under way holds on to: one reference, because every write takes it.
    accounts: Arc<Accounts>,
}

/// What is under way, and may be.
pub(crate) struct Accounts {
    /// Bytes of writes submitted and not yet answered.
    bytes_under_way: AtomicUsize,
    bytes_under_way_max: usize,
    pub(crate) clock: Arc<dyn Clock>,
    metrics: Arc<StoreMetrics>,
}

impl Single {
    pub(crate) fn new(
        db: Db,
        bytes_under_way_max: usize,
        clock: Arc<dyn Clock>,
        metrics: Arc<StoreMetrics>,
    ) -> Self {
        Self { db, accounts: Arc::new(Accounts::new(bytes_under_way_max, clock, metrics)) }
    }

    /// See [`Store::home`](crate::Store::home).
    pub(crate) fn home(&self) -> Home {
        Home::new(self.db.clone(), Arc::clone(&self.accounts))
    }

    /// See [`Store::has_gathered_writes`](crate::Store::has_gathered_writes).
    pub(crate) fn has_gathered_writes(&self) -> bool {
        Home::here(&self.accounts).is_some_and(|home| home.has_gathered())
    }

    /// Submits at once; the future only waits for the answer. Dropping it does not take the write back.
    pub(crate) fn write(
        &self,
        batch: Batch,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Committed>> + Send + use<> {
        let submitted = self.submit(batch, options);
        async move { submitted?.await.map_err(|_| Error::WorkerDied)? }
    }

    fn submit(&self, batch: Batch, options: WriteOptions) -> Result<oneshot::Receiver<Result<Committed>>> {
        // A condition was chosen by what was read: to wait would let all others of the turn read, and choose, the same, of whom one succeeds.
        let is_urgent = batch.is_conditional() || options.request.is_some();
        let mut batch = batch.into_encoded()?;
        if let Some(id) = options.request {
            batch = batch.identified(id)?;
        }
        // The permit travels with the write, not with the caller, who may go away before the commit.
        let permit = Accounts::permit(&self.accounts, batch.encoded_len())?;
        let (answer, answered) = oneshot::channel();
        match Home::here(&self.accounts) {
            Some(home) if !is_urgent => {
                let undecided = Arc::clone(&home).undecided(answer);
                let done = move |committed: esker_engine::Result<Committed>| {
                    // What is refused is told here as well.
                    if committed.is_ok() {
                        permit.committed();
                    } else {
                        drop(permit);
                    }
                    undecided.decide(committed.map_err(Error::from));
                };
                home.submit(batch, options.sync, Box::new(done));
            }
            home => {
                if let Some(home) = home {
                    // It is behind them, and may share their sync.
                    home.commit(false);
                }
                let done = move |committed: esker_engine::Result<Committed>| {
                    permit.committed();
                    // Nobody may be waiting any more: the write is committed all the same.
                    let _gone = answer.send(committed.map_err(Error::from)).is_err();
                };
                self.db.submit(batch, options.sync, Box::new(done))?;
            }
        }
        Ok(answered)
    }
}

impl Accounts {
    pub(crate) fn new(bytes_under_way_max: usize, clock: Arc<dyn Clock>, metrics: Arc<StoreMetrics>) -> Self {
        Self { bytes_under_way: AtomicUsize::new(0), bytes_under_way_max, clock, metrics }
    }

    pub(crate) fn permit(accounts: &Arc<Self>, bytes: usize) -> Result<Permit> {
        let under_way = accounts.bytes_under_way.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { accounts: Arc::clone(accounts), bytes, start: accounts.clock.monotonic() };
        // A write that is alone always passes, however large: the limits bound it.
        if under_way > 0 && under_way.saturating_add(bytes) > accounts.bytes_under_way_max {
            accounts.metrics.writes_refused.add_one();
            return Err(Error::Engine(esker_engine::Error::Busy { retry_after: RETRY_AFTER }));
        }
        Ok(permit)
    }
}

/// A write's share of the budget; dropping gives it back.
pub(crate) struct Permit {
    accounts: Arc<Accounts>,
    bytes: usize,
    start: Duration,
}

impl Permit {
    pub(crate) fn committed(self) {
        let accounts = &self.accounts;
        accounts.metrics.write.record(accounts.clock.monotonic().saturating_sub(self.start));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.accounts.bytes_under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use esker_engine::Options;
    use esker_log::clock::ManualClock;

    use super::*;

    #[test]
    fn the_budget_refuses_and_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        let single = Single::new(db, 10, Arc::new(ManualClock::default()), Arc::default());
        let permit = |bytes| Accounts::permit(&single.accounts, bytes);
        let large = permit(100).unwrap();
        assert!(matches!(permit(1), Err(Error::Engine(esker_engine::Error::Busy { .. }))));
        drop(large);
        let _first = permit(5).unwrap();
        let _second = permit(5).unwrap();
        assert!(permit(1).is_err());
    }
}
