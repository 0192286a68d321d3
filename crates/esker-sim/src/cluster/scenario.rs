//! One seed, from the plan to the verdict.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use esker_cluster::{Role, raft::seed_randomness};
use esker_engine::{Committed, RequestId, StoredItem};
use tokio::time::{Instant, sleep};

use super::{Cluster, logs, panics::Panics, target::found_item};
use crate::{
    Rng,
    checker::{self, Failure, Promises, State, check_end_state, check_progress, check_replicas_equal},
    clients::{Clients, Workload},
    history::{History, Key, Recorder, Versioned},
    machine::EPOCH,
    network::{Down, SimNetwork},
    plan::{Plan, PlanOptions, Weights},
    sim::{self, Sim},
    world::{World, address},
};

/// How long streams and calls wait for a silent peer.
const NETWORK_PATIENCE: Duration = Duration::from_secs(1);
/// CHECKS 28: how long after healing the first write is acknowledged at the latest.
const PROGRESS_BOUND: Duration = Duration::from_secs(5);
/// How long, after the clients have stopped, the members may take until all hold the same.
const AGREEMENT_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether they do.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is run under each seed.
#[derive(Debug, Clone)]
pub struct ScenarioOptions {
    /// How many nodes form the cluster. Default 3.
    pub nodes: u64,
    /// How long faults go on. Default 15 s.
    pub faulty_for: Duration,
    /// The kinds of faults; `None`, the default: each seed draws its own ([`Weights::swarm`]).
    pub weights: Option<Weights>,
    /// How many clients there are. Default 6.
    pub clients: u32,
}

impl Default for ScenarioOptions {
    fn default() -> Self {
        Self { nodes: 3, faulty_for: Duration::from_secs(15), weights: None, clients: 6 }
    }
}

impl ScenarioOptions {
    /// The plan of a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        let rng = Rng::new(seed).fork("weights");
        let options = PlanOptions {
            nodes: self.nodes,
            faulty_for: self.faulty_for,
            gap_max: *rng.choose(&[
                Duration::from_millis(300),
                Duration::from_secs(1),
                Duration::from_secs(3),
            ]),
            weights: self.weights.clone().unwrap_or_else(|| Weights::swarm(&rng)),
            ..PlanOptions::default()
        };
        Plan::draw(seed, &options)
    }

    fn workload(&self, rng: &Rng) -> Workload {
        Workload {
            clients: self.clients,
            keys: *rng.choose(&[8, 50]),
            nodes: (1..=self.nodes).collect(),
            // Longer than a node takes to give a write up, so that its own verdict is seen, too.
            patience: *rng.choose(&[Duration::from_millis(500), Duration::from_secs(2)]),
            ..Workload::default()
        }
    }
}

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    /// The schedule.
    pub plan: Plan,
    /// What clients did and saw.
    pub history: History,
    /// The promises that were not kept.
    pub failures: Vec<Failure>,
    /// The last lines of what happened.
    pub trace: Vec<String>,
}

impl fmt::Display for Report {
    /// The verdict with its reasons, and the schedule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, history, failures, .. } = self;
        writeln!(f, "seed {}: {} promises not kept", plan.seed, failures.len())?;
        failures.iter().try_for_each(|failure| f.write_str(&failure.explain(history)))?;
        write!(f, "{plan}")
    }
}

/// Runs one seed.
pub fn run(seed: u64, options: &ScenarioOptions) -> Report {
    let panics = Panics::gather();
    let mut report = sim::run(seed, |sim| in_simulation(sim, options.clone()));
    let panicked = panics.take().into_iter().map(|panic| Failure::new("panics", panic, Vec::new()));
    report.failures.extend(panicked);
    report
}

/// Runs a seed in a simulation that was begun.
pub async fn in_simulation(sim: Sim, options: ScenarioOptions) -> Report {
    let _logs = logs::into_trace(&sim.trace);
    seed_randomness(sim.rng.fork("randomness").next());
    let plan = options.plan(sim.seed);
    let network = SimNetwork::new(&sim, NETWORK_PATIENCE);
    let recorder = Recorder::new();
    let cluster = Cluster::new(&sim, options.nodes);
    let world = World::new(&sim, &network, options.nodes, Arc::new(cluster.clone()), &recorder);
    world.start_all().await;
    let rng = sim.rng.fork("clients");
    let workload = options.workload(&rng);
    let clients = Clients::start(&workload, Arc::new(cluster.clone()), &recorder, &rng);
    let healed = world.run(&plan).await;
    clients.stop().await;
    let agreement = agreement(&cluster).await;
    // The network holds the nodes, and they hold the network.
    (1..=options.nodes).for_each(|node| network.stop(&address(node), Down::Refuses));
    let history = recorder.history();
    history.operations.iter().for_each(|operation| sim.trace.note(operation));
    let mut failures = checker::check(&history, Promises::default());
    match healed {
        Ok(healed) => failures.extend(check_progress(&history, healed, PROGRESS_BOUND)),
        Err(why) => failures.push(Failure::new("start", why, Vec::new())),
    }
    match agreement {
        Ok(replicas) => failures.extend(check_replicas(&history, replicas)),
        Err(why) => failures.push(Failure::new("agreement", why, Vec::new())),
    }
    let troubles = std::mem::take(&mut *cluster.inner.troubles.lock());
    failures.extend(troubles.into_iter().map(|trouble| Failure::new("nodes", trouble, Vec::new())));
    Report { plan, history, failures, trace: sim.trace.lines() }
}

/// All that a replica holds.
#[derive(Debug)]
struct Contents {
    /// By the node's clock.
    state: State,
    /// As it is stored, but for what will have expired: when a node lets go of that is up to its clock.
    stored: State,
    requests: Vec<(RequestId, Committed)>,
}

/// What the members hold, once the cluster is whole and all of them have applied the same. An error says what is missing.
async fn agreement(cluster: &Cluster) -> Result<BTreeMap<u64, Contents>, String> {
    let deadline = Instant::now() + AGREEMENT_PATIENCE;
    loop {
        match members_applied(cluster) {
            Ok(members) => {
                return members.into_iter().map(|node| Ok((node, contents(cluster, node)?))).collect();
            }
            Err(why) if Instant::now() >= deadline => return Err(why),
            Err(_) => sleep(LOOK_INTERVAL).await,
        }
    }
}

/// The machines whose nodes are members, if all of them vote and have applied what is committed.
fn members_applied(cluster: &Cluster) -> Result<Vec<u64>, String> {
    let view = cluster.leaders_view().ok_or("there is no leader")?;
    let processes = cluster.taking_part();
    let mut members = Vec::new();
    for member in &view.members {
        let is_here = |node: &u64| address(*node) == member.peer_address;
        let node = processes.keys().copied().find(is_here);
        let node = node.ok_or_else(|| format!("member {} does not take part", member.id))?;
        let here = processes[&node].view().filter(|here| here.node_id == member.id);
        let here = here.ok_or_else(|| format!("member {} is another now", member.id))?;
        if member.role == Role::Learner {
            return Err(format!("member {} has no vote yet", member.id));
        }
        if here.applied != view.committed || here.leader != Some(view.node_id) {
            return Err(format!(
                "member {} has applied {} of {} and follows {:?}",
                member.id, here.applied, view.committed, here.leader
            ));
        }
        members.push(node);
    }
    Ok(members)
}

fn contents(cluster: &Cluster, node: u64) -> Result<Contents, String> {
    let process = cluster.process(node).ok_or("a node went down after everything was healed")?;
    let snapshot = process.replica().snapshot();
    let requests = snapshot.requests().collect();
    let state: Result<State, _> = snapshot.items().map(|item| item.map(found_item)).collect();
    let state = state.map_err(|e| format!("n{node}: {e}"))?;
    let stored = snapshot.items_behind(&[]).filter(|item| item.as_ref().map_or(true, lasts));
    let stored: Result<State, _> = stored.map(|item| item.map(stored_item)).collect();
    let stored = stored.map_err(|e| format!("n{node}: {e}"))?;
    Ok(Contents { state, stored, requests })
}

/// Whether it is there long after the run.
fn lasts(item: &StoredItem) -> bool {
    const LONG: Duration = Duration::from_secs(30 * 86_400);
    item.expiry.is_none_or(|at| u128::from(at) > (EPOCH + LONG).as_millis())
}

fn stored_item(item: StoredItem) -> (Key, Versioned) {
    let value = item.stored.into_bytes();
    (item.key.into(), Versioned { value, version: item.version })
}

/// In words.
fn first_difference(expected: &[(RequestId, Committed)], found: &[(RequestId, Committed)]) -> String {
    match expected.iter().zip(found).find(|(expected, found)| expected != found) {
        Some((expected, found)) => format!("{expected:?} and {found:?}"),
        None => format!("{} and {} of them", expected.len(), found.len()),
    }
}

/// CHECKS 26, and what was acknowledged is there.
fn check_replicas(history: &History, replicas: BTreeMap<u64, Contents>) -> Vec<Failure> {
    let mut failures = Vec::new();
    if let Some((first, expected)) = replicas.first_key_value() {
        failures.extend(check_end_state(history, &expected.state));
        for (node, contents) in &replicas {
            if contents.requests != expected.requests {
                let message = format!(
                    "nodes {first} and {node} remember different requests: {}",
                    first_difference(&expected.requests, &contents.requests)
                );
                failures.push(Failure::new("replicas", message, Vec::new()));
            }
        }
    }
    let states = replicas.into_iter().map(|(node, contents)| (node, contents.stored)).collect();
    failures.extend(check_replicas_equal(&states));
    failures
}
