//! Esker's log: segmented, checksummed, append-only, with group commit. See `docs/format.md` for the bytes.

pub mod clock;
pub mod disk;
mod error;
pub mod record;
mod sync_policy;

pub use error::{Damage, Error, Result};
pub use sync_policy::SyncPolicy;

/// A frame's number within its group: strictly increasing from 1, the same on every replica, and the version
/// of every write in the frame.
pub type Index = u64;
/// The Raft term under which a frame was appended; 0 outside Raft.
pub type Term = u64;
/// One replicated group; many groups may share a log.
pub type GroupId = u32;
/// A segment's number: increasing from 1, never reused.
pub type SegmentId = u32;
