//! A cluster in one process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use esker_cluster::{
    Batch, Consistency, Member, Result, ScanOptions, Store, StoreConfig, WriteOptions,
    peer::{Caller, Connector, PeerApi, PeerError, PeerResult, wire},
    raft::{MemberAddress, Opened, RaftConfig, RaftNode, Start},
};
use esker_engine::{Environment, KeyRange, Options, Replica, replica::Hooks};
use esker_log::{clock::SystemClock, disk::sim::SimDisk};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

/// Waits until something holds, by looking again and again.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let look = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A network of direct calls.
#[derive(Clone, Default)]
pub(crate) struct Network {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Present>,
    isolated: BTreeSet<String>,
    snapshots: Snapshots,
}

/// A node that is there: dropped when it goes.
struct Present {
    node: Arc<dyn PeerApi>,
    lives: watch::Sender<()>,
}

/// What befalls snapshots on their way, and what was seen of them.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// Each call breaks off after so many chunks, until none is left here.
    pub(crate) cuts: VecDeque<usize>,
    /// Of each call, the snapshot and the keys that went through.
    pub(crate) calls: Vec<(String, Vec<Vec<u8>>)>,
    /// Bytes of keys and values that went through.
    pub(crate) bytes: usize,
    left: Option<usize>,
    held: watch::Sender<bool>,
}

impl Snapshots {
    /// Notes a chunk; false if the call breaks off before it.
    fn note(&mut self, chunk: &wire::SnapshotChunk) -> bool {
        if let Some(head) = &chunk.head {
            self.calls.push((head.id.clone(), Vec::new()));
            self.left = self.cuts.pop_front();
            return true;
        }
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return false;
            }
            *left -= 1;
        }
        let (_, keys) = self.calls.last_mut().unwrap();
        keys.extend(chunk.items.iter().map(|item| item.key.to_vec()));
        self.bytes += chunk.items.iter().map(|item| item.key.len() + item.value.len()).sum::<usize>();
        true
    }
}

impl Network {
    fn set(&self, address: &str, node: Option<Arc<dyn PeerApi>>) {
        let mut state = self.state.lock();
        match node {
            Some(node) => state.nodes.insert(address.into(), Present { node, lives: watch::Sender::new(()) }),
            None => state.nodes.remove(address),
        };
    }

    pub(crate) fn isolate(&self, id: u64) {
        self.state.lock().isolated.insert(address(id));
    }

    pub(crate) fn heal(&self) {
        self.state.lock().isolated.clear();
    }

    pub(crate) fn snapshots<R>(&self, look: impl FnOnce(&mut Snapshots) -> R) -> R {
        look(&mut self.state.lock().snapshots)
    }

    /// Lets no chunk of a snapshot through but the head, or lets them go on.
    pub(crate) fn hold_snapshots(&self, held: bool) {
        self.snapshots(|snapshots| snapshots.held.send_replace(held));
    }

    /// Passes on the chunks of a snapshot.
    fn chunks(
        &self,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, wire::SnapshotChunk> {
        let network = self.clone();
        let held = self.snapshots(|snapshots| snapshots.held.subscribe());
        let chunks = chunks.then(move |chunk| {
            let mut held = held.clone();
            async move {
                if chunk.head.is_none() {
                    held.wait_for(|held| !held).await.unwrap();
                }
                chunk
            }
        });
        chunks.take_while(move |chunk| std::future::ready(network.snapshots(|it| it.note(chunk)))).boxed()
    }
}

/// The network as one node has it.
struct Attached {
    network: Network,
    address: String,
}

impl Connector for Attached {
    fn connect(&self, address: &str, caller: Caller) -> Arc<dyn PeerApi> {
        let network = self.network.clone();
        Arc::new(Way { network, from: self.address.clone(), to: address.into(), caller })
    }
}

#[derive(Clone)]
struct Way {
    network: Network,
    from: String,
    to: String,
    caller: Caller,
}

impl Way {
    fn target(&self) -> PeerResult<Arc<dyn PeerApi>> {
        self.target_and_life().map(|(target, _)| target)
    }

    /// With what ends when the node goes.
    fn target_and_life(&self) -> PeerResult<(Arc<dyn PeerApi>, watch::Receiver<()>)> {
        let state = self.network.state.lock();
        let is_cut = state.isolated.contains(&self.from) || state.isolated.contains(&self.to);
        let target = state.nodes.get(&self.to).filter(|_| !is_cut);
        let target = target.map(|present| (Arc::clone(&present.node), present.lives.subscribe()));
        target.ok_or_else(|| PeerError::Unreachable("cut off".into()))
    }

    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn PeerApi, Caller) -> BoxFuture<'static, PeerResult<T>>,
    ) -> BoxFuture<'static, PeerResult<T>> {
        match self.target() {
            Ok(target) => call(target.as_ref(), self.caller),
            Err(e) => std::future::ready(Err(e)).boxed(),
        }
    }

    /// Both directions end when the way is cut. The node's side goes with the node, as a process's does, also if nobody looks
    /// whether there are answers.
    fn stream<Q: Send + 'static, A: Send + 'static>(
        &self,
        requests: BoxStream<'static, Q>,
        call: impl FnOnce(&dyn PeerApi, Caller, BoxStream<'static, Q>) -> BoxStream<'static, PeerResult<A>>,
    ) -> BoxStream<'static, PeerResult<A>> {
        let (target, mut life) = match self.target_and_life() {
            Ok(target) => target,
            Err(e) => return futures_util::stream::iter([Err(e)]).boxed(),
        };
        let (there, back) = (self.clone(), self.clone());
        let requests = requests.take_while(move |_| std::future::ready(there.target().is_ok()));
        let mut answers = call(target.as_ref(), self.caller, requests.boxed());
        let (tell, told) = mpsc::channel(1);
        let caller = tell.clone();
        let answering = async move {
            while let Some(answer) = answers.next().await {
                if tell.send(answer).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = answering => {}
                () = caller.closed() => {}
                _ = async { while life.changed().await.is_ok() {} } => {}
            }
        });
        let told = futures_util::stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
        told.take_while(move |_| std::future::ready(back.target().is_ok())).boxed()
    }
}

impl PeerApi for Way {
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        self.call(|target, _| target.hello(request))
    }

    fn vote(&self, _: Caller, request: wire::VoteRequest) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.call(|target, caller| target.vote(caller, request))
    }

    fn pre_vote(
        &self,
        _: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.call(|target, caller| target.pre_vote(caller, request))
    }

    fn transfer_leader(
        &self,
        _: Caller,
        request: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>> {
        self.call(|target, caller| target.transfer_leader(caller, request))
    }

    fn append(
        &self,
        _: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>> {
        self.stream(requests, |target, caller, requests| target.append(caller, requests))
    }

    fn snapshot(
        &self,
        _: Caller,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        let chunks = self.network.chunks(chunks);
        self.stream(chunks, |target, caller, chunks| target.snapshot(caller, chunks))
    }

    fn read_index(
        &self,
        _: Caller,
        request: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>> {
        self.call(|target, caller| target.read_index(caller, request))
    }

    fn propose(
        &self,
        _: Caller,
        requests: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>> {
        self.stream(requests, |target, caller, requests| target.propose(caller, requests))
    }

    fn change_members(
        &self,
        _: Caller,
        request: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>> {
        self.call(|target, caller| target.change_members(caller, request))
    }
}

struct Running {
    node: Arc<RaftNode>,
    store: Store,
}

/// A cluster of nodes, by number.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    dirs: tempfile::TempDir,
    size: u64,
    /// Of places that have a simulated one.
    pub(crate) disks: BTreeMap<u64, SimDisk>,
    /// By place; a wiped node has another number than its place.
    running: BTreeMap<u64, Running>,
    joined: BTreeMap<u64, u64>,
}

fn address(id: u64) -> String {
    format!("node{id}:7070")
}

impl Cluster {
    /// A cluster that has a leader.
    pub(crate) async fn formed(size: u64) -> Self {
        Self::formed_on(size, BTreeMap::new()).await
    }

    /// The same, with simulated disks for some.
    pub(crate) async fn formed_on(size: u64, disks: BTreeMap<u64, SimDisk>) -> Self {
        let mut cluster = Self {
            network: Network::default(),
            dirs: tempfile::tempdir().unwrap(),
            size,
            disks,
            running: BTreeMap::new(),
            joined: BTreeMap::new(),
        };
        let starting = (1..=size).map(|id| cluster.open(id, Vec::new()));
        let nodes = futures_util::future::join_all(starting).await;
        for (id, running) in (1..).zip(nodes) {
            cluster.running.insert(id, running);
        }
        cluster.leader().await;
        cluster
    }

    fn dir(&self, id: u64) -> PathBuf {
        self.dirs.path().join(id.to_string())
    }

    fn environment(&self, id: u64) -> Environment {
        let real = Environment::default();
        match self.disks.get(&id) {
            Some(disk) => Environment { disk: Arc::new(disk.clone()), ..real },
            None => real,
        }
    }

    fn open(&self, id: u64, join: Vec<String>) -> impl Future<Output = Running> + 'static {
        let members = (1..=self.size).map(|id| MemberAddress {
            id,
            peer_address: address(id),
            http_address: format!("node{id}:8080"),
        });
        let config = RaftConfig {
            node_id: if join.is_empty() { id } else { 0 },
            peer_address: address(id),
            http_address: format!("node{id}:8080"),
            members: if join.is_empty() { members.collect() } else { Vec::new() },
            join,
            leader_patience: Duration::from_millis(700),
            commit_patience: Duration::from_secs(2),
            disk_stall_handover: Duration::from_millis(500),
            disk_stall_limit: Duration::from_secs(2),
            // Little is kept, so that who lags needs a snapshot soon.
            log_retention: (1 << 20, 50),
            compare_interval: Duration::from_millis(200),
            ..RaftConfig::default()
        };
        let connector = Arc::new(Attached { network: self.network.clone(), address: address(id) });
        let start = Start {
            environment: self.environment(id),
            options: Options::default(),
            config,
            connector,
            queued: None,
        };
        let (dir, network) = (self.dir(id), self.network.clone());
        async move {
            let opened = Opened::open(&dir, start).unwrap();
            network.set(&address(id), Some(opened.service()));
            let node = Arc::new(opened.join().await.unwrap());
            let clock = Arc::new(SystemClock::new());
            let store = Store::raft(Arc::clone(&node), StoreConfig::default(), clock).unwrap();
            Running { node, store }
        }
    }

    /// Starts a node again; gives its number.
    pub(crate) async fn start(&mut self, place: u64) -> u64 {
        let join = if place > self.size { vec![address(1)] } else { Vec::new() };
        let running = self.open(place, join).await;
        let number = running.node.view().node_id;
        self.running.insert(number, running);
        self.joined.insert(number, place);
        number
    }

    /// Starts a node that joins by another; gives its number.
    pub(crate) async fn join(&mut self, by: u64) -> u64 {
        let place = 100 + self.joined.len() as u64;
        let running = self.open(place, vec![address(by)]).await;
        let number = running.node.view().node_id;
        self.running.insert(number, running);
        self.joined.insert(number, place);
        number
    }

    fn place(&self, number: u64) -> u64 {
        self.joined.get(&number).copied().unwrap_or(number)
    }

    /// Stops a node without a word to anybody.
    pub(crate) async fn kill(&mut self, id: u64) {
        self.network.set(&address(self.place(id)), None);
        let running = self.running.remove(&id).unwrap();
        running.node.stop().await;
        running.store.close().await.unwrap();
        drop(running);
        // The others' calls hold on to it until they notice.
        let (disk, lock) = (self.environment(self.place(id)).disk, self.dir(self.place(id)).join("LOCK"));
        eventually("the data is let go of", async || disk.lock(&lock).is_ok()).await;
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, id: u64) {
        let running = self.running.remove(&id).unwrap();
        running.store.close().await.unwrap();
        self.network.set(&address(self.place(id)), None);
    }

    /// Removes the data of a node that is down.
    pub(crate) fn wipe(&self, id: u64) {
        std::fs::remove_dir_all(self.dir(self.place(id))).unwrap();
    }

    /// Loses a key of a node that is down, in a way that only a comparison with the others can find.
    pub(crate) fn tamper_with(&self, id: u64) {
        let dir = self.dir(self.place(id));
        let replica =
            Replica::open(&Environment::default(), dir, Options::default(), Hooks::default()).unwrap();
        let snapshot = replica.snapshot();
        let mut install = replica.begin_install();
        for item in snapshot.items().skip(1) {
            let item = item.unwrap();
            install.push(&item.key, 0, &item.value.unwrap(), item.version).unwrap();
        }
        install.finish(snapshot.last, snapshot.membership, Vec::new(), snapshot.stamp_ms).unwrap();
        replica.close().unwrap();
    }

    pub(crate) fn up(&self) -> Vec<u64> {
        self.running.keys().copied().collect()
    }

    pub(crate) fn store(&self, id: u64) -> &Store {
        &self.running[&id].store
    }

    pub(crate) fn node(&self, id: u64) -> &RaftNode {
        &self.running[&id].node
    }

    pub(crate) fn leader_now(&self, asked: u64) -> Option<u64> {
        self.node(asked).view().leader
    }

    /// The leader, once all that are up agree.
    pub(crate) async fn leader(&self) -> u64 {
        let mut leader = None;
        eventually("all agree on a leader", async || {
            let leaders: BTreeSet<_> = self.up().into_iter().map(|id| self.leader_now(id)).collect();
            leader = leaders.first().copied().flatten();
            leaders.len() == 1 && leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    pub(crate) fn member(&self, asked: u64, id: u64) -> Option<Member> {
        self.node(asked).view().members.into_iter().find(|member| member.id == id)
    }

    pub(crate) async fn put(&self, id: u64, key: &str, value: &str) -> Result<u64> {
        self.put_with(id, key, value, WriteOptions::default()).await
    }

    pub(crate) async fn put_with(
        &self,
        id: u64,
        key: &str,
        value: &str,
        options: WriteOptions,
    ) -> Result<u64> {
        let store = self.store(id);
        let mut batch = Batch::new(store.limits());
        batch.put(key.as_bytes(), value.as_bytes())?;
        Ok(store.write(batch, options).await?.version)
    }

    pub(crate) async fn get(&self, id: u64, key: &str) -> Result<Option<String>> {
        let store = self.store(id);
        store.read_point(Consistency::Linearizable).await?;
        let entry = store.get(key.as_bytes()).await?;
        Ok(entry.map(|entry| String::from_utf8(entry.value.into_vec()).unwrap()))
    }

    /// Every key with its value and version, as of a linearizable read.
    pub(crate) async fn contents(&self, id: u64) -> Vec<(Vec<u8>, Vec<u8>, u64)> {
        let store = self.store(id);
        store.read_point(Consistency::Linearizable).await.unwrap();
        let mut scan = store.scan(&KeyRange::all(), ScanOptions::default());
        let mut all = Vec::new();
        while let Some(chunk) = scan.next_chunk().await {
            let items = chunk.unwrap().into_iter();
            all.extend(items.map(|item| (item.key, item.value.unwrap().into_vec(), item.version)));
        }
        all
    }
}
