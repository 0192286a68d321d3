//! A Redis to compare with, where one is installed.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running redis-server, on a free port and without files; killed when dropped.
pub(crate) struct Redis {
    child: Child,
    address: String,
}

impl Redis {
    /// `None` if there is no redis-server.
    pub(crate) fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments =
            ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut command = Command::new("redis-server");
        let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok()?;
        let redis = Self { child, address: format!("127.0.0.1:{port}") };
        let start = Instant::now();
        while TcpStream::connect(redis.address()).is_err() {
            assert!(start.elapsed() < PATIENCE, "redis-server does not start");
            super::support::pause(Duration::from_millis(10));
        }
        Some(redis)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Ended already, or never to be missed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
