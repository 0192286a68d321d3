//! What all requests share.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use esker_cluster::{Limits, Store};
use esker_engine::Damage;
use esker_log::clock::Clock;
use tokio::sync::Semaphore;

use super::{answer::UNCOUNTED_BYTES_MAX, budget::Budget, drain::Drain};
use crate::{
    ServerConfig,
    access::{Access, Guarded},
    binary::BinaryFront,
    grpc::GrpcFront,
    metrics::ServerMetrics,
    resp::RespFront,
    server::Addresses,
};

/// Where a client takes nothing, this often it is looked whether it may go on so.
pub(crate) const STALL_LOOK_EVERY: Duration = Duration::from_millis(500);

/// What all requests share, over all runtimes.
pub(crate) struct Front {
    pub(crate) config: ServerConfig,
    /// The Store: a [`Door`](crate::access::Door) leads to it, for whoever may.
    pub(crate) guarded: Guarded,
    /// Who that is.
    pub(crate) access: Access,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: ServerMetrics,
    pub(crate) drain: Drain,
    /// Open connections of all fronts.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections over the cap that are being told so.
    pub(crate) refusals: Arc<AtomicUsize>,
    /// What the connections of the Redis protocol share.
    pub(crate) resp: RespFront,
    /// What the connections of the binary protocol share.
    pub(crate) binary: BinaryFront,
    /// What the connections of gRPC share.
    pub(crate) grpc: GrpcFront,
    /// Of request bodies being received.
    pub(crate) body_budget: Arc<Budget>,
    /// Of answers being sent.
    pub(crate) answer_budget: Arc<Budget>,
    /// Whose turn it is to take a profile of the process.
    pub(crate) profiles: Arc<Semaphore>,
}

impl Front {
    pub(crate) fn new(config: ServerConfig, store: Store, addresses: Addresses) -> Self {
        let body_budget = Arc::new(Budget::new(config.limits.body_bytes_under_way));
        let answer_budget = Arc::new(Budget::new(config.limits.answer_bytes_under_way));
        let guarded = Guarded::new(store);
        Self {
            address: addresses.http,
            resp: RespFront::new(addresses.resp, &guarded),
            binary: BinaryFront::new(addresses.binary, &guarded),
            grpc: GrpcFront::new(addresses.grpc),
            guarded,
            access: Access::new(config.access.clone()),
            metrics: ServerMetrics::default(),
            drain: Drain::new(),
            connections: Arc::default(),
            refusals: Arc::default(),
            body_budget,
            answer_budget,
            profiles: Arc::new(Semaphore::new(1)),
            config,
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.guarded.clock()
    }

    /// How large requests may be.
    pub(crate) fn limits(&self) -> Limits {
        self.guarded.limits()
    }

    /// How long a client may take nothing of answers that hold so much of the answers' budget: not for long while such answers fill
    /// the memory that others wait for. What always has room keeps nobody waiting.
    pub(crate) fn write_stall(&self, held: usize) -> Duration {
        let stall = self.config.timeouts.write_stall;
        let is_in_the_way = held > UNCOUNTED_BYTES_MAX && self.answer_budget.is_short_beside(held);
        if is_in_the_way { stall.min(self.config.timeouts.write_stall_when_short) } else { stall }
    }

    /// The time of day in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock().wall().as_millis()).unwrap_or(u64::MAX)
    }

    /// Damage that a read or a verification came upon: its operator has to act.
    pub(crate) fn damage_found(&self, damage: &Damage) {
        self.guarded.note_damage(damage);
        let Damage { path, offset, what } = damage;
        tracing::error!(file = %path.display(), offset, what, "stored bytes are damaged");
    }

    /// Ready when no connection is open.
    pub(crate) async fn connections_ended(&self) {
        /// Nobody is in a hurry at shutdown, and counting costs nothing.
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        while self.connections.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A service over an empty store, for unit tests.
#[cfg(test)]
pub(crate) fn test_service() -> (super::Service, tempfile::TempDir) {
    test_service_at(Arc::new(esker_log::clock::ManualClock::default()))
}

/// The same by a clock of the test's.
#[cfg(test)]
pub(crate) fn test_service_at(
    clock: Arc<esker_log::clock::ManualClock>,
) -> (super::Service, tempfile::TempDir) {
    use esker_cluster::StoreConfig;
    use esker_engine::{Db, Environment};

    let dir = tempfile::tempdir().expect("a temporary directory");
    let environment = Environment { clock: Arc::clone(&clock) as _, ..Environment::default() };
    let db = Db::open_in(&environment, dir.path(), Default::default()).expect("an empty store opens");
    let store = Store::single(db, StoreConfig::default(), clock).expect("threads start");
    let addresses = Addresses { http: ([127, 0, 0, 1], 0).into(), resp: None, binary: None, grpc: None };
    let front = Front::new(ServerConfig::default(), store, addresses);
    (super::Service::new(Arc::new(front)), dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_memory_is_short_those_who_fill_it_have_little_time() {
        let (service, _dir) = test_service();
        let front = service.front();
        let (stall, budget) = (front.config.timeouts.write_stall, &front.answer_budget);
        let most = front.config.limits.answer_bytes_under_way / 8 * 7;
        let (mut large, mut other) = (budget.share(), budget.share());
        assert!(large.grow(most));
        assert_eq!(front.write_stall(most), stall, "it keeps nobody waiting");
        assert!(other.grow(most / 10));
        assert_eq!(front.write_stall(most), front.config.timeouts.write_stall_when_short);
        assert_eq!(front.write_stall(most / 10), front.config.timeouts.write_stall_when_short);
        assert_eq!(front.write_stall(0), stall, "who holds nothing has nothing to give back");
        assert_eq!(front.write_stall(UNCOUNTED_BYTES_MAX), stall);
    }
}
