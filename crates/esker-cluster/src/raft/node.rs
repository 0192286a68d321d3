//! A running node.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use esker_engine::{
    Committed, Environment, OpenReport, Options, Replica, RequestId, WriteBatch, replica::Hooks,
};
use esker_log::GroupEnd;
use openraft::{
    Config, Raft, RaftMetrics, SnapshotPolicy, async_runtime::WatchReceiver, errors::Fatal,
    metrics::RaftServerMetrics,
};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    Service, Shared,
    compare::Comparing,
    config::RaftConfig,
    forward::Forwards,
    founders::FoundersFile,
    gossip, host,
    identity::Belonging,
    log_store::{LogStore, Progress},
    network::NetworkFactory,
    propose::{Attempt, Write},
    reads::{self, Reads},
    snapshot::Arrivals,
    state_machine::StateMachine,
    types::{Node, StoredMembership, TypeConfig, index_of},
};
use crate::{
    ClusterView, Error, MemberChange, Result, WriteOptions,
    peer::{Connector, Identity, wire},
};

/// How often a node looks after its log and its learners.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(250);
/// How often a node without a leader asks whether it is a member.
const MEMBERSHIP_INTERVAL: Duration = Duration::from_secs(1);
/// It asks when it has had no leader for so many of them.
const LEADERLESS_LOOKS: u32 = 3;
/// When a client may come back that found no leader: an election takes about so long.
const NO_LEADER_RETRY: Duration = Duration::from_millis(200);
/// A leader that was not heard of for so many of the longest election time-outs is not called one any more.
const LEADER_SILENCE_ELECTIONS: u32 = 3;
/// Entries in one request.
const REQUEST_ENTRIES_MAX: u64 = 512;

/// Who leads, as this node knows.
pub(crate) enum Leadership {
    Mine,
    Other { id: u64, node: Node },
    Unknown,
}

/// What the parts of a running node hold on to.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) raft: Raft<TypeConfig, StateMachine>,
    pub(crate) reads: Reads,
    pub(crate) forwards: Forwards,
    pub(crate) arrivals: Arc<Arrivals>,
    /// One change of the membership at a time.
    pub(crate) membership_turn: tokio::sync::Mutex<()>,
    pub(crate) comparing: Comparing,
    /// This node is no member any more, and knows.
    pub(crate) removed: AtomicBool,
    /// When a leader was heard of last.
    heard: Mutex<Instant>,
    /// The highest version that was acknowledged before it was applied (`ack=local`), and the term of the leader that did.
    pub(crate) promised: Mutex<GroupEnd>,
    /// Ids for writes that came without one and are handed on.
    pub(crate) own_requests: Mutex<Option<RequestId>>,
}

/// A node of a cluster. Dropping it without [`RaftNode::shutdown`] is like a crash.
pub struct RaftNode {
    handle: Arc<Handle>,
    service: Arc<Service>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What a node needs to start.
pub struct Start {
    /// Disk, clock, randomness of the store.
    pub environment: Environment,
    /// The store's options.
    pub options: Options,
    /// The node's settings.
    pub config: RaftConfig,
    /// The way to the others.
    pub connector: Arc<dyn Connector>,
    /// Called when something is queued for the log and no thread of the replica's appends it (a simulation).
    pub queued: Option<Box<dyn Fn() + Send + Sync>>,
}

/// A node that has opened its data and can be asked who it is, but does not take part yet.
pub struct Opened {
    start: Start,
    replica: Replica,
    progress: Arc<Progress>,
    belonging: Option<Belonging>,
    service: Arc<Service>,
}

impl Opened {
    /// Opens the data directory. Blocks on the disk.
    ///
    /// Errors: those of [`Replica::open`].
    pub fn open(dir: &Path, mut start: Start) -> Result<Self> {
        let progress = Arc::<Progress>::default();
        let told = Arc::clone(&progress);
        let hooks =
            Hooks { written: Box::new(move |_| told.written.notify_waiters()), queued: start.queued.take() };
        let replica = Replica::open(&start.environment, dir, start.options.clone(), hooks)?;
        let belonging = Belonging::open(start.environment.disk.as_ref(), dir, start.config.data_dir_moved)?;
        let me = wire::Member {
            node: belonging.map_or(start.config.node_id, |belonging| belonging.node),
            instance: replica.log().store().to_vec().into(),
            peer_address: start.config.peer_address.clone(),
            http_address: start.config.http_address.clone(),
            voter: start.config.voter,
            ..wire::Member::default()
        };
        let service = Arc::new(Service::new(me, belonging.map(|belonging| belonging.cluster), &start.config));
        // Before anybody is answered: those it planned with would take its silence about the plan for its end.
        service.publish(founders_file(&start, &replica).read()?.as_ref());
        Ok(Self { start, replica, progress, belonging, service })
    }

    /// What the peers are to be answered with.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service)
    }

    /// What opening found.
    pub fn report(&self) -> OpenReport {
        self.replica.open_report()
    }

    /// The replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Finds or forms the cluster, and takes part in it from then on. Waits for the others as long as it takes.
    ///
    /// Errors: `Refused` (another cluster, settings that cannot be), `Engine`.
    pub async fn join(self) -> Result<RaftNode> {
        let Self { start, replica, progress, belonging, service } = self;
        let file = founders_file(&start, &replica);
        let Start { environment, config, connector, .. } = start;
        let (belonging, founders) = match belonging {
            Some(known) => (
                known,
                super::formation::resume(&config, &connector, &service, &replica, &file, known).await?,
            ),
            None => {
                let formed = super::formation::form(&config, &connector, &service, &replica, &file).await?;
                formed.0.write(environment.disk.as_ref(), replica.log().dir())?;
                formed
            }
        };
        let instance = *replica.log().store();
        let me = Identity { node: belonging.node, instance };
        let book = Arc::clone(service.book());
        let own = (replica.clone(), Arc::clone(&progress));
        let shared = Arc::new(Shared::new(config, belonging.cluster, me, own, connector, book));
        let blocking = shared.blocking_threads;
        let log_store = LogStore::new(replica.clone(), Arc::clone(&progress), blocking);
        let machine = StateMachine::new(replica, progress, Arc::clone(&shared.outgoing), blocking);
        let (reads, waiters) = Reads::new(machine.applied(), shared.config.leader_patience);
        let network = NetworkFactory::new(Arc::clone(&shared));
        let library = Arc::new(library_config(&shared.config)?);
        let raft = Raft::new(me.node, library, network, log_store, machine).await;
        let raft = raft.map_err(|e| Error::Refused(format!("the consensus module does not start: {e}")))?;
        let handle = Arc::new(Handle {
            shared,
            raft,
            reads,
            forwards: Forwards::default(),
            arrivals: Arc::default(),
            membership_turn: tokio::sync::Mutex::new(()),
            comparing: Comparing::default(),
            removed: AtomicBool::new(false),
            heard: Mutex::new(Instant::now()),
            promised: Mutex::default(),
            own_requests: Mutex::new(None),
        });
        service.start(Arc::clone(&handle));
        let mut tasks = vec![
            host::spawn(reads::run(Arc::clone(&handle), waiters)),
            host::spawn(keep_house(Arc::clone(&handle))),
            host::spawn(watch_disk(Arc::clone(&handle))),
            host::spawn(lead_with_a_disk_only(Arc::clone(&handle))),
            host::spawn(compare(Arc::clone(&handle))),
            host::spawn(look_after_membership(Arc::clone(&handle))),
        ];
        if handle.shared.config.gossips() {
            tasks.push(host::spawn(gossip::run(Arc::clone(&handle))));
        }
        let node = RaftNode { handle, service, tasks: Mutex::new(tasks) };
        node.found(founders).await?;
        Ok(node)
    }
}

fn founders_file(start: &Start, replica: &Replica) -> FoundersFile {
    FoundersFile { disk: Arc::clone(&start.environment.disk), dir: replica.log().dir().to_owned() }
}

/// Time-outs, and what the library is told not to do by itself.
fn library_config(config: &RaftConfig) -> Result<Config> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    // The library waits for the lease of the old leader, which is its longest time-out, and then for a time-out: together,
    // they must come to no more than what is asked for.
    let (least, most) = config.election;
    let lease = most / 2;
    let least = (least / 2).max(config.heartbeat * 3 / 2).min(lease);
    let library = Config {
        cluster_name: config.cluster_name.clone(),
        heartbeat_interval: millis(config.heartbeat),
        heartbeat_min_interval: Some(0),
        election_timeout_min: millis(least),
        election_timeout_max: millis(lease),
        max_payload_entries: REQUEST_ENTRIES_MAX,
        // Snapshots follow the engine's checkpoints, and purging follows snapshots.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A lagging follower is served from the log for as long as the log is there.
        replication_lag_threshold: u64::MAX,
        enable_pre_vote: Some(true),
        // A leader that restarts asks for the others' votes like everybody.
        enable_leader_restore: Some(false),
        allow_log_reversion: None,
        ..Config::default()
    };
    library.validate().map_err(|e| Error::Refused(format!("the time-outs cannot be: {e}")))
}

impl RaftNode {
    /// Begins the cluster, if it fell to this node to do so.
    async fn found(&self, founders: Option<BTreeMap<u64, Node>>) -> Result<()> {
        let Some(founders) = founders else { return Ok(()) };
        match self.handle.raft.initialize(founders).await {
            Ok(()) => Ok(()),
            // A crash came between: it was begun before.
            Err(e) if self.handle.raft.is_initialized().await.unwrap_or(false) => {
                tracing::debug!(error = %e, "the cluster was begun before");
                Ok(())
            }
            Err(e) => Err(Error::Refused(format!("the cluster cannot begin: {e}"))),
        }
    }

    /// What the peers are answered with.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service)
    }

    /// This node's store.
    pub fn replica(&self) -> &Replica {
        &self.handle.shared.replica
    }

    /// Has the cluster commit a batch, which must not be empty. See [`crate::Store::write`] for what a Store adds.
    pub fn write(
        &self,
        mut batch: WriteBatch,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Committed>> + Send + use<> {
        let handle = Arc::clone(&self.handle);
        if batch.wants_stamp() {
            batch.stamp(handle.shared.replica.now_ms());
        }
        let write = Write::new(batch.into_payload(), options.request, options.ack);
        async move { handle.write(write).await }
    }

    /// See [`crate::Store::read_point`].
    pub async fn read_point(&self) -> Result<esker_engine::Version> {
        self.handle.reads.read_point().await
    }

    /// What this node has applied, as it goes on.
    pub(crate) fn applied_versions(&self) -> tokio::sync::watch::Receiver<esker_engine::Version> {
        self.handle.reads.applied_versions()
    }

    /// What this node has applied.
    pub fn applied(&self) -> esker_engine::Version {
        self.handle.reads.applied()
    }

    /// Why this node takes part no more, if it failed: it has to be started again.
    pub fn failure(&self) -> Option<Error> {
        let metrics = self.handle.raft.metrics();
        let metrics = metrics.borrow_watched();
        let fatal = metrics.running_state.as_ref().err();
        fatal.map(|fatal| self.handle.stopped_by(fatal))
    }

    /// Waits until the disk has not answered for so long that the node had better end ([`RaftConfig::disk_stall_limit`]).
    pub async fn disk_given_up(&self) {
        while self.handle.disk_stalled_for() < self.handle.shared.config.disk_stall_limit {
            tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        }
    }

    /// The cluster as this node sees it.
    pub fn view(&self) -> ClusterView {
        self.handle.view()
    }

    /// Changes the membership, wherever the leader is.
    pub async fn change_members(&self, change: MemberChange) -> Result<u64> {
        self.handle.change_members(change).await
    }

    /// Hands on the leadership, if this node has it: before it stops, so that nobody has to wait for an election.
    pub async fn step_down(&self) {
        if matches!(self.handle.leadership(), Leadership::Mine)
            && let Err(e) = self.handle.transfer(None).await
        {
            tracing::info!(error = %e, "the leadership could not be handed on");
        }
    }

    /// Hands on the leadership, if this node has it, and takes part no more. The data stays open.
    pub async fn shutdown(&self) {
        self.step_down().await;
        self.stop().await;
    }

    /// Takes part no more, at once.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        self.handle.forwards.close();
        self.handle.shared.progress.stop();
        if let Err(e) = self.handle.raft.shutdown().await {
            tracing::error!(error = %e, "the consensus module did not stop in order");
        }
        for task in tasks {
            task.abort();
        }
    }
}

impl Handle {
    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The leader, if one was heard of lately. The library names the last one until there is another.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leader = self.raft.server_metrics().borrow_watched().current_leader?;
        let is_heard =
            if leader == self.shared.node_id() { self.has_majority() } else { self.hears_leader() };
        is_heard.then_some(leader)
    }

    /// A call of a leader has come in.
    pub(crate) fn note_heard(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// How long a leader may be silent before it is not called one any more.
    fn silence_max(&self) -> Duration {
        self.shared.config.election.1 * LEADER_SILENCE_ELECTIONS
    }

    fn hears_leader(&self) -> bool {
        self.heard.lock().elapsed() <= self.silence_max()
    }

    /// On the leader: whether a majority answered lately.
    fn has_majority(&self) -> bool {
        use openraft::Instant as _;
        let metrics = self.raft.metrics();
        let acknowledged = metrics.borrow_watched().last_quorum_acked;
        // Alone, it has nobody to wait for; a new leader is given the time to be answered.
        acknowledged.is_none_or(|when| when.elapsed() <= self.silence_max())
            || self.membership().voter_ids().eq([self.shared.node_id()])
    }

    pub(crate) fn membership(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.raft.server_metrics().borrow_watched().membership_config)
    }

    pub(crate) fn leadership(&self) -> Leadership {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        match metrics.current_leader {
            Some(id) if id == self.shared.node_id() => Leadership::Mine,
            Some(id) if self.hears_leader() => match metrics.membership_config.membership().get_node(&id) {
                Some(node) => Leadership::Other { id, node: node.clone() },
                None => Leadership::Unknown,
            },
            _ => Leadership::Unknown,
        }
    }

    /// Waits until another node leads, or another term has begun, at most for `pause`.
    pub(crate) async fn leadership_changed(&self, pause: Duration) {
        let mut metrics = self.raft.server_metrics();
        let now = |metrics: &RaftServerMetrics<TypeConfig>| (metrics.current_leader, metrics.vote);
        let before = now(&metrics.borrow_watched());
        let changed = async {
            // The first wait may end at once, for a change that was there before.
            while now(&metrics.borrow_watched()) == before {
                if metrics.changed().await.is_err() {
                    // The consensus module has stopped: nothing changes any more.
                    std::future::pending::<()>().await;
                }
            }
        };
        // Either is a reason to look again.
        let _elapsed = tokio::time::timeout(pause, changed).await.is_err();
    }

    /// The error for want of a leader; or why this node can have none.
    pub(crate) fn no_leader(&self) -> Error {
        if let Some(why) = self.shared.replica.log().poison() {
            return Error::Engine(esker_engine::Error::Poisoned(why));
        }
        match &self.raft.metrics().borrow_watched().running_state {
            Ok(()) if self.is_removed() => Error::Removed,
            Ok(()) => Error::NoLeader { retry_after: NO_LEADER_RETRY },
            Err(fatal) => self.stopped_by(fatal),
        }
    }

    pub(crate) fn fatal(&self, fatal: &Fatal<TypeConfig>) -> Attempt {
        Attempt::Failed(self.stopped_by(fatal))
    }

    fn stopped_by(&self, fatal: &Fatal<TypeConfig>) -> Error {
        match fatal {
            Fatal::Stopped => Error::Engine(esker_engine::Error::Closed),
            other => Error::Engine(esker_engine::Error::Poisoned(other.to_string().into())),
        }
    }

    /// A leader whose disk is full cannot apply what the others commit, and one whose disk does not answer cannot vote: one with a
    /// disk shall lead.
    async fn leave_the_lead_if_the_disk_fails(&self) {
        let why = if self.shared.replica.log().is_disk_full() {
            "is full"
        } else if self.disk_stalled_for() >= self.shared.config.disk_stall_handover {
            "does not answer"
        } else {
            return;
        };
        match self.transfer(None).await {
            Ok(leader) => tracing::warn!(leader, "this leader's disk {why}: the leadership was handed on"),
            Err(e) => tracing::warn!(error = %e, "this leader's disk {why} and nobody takes over"),
        }
    }

    /// For how long the disk has not answered.
    fn disk_stalled_for(&self) -> Duration {
        self.shared.progress.disk.stalled_for()
    }

    /// Waits until every voter has an entry on its disk, this one included: what it is told of itself is what is durable.
    pub(crate) async fn wait_for_all(
        &self,
        version: esker_engine::Version,
        deadline: tokio::time::Instant,
    ) -> Result<(), Attempt> {
        let mut metrics = self.raft.metrics();
        let everywhere = async {
            loop {
                let all = {
                    let now = metrics.borrow_watched();
                    let matched = |id| {
                        let matched = now.replication.as_ref().and_then(|replication| replication.get(&id));
                        matched.cloned().flatten().map_or(0, |id| index_of(id.index()))
                    };
                    let mut voters = now.membership_config.voter_ids();
                    voters.all(|id| matched(id) >= version)
                };
                if all || metrics.changed().await.is_err() {
                    return all;
                }
            }
        };
        match tokio::time::timeout_at(deadline, everywhere).await {
            Ok(true) => Ok(()),
            _ => Err(Attempt::Unknown("not every voter has it yet; a majority has".into())),
        }
    }
}

/// Looks whether the disk answers, until the node stops.
async fn watch_disk(handle: Arc<Handle>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        handle.shared.progress.disk.look(handle.shared.replica.log().is_disk_full());
    }
}

/// Sees to it that this node does not lead without a disk, until it stops. A task of its own: what else a leader does, a change
/// of the membership, say, may itself wait for that disk.
async fn lead_with_a_disk_only(handle: Arc<Handle>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        if matches!(handle.leadership(), Leadership::Mine) {
            handle.leave_the_lead_if_the_disk_fails().await;
        }
    }
}

/// Looks after the log and the learners until the node stops.
async fn keep_house(handle: Arc<Handle>) {
    let mut announced = 0;
    loop {
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        if matches!(handle.leadership(), Leadership::Mine) {
            handle.promote_who_caught_up().await;
            handle.tidy_members().await;
        }
        let saved = handle.shared.replica.saved().0.index;
        if saved > announced {
            // The snapshot is nothing but the word that the state up to the checkpoint is saved.
            if handle.raft.trigger().snapshot().await.is_err() {
                return;
            }
            announced = saved;
        }
        handle.shared.outgoing.expire();
        if purge(&handle).await.is_err() {
            return;
        }
    }
}

/// Finds out whether this node is a member, and where its cluster thinks it is, until the node stops.
async fn look_after_membership(handle: Arc<Handle>) {
    let mut leaderless = 0;
    loop {
        tokio::time::sleep(MEMBERSHIP_INTERVAL).await;
        leaderless = if handle.leader().is_some() { 0 } else { leaderless + 1 };
        // An election is no reason to ask.
        if leaderless == 0 || leaderless >= LEADERLESS_LOOKS {
            handle.look_whether_removed().await;
        }
        handle.tell_of_a_move().await;
    }
}

/// Compares with the other replicas until the node stops, or finds itself alone.
async fn compare(handle: Arc<Handle>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        if let Err(error) = handle.compare(handle.shared.config.compare_interval).await {
            tracing::error!(%error, "this replica is not like the others and stops");
            handle.shared.replica.log().poison_with(&error);
            if let Err(e) = handle.raft.shutdown().await {
                tracing::error!(error = %e, "the consensus module did not stop in order");
            }
            return;
        }
    }
}

/// Lets go of log that a checkpoint covers and that is more than what is kept for those who lag.
async fn purge(handle: &Handle) -> Result<(), Fatal<TypeConfig>> {
    let (bytes, entries) = handle.shared.config.log_retention;
    let surplus = handle.shared.outgoing.surplus(&handle.shared.replica, bytes, entries);
    let snapshot = handle.raft.metrics().borrow_watched().snapshot;
    let upto = surplus.min(snapshot.map_or(0, |id| index_of(id.index())));
    if upto > handle.shared.replica.purged().index {
        handle.raft.trigger().purge_log(super::types::library_index(upto)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use esker_log::{clock::ManualClock, disk::sim::SimDisk};

    use super::*;
    use crate::{
        peer::{Caller, PeerApi},
        raft::founders::Founders,
    };

    struct Nobody;

    impl Connector for Nobody {
        fn connect(&self, address: &str, _: Caller) -> Arc<dyn PeerApi> {
            panic!("{address} is called")
        }
    }

    /// Those who agreed to a plan take an answer that does not name it for its end.
    #[tokio::test]
    async fn a_founder_tells_of_its_plan_from_its_first_answer_on() {
        let disk = SimDisk::new();
        let start = || Start {
            environment: Environment {
                disk: Arc::new(disk.clone()),
                clock: Arc::<ManualClock>::default(),
                threads: false,
                ..Environment::default()
            },
            options: Options::default(),
            config: RaftConfig { blocking_threads: false, ..RaftConfig::default() },
            connector: Arc::new(Nobody),
            queued: None,
        };
        let dir = Path::new("/node");
        let opened = Opened::open(dir, start()).unwrap();
        let nodes = [1, 2].map(|n| Node {
            instance: [n; 16],
            peer_address: format!("h{n}:1"),
            http_address: format!("h{n}:2"),
            ..Node::default()
        });
        let plan = Founders::new([9; 16], nodes.into());
        founders_file(&start(), opened.replica()).write(&plan).unwrap();
        drop(opened);

        let opened = Opened::open(dir, start()).unwrap();
        let request = wire::HelloRequest { cluster_name: "esker".into(), ..wire::HelloRequest::default() };
        let reply = opened.service().hello(request).await.unwrap();
        assert_eq!(reply.founding.and_then(Founders::from_wire), Some(plan));
    }
}
