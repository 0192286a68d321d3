//! The gRPC front: `esker.v1.Kv` and `esker.v1.Cluster`, health and reflection.
//!
//! ```text
//! connection: HTTP/2 (hyper), time-outs, drain
//!   call: the request within its size, budget and time -> tonic's services -> the answer, counted
//!     kv, cluster, health: messages <-> store: everything that is asked of the Store
//!   body: the answer's bytes, their share of the budget, whether the client takes them (outstanding)
//! ```
//!
//! What calls there are says one table (`methods`); which status an error has, another (`status`).

mod ask;
mod away;
mod body;
mod call;
mod cluster;
mod connection;
mod deadline;
mod health;
mod kv;
mod methods;
mod metrics;
mod outstanding;
mod scan;
mod service;
mod status;
mod store;
mod watch;

use std::net::SocketAddr;

pub(crate) use self::{away::Unavailable, service::GrpcService};
use self::{health::HealthBoard, metrics::GrpcMetrics};

/// What all connections of this front share.
pub(crate) struct GrpcFront {
    /// Where it listens, if it does.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) metrics: GrpcMetrics,
    /// Where those look who watch its health.
    health: HealthBoard,
}

impl GrpcFront {
    pub(crate) fn new(address: Option<SocketAddr>) -> Self {
        Self { address, metrics: GrpcMetrics::default(), health: HealthBoard::default() }
    }
}
