//! Esker's Store: the one asynchronous interface through which every front reads and writes.
//!
//! ```text
//! front -> Store -> Single (this node commits for itself) -> Db
//!            |-> I/O pool: cold reads, chunks of scans
//! ```
//!
//! What the Store adds to the engine: limits ([`Limits`], [`Batch`]), budgets (bytes of writes under way, jobs
//! that wait for the I/O pool), and futures that never block the thread that polls them (a [home](Store::home) waits for syncs, where
//! they are quick). It runs under any executor and starts none. How writes are committed is `single.rs`'s business; nothing else knows the mode.

mod batch;
mod error;
mod home;
pub mod metrics;
mod multi_get;
mod options;
pub mod peer;
mod pool;
pub mod raft;
mod scan;
mod single;
mod store;
pub mod tls;
mod view;
mod watch;

pub use batch::{Batch, Limits};
pub use error::{Error, Result};
pub use options::{Ack, Consistency, WriteOptions};
pub use scan::{Admit, Chunk, Room, Scan, ScanOptions, with_read_ahead};
pub use store::{BackupStream, Compacted, Status, Store, StoreConfig, WorkProgress, is_backup_name};
pub use view::{ClusterView, Member, MemberChange, Role};
pub use watch::{Watch, WatchEvent, WatchOptions};
