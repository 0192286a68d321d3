//! Answers about the cluster and its nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admin::DamageReport;

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// It takes writes. A single node always leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It belongs to no cluster yet.
    Outside,
    /// It was a member, and is none any more.
    Removed,
}

impl Role {
    /// The role as the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Outside => "outside",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the cluster keeps its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// One node, no replicas.
    Single,
    /// Replicated with Raft.
    Raft,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Single => "single",
            Self::Raft => "raft",
        })
    }
}

/// `GET /api/v1/cluster/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusAnswer {
    /// The node that answers.
    pub node_id: u64,
    /// How the cluster keeps its replicas.
    pub mode: Mode,
    /// What this node is.
    pub role: Role,
    /// The cluster, as 32 hexadecimal digits; null outside of one.
    #[serde(default)]
    pub cluster_id: Option<String>,
    /// The leader, if this node knows of one.
    pub leader_id: Option<u64>,
    /// The present term; 0 outside Raft.
    pub term: u64,
    /// The version of the last write that the node knows to be committed.
    pub commit_index: u64,
    /// The version of the last write that the node has applied: what its reads see at least.
    #[serde(default)]
    pub applied_index: u64,
    /// Whether all is well: it takes reads and writes, and has met no damage.
    pub healthy: bool,
    /// What is wrong; null when all is well.
    pub trouble: Option<String>,
    /// Seconds since the node started.
    pub uptime_seconds: u64,
    /// The server's version.
    pub server_version: String,
    /// Figures of this node's store.
    pub storage: StorageStatus,
}

/// Figures of a node's store. Those of writes, merges, reads and compression count from when the node started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Merged segments, which hold what lived of segments that went.
    #[serde(default)]
    pub merged_segments: u64,
    /// Bytes of the log, merged segments included, that no live record takes.
    #[serde(default)]
    pub dead_bytes: u64,
    /// Merges done.
    #[serde(default)]
    pub merges: u64,
    /// Bytes that merges copied.
    #[serde(default)]
    pub bytes_copied: u64,
    /// Why the last merge failed, if it did; it is tried again.
    #[serde(default)]
    pub merge_error: Option<String>,
    /// Why the last checkpoint could not be written, or index files not be joined; it is tried again. Opening takes longer.
    #[serde(default)]
    pub checkpoint_error: Option<String>,
    /// Bytes handed to the disk for each byte of keys and values written; 0 before the first write.
    #[serde(default)]
    pub write_amplification: f64,
    /// Bytes of values as stored for each byte as written; 1 where nothing was compressed.
    #[serde(default = "one")]
    pub compression_ratio: f64,
    /// Bytes that the cache of values holds.
    #[serde(default)]
    pub cache_bytes: u64,
    /// The reads of values that the cache answered, in parts of one.
    #[serde(default)]
    pub cache_hit_rate: f64,
    /// Whether writes are refused, because the disk is full.
    #[serde(default)]
    pub disk_full: bool,
    /// Whether keys that are new are refused, because the index has filled the memory budget.
    #[serde(default)]
    pub memory_full: bool,
    /// Milliseconds for which writers were made to wait, because merging could not keep up.
    #[serde(default)]
    pub throttled_ms: u64,
    /// Snapshots that are held, by scans, backups and transfers to other nodes.
    #[serde(default)]
    pub snapshots: u64,
    /// Milliseconds for which the oldest of them is held.
    #[serde(default)]
    pub oldest_snapshot_ms: u64,
    /// Memory that they hold at most beyond the present index, in bytes.
    #[serde(default)]
    pub snapshot_index_bytes: u64,
    /// Bytes of merged segments that are still read from.
    #[serde(default)]
    pub retired_bytes: u64,
    /// Damage that reads, merges and verifications met since the node started; null if they met none.
    #[serde(default)]
    pub damage: Option<DamageMet>,
}

/// Damage that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DamageMet {
    /// How often; one place may have been met more than once.
    pub times: u64,
    /// Where it was met last.
    pub last: DamageReport,
}

fn one() -> f64 {
    1.0
}

/// `GET /api/v1/cluster/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodesAnswer {
    /// Every member.
    pub nodes: Vec<Node>,
}

/// One member of a cluster. What the answering node cannot know is null: only the leader hears from all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// Its number.
    pub id: u64,
    /// Where its native HTTP front is, as `host:port`.
    pub http_address: String,
    /// Where it listens for other members, as `host:port`; null in mode `single`.
    #[serde(default)]
    pub peer_address: Option<String>,
    /// What it is.
    pub role: Role,
    /// Whether it has a vote.
    #[serde(default)]
    pub voter: bool,
    /// Committed writes that it is not known to hold durably.
    #[serde(default)]
    pub lag: Option<u64>,
    /// Milliseconds since the leader heard from it last.
    #[serde(default)]
    pub silent_ms: Option<u64>,
    /// Whether it is reached and well.
    pub healthy: Option<bool>,
}

/// `POST /api/v1/cluster/members`: one change of the membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MembersRequest {
    /// A node becomes a member: a learner first, and a voter, if so asked, once it has caught up.
    Add(AddMember),
    /// The learner of this number becomes a voter.
    Promote(u64),
    /// The member of this number is one no more.
    Remove(u64),
    /// The leadership goes to the voter of this number, or, of null, to the one that is furthest.
    Transfer(Option<u64>),
}

/// A node that is to become a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// Where it listens for other members, as `host:port`.
    pub peer_address: String,
    /// Whether it shall vote; true if left out.
    #[serde(default = "votes")]
    pub voter: bool,
}

fn votes() -> bool {
    true
}

/// The answer to a change of the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MembersAnswer {
    /// The number of the member that the change was about.
    pub node: u64,
}

/// `GET /api/v1/health` and `GET /ready`, where they succeed; where not, an error body says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthAnswer {
    /// `ok`; `disk_full`: reads go on, writes are refused until there is space; `damaged`: stored bytes were found damaged since
    /// the node started, all others are served.
    pub status: String,
    /// What is wrong and what to do, where the status is not `ok`; left out when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_members_are_written_as_documented() {
        let add = |voter| MembersRequest::Add(AddMember { peer_address: "h:1".into(), voter });
        for (json, change) in [
            (r#"{"add":{"peer_address":"h:1"}}"#, add(true)),
            (r#"{"add":{"peer_address":"h:1","voter":false}}"#, add(false)),
            (r#"{"promote":2}"#, MembersRequest::Promote(2)),
            (r#"{"remove":3}"#, MembersRequest::Remove(3)),
            (r#"{"transfer":1}"#, MembersRequest::Transfer(Some(1))),
            (r#"{"transfer":null}"#, MembersRequest::Transfer(None)),
        ] {
            assert_eq!(serde_json::from_str::<MembersRequest>(json).unwrap(), change);
            let written = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<MembersRequest>(&written).unwrap(), change);
        }
        for json in ["{}", r#"{"add":{"address":"h:1"}}"#, r#"{"promote":1,"remove":2}"#, r#"{"evict":1}"#] {
            assert!(serde_json::from_str::<MembersRequest>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_answer_of_an_older_server_is_understood() {
        let node: Node =
            serde_json::from_str(r#"{"id":1,"http_address":"h:1","role":"leader","healthy":true}"#).unwrap();
        assert_eq!((node.peer_address, node.healthy, node.role.as_str()), (None, Some(true), "leader"));
    }
}
