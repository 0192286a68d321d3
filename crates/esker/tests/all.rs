//! Black-box tests of the real binary, over real sockets. One test binary: each would be linked with all there is.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests make files, connect as anybody may, and read output"
)]

mod binary;
mod care;
mod cli;
mod client;
mod conditions;
mod demo;
mod dialects;
mod freeze;
mod full_disk;
mod gossip;
mod grpc;
mod kill9;
mod power_loss;
mod processes;
mod quick_starts;
mod resend;
mod resources;
mod resp;
mod secure_client;
mod security;
mod shell;
#[allow(dead_code, reason = "each test binary uses its part")]
mod support;
mod torment;
mod watch;
