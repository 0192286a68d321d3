//! `esker shell` and `esker top`, through pipes and on a terminal.

use crate::support;

mod console;
mod script;
use crate::support::terminal;
mod top;

use support::Server;
use tempfile::TempDir;

fn server() -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    (dir, server)
}
