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
//! # Retries
//!
//! Within [`Retry::within`], the client sends a request again when that cannot do harm:
//!
//! * the server said that it did nothing (429, 503), after the time it asked for;
//! * the connection could not be made, so that nothing was sent (if [`Retry::unreachable`]);
//! * the connection broke or the answer was late: always for reads; for writes if [`Retry::resend_writes`].
//!
//! A put, a delete or a batch of them is a plain overwrite, so that sending it twice leaves what sending it once
//! leaves, *unless* somebody else writes the same key between the two: then that write is lost under the second
//! copy. Where a key has several writers who must see each other's writes, turn `resend_writes` off and decide on
//! [`Error::Interrupted`]. After a resent delete, `existed` tells what the last copy met.
//!
//! What it leaves out: TLS and passwords (the server has none yet), several endpoints, conditional writes.

mod batch;
mod client;
mod connect;
mod error;
mod retry;
mod scan;
mod transport;
mod types;

pub use batch::Batch;
pub use bytes::Bytes;
pub use client::Client;
pub use connect::connect;
pub use error::{Error, Result};
pub use esker_wire::{ErrorCode, admin, cluster};
pub use retry::Retry;
pub use scan::ScanStream;
pub use transport::Settings;
pub use types::{BatchDone, Deleted, Entry, Item, Meta, Page, Query, Range, Sync, Written};
