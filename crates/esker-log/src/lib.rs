//! Esker's log: segmented, checksummed, append-only, with group commit. See `docs/format.md` for the bytes.

mod append_queue;
mod brake;
pub mod clock;
mod commit;
pub mod disk;
pub mod entropy;
mod error;
pub mod format;
mod gather;
mod install;
mod log;
pub mod machine;
pub mod manifest;
mod merged;
mod read_ahead;
pub mod record;
pub mod recovery;
pub mod scan;
pub mod segment;
pub mod segments;
pub mod signal;
pub mod small_file;
mod sync_policy;
mod write_back;
mod writer;
mod zeros;

pub use append_queue::{Append, AppendQueue, OnAppended, Written};
pub use brake::{Brake, Wait};
pub use commit::{
    COMMITTERS, Callback, CommitCounters, Consumer, GroupCommit, QueueLimits, Submission, is_in_callback,
};
pub use error::{Damage, Error, Result};
pub use gather::Gather;
pub use install::Merge;
pub use log::{Log, LogCounters, LogOptions, RecordLocation};
pub use merged::MergedWriter;
pub use read_ahead::ReadAhead;
pub use recovery::{LockedDir, Opening, Recovered};
pub use segment::{Position, is_merged};
pub use sync_policy::SyncPolicy;
pub use writer::{Draft, GroupEnd, Writer};

/// A frame's number within its group: strictly increasing from 1, the same on every replica, and the version
/// of every write in the frame.
pub type Index = u64;
/// The Raft term under which a frame was appended; 0 outside Raft.
pub type Term = u64;
/// One replicated group; many groups may share a log.
pub type GroupId = u32;
/// A segment's number: increasing from 1 for log segments, from 2³¹ + 1 for merged ones, never reused.
pub type SegmentId = u32;
