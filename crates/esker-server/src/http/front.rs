//! What all requests share.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use esker_cluster::Store;
use esker_engine::Damage;

use super::{budget::Budget, drain::Drain};
use crate::{ServerConfig, metrics::ServerMetrics, resp::RespFront, server::Addresses};

/// What all requests share, over all runtimes.
pub(crate) struct Front {
    pub(crate) config: ServerConfig,
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: ServerMetrics,
    pub(crate) drain: Drain,
    /// Open connections of all fronts.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections over the cap that are being told so.
    pub(crate) refusals: Arc<AtomicUsize>,
    /// What the connections of the Redis protocol share.
    pub(crate) resp: RespFront,
    /// Of request bodies being received.
    pub(crate) body_budget: Arc<Budget>,
    /// Of answers being sent.
    pub(crate) answer_budget: Arc<Budget>,
}

impl Front {
    pub(crate) fn new(config: ServerConfig, store: Store, addresses: Addresses) -> Self {
        let body_budget = Arc::new(Budget::new(config.limits.body_bytes_under_way));
        let answer_budget = Arc::new(Budget::new(config.limits.answer_bytes_under_way));
        Self {
            config,
            address: addresses.http,
            resp: RespFront::new(addresses.resp, &store),
            store,
            metrics: ServerMetrics::default(),
            drain: Drain::new(),
            connections: Arc::default(),
            refusals: Arc::default(),
            body_budget,
            answer_budget,
        }
    }

    /// The time of day in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.store.clock().wall().as_millis()).unwrap_or(u64::MAX)
    }

    /// Damage that a read or a verification came upon: its operator has to act.
    pub(crate) fn damage_found(&self, damage: &Damage) {
        self.store.note_damage(damage);
        let Damage { path, offset, what } = damage;
        tracing::error!(file = %path.display(), offset, what, "stored bytes are damaged");
    }

    /// Ready when no connection is open.
    pub(crate) async fn connections_ended(&self) {
        /// Nobody is in a hurry at shutdown, and counting costs nothing.
        const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(5);
        while self.connections.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A service over an empty store, for unit tests.
#[cfg(test)]
pub(crate) fn test_service() -> (super::Service, tempfile::TempDir) {
    use esker_cluster::StoreConfig;
    use esker_log::clock::ManualClock;

    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = esker_engine::Db::open(dir.path(), Default::default()).expect("an empty store opens");
    let clock = Arc::new(ManualClock::default());
    let store = Store::single(db, StoreConfig::default(), clock).expect("threads start");
    let addresses = Addresses { http: ([127, 0, 0, 1], 0).into(), resp: None };
    let front = Front::new(ServerConfig::default(), store, addresses);
    (super::Service::new(Arc::new(front)), dir)
}
