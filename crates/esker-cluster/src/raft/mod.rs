//! Mode `raft`: this node is one of a cluster that agrees on every write.
//!
//! ```text
//! types.rs          the library's types and ours
//! runtime.rs        its runtime; the home of randomness. host.rs: machines that stand still, for simulations
//! log_store.rs      its log storage      ┐ over esker-engine's Replica
//! state_machine.rs  its state machine    ┘
//! disk_watch.rs     whether the disk answers
//! network.rs        its network          ┐ over the peers' protocol; contact.rs: pauses before a dead peer is tried;
//!                                        │ acknowledged.rs: how far the peers have
//! service.rs        the other side of it ┘
//! snapshot/         snapshots on their way
//! propose.rs        writes, where this node leads; forward.rs: where another does
//! reads.rs          linearizable reads
//! compare.rs        replicas compare their states
//! members.rs        changes of the membership; numbering.rs: the numbers that members are given; removal.rs: how a node
//!                   notices that it was removed, or has moved
//! formation.rs      how a node finds or forms its cluster; identity.rs: what it remembers of that
//! assembly.rs       how nodes that find one another agree to form one; founders.rs: what they have agreed to
//! gossip.rs         where nodes were heard of
//! node.rs           a running node
//! planted.rs        defects on demand, for the simulator to find; not in the server
//! ```
//!
//! The consensus library (openraft) is known in this folder only, and none of its structs is written or sent, so that another
//! could take its place. What it is not trusted with: lease reads, restoring a leader after a restart, purging
//! by itself (see `node.rs`, `library_config`).

mod acknowledged;
mod assembly;
mod compare;
mod config;
#[cfg(test)]
mod conformance;
mod contact;
mod disk_watch;
mod formation;
mod forward;
mod founders;
mod gossip;
mod host;
mod identity;
mod log_store;
mod members;
mod network;
mod node;
mod numbering;
mod planted;
mod propose;
mod reads;
mod removal;
mod runtime;
mod service;
mod shared;
mod snapshot;
mod state_machine;
mod types;

#[cfg(feature = "planted-bugs")]
pub use self::planted::{Bug, plant};
pub use self::{
    config::{Discovery, MemberAddress, RaftConfig},
    host::{Host, OnHost},
    node::{Opened, RaftNode, Start},
    runtime::{Randomness, random_fraction, random_id, seed_randomness},
    service::Service,
};
pub(crate) use self::{node::Handle, shared::Shared};

/// Today one group has the whole log.
pub(crate) const GROUP: u32 = 0;
