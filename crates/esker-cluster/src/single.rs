//! Mode `single`: this node commits for itself. What a replicated mode will do otherwise is all in here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use esker_engine::{Committed, Db, SyncPolicy};
use esker_log::clock::Clock;
use tokio::sync::oneshot;

use crate::{Batch, Error, Result, metrics::StoreMetrics};

/// When a writer may come back that found the budget spent: about what a sync or two take.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(crate) struct Single {
    db: Db,
    /// Bytes of writes submitted and not yet answered.
    bytes_under_way: Arc<AtomicUsize>,
    bytes_under_way_max: usize,
    clock: Arc<dyn Clock>,
    metrics: Arc<StoreMetrics>,
}

impl Single {
    pub(crate) fn new(
        db: Db,
        bytes_under_way_max: usize,
        clock: Arc<dyn Clock>,
        metrics: Arc<StoreMetrics>,
    ) -> Self {
        Self { db, bytes_under_way: Arc::default(), bytes_under_way_max, clock, metrics }
    }

    /// Submits at once; the future only waits for the answer. Dropping it does not take the write back.
    pub(crate) fn write(
        &self,
        batch: Batch,
        sync: Option<SyncPolicy>,
    ) -> impl Future<Output = Result<Committed>> + Send + use<> {
        let submitted = self.submit(batch, sync);
        async move { submitted?.await.map_err(|_| Error::WorkerDied)? }
    }

    fn submit(&self, batch: Batch, sync: Option<SyncPolicy>) -> Result<oneshot::Receiver<Result<Committed>>> {
        let batch = batch.into_encoded();
        // The permit travels with the write, not with the caller, who may go away before the commit.
        let permit = self.permit(batch.encoded_len())?;
        let (answer, answered) = oneshot::channel();
        let (clock, metrics, start) =
            (Arc::clone(&self.clock), Arc::clone(&self.metrics), self.clock.monotonic());
        let done = move |committed: esker_engine::Result<Committed>| {
            drop(permit);
            metrics.write.record(clock.monotonic().saturating_sub(start));
            // Nobody may be waiting any more: the write is committed all the same.
            let _gone = answer.send(committed.map_err(Error::from)).is_err();
        };
        self.db.submit(batch, sync, Box::new(done))?;
        Ok(answered)
    }

    fn permit(&self, bytes: usize) -> Result<Permit> {
        let under_way = self.bytes_under_way.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { bytes, under_way: Arc::clone(&self.bytes_under_way) };
        // A write that is alone always passes, however large: the limits bound it.
        if under_way > 0 && under_way.saturating_add(bytes) > self.bytes_under_way_max {
            self.metrics.writes_refused.add_one();
            return Err(Error::Engine(esker_engine::Error::Busy { retry_after: RETRY_AFTER }));
        }
        Ok(permit)
    }
}

/// A share of the budget; dropping gives it back.
struct Permit {
    bytes: usize,
    under_way: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
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
        let large = single.permit(100).unwrap();
        assert!(matches!(single.permit(1), Err(Error::Engine(esker_engine::Error::Busy { .. }))));
        drop(large);
        let _first = single.permit(5).unwrap();
        let _second = single.permit(5).unwrap();
        assert!(single.permit(1).is_err());
    }
}
