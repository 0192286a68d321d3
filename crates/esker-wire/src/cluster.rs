//! Answers about the cluster and its nodes.

use serde::{Deserialize, Serialize};

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// It takes writes. A single node always leads.
    Leader,
}

/// How the cluster keeps its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// One node, no replicas.
    Single,
}

/// `GET /api/v1/cluster/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusAnswer {
    /// The node that answers.
    pub node_id: u64,
    /// How the cluster keeps its replicas.
    pub mode: Mode,
    /// What this node is.
    pub role: Role,
    /// The leader, if this node knows of one.
    pub leader_id: Option<u64>,
    /// The present term; 0 outside Raft.
    pub term: u64,
    /// The version of the last committed write.
    pub commit_index: u64,
    /// Whether the node takes reads and writes.
    pub healthy: bool,
    /// Why not, or why only reads; null when all is well.
    pub trouble: Option<String>,
    /// Seconds since the node started.
    pub uptime_seconds: u64,
    /// The server's version.
    pub server_version: String,
    /// Figures of this node's store.
    pub storage: StorageStatus,
}

/// Figures of a node's store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StorageStatus {
    /// Keys present.
    pub keys: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of live records; the rest of the log is dead.
    pub live_bytes: u64,
    /// Memory held by the index, in bytes.
    pub index_bytes: u64,
    /// Bytes of writes that wait to be committed.
    pub queued_bytes: u64,
}

/// `GET /api/v1/cluster/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodesAnswer {
    /// Every member.
    pub nodes: Vec<Node>,
}

/// One member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// Its number.
    pub id: u64,
    /// Where its native HTTP front listens, as `host:port`.
    pub http_address: String,
    /// What it is.
    pub role: Role,
    /// Whether it is reached and healthy.
    pub healthy: bool,
}

/// `GET /health` and `GET /ready`, where they succeed; where not, an error body says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthAnswer {
    /// `ok`, or `disk_full`: reads go on, writes are refused until there is space.
    pub status: String,
    /// What is wrong and what to do, where the status is not `ok`; left out when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
