//! Starting and stopping the nodes of a cluster.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use esker_client::{Client, Retry, Settings};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{namespaces::Namespaces, node::Node, ports::Ports, wait_for};

/// Where nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// All on 127.0.0.1, on ports of their own.
    #[default]
    Loopback,
    /// Each in a network namespace of its own: they can be parted. Needs root, `ip` and `nft`.
    Namespaces,
}

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The `esker` binary; `env!("CARGO_BIN_EXE_esker")` in its integration tests.
    pub binary: PathBuf,
    /// How many nodes; a single one runs without a cluster.
    pub nodes: u64,
    /// Where they run.
    pub layout: Layout,
    /// Where a node's data goes, as to a file system of its own; by default all goes to one temporary directory.
    pub data_dirs: BTreeMap<u64, PathBuf>,
    /// More arguments of `esker serve`, the same for all.
    pub arguments: Vec<String>,
    /// How long starting, stopping or electing a leader may take. Default 10 s.
    pub patience: Duration,
}

impl ClusterOptions {
    /// Nodes on loopback with the settings that Esker has by default.
    pub fn new(binary: impl Into<PathBuf>, nodes: u64) -> Self {
        let patience = Duration::from_secs(10);
        let binary = binary.into();
        let (layout, data_dirs, arguments) = Default::default();
        Self { binary, nodes, layout, data_dirs, arguments, patience }
    }
}

/// The nodes 1 to N as processes, with their data in a temporary directory. Killed and removed when dropped.
pub struct Cluster {
    nodes: BTreeMap<u64, Node>,
    addresses: BTreeMap<u64, Address>,
    patience: Duration,
    // After the nodes: dropped in this order.
    namespaces: Option<Namespaces>,
    _dir: TempDir,
    _ports: Option<Ports>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    host: String,
    http: u16,
    resp: u16,
    binary: u16,
    grpc: u16,
    peers: u16,
}

impl Cluster {
    /// Makes the cluster and starts all nodes. An error where the layout needs what this machine does not have or allow.
    pub async fn start(options: &ClusterOptions) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("esker-cluster-").tempdir()?;
        let namespaces = match options.layout {
            Layout::Loopback => None,
            Layout::Namespaces => Some(Namespaces::new(options.nodes)?),
        };
        let mut ports = namespaces.is_none().then(Ports::reserve).transpose()?;
        let addresses = addresses(options, namespaces.as_ref(), ports.as_mut())?;
        let mut nodes = BTreeMap::new();
        for node in addresses.keys() {
            let home = dir.path().join(format!("node{node}"));
            make_dir(&home)?;
            let mut command = namespaces.as_ref().map_or_else(Vec::new, |all| all.run_in(*node));
            let data_dir = options.data_dirs.get(node).cloned().unwrap_or_else(|| home.join("data"));
            command.extend(arguments(options, &addresses, *node, (&home, &data_dir)));
            nodes.insert(*node, Node::new(command, home, data_dir));
        }
        let patience = options.patience;
        let mut cluster = Self { nodes, addresses, patience, namespaces, _dir: dir, _ports: ports };
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// The numbers of the nodes.
    pub fn numbers(&self) -> Vec<u64> {
        self.addresses.keys().copied().collect()
    }

    /// The numbers of those that run, paused ones among them.
    pub(super) fn running(&self) -> Vec<u64> {
        let running = self.nodes.iter().filter_map(|(number, node)| node.is_running().then_some(*number));
        running.collect()
    }

    /// Where a node's HTTP front is.
    ///
    /// # Panics
    ///
    /// If there is no such node; so for all that take a node.
    pub fn endpoint(&self, node: u64) -> String {
        let Address { host, http, .. } = &self.addresses[&node];
        format!("http://{host}:{http}")
    }

    /// Where a node's front for clients of Redis is, `host:port`.
    pub fn resp_address(&self, node: u64) -> String {
        let Address { host, resp, .. } = &self.addresses[&node];
        format!("{host}:{resp}")
    }

    /// Where a node's front for the binary protocol is, `esker://host:port`.
    pub fn binary_endpoint(&self, node: u64) -> String {
        let Address { host, binary, .. } = &self.addresses[&node];
        format!("esker://{host}:{binary}")
    }

    /// Where a node's gRPC front listens, `host:port`.
    pub fn grpc_address(&self, node: u64) -> String {
        let Address { host, grpc, .. } = &self.addresses[&node];
        format!("{host}:{grpc}")
    }

    /// Clients of each node.
    pub fn clients(&self, settings: &Settings) -> io::Result<BTreeMap<u64, Client>> {
        let client = |node: u64| Client::with_settings(&self.endpoint(node), settings.clone());
        let numbers = self.numbers().into_iter();
        numbers.map(|node| Ok((node, client(node).map_err(io::Error::other)?))).collect()
    }

    /// Starts a node that does not run, and waits until it is ready.
    pub async fn restart(&mut self, node: u64) -> io::Result<()> {
        let within = self.patience;
        self.node(node).start(within).await
    }

    /// Starts all nodes that do not run: all at once, as none may be ready without the others.
    pub async fn start_all(&mut self) -> io::Result<()> {
        let within = self.patience;
        let starting = self.nodes.values_mut().filter(|node| !node.is_running());
        futures_util::future::try_join_all(starting.map(|node| node.start(within))).await.map(|_| ())
    }

    /// Takes away the data of a node that does not run: it is another node when it is started again.
    pub fn wipe(&mut self, node: u64) -> io::Result<()> {
        std::fs::remove_dir_all(self.node(node).data_dir())
    }

    /// The address where a node listens for its peers.
    pub fn peer_address(&self, node: u64) -> String {
        let Address { host, peers, .. } = &self.addresses[&node];
        format!("{host}:{peers}")
    }

    /// SIGKILL; the node is gone when this returns.
    pub fn kill(&mut self, node: u64) -> io::Result<()> {
        self.node(node).kill()
    }

    /// SIGTERM; waits for the end, which must be with exit code 0.
    pub async fn terminate(&mut self, node: u64) -> io::Result<()> {
        let within = self.patience;
        let status = self.node(node).terminate(within).await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
    }

    /// Waits until a node ends by itself; its exit code, and what it wrote last.
    pub async fn ends(&mut self, node: u64, within: Duration) -> io::Result<(Option<i32>, String)> {
        let node = self.node(node);
        let status = node.wait(within).await?;
        Ok((status.code(), node.log_tail()))
    }

    /// SIGSTOP: the process stands still and does not know.
    pub fn pause(&mut self, node: u64) -> io::Result<()> {
        self.node(node).signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self, node: u64) -> io::Result<()> {
        self.node(node).signal(Signal::CONT)
    }

    /// Nodes of `one` and of `other` do not hear one another. Only where the nodes have namespaces.
    pub fn part(&self, one: &[u64], other: &[u64]) -> io::Result<()> {
        let namespaces = self.namespaces()?;
        one.iter().try_for_each(|node| namespaces.deafen(*node, other))?;
        other.iter().try_for_each(|node| namespaces.deafen(*node, one))
    }

    /// `node` does not hear `to`, who still hear it. Only where the nodes have namespaces.
    pub fn deafen(&self, node: u64, to: &[u64]) -> io::Result<()> {
        self.namespaces()?.deafen(node, to)
    }

    /// Ends all partitions. Only where the nodes have namespaces.
    pub fn heal(&self) -> io::Result<()> {
        self.namespaces()?.heal()
    }

    fn namespaces(&self) -> io::Result<&Namespaces> {
        let missing = || io::Error::new(io::ErrorKind::Unsupported, "nodes on loopback cannot be parted");
        self.namespaces.as_ref().ok_or_else(missing)
    }

    fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).expect("the cluster has this node")
    }

    /// Waits until a node says that it leads; of several, the one with the highest term.
    pub async fn leader(&self) -> io::Result<u64> {
        let mut settings = Settings::default();
        settings.retry = Retry::never();
        settings.request_timeout = Duration::from_millis(500);
        let clients = self.clients(&settings)?;
        wait_for("there is a leader", self.patience, async || {
            let mut leaders = BTreeMap::new();
            let answers = clients.iter().map(async |(node, client)| (*node, client.status().await));
            for (node, status) in futures_util::future::join_all(answers).await {
                // A node that is down or paused says nothing; the others are enough.
                if let Ok(status) = status
                    && status.leader_id == Some(status.node_id)
                {
                    leaders.insert(status.term, node);
                }
            }
            Ok(leaders.pop_last().map(|(_, node)| node))
        })
        .await
    }
}

fn arguments(
    options: &ClusterOptions,
    addresses: &BTreeMap<u64, Address>,
    node: u64,
    (home, data_dir): (&Path, &Path),
) -> Vec<String> {
    let Address { host, http, resp, binary, grpc, peers } = &addresses[&node];
    let path = |path: &Path| path.display().to_string();
    let mut arguments = vec![path(&options.binary), "serve".into()];
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    add("--data-dir", path(data_dir));
    add("--ready-file", path(&Node::ready_file(home)));
    add("--host", host.clone());
    add("--port", http.to_string());
    add("--resp-port", resp.to_string());
    add("--binary-port", binary.to_string());
    add("--grpc-port", grpc.to_string());
    if options.nodes > 1 {
        let member = |address: &Address| format!("{}:{}:{}", address.host, address.http, address.peers);
        add("--node-id", node.to_string());
        add("--peer-port", peers.to_string());
        add("--cluster-nodes", addresses.values().map(member).collect::<Vec<_>>().join(","));
        arguments.push("--cluster-enabled".into());
    }
    if options.layout == Layout::Namespaces {
        arguments.push("--insecure".into());
    }
    arguments.extend(options.arguments.iter().cloned());
    arguments
}

/// In namespaces all have the same ports; on loopback each has ports of its own.
fn addresses(
    options: &ClusterOptions,
    namespaces: Option<&Namespaces>,
    mut ports: Option<&mut Ports>,
) -> io::Result<BTreeMap<u64, Address>> {
    let mut port = |everywhere| ports.as_mut().map_or(Ok(everywhere), |ports| ports.next_free());
    let mut addresses = BTreeMap::new();
    for node in 1..=options.nodes {
        let host = namespaces.map_or_else(|| "127.0.0.1".into(), |namespaces| namespaces.host(node));
        let (http, resp, binary) = (port(8080)?, port(6380)?, port(9090)?);
        let (grpc, peers) = (port(7170)?, port(7070)?);
        addresses.insert(node, Address { host, http, resp, binary, grpc, peers });
    }
    Ok(addresses)
}

#[expect(clippy::disallowed_methods, reason = "the files of a harness, not of the store")]
fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::create_dir(dir)
}
