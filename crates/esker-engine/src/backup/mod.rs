//! Backups: a copy of a store at one version, made while it is in use, and its way back.
//!
//! ```text
//! source.rs     what belongs to the store at one instant
//! directory.rs  into a directory, sharing what did not change
//! list.rs       the file that says what a backup consists of
//! check.rs      whether a backup is whole
//! restore.rs    from a backup to a store
//! ```
//!
//! What is backed up is what the last checkpoint reaches: the log up to there, the index files over it, and the merged
//! segments. All of it is immutable, so that writes and merges go on meanwhile, and the store comes back without a replay.

mod check;
mod directory;
mod list;
mod restore;
mod source;

use std::{path::Path, sync::Arc};

use esker_log::{Log, Result};

pub(crate) use self::check::verify;
pub use self::restore::restore;
use self::source::Source;
use crate::{Engine, Version};

/// Told of (bytes done, bytes in all). An error ends the work, and is its outcome.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// Files are copied so many bytes at a time.
const READ_BYTES: u64 = 1 << 20;

/// What a backup came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BackupReport {
    /// The last version that it has.
    pub version: Version,
    /// Files it consists of.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that an earlier backup in the same place had.
    pub files_kept: u64,
    /// Files that it shares with the store.
    pub files_linked: u64,
    /// Bytes that were written.
    pub bytes_copied: u64,
}

/// What a restore came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The last version that the store has.
    pub version: Version,
    /// Files restored.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Backs up what the engine has saved last into a directory.
pub(crate) fn into_dir(
    log: &Arc<Log>,
    engine: &dyn Engine,
    dir: &Path,
    progress: Progress<'_>,
) -> Result<BackupReport> {
    let source = Source::of(log, engine)?;
    directory::back_up(log.disk(), &source, dir, progress)
}
