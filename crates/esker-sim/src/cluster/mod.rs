//! Clusters of real nodes, in one thread, on simulated machines: the nodes of a [`World`](crate::world::World), and the
//! [`Target`](crate::clients::Target) of its clients.
//!
//! ```text
//! Cluster -> Process: RaftNode ── SimHost (network) ── the others
//!                     Replica  ── SimDisk (machine) <- driven by a task: it takes the time that the disk takes
//! ```
//!
//! What runs is what the server runs, from the Store down, but for: the Store's pool of threads (reads go to the
//! replica's reader), tonic (calls go through [`SimNetwork`](crate::network::SimNetwork)), and the engine's threads (a task
//! appends and writes checkpoints). All that a node does it does on its machine's [`Host`](esker_cluster::raft::Host), which
//! can stand still; the consensus and the store go by that machine's clocks, what a node waits for otherwise by tokio's.

mod hosted;
mod logs;
mod panics;
mod process;
mod scenario;
mod target;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker_cluster::{
    ClusterView, MemberChange, Role,
    peer::PeerApi,
    raft::{MemberAddress, RaftConfig},
};
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::time::sleep;

use self::process::Process;
pub use self::scenario::{Report, ScenarioOptions, in_simulation, run};
use crate::{
    Rng,
    machine::Machine,
    network::SimHost,
    sim::Sim,
    world::{Nodes, address},
};

/// The pause before the cluster is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Real nodes, by machine; clones are handles to the same ones.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    sim: Sim,
    /// The nodes that form the cluster are numbered from 1 to this.
    count: u64,
    rng: Rng,
    tuning: Tuning,
    running: Mutex<BTreeMap<u64, Arc<Process>>>,
    /// What went wrong that a node should never do.
    troubles: Mutex<Vec<String>>,
}

/// What is drawn once for all nodes of a run.
#[derive(Debug, Clone, Copy)]
struct Tuning {
    log_retention: (u64, u64),
    checkpoint_interval: Duration,
    checkpoint_ops: u64,
    segment_max_bytes: u64,
}

impl Tuning {
    /// Mostly so little log that who lags is sent a snapshot.
    fn draw(rng: &Rng) -> Self {
        Self {
            log_retention: *rng.choose(&[(2 << 10, 20), (32 << 10, 200), (1 << 30, 1_000_000)]),
            checkpoint_interval: *rng.choose(&[
                Duration::from_millis(300),
                Duration::from_secs(2),
                Duration::from_secs(20),
            ]),
            checkpoint_ops: *rng.choose(&[30, 1000]),
            segment_max_bytes: *rng.choose(&[4 << 10, 16 << 10, 1 << 20]),
        }
    }
}

impl Cluster {
    /// Nodes for the machines 1 to `count`, none of them running.
    pub fn new(sim: &Sim, count: u64) -> Self {
        let rng = sim.rng.fork("nodes");
        let tuning = Tuning::draw(&rng);
        sim.trace.note(format_args!("{tuning:?}"));
        let inner = Inner {
            sim: sim.clone(),
            count,
            rng,
            tuning,
            running: Mutex::default(),
            troubles: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    fn config(&self, node: u64) -> RaftConfig {
        let members = (1..=self.inner.count).map(|id| MemberAddress {
            id,
            peer_address: address(id),
            http_address: format!("n{id}:8080"),
        });
        RaftConfig {
            node_id: node,
            peer_address: address(node),
            http_address: format!("n{node}:8080"),
            members: members.collect(),
            leader_patience: Duration::from_millis(700),
            commit_patience: Duration::from_millis(1500),
            log_retention: self.inner.tuning.log_retention,
            blocking_threads: false,
            ..RaftConfig::default()
        }
    }

    fn process(&self, node: u64) -> Option<Arc<Process>> {
        self.inner.running.lock().get(&node).cloned()
    }

    /// The processes that take part, by machine.
    fn taking_part(&self) -> BTreeMap<u64, Arc<Process>> {
        let running = self.inner.running.lock();
        let taking_part = running.iter().filter(|(_, process)| process.node().is_some());
        taking_part.map(|(node, process)| (*node, Arc::clone(process))).collect()
    }

    /// What the leader knows of the cluster, if there is one: of several that take themselves for it, the newest.
    pub fn leaders_view(&self) -> Option<ClusterView> {
        let processes = self.taking_part();
        let views = processes.values().filter_map(|process| process.view());
        views.filter(|view| view.role == Role::Leader).max_by_key(|view| view.term)
    }

    fn trouble(&self, what: String) {
        self.inner.sim.trace.note(&what);
        self.inner.troubles.lock().push(what);
    }

    /// The change in the numbers that the cluster has given its members. A machine that was wiped has been several of
    /// them: the last counts.
    fn translate(&self, change: &MemberChange) -> Option<MemberChange> {
        let view = self.leaders_view()?;
        let number = |node: u64| {
            let here = view.members.iter().filter(|member| member.peer_address == address(node));
            here.map(|member| member.id).max()
        };
        Some(match change {
            MemberChange::Remove(node) => MemberChange::Remove(number(*node)?),
            MemberChange::Promote(node) => MemberChange::Promote(number(*node)?),
            MemberChange::Transfer(Some(node)) => MemberChange::Transfer(Some(number(*node)?)),
            other => other.clone(),
        })
    }

    async fn change(self, change: MemberChange) -> Result<(), String> {
        loop {
            let processes: Vec<_> = self.taking_part().into_values().collect();
            if let Some(change) = self.translate(&change)
                && !processes.is_empty()
            {
                let process = Arc::clone(self.inner.rng.choose(&processes));
                let Some(node) = process.node() else { continue };
                let changed = process.run(node.change_members(change)).await;
                return match changed {
                    Some(Ok(_)) => Ok(()),
                    Some(Err(e)) => Err(e.to_string()),
                    None => Err("the node went down".into()),
                };
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

impl Nodes for Cluster {
    fn start(
        &self,
        node: u64,
        machine: Machine,
        host: SimHost,
    ) -> BoxFuture<'static, Result<Arc<dyn PeerApi>, String>> {
        let cluster = self.clone();
        async move {
            let opened = process::open(&cluster, node, &machine, host)?;
            machine.wait_for_disk().await;
            let api = opened.service();
            let process = opened.take_part(cluster.clone(), node);
            cluster.inner.running.lock().insert(node, process);
            Ok(api)
        }
        .boxed()
    }

    fn kill(&self, node: u64) {
        if let Some(process) = self.inner.running.lock().remove(&node) {
            process.kill();
        }
    }

    fn gave_up(&self, node: u64) -> Option<String> {
        let process = self.process(node)?;
        let failure = || Some(process.node()?.failure()?.to_string());
        process.exited().map(str::to_owned).or_else(failure)
    }

    fn change_members(&self, change: MemberChange) -> BoxFuture<'static, Result<(), String>> {
        self.clone().change(change).boxed()
    }

    /// A checkpoint; what it covers of the log and is more than what is kept for others goes soon after.
    fn snapshot(&self, node: u64) -> BoxFuture<'static, Result<(), String>> {
        let process = self.process(node);
        async move {
            let process = process.ok_or("the node is down")?;
            let checkpoint = process.run(async { process.replica().checkpoint().map_err(|e| e.to_string()) });
            checkpoint.await.unwrap_or_else(|| Err("the node went down".into()))
        }
        .boxed()
    }
}
