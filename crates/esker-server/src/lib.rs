//! Esker's server: the network fronts over a [`Store`](esker_cluster::Store).
//!
//! ```text
//! listen  -> accept -> connection -> http (routes) -> Store
//! sockets    caps      time-outs     one module a subject
//!                   -> resp (connection, commands) -> Store
//! ```
//!
//! [`Server::bind`] opens the sockets, so that addresses are known and errors come early; [`Server::run`]
//! serves until told to stop, then drains: requests under way finish, idle connections close, the Store closes.

mod accept;
mod config;
mod connection;
mod guard;
mod http;
mod listen;
mod metrics;
mod origins;
mod process;
mod resp;
mod server;

pub use config::{REQUEST_TARGET_BYTES_MAX, Runtime, ServerConfig, ServerLimits, Timeouts};
pub use http::openapi_json;
pub use listen::BindError;
pub use origins::{InvalidOrigins, Origins};
pub use server::{DrainReport, Server, ServerError, Sockets, TurningAway, listen_for_peers};
