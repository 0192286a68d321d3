//! A client for Esker over its HTTP interface.
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
//! # Clusters
//!
//! Give [`Client::new`] the addresses of some nodes, with commas between; one suffices. The client asks the node that
//! answered last. It follows a redirect to the leader, goes on to the next node when one is silent, unreachable or turns it
//! away, and learns the members' addresses from whoever answers, at first and after every failure
//! ([`Settings::discover`]).
//!
//! # Retries
//!
//! Within [`Retry::within`], the client sends a request again when that cannot do harm:
//!
//! * the server said that it did nothing (307, 429, 503), after the time it asked for;
//! * the connection could not be made, so that nothing was sent (if [`Retry::unreachable`], or to another server);
//! * the connection broke or the answer was late: always for reads; for writes if [`Retry::resend_writes`].
//!
//! Every copy of a write carries the same request id. A cluster applies one of them, whichever node they arrive at, and
//! answers the others as it answered that one.
//!
//! A single server applies each copy. A put, a delete or a batch of them is a plain overwrite, so that sending it twice leaves
//! what sending it once leaves, *unless* somebody else writes the same key between the two: then that write is lost under the
//! second copy. Where a single server's key has several writers who must see each other's writes, turn `resend_writes` off and
//! decide on [`Error::Interrupted`]. After a resent delete, `existed` tells what the last copy met.
//!
//! An increment, or a write with a condition, done twice is another thing than done once. Where the connection breaks, a single
//! server is not sent such a write again: the caller is told [`Error::Interrupted`] or [`Error::TimedOut`], and decides. A
//! cluster is sent it again under its request id; it is known to be one when several servers were given, or when it has told
//! its members.
//!
//! What it leaves out: TLS and passwords (the server has none yet).

mod attempts;
mod batch;
mod body;
mod care;
mod client;
mod connect;
mod endpoints;
mod error;
mod random;
mod request_id;
mod retry;
mod scan;
mod transport;
mod types;

pub use batch::Batch;
pub use bytes::Bytes;
pub use care::BackupStream;
pub use client::Client;
pub use connect::connect;
pub use error::{Error, Result};
pub use esker_wire::{Ack, Consistency, ErrorCode, admin, cluster};
pub use retry::Retry;
pub use scan::ScanStream;
pub use transport::Settings;
pub use types::{
    BatchDone, Condition, Deleted, Entry, Found, FoundAll, Incremented, Item, KeyOptions, Meta, Page,
    PutOptions, Query, Range, RangeDeleted, Sync, WriteOptions, Written,
};
