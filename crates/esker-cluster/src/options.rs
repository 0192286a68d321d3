//! What a request may ask for beside its keys.

use esker_engine::{RequestId, SyncPolicy};

/// When a write is acknowledged. Without a cluster all three are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Durable on a majority of the voters, and applied.
    #[default]
    Majority,
    /// Durable on the leader, which goes on to replicate it. If the leader is lost before it has done so, so is the write.
    Local,
    /// Durable on every voter, and applied by the leader. Waits for as long as one is down.
    All,
}

/// How a write is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// A stronger sync policy than the store's.
    pub sync: Option<SyncPolicy>,
    /// When it is acknowledged.
    pub ack: Ack,
    /// Makes a retry safe: of the writes with one id, one is applied.
    pub request: Option<RequestId>,
}

/// What a read may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// Whatever this node has applied.
    Stale,
}
