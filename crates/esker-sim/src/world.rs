//! Carrying a plan out on nodes, machines and the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use esker_cluster::{MemberChange, peer::PeerApi};
use esker_log::disk::sim::CrashMode;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    task::AbortHandle,
    time::{sleep, sleep_until, timeout},
};

use crate::{
    Rng,
    history::Recorder,
    machine::Machine,
    network::{Down, LinkProfile, SimHost, SimNetwork},
    plan::{Fault, Plan},
    sim::Sim,
};

/// How long a change of membership, a transfer or a snapshot may take before it is given up.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// How long the power waits for the write that it is to fail at.
const POWER_FAILURE_PATIENCE: Duration = Duration::from_millis(200);

/// How long a node may take to start, also with the slowest of disks.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The nodes under test: what a world plugs in.
pub trait Nodes: Send + Sync + 'static {
    /// Starts a node on its machine; gives what it answers to others. An error says why it cannot start. Nothing of the node
    /// may go on if the future is dropped.
    fn start(
        &self,
        node: u64,
        machine: Machine,
        host: SimHost,
    ) -> BoxFuture<'static, Result<Arc<dyn PeerApi>, String>>;
    /// Drops everything of a node at once: nothing of it may run on.
    fn kill(&self, node: u64);
    /// Why a node that was started has given up by itself, if it has. It is started again once all is healed; without a fault
    /// of its disk it should not have.
    fn gave_up(&self, node: u64) -> Option<String>;
    /// Asks the cluster for a change of the membership or the leadership. Members go by the numbers of their machines here,
    /// whatever number the cluster has given them. `Ok`: it is certainly done.
    fn change_members(&self, change: MemberChange) -> BoxFuture<'static, Result<(), String>>;
    /// Has a node take a snapshot and drop the log before it.
    fn snapshot(&self, node: u64) -> BoxFuture<'static, Result<(), String>>;
}

/// A simulated cluster.
pub struct World {
    sim: Sim,
    network: SimNetwork,
    machines: BTreeMap<u64, Machine>,
    nodes: Arc<dyn Nodes>,
    recorder: Recorder,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    up: BTreeSet<u64>,
    /// The nodes whose disks had bits flipped: they may refuse to start, or stop.
    damaged: BTreeSet<u64>,
    /// The nodes whose disks were full since they started: they may stop.
    full: BTreeSet<u64>,
    /// Changes of the membership, transfers and snapshots that are under way.
    commands: Vec<AbortHandle>,
    /// The nodes that are certainly no members any more.
    removed: BTreeSet<u64>,
    /// The nodes that did not start when they should have, or gave up when they should not.
    refusals: Vec<String>,
}

/// Where a node of a world listens for its peers.
pub fn address(node: u64) -> String {
    format!("n{node}:7070")
}

impl World {
    /// Machines for the nodes 1 to `count`, none of them running.
    pub fn new(
        sim: &Sim,
        network: &SimNetwork,
        count: u64,
        nodes: Arc<dyn Nodes>,
        recorder: &Recorder,
    ) -> Self {
        Self {
            sim: sim.clone(),
            network: network.clone(),
            machines: (1..=count).map(|node| (node, Machine::new())).collect(),
            nodes,
            recorder: recorder.clone(),
            state: Arc::default(),
        }
    }

    /// The machine of a node.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn machine(&self, node: u64) -> &Machine {
        &self.machines[&node]
    }

    /// Starts all nodes that are down. They should start: one that does not, though its disk is sound, fails the run.
    pub async fn start_all(&self) {
        for node in self.machines.keys() {
            if let Err(why) = self.start(*node).await
                && !self.state.lock().damaged.contains(node)
            {
                self.state.lock().refusals.push(why);
            }
        }
    }

    /// Carries the plan out, from now to the end of the recovery period. Says when, by the recorder's time, healing began: what
    /// [`check_progress`](crate::checker::check_progress) wants to know. An error names the nodes that did not start, or gave
    /// up, though their disks were sound.
    pub async fn run(&self, plan: &Plan) -> Result<Duration, String> {
        let start = tokio::time::Instant::now();
        let mut healed = self.recorder.elapsed();
        for event in &plan.events {
            sleep_until(start + event.at).await;
            healed = self.recorder.elapsed();
            self.inject(&event.fault).await;
        }
        sleep(plan.recovery).await;
        let refusals = std::mem::take(&mut self.state.lock().refusals);
        if refusals.is_empty() { Ok(healed) } else { Err(refusals.join("; ")) }
    }

    /// Makes a fault happen.
    pub async fn inject(&self, fault: &Fault) {
        self.sim.trace.note(fault);
        match fault {
            Fault::Crash { node, mode, down } => self.crash(*node, *mode, *down),
            Fault::Restart { node } => {
                // With a full disk it may well not start; once all is healed, it has to.
                let _noted_in_the_trace = self.start(*node).await;
            }
            Fault::PowerFailure { node, mode, operation, torn } => {
                self.power_failure(*node, *mode, *operation, *torn).await;
            }
            Fault::Pause { node, by } => self.pause(*node, *by),
            Fault::StallDisk { node, by } => self.machines[node].stall_disk(*by),
            Fault::SlowDisk { node, each } => self.machines[node].set_slow(*each),
            Fault::FullDisk { node } => {
                self.machines[node].set_full(true);
                self.state.lock().full.insert(*node);
            }
            Fault::HealDisk { node } => self.machines[node].heal_disk(),
            Fault::FlipBit { node, seed } => self.flip_bit(*node, *seed),
            Fault::SkewClock { node, jump_ms, speed } => self.machines[node].skew(*jump_ms, *speed),
            // Before a cluster has begun to work, a founder without its disk leaves the others bound: that is documented.
            Fault::Wipe { .. } if self.recorder.answered() == 0 => {
                self.sim.trace.note("nothing was answered yet")
            }
            Fault::Wipe { node } => self.wipe(*node).await,
            Fault::PowerCut { seed } => self.power_cut(*seed).await,
            Fault::RemoveMember { node } => self.remove_member(*node),
            Fault::AddMember { node } => {
                // Its disk may go only if nobody counts on it.
                if self.state.lock().removed.remove(node) {
                    self.wipe(*node).await;
                } else {
                    self.sim.trace.note(format_args!("n{node} may still be a member"));
                }
            }
            Fault::Transfer { to } => {
                self.command("transfer", self.nodes.change_members(MemberChange::Transfer(*to)));
            }
            Fault::Snapshot { node } => {
                if self.state.lock().up.contains(node) {
                    self.command("snapshot", self.nodes.snapshot(*node));
                }
            }
            Fault::HealAll => self.heal_all().await,
            network => self.inject_into_network(network),
        }
    }

    fn inject_into_network(&self, fault: &Fault) {
        let network = &self.network;
        match fault {
            Fault::Partition { groups } => {
                let groups: Vec<Vec<String>> =
                    groups.iter().map(|group| group.iter().copied().map(address).collect()).collect();
                network.partition(&groups);
            }
            Fault::BlockOneWay { from, to } => network.block(&address(*from), &address(*to)),
            Fault::BlockPair { one, other } => {
                network.partition(&[vec![address(*one)], vec![address(*other)]]);
            }
            Fault::Clog { from, to, by } => network.clog(&address(*from), &address(*to), Duration::ZERO..*by),
            Fault::Reset { from, to } => network.reset(&address(*from), &address(*to)),
            Fault::RoughNetwork => network.set_profile(LinkProfile::rough()),
            Fault::HealNetwork => network.heal(),
            other => unreachable!("{other} is none of the network's"),
        }
    }

    /// The machine goes off by itself in the middle of a write, or, if there is none soon, anyway.
    async fn power_failure(&self, node: u64, mode: CrashMode, operation: u64, torn: usize) {
        let machine = &self.machines[&node];
        machine.cut_power_at_write(operation, torn);
        if timeout(POWER_FAILURE_PATIENCE, machine.power_failure()).await.is_ok() {
            self.sim.trace.note(format_args!("the power of n{node} failed"));
        }
        self.crash(node, mode, Down::Silent);
    }

    fn pause(&self, node: u64, by: Duration) {
        let host = self.machines[&node].host().clone();
        host.stand_still();
        tokio::spawn(async move {
            sleep(by).await;
            host.go_on();
        });
    }

    /// Notes a node that gave up though its disk was sound.
    fn check_not_given_up(&self, node: u64) {
        let Some(why) = self.nodes.gave_up(node) else { return };
        let mut state = self.state.lock();
        let is_excused = state.damaged.contains(&node) || state.full.contains(&node);
        let excuse = if is_excused { ", and may" } else { "" };
        let why = format!("n{node} gave up{excuse}: {why}");
        self.sim.trace.note(&why);
        if !is_excused && !self.machines[&node].disk().is_off() {
            state.refusals.push(why);
        }
    }

    fn crash(&self, node: u64, mode: CrashMode, down: Down) {
        self.check_not_given_up(node);
        if self.state.lock().up.remove(&node) {
            self.recorder.restarted(node);
            self.network.stop(&address(node), down);
            self.nodes.kill(node);
        }
        self.machines[&node].crash(mode);
    }

    async fn start(&self, node: u64) -> Result<(), String> {
        if self.state.lock().up.contains(&node) {
            return Ok(());
        }
        let host = self.network.host(&address(node));
        let starting = self.nodes.start(node, self.machines[&node].clone(), host);
        let started = timeout(START_PATIENCE, starting).await;
        match started.unwrap_or_else(|_| Err(format!("not within {START_PATIENCE:?}"))) {
            Ok(api) => {
                self.network.listen(&address(node), api);
                let mut state = self.state.lock();
                state.up.insert(node);
                if !self.machines[&node].is_full() {
                    state.full.remove(&node);
                }
                Ok(())
            }
            Err(why) => {
                let why = format!("n{node} does not start: {why}");
                self.sim.trace.note(&why);
                Err(why)
            }
        }
    }

    fn flip_bit(&self, node: u64, seed: u64) {
        if let Some(what) = self.machines[&node].flip_bit(seed) {
            self.sim.trace.note(what);
            self.state.lock().damaged.insert(node);
        }
    }

    /// Everything is well. Whose disk was damaged gets a new one, as an operator would see to.
    async fn heal_all(&self) {
        let commands = std::mem::take(&mut self.state.lock().commands);
        commands.iter().for_each(AbortHandle::abort);
        self.network.heal();
        self.machines.values().for_each(Machine::heal);
        let damaged = self.state.lock().damaged.clone();
        for node in damaged {
            self.wipe(node).await;
            self.state.lock().damaged.remove(&node);
        }
        for node in self.machines.keys().filter(|node| self.nodes.gave_up(**node).is_some()) {
            self.crash(*node, CrashMode::ProcessKill, Down::Refuses);
        }
        self.start_all().await;
    }

    async fn wipe(&self, node: u64) {
        self.crash(node, CrashMode::DropUnsynced, Down::Refuses);
        self.machines[&node].wipe();
        let _noted_in_the_trace = self.start(node).await;
    }

    async fn power_cut(&self, seed: u64) {
        let rng = Rng::new(seed);
        for node in self.machines.keys() {
            self.crash(*node, CrashMode::power_loss(rng.next()), Down::Silent);
        }
        for node in self.machines.keys() {
            sleep(rng.duration(Duration::ZERO..Duration::from_millis(500))).await;
            let _noted_in_the_trace = self.start(*node).await;
        }
    }

    fn remove_member(&self, node: u64) {
        let (removing, state) =
            (self.nodes.change_members(MemberChange::Remove(node)), Arc::clone(&self.state));
        let removing = async move {
            removing.await?;
            state.lock().removed.insert(node);
            Ok(())
        };
        self.command("removal", removing.boxed());
    }

    /// Lets a command run beside the plan. It may well fail, with so much else going wrong.
    fn command(&self, what: &'static str, work: BoxFuture<'static, Result<(), String>>) {
        let trace = self.sim.trace.clone();
        let running = tokio::spawn(async move {
            match timeout(COMMAND_PATIENCE, work).await {
                Ok(Ok(())) => trace.note(format_args!("{what}: done")),
                Ok(Err(why)) => trace.note(format_args!("{what}: {why}")),
                Err(_) => trace.note(format_args!("{what}: given up")),
            }
        });
        self.state.lock().commands.push(running.abort_handle());
    }
}
