//! The client without `async`: the same methods, which wait.
//!
//! ```no_run
//! # fn example() -> Result<(), esker_client::Error> {
//! use esker_client::{Query, blocking::Client};
//!
//! let client = Client::new("http://127.0.0.1:8080")?;
//! client.put(b"greeting", "hello")?;
//! for item in client.scan(&Query::default())? {
//!     println!("{:?}", item?.key);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] has a runtime of its own with one thread, which keeps its connections; the last of its clones and streams ends it.
//! Cloning is cheap, and all clones may be used at once, each from a thread of its own.
//!
//! Within an asynchronous runtime a call that waits would hold up the tasks around it, so there every method ends with
//! [`Error::InvalidRequest`](crate::Error::InvalidRequest), also on a thread of `spawn_blocking`, which belongs to the
//! runtime: use [`crate::Client`] there. Dropping a client is allowed anywhere.

mod client;
mod streams;
mod thread;

pub use client::Client;
pub use streams::{Backup, Scan, Watch};
