//! A client for Esker, over HTTP, the binary protocol or gRPC.
//!
//! ```no_run
//! # async fn example() -> Result<(), esker_client::Error> {
//! let client = esker_client::Client::new("http://127.0.0.1:8080")?;
//! client.put(b"greeting", "hello").await?;
//! if let Some(entry) = client.get(b"greeting").await? {
//!     println!("{} bytes, version {}", entry.value.len(), entry.version);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone and keeps connections alive in a pool, as many as there are requests at once. It
//! needs a tokio runtime. Keys and values are any bytes.
//!
//! [`blocking`] has the same without `async`.
//!
//! # Protocols
//!
//! Endpoints say which: `http://host:port`, or `esker://host:port` for the binary protocol, which has many requests in flight on
//! few connections and sends keys and values as they are, or `grpc://host:port` for gRPC; with TLS `https://`, `eskers://` and
//! `grpcs://`. All that is about keys is there in all of them; administration is [`Error::NotSupported`] over all but HTTP. A
//! client's endpoints are of one protocol, and all with TLS or all without.
//!
//! # Clusters
//!
//! Give [`Client::new`] the addresses of some nodes, with commas between; one suffices. The client asks the node that
//! answered last. It follows a redirect to the leader, goes on to the next node when one is silent, unreachable or turns it
//! away, and learns the members' addresses from whoever answers, at first and after every failure
//! ([`Settings::discover`]). Members tell the addresses of their HTTP fronts alone: over the other protocols give all of them.
//!
//! # Retries
//!
//! Within [`Retry::within`], the client sends a request again when that cannot do harm:
//!
//! * the server said that it did nothing (307, 429, 503), after the time it asked for;
//! * the connection could not be made, so that nothing was sent (if [`Retry::unreachable`], or to another server);
//! * the connection broke or the answer was late: always for reads; for writes if [`Retry::resend_writes`].
//!
//! Every copy of a write carries the same request id. A server, or a cluster whichever node they arrive at, applies one of them
//! and answers the others as it answered that one: an increment counts once, and a condition is judged once. What changes
//! something else than keys, such as the membership, has no such id and is not sent again when nobody knows whether it was done.
//!
//! # Security
//!
//! [`Settings::credentials`] are shown to the servers that were given and to members of the cluster that those name: in a header of
//! every request, or, over the binary protocol, by `AUTH` as the first request of every connection. Who is refused is told
//! [`Error::InvalidRequest`] with the code `unauthorized` or `forbidden`. A server without users takes what it is shown over HTTP and
//! gRPC for nothing; over the binary protocol it says so, which is an error (`bad_request`).
//!
//! Endpoints that begin with `https://`, `eskers://` or `grpcs://` are spoken to through TLS ([`Settings::tls`]), and then every
//! server is: neither a redirect nor a list of members leads to one that is not. There is no falling back to plain text.
//!
//! # Watching
//!
//! [`Client::watch`] gives the changes of a prefix as they are committed, every version whole, none twice and none missing:
//! the stream holds the events of a version (up to [`WatchOptions::version_bytes_max`]) until the last of them came, and where a
//! connection breaks or falls silent, it goes on behind the last whole one, with another node if there is one.

mod attempts;
mod batch;
mod binary;
pub mod blocking;
mod body;
mod care;
mod client;
mod connect;
mod endpoints;
mod error;
mod grpc;
mod http;
mod random;
mod request_id;
mod retry;
mod scan;
mod secure;
mod stream;
mod transport;
mod types;
mod watch;

pub use batch::Batch;
pub use bytes::Bytes;
pub use care::BackupStream;
pub use client::Client;
pub use connect::{Dialer, connect};
pub use error::{Error, Result};
pub use esker_wire::{Ack, Consistency, ErrorCode, admin, cluster};
pub use retry::Retry;
pub use scan::ScanStream;
pub use secure::{Credentials, TlsSettings};
pub use stream::Stream;
pub use transport::Settings;
pub use types::{
    BatchDone, Condition, Deleted, Entry, Found, FoundAll, Incremented, Item, KeyOptions, Meta, Page,
    PutOptions, Query, Range, RangeDeleted, Sync, WriteOptions, Written,
};
pub use watch::{RangeEnd, WatchEvent, WatchOptions, WatchStream};
