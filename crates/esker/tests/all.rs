//! Black-box tests of the real binary, over real sockets. One test binary: each would be linked with all there is.

#![expect(clippy::unwrap_used, reason = "tests")]

mod binary;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod care;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod cli;
mod client;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod conditions;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod demo;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod dialects;
mod freeze;
mod full_disk;
mod gossip;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod grpc;
mod kill9;
mod power_loss;
mod processes;
mod quick_starts;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod resend;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod resources;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod resp;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod secure_client;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod security;
#[expect(clippy::disallowed_methods, reason = "makes files, or connects, as anybody may")]
mod shell;
#[allow(dead_code, reason = "each test binary uses its part")]
mod support;
mod torment;
mod watch;
