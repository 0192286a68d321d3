//! What the peers' network can be told, and its fixed bounds.

use std::time::Duration;

/// The largest message: a batch of 64 MiB, and 1 MiB for what is around it. A larger one is refused by who receives
/// it, and the stream it came on ends.
pub const MESSAGE_BYTES_MAX: usize = 65 << 20;

/// How much of one stream may be on its way or unread. Covers 10 Gbit/s at 3 ms; a stream that nobody reads holds up
/// to so much memory.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same for a connection. 16 streams may stand still at their limits before the others feel it; a link carries
/// two or three.
pub const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// How much of one stream may be queued before who sends is held back.
pub const SEND_BUFFER_BYTES: usize = 1 << 20;

/// The largest frame either side takes. Four times the least that HTTP/2 allows: less work per MiB, and still short
/// enough that streams of one connection take turns.
pub(super) const FRAME_BYTES: u32 = 64 << 10;

/// Calls under way on one connection; further ones wait for a place.
pub const STREAMS_MAX: u32 = 1024;

/// Connections a node answers at a time; further ones wait in the listener's backlog. Each node of a cluster makes two.
pub const CONNECTIONS_MAX: usize = 512;

const _: () = assert!(CONNECTION_WINDOW_BYTES >= 16 * STREAM_WINDOW_BYTES);

/// How long to wait for what. The defaults suit nodes within a few milliseconds of one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOptions {
    /// Until a connection is made: name lookup, TCP and TLS. Default 500 ms. Raise it if a round trip takes more than
    /// 100 ms.
    pub connect_timeout: Duration,
    /// For the answer to a call, and for a stream to be taken up; includes making the connection. Default 1 s: more
    /// than an election time-out, as a vote waits for a sync of the voter's disk.
    pub call_timeout: Duration,
    /// The same for changes of the membership, which wait until a new member has caught up. Default 60 s.
    pub change_timeout: Duration,
    /// After the first failure to connect, calls fail at once for about so long; doubled with each further one.
    /// Default 10 ms.
    pub backoff_min: Duration,
    /// The most of that. Default 1 s: the longest that a node which came back goes unnoticed.
    pub backoff_max: Duration,
    /// A connection on which nothing arrived for so long is tried with a ping. Default 1 s.
    pub keepalive_interval: Duration,
    /// A connection is given up if a ping stays unanswered for so long. Default 2 s: shorter, and a busy machine
    /// loses good connections.
    pub keepalive_timeout: Duration,
    /// What calls under way get to finish when the server shuts down; streams end at once. Default 1 s.
    pub shutdown_grace: Duration,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(500),
            call_timeout: Duration::from_secs(1),
            change_timeout: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            shutdown_grace: Duration::from_secs(1),
        }
    }
}
