//! Whole clusters under faults: the simulation, and the checkers of what clients saw.
//!
//! ```text
//! seed -> Plan (when which fault) -> Stage: nodes on simulated machines, joined by a SimNetwork
//!      -> clients -> History ---------------------> checker: linearizable? atomic? nothing lost?
//! ```
//!
//! Everything random comes from one [`Rng`], all time is tokio's paused clock, and there is one thread: a seed replays a
//! run ([`sim::run`], [`sim::check_deterministic`]). The same clients and checkers work on clusters of real processes
//! (`processes`, behind the feature of that name; a feature and not a test module, so that the tests of
//! the `esker` crate can use it and nobody else builds it).

pub mod checker;
pub mod clients;
pub mod cluster;
pub mod history;
pub mod machine;
pub mod network;
pub mod plan;
#[cfg(feature = "processes")]
pub mod processes;
mod rng;
pub mod sim;
pub mod trace;
pub mod world;

pub use rng::Rng;
