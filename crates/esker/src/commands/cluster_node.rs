//! A node of a cluster within `esker serve`: its runtime, the socket for its peers, and the wait for the others.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use esker_cluster::{
    Store, StoreConfig,
    peer::{PeerOptions, PeerTls, TonicConnector, serve},
    raft::{Discovery, MemberAddress, Opened, RaftConfig, RaftNode, Start, random_fraction},
};
use esker_engine::{Environment, OpenReport, SyncPolicy};
use esker_log::clock::SystemClock;
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

use crate::{
    config::{ClusterSettings, Settings},
    exit::Failure,
    files, output,
};

/// Consensus has threads of its own, so that a heartbeat never waits behind requests; at most so many. With half of the cores
/// there is one on a machine of two, where a second costs a tenth of the writes: they only wake each other.
const THREADS_MAX: usize = 4;
/// What is left over when the node stops is given up after this.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// The exit code of an error.
const DISK_GIVEN_UP: i32 = 1;

/// A running node. Its runtime lives as long as it does.
pub(super) struct ClusterNode {
    raft: Arc<RaftNode>,
    peer_address: SocketAddr,
    runtime: Option<Runtime>,
    _stop_peers: oneshot::Sender<()>,
}

impl ClusterNode {
    /// The node itself.
    pub(super) fn raft(&self) -> Arc<RaftNode> {
        Arc::clone(&self.raft)
    }

    /// Its number in the cluster.
    pub(super) fn number(&self) -> u64 {
        self.raft.view().node_id
    }

    /// Where it listens for its peers.
    pub(super) fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// The Store over it.
    pub(super) fn store(&self, config: StoreConfig) -> esker_cluster::Result<Store> {
        Store::raft(self.raft(), config, Arc::new(SystemClock::new()))
    }
}

impl Drop for ClusterNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOP_PATIENCE);
        }
    }
}

/// Opens the data, listens for peers, and waits until the node belongs to its cluster; `None`: `shutdown` came first.
pub(super) fn start(
    settings: &Settings,
    cluster: &ClusterSettings,
    http: SocketAddr,
    shutdown: &mut oneshot::Receiver<()>,
) -> Result<Option<(ClusterNode, OpenReport)>, Failure> {
    if settings.engine.sync != SyncPolicy::Always {
        return Err(Failure::Usage(
            "`wal_sync_policy`: a node of a cluster syncs every write before it answers for it: leave it at always".into(),
        ));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, THREADS_MAX))
        .thread_name("esker-raft")
        .enable_all()
        .build()
        .map_err(Failure::doing("starting the runtime of the cluster"))?;
    let listener = esker_server::listen_for_peers(cluster.peer_listen);
    let listener = listener.map_err(|e| Failure::Error(e.to_string()))?;
    let peer_address = listener.local_addr().map_err(Failure::doing("listening for peers"))?;
    let (tls, options) = (tls(cluster)?, PeerOptions::default());
    let connector = TonicConnector::new(options.clone(), tls.clone(), Arc::new(random_fraction));
    let start = Start {
        environment: Environment::default(),
        options: settings.engine.clone(),
        config: config(settings, cluster, http, peer_address),
        connector: Arc::new(connector),
        queued: None,
    };
    let opened = Opened::open(&settings.data_dir, start).map_err(super::serve::cannot_start)?;
    let report = opened.report();
    let (stop_peers, stopped) = oneshot::channel::<()>();
    let joined = runtime.block_on(async {
        let listener = TcpListener::from_std(listener).map_err(Failure::doing("listening for peers"))?;
        let service = opened.service();
        tokio::spawn(serve(listener, service, options, tls, async move {
            // Dropped with the node, which comes to the same.
            let _dropped = stopped.await.is_err();
        }));
        tokio::select! {
            biased;
            _ = shutdown => Ok(None),
            node = opened.join() => node.map(Some).map_err(super::serve::cannot_start),
        }
    })?;
    let Some(node) = joined else { return Ok(None) };
    let raft = Arc::new(node);
    runtime.spawn(end_with_the_disk(Arc::clone(&raft)));
    Ok(Some((ClusterNode { raft, peer_address, runtime: Some(runtime), _stop_peers: stop_peers }, report)))
}

/// A process whose disk hangs is of no use, and may not even be able to stop in order: whoever looks after it shall notice.
async fn end_with_the_disk(raft: Arc<RaftNode>) {
    raft.disk_given_up().await;
    output::note(
        "esker: the disk has not answered for a minute: giving up. Look at the disk, then start the node again",
    );
    std::process::exit(DISK_GIVEN_UP);
}

fn config(settings: &Settings, cluster: &ClusterSettings, http: SocketAddr, peers: SocketAddr) -> RaftConfig {
    let members = cluster.members.iter().map(|member| MemberAddress {
        id: member.id,
        peer_address: member.peer_address(),
        http_address: member.http_address(),
    });
    RaftConfig {
        node_id: cluster.node_id,
        peer_address: with_port(&cluster.peer_address, peers.port()),
        http_address: with_port(&cluster.http_address, http.port()),
        members: members.collect(),
        join: cluster.join.clone(),
        discovery: cluster.dns.clone().map(|name| discovery(name, peers.port())),
        data_dir_moved: cluster.data_dir_moved,
        gossip_seeds: cluster.gossip_seeds.clone(),
        cluster_size: cluster.size,
        cluster_name: cluster.name.clone(),
        voter: !cluster.learner,
        heartbeat: cluster.heartbeat,
        election: (cluster.election_timeout, cluster.election_timeout * 2),
        redirect: cluster.redirect,
        write_bytes_under_way: settings.store.write_bytes_under_way,
        ..RaftConfig::default()
    }
}

/// An address whose port 0 stands for the one that was taken.
fn with_port(address: &str, taken: u16) -> String {
    match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{taken}"),
        None => address.to_owned(),
    }
}

/// Looks a name up, anew each time it is asked.
fn discovery(name: String, port: u16) -> Discovery {
    Discovery(Arc::new(move || {
        let host = format!("{name}:{port}");
        Box::pin(async move {
            match tokio::net::lookup_host(&host).await {
                Ok(addresses) => addresses.map(|address| address.to_string()).collect(),
                Err(e) => {
                    tracing::info!(%host, error = %e, "the name of the cluster is not known yet");
                    Vec::new()
                }
            }
        })
    }))
}

fn tls(cluster: &ClusterSettings) -> Result<Option<PeerTls>, Failure> {
    let Some(files) = &cluster.tls else { return Ok(None) };
    let read = |path: &Path| files::read(path).map_err(Failure::doing(format!("reading {}", path.display())));
    let tls = PeerTls::new(&read(&files.ca)?, &read(&files.certificate)?, &read(&files.key)?);
    tls.map(Some).map_err(|e| Failure::Usage(e.to_string()))
}
