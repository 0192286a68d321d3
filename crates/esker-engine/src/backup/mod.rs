//! Backups: a copy of a store at one version, made while it is in use, and its way back.
//!
//! ```text
//! source.rs     what belongs to the store at one instant
//! directory.rs  into a directory, sharing what did not change
//! archive.rs    into one stream of bytes, and back
//! list.rs       the file that says what a backup consists of
//! check.rs      whether a backup is whole
//! restore.rs    from a backup to a store
//! ```
//!
//! What is backed up is what the last checkpoint reaches: the log up to there, the index files over it, and the merged
//! segments. All of it is immutable, so that writes and merges go on meanwhile, and the store comes back without a replay.

mod archive;
mod check;
mod directory;
mod list;
mod restore;
mod source;

use std::{io, path::Path, sync::Arc};

use esker_log::{Result, disk::Disk};

pub use self::{
    archive::BackupArchive,
    check::verify_archive,
    restore::{restore, restore_archive},
};
pub(crate) use self::{check::verify, source::Source};
use crate::Version;

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

/// Backs up into a directory.
pub(crate) fn into_dir(
    disk: &Arc<dyn Disk>,
    source: &Source,
    dir: &Path,
    progress: Progress<'_>,
) -> Result<BackupReport> {
    directory::back_up(disk, source, dir, progress)
}

/// Backs up into an archive, which is still to be written.
pub(crate) fn into_archive(source: Source) -> BackupArchive {
    BackupArchive::new(source)
}

/// Makes a backup's directory of its archive, which `path` names in errors. If there is a backup in `dir`, which must be of the
/// same store, this one takes its place once it is complete; a crash leaves the one or the other. `progress` gets the bytes of
/// files done.
///
/// Errors: `InvalidRequest` (no archive of a backup, or `dir` holds something else), `Damage`, also if the archive was cut off,
/// `UnsupportedFormat`, `Locked`, `DiskFull`, `Io`, and what `progress` says.
pub fn unpack_archive(
    disk: &Arc<dyn Disk>,
    input: &mut dyn io::Read,
    path: &Path,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<BackupReport> {
    directory::unpack(disk, input, path, dir.as_ref(), progress)
}
