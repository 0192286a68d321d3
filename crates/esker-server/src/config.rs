//! The settings of the server. Every limit of the fronts has its name, default and unit here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use crate::{AccessControl, Origins, Probe, Spans, TlsControl};

/// The settings of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where the native HTTP front listens. Default 127.0.0.1:8080; port 0 takes any free port.
    pub http_address: SocketAddr,
    /// Where the front for clients of Redis listens; `None`: nowhere. Default 127.0.0.1:6380; port 0 takes any free port.
    pub resp_address: Option<SocketAddr>,
    /// Where the front for the binary protocol listens; `None`: nowhere. Default 127.0.0.1:9090; port 0 takes any free port.
    pub binary_address: Option<SocketAddr>,
    /// Where the gRPC front listens; `None`: nowhere. Default 127.0.0.1:7070; port 0 takes any free port.
    pub grpc_address: Option<SocketAddr>,
    /// How the work is spread over the cores. Default [`Runtime::Shared`] with a thread a core.
    pub runtime: Runtime,
    /// Connections that nobody has accepted yet, per front. Default 1,024.
    pub backlog: u32,
    /// What clients may take.
    pub limits: ServerLimits,
    /// How long clients may take.
    pub timeouts: Timeouts,
    /// Whose pages browsers let use the envelope dialect, writes included. Default [`Origins::All`]. The other APIs let no page
    /// of another site write.
    pub cors_origins: Origins,
    /// Who may do what. Default: everybody everything.
    pub access: AccessControl,
    /// TLS on every front. Default: none.
    pub tls: Option<TlsControl>,
    /// Who tells of the process. Default: nobody.
    pub probe: Option<Arc<dyn Probe>>,
    /// Who wants to know of each request. Default: nobody.
    pub spans: Option<Arc<dyn Spans>>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            resp_address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 6380))),
            binary_address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9090))),
            grpc_address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7070))),
            runtime: Runtime::default(),
            backlog: 1024,
            limits: ServerLimits::default(),
            timeouts: Timeouts::default(),
            cors_origins: Origins::All,
            access: AccessControl::default(),
            tls: None,
            probe: None,
            spans: None,
        }
    }
}

/// How the connections are spread over threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Each has a home in one of so many threads, the one that has the fewest: nothing of it changes threads.
    PerCore(NonZeroUsize),
    /// So have those of RESP and the binary protocol, in as many of so many threads as cores can be had for, but not while a long answer
    /// goes to them. Then, and those of HTTP and gRPC always, they are shared by as many other threads. The default: small requests cost
    /// the least so.
    Homes(NonZeroUsize),
    /// All are shared by so many threads, which take work from each other: evener when few connections do all the work.
    Shared(NonZeroUsize),
}

impl Default for Runtime {
    fn default() -> Self {
        Self::Homes(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

/// The most that clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Open connections of all fronts; one more is answered 503 (HTTP) or with an error, and closed. Default 10,000. Keep it below the open-files limit.
    pub connections: usize,
    /// Bytes of a request's target (path and query). Default and most: 65,534. More is answered 414.
    pub request_target_bytes: usize,
    /// Bytes of a request's header names and values. Default 32 KiB. More, or over 100 headers, is answered 431.
    pub header_bytes: usize,
    /// Bytes of all request bodies being received, over all connections. Default 256 MiB. A request whose body
    /// does not fit is answered 429; one that is alone always fits.
    pub body_bytes_under_way: usize,
    /// Bytes of all answers that clients have not taken yet, over all connections; values up to 16 KiB are not
    /// counted. Default 256 MiB. A read whose answer does not fit is answered 503. One that is alone always fits.
    pub answer_bytes_under_way: usize,
    /// Bytes of keys and values in one answer to a list; the rest comes with the cursor. Default 4 MiB.
    pub list_answer_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            request_target_bytes: REQUEST_TARGET_BYTES_MAX,
            header_bytes: 32 << 10,
            body_bytes_under_way: 256 << 20,
            answer_bytes_under_way: 256 << 20,
            list_answer_bytes: 4 << 20,
        }
    }
}

/// The longest request target that the `http` crate's `Uri` holds.
pub const REQUEST_TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;

/// The longest that clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the opening of a connection to its first byte, and from a request's first byte to the end of its
    /// headers. Default 10 s. Half-sent headers are answered 408; silence is closed.
    pub header: Duration,
    /// Between requests on one connection. Default 75 s: longer than the usual proxy's 60.
    pub idle: Duration,
    /// Between commands on one connection of a client of Redis, once it has sent one; before, [`Timeouts::idle`]. Default 1 h:
    /// such clients keep connections for as long as they run, and few notice that one was closed before they use it.
    pub resp_idle: Duration,
    /// Without a call on one gRPC connection, once there was one; before, [`Timeouts::header`]. Default 10 min: such a client is told,
    /// and connects again by itself.
    pub grpc_idle: Duration,
    /// Between two pieces of a request's body. Default 20 s. Answered 408.
    pub body_stall: Duration,
    /// For a whole body, plus a second for every [`Timeouts::body_bytes_per_second`] received. Default 30 s.
    pub body_grace: Duration,
    /// The slowest that a body may arrive once the grace is over, in bytes a second. Default 8 KiB.
    pub body_bytes_per_second: u64,
    /// How long a client may take nothing of an answer before its connection is dropped. Default 30 s.
    pub write_stall: Duration,
    /// The same while the memory for answers is short, for whoever holds a part of it that others wait for. Default 2 s.
    pub write_stall_when_short: Duration,
    /// The slowest that a client may take an answer, in bytes a second, once it has kept the server waiting for
    /// [`Timeouts::write_stall`] in all. Default 8 KiB.
    pub answer_bytes_per_second: u64,
    /// How long a refused client is given to read the refusal while what it still sends is discarded. Default 1 s.
    pub linger: Duration,
    /// How long `/ready` says at shutdown that the server is leaving, while everything is still served. Default 0: set it
    /// to what a load balancer takes to notice.
    pub drain_notice: Duration,
    /// How long a connection without a request stays open at shutdown. A request may be on its way to it, and a client
    /// whose connection is closed under a request cannot know whether it was done. Who is busy asks once more in that
    /// time, and is told that the answer was the last. Default 100 ms.
    pub drain_idle: Duration,
    /// How long requests under way may take to finish at shutdown. Default 20 s.
    pub drain: Duration,
    /// A request that takes longer is logged. Default 1 s.
    pub slow_request: Duration,
    /// A member of the cluster that the leader has not heard from for longer is told as not healthy. Default 1 s.
    pub member_silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            resp_idle: Duration::from_secs(3600),
            grpc_idle: Duration::from_secs(600),
            body_stall: Duration::from_secs(20),
            body_grace: Duration::from_secs(30),
            body_bytes_per_second: 8 << 10,
            write_stall: Duration::from_secs(30),
            write_stall_when_short: Duration::from_secs(2),
            answer_bytes_per_second: 8 << 10,
            linger: Duration::from_secs(1),
            drain_notice: Duration::ZERO,
            drain_idle: Duration::from_millis(100),
            drain: Duration::from_secs(20),
            slow_request: Duration::from_secs(1),
            member_silence: Duration::from_secs(1),
        }
    }
}
