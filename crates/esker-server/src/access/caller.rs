//! Who asks, and by which way.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::users::{Proof, User};

/// The front that a caller came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    Http,
    Resp,
    Binary,
    Grpc,
}

impl Entrance {
    /// All of them, as they are counted.
    pub(crate) const ALL: [Self; 4] = [Self::Http, Self::Resp, Self::Binary, Self::Grpc];

    /// Its name in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Resp => "resp",
            Self::Binary => "binary",
            Self::Grpc => "grpc",
        }
    }
}

/// How a caller came in.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) entrance: Entrance,
    pub(crate) remote: Option<SocketAddr>,
    /// The names in the certificate that it proved to have; the authority is one that we trust.
    pub(crate) certificate: Arc<[String]>,
    /// What its lines in the log are found by.
    pub(crate) trail: Arc<Trail>,
}

/// A connection's number, and how many requests have come by it.
#[derive(Debug)]
pub(crate) struct Trail {
    connection: u64,
    requests: AtomicU64,
}

impl Trail {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let connection = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self { connection, requests: AtomicU64::new(0) }
    }

    /// The connection's number: never given twice in a process.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// So many requests have come; the number of the last of them.
    pub(crate) fn add(&self, requests: u64) -> u64 {
        self.requests.fetch_add(requests, Ordering::Relaxed) + requests
    }
}

impl Arrival {
    /// Without a certificate.
    pub(crate) fn new(entrance: Entrance, remote: Option<SocketAddr>) -> Self {
        Self { entrance, remote, certificate: Arc::default(), trail: Arc::new(Trail::new()) }
    }

    /// What its lines in the log are found by: the front, the connection, the last request that has come.
    pub(crate) fn named(&self) -> (&'static str, u64, u64) {
        (self.entrance.as_str(), self.trail.connection, self.trail.requests.load(Ordering::Relaxed))
    }
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) arrival: Arrival,
    pub(super) identity: Identity,
}

/// Whom a caller is taken for.
#[derive(Clone)]
pub(super) enum Identity {
    /// No users are configured: everybody may do everything.
    Anybody,
    /// A user, as of this state of the list of users.
    Known { user: Arc<User>, proof: Proof, generation: u64 },
    /// Nobody whom the list of users has, as of this state of it.
    Stranger { generation: u64 },
}
