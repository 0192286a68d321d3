//! The settings of a node of a cluster.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

/// A member of a cluster that forms from a fixed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAddress {
    /// Its number: its place in the list, from 1.
    pub id: u64,
    /// Where it listens for peers, `host:port`.
    pub peer_address: String,
    /// Where its HTTP front is, `host:port`.
    pub http_address: String,
}

/// Finds the peer addresses of nodes of a cluster to join, anew each time it is asked: a name in DNS, say.
#[derive(Clone)]
pub struct Discovery(pub Arc<dyn Fn() -> BoxFuture<'static, Vec<String>> + Send + Sync>);

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Discovery")
    }
}

/// The settings of a node of a cluster. Which of `members`, `join`, `discovery` and `gossip_seeds` is given decides how it finds the others; with
/// none of them, it forms a cluster of itself alone, which others may join.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// Its number in `members`; 0: the cluster chooses.
    pub node_id: u64,
    /// Whether to take a data directory for the node's own that is not the one in which it was last: it was moved while nothing ran.
    pub data_dir_moved: bool,
    /// Where the others reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach its HTTP front, `host:port`.
    pub http_address: String,
    /// Every node of a cluster that forms by itself, this one included. All must be up for the first start.
    pub members: Vec<MemberAddress>,
    /// Peer addresses of nodes of a cluster to join.
    pub join: Vec<String>,
    /// Finds such addresses.
    pub discovery: Option<Discovery>,
    /// Peer addresses of nodes to gossip with: by them, all others are found.
    pub gossip_seeds: Vec<String>,
    /// Nodes that find one another by `gossip_seeds` or `discovery` form a cluster of so many, if there is none. 0: they join only.
    pub cluster_size: usize,
    /// What the cluster is called: nodes of another name are not let in. Default `esker`.
    pub cluster_name: String,
    /// Whether it becomes a voter once it has caught up. Default true.
    pub voter: bool,
    /// A leader is heard of at least this often. Default 50 ms.
    pub heartbeat: Duration,
    /// A follower that has heard of no leader for so long stands for election: a random time between the two. Default 150
    /// to 300 ms.
    pub election: (Duration, Duration),
    /// How long a write or a linearizable read waits for a leader before it is refused. Default 2 s.
    pub leader_patience: Duration,
    /// How long a write waits for its commit before its outcome is called unknown. Default 10 s.
    pub commit_patience: Duration,
    /// Whether writes that reach a follower are answered with the leader's address instead of being handed on.
    pub redirect: bool,
    /// A snapshot is sent at no more than this. Default 64 MiB a second.
    pub snapshot_bytes_per_second: u64,
    /// Log that checkpoints cover is kept for followers that lag, as long as it has no more bytes and entries than this;
    /// who lags further is sent a snapshot. Default 512 MiB, 1,000,000 entries.
    pub log_retention: (u64, u64),
    /// Replicas compare their states about so often, as long as there are writes. Default 60 s.
    pub compare_interval: Duration,
    /// A leader whose disk has not answered for so long hands the leadership on. Default 3 s.
    pub disk_stall_handover: Duration,
    /// A disk that has not answered for so long is given up ([`RaftNode::disk_given_up`](super::RaftNode::disk_given_up)).
    /// Default 60 s.
    pub disk_stall_limit: Duration,
    /// Writes are refused with `Busy` while more than so many bytes of them wait for their commit. Default 128 MiB.
    pub write_bytes_under_way: usize,
    /// Whether work that waits for the disk goes to threads of its own. False in a simulation, which has one thread.
    pub blocking_threads: bool,
}

impl RaftConfig {
    /// Whether the node tells and is told where others are.
    pub(crate) fn gossips(&self) -> bool {
        !self.gossip_seeds.is_empty()
    }

    /// Whether the node looks for a cluster that is there.
    pub(crate) fn searches(&self) -> bool {
        !self.join.is_empty() || self.discovery.is_some() || self.gossips()
    }
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            node_id: 0,
            data_dir_moved: false,
            peer_address: "127.0.0.1:7070".into(),
            http_address: "127.0.0.1:8080".into(),
            members: Vec::new(),
            join: Vec::new(),
            discovery: None,
            gossip_seeds: Vec::new(),
            cluster_size: 0,
            cluster_name: "esker".into(),
            voter: true,
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            leader_patience: Duration::from_secs(2),
            commit_patience: Duration::from_secs(10),
            redirect: false,
            snapshot_bytes_per_second: 64 << 20,
            log_retention: (512 << 20, 1_000_000),
            compare_interval: Duration::from_secs(60),
            disk_stall_handover: Duration::from_secs(3),
            disk_stall_limit: Duration::from_secs(60),
            write_bytes_under_way: 128 << 20,
            blocking_threads: true,
        }
    }
}
