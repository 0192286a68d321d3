//! Esker's server: the network fronts over a [`Store`](esker_cluster::Store).
//!
//! ```text
//! listen  -> accept -> connection -> http (routes) -> Store
//! sockets    caps      time-outs     one module a subject
//!                   -> pipeline -> resp (commands) -> Store
//!                            -> binary (requests) -> Store
//!                   -> grpc (connection, calls) -> Store
//! ```
//!
//! [`Server::bind`] opens the sockets, so that addresses are known and errors come early; [`Server::run`]
//! serves until told to stop, then drains: requests under way finish, idle connections close, the Store closes.

mod accept;
mod access;
mod binary;
mod config;
mod connection;
mod grpc;
mod guard;
mod homes;
mod http;
mod listen;
mod metrics;
mod origins;
mod pipeline;
mod probe;
mod process;
mod resp;
mod server;
mod spans;
mod stream;
mod tls;

pub use access::{
    AccessControl, InvalidUsers, NewToken, PasswordError, RuleEntry, TokenEntry, UserEntry, Users, UsersFile,
    hash_password, hash_token,
};
pub use config::{REQUEST_TARGET_BYTES_MAX, Runtime, ServerConfig, ServerLimits, Timeouts};
pub use esker_cluster::tls::TlsError;
pub use http::openapi_json;
pub use listen::BindError;
pub use origins::{InvalidOrigins, Origins};
pub use probe::{MemoryFigures, Probe, ProfileError};
pub use server::{DrainReport, Server, ServerError, Sockets, TurningAway, listen_for_peers};
pub use spans::{RequestSpan, SpanStatus, Spans, TraceParent};
pub use tls::{TlsControl, TlsFiles};
