//! `esker shell` and `esker top`, through pipes and on a terminal.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make files and read output")]

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support/mod.rs"]
mod support;

mod console;
mod script;
#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support/terminal.rs"]
mod terminal;
mod top;

use support::Server;
use tempfile::TempDir;

fn server() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    (dir, server)
}
