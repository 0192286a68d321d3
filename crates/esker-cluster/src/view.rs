//! What a node knows of its cluster, and what it may be asked to change.

use std::time::Duration;

use esker_engine::Version;

use crate::peer::Id;

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes the writes. A single node always leads.
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

/// A member as the answering node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// The instance of its data directory.
    pub instance: Id,
    /// Where it listens for peers, `host:port`.
    pub peer_address: String,
    /// Where its HTTP front is, `host:port`.
    pub http_address: String,
    /// What it is.
    pub role: Role,
    /// The last entry it is known to hold durably; the leader knows of all, others of themselves.
    pub matched: Option<Version>,
    /// Since the leader heard from it last. The leader knows of all, others of none.
    pub silent_for: Option<Duration>,
}

/// A cluster as one of its nodes sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster; `None` while the node belongs to none.
    pub cluster: Option<Id>,
    /// The node that answers.
    pub node_id: u64,
    /// What it is.
    pub role: Role,
    /// The leader, if it knows one.
    pub leader: Option<u64>,
    /// The present term.
    pub term: u64,
    /// The last entry it knows to be committed.
    pub committed: Version,
    /// The last entry it has applied.
    pub applied: Version,
    /// Every member, by number.
    pub members: Vec<Member>,
    /// Sightings of nodes, told by others, that were malformed or too many.
    pub gossip_ignored: u64,
}

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// The node that listens for peers at this address becomes a member: a learner first, and a voter, if so asked, once
    /// it has caught up.
    Add {
        /// `host:port`.
        peer_address: String,
        /// Whether it shall vote.
        voter: bool,
    },
    /// A learner becomes a voter.
    Promote(u64),
    /// A member is one no more.
    Remove(u64),
    /// The leadership goes to this voter, or, of `None`, to the one that is furthest.
    Transfer(Option<u64>),
}
