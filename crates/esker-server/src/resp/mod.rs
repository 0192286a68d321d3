//! The front for clients of Redis: RESP2 and RESP3.
//!
//! ```text
//! talk: bytes -> commands -> execute, one after another -> answers -> one write (crate::pipeline)
//!                                    |-> a write that reads nothing: submitted, answered when it is decided (writes)
//!                                    |-> a command over keys: read, run in memory, commit if they are as read (keyspace)
//!                                    |-> a walk over the store (commands/scan)
//! ```
//!
//! What commands there are says one [table]; COMMAND, the counting and docs/resp.md derive from it.

mod clients;
mod commands;
mod cursors;
mod execute;
mod glob;
mod keyspace;
mod metrics;
mod number;
#[cfg(test)]
mod page;
mod permit;
mod refusal;
mod service;
mod session;
mod table;
mod talk;
mod tally;
mod writes;

use std::{net::SocketAddr, pin::Pin};

pub(crate) use esker_wire::resp::{Command as Args, Reply};

use self::metrics::RespMetrics;
pub(crate) use self::service::{RespService, loading};
use self::{clients::Clients, cursors::Cursors, keyspace::Room, refusal::Done};
use crate::{access::Guarded, http::Front};

/// What all connections of this front share.
pub(crate) struct RespFront {
    /// Where it listens, if it does.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) clients: Clients,
    pub(crate) cursors: Cursors,
    pub(crate) metrics: RespMetrics,
    /// Whether the store applies writes in the order in which they are submitted.
    pub(crate) keeps_order: bool,
}

impl RespFront {
    pub(crate) fn new(address: Option<SocketAddr>, store: &Guarded) -> Self {
        Self {
            address,
            clients: Clients::default(),
            cursors: Cursors::default(),
            metrics: RespMetrics::default(),
            // The nodes of a cluster propose what comes at the same time in any order.
            keeps_order: !store.is_replicated(),
        }
    }
}

/// A command that walks over the store, at work.
pub(crate) type Walking<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

/// Room for one answer that is made of many keys.
pub(crate) fn room_for_answer(front: &Front) -> Room {
    // What can be written in one transaction can be read in one command.
    Room::new(front.answer_budget.share(), front.limits().batch_bytes)
}
