//! The front for the binary protocol: docs/binary.md.
//!
//! ```text
//! talk: bytes -> requests -> execute, one after another -> answers -> one write (crate::pipeline)
//!                              |-> a write: submitted, answered when it is decided
//!                              |-> a range: a chunk at a time, each written before the next one is asked for
//! ```

mod auth;
mod execute;
mod metrics;
mod refusal;
mod service;
mod talk;
mod writes;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use self::metrics::BinaryMetrics;
pub(crate) use self::service::{BinaryService, later};
use crate::access::Guarded;

/// What all connections of this front share.
pub(crate) struct BinaryFront {
    /// Where it listens, if it does.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) metrics: BinaryMetrics,
    /// Open connections.
    open: AtomicUsize,
    /// Whether the store applies writes in the order in which they are submitted.
    keeps_order: bool,
}

impl BinaryFront {
    pub(crate) fn new(address: Option<SocketAddr>, store: &Guarded) -> Self {
        Self {
            address,
            metrics: BinaryMetrics::default(),
            open: AtomicUsize::new(0),
            // The nodes of a cluster propose what comes at the same time in any order.
            keeps_order: !store.is_replicated(),
        }
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> u64 {
        self.open.load(Ordering::Relaxed) as u64
    }
}
