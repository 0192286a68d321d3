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
#[cfg(fuzzing)]
pub mod fuzzing;
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

#[cfg(test)]
mod tests {
    use esker_log::{disk::sim::SimDisk, recovery::BACKUP_NAME};

    use super::{
        list::{FileChecksum, List, Listed},
        *,
    };

    type Files = Vec<(&'static str, &'static str)>;

    /// A backup that can be restored, and those that differ from it in what makes it impossible.
    fn backups() -> (Files, Vec<Files>) {
        let whole: Files = vec![
            ("STORE", "which store"),
            ("MANIFEST", "which segments"),
            ("0000000001.log", "what was written"),
            ("0000000001.hint", "where it is"),
        ];
        let with = |name: &'static str| {
            let mut files = whole.clone();
            files.push((name, "too much"));
            files
        };
        let without = |name: &str| -> Files { whole.iter().filter(|file| file.0 != name).copied().collect() };
        let bad = vec![
            without("STORE"),
            without("MANIFEST"),
            with("STORE"),
            with("MANIFEST"),
            with("0000000001.log"),
            with("LOCK"),
            with("REPLICA"),
            with("BACKUP"),
            with("MANIFEST.tmp"),
            with("cat.jpg"),
        ];
        (whole, bad)
    }

    fn in_directory(disk: &SimDisk, files: &Files) {
        let listed = |(name, bytes): &(&str, &str)| Listed {
            name: (*name).into(),
            number: 1,
            len: bytes.len() as u64,
            checksum: FileChecksum::of(bytes.as_bytes()),
            origin: None,
        };
        let list = List { store: [7; 16], number: 1, version: 1, files: files.iter().map(listed).collect() };
        // Of a name that comes twice, the checksum of the first is not right; what is said of the list does not depend on it.
        for (file, (_, bytes)) in list.files.iter().zip(files) {
            disk.write_file(Path::new("/backup").join(file.stored_name()), bytes.as_bytes());
        }
        disk.write_file(Path::new("/backup").join(BACKUP_NAME), &list.encode());
    }

    /// CHECKS 8, 35: what verifies can be restored, and what cannot be is refused before anything is written.
    #[test]
    fn a_directory_verifies_if_it_can_be_restored() {
        let (whole, bad) = backups();
        let backups = [(whole, true)].into_iter().chain(bad.into_iter().map(|files| (files, false)));
        for (files, is_whole) in backups {
            let sim = SimDisk::new();
            in_directory(&sim, &files);
            let disk: Arc<dyn Disk> = Arc::new(sim.clone());
            let report = verify(disk.as_ref(), Path::new("/backup"), &mut |_, _| Ok(())).unwrap();
            let says_so = report.damage.iter().any(|damage| damage.what.starts_with("it lists"));
            assert_eq!((report.damage.is_empty(), says_so), (is_whole, !is_whole), "{files:?}: {report:?}");
            let restored = restore(&disk, "/backup", "/restored", &mut |_, _| Ok(()));
            assert_eq!(restored.is_ok(), is_whole, "{files:?}: {restored:?}");
            let is_touched = sim.files().iter().any(|path| path.starts_with("/restored"));
            assert_eq!(is_touched, is_whole, "{files:?}: {:?}", sim.files());
        }
    }

    /// The same of archives, of which it is known at the end only what is missing: until then there is no store, and no backup.
    #[test]
    fn an_archive_verifies_if_it_can_be_restored() {
        let (whole, bad) = backups();
        let backups = [(whole, true)].into_iter().chain(bad.into_iter().map(|files| (files, false)));
        for (files, is_whole) in backups {
            let bytes = archive::of_files(files.iter().map(|(name, bytes)| (*name, bytes.as_bytes())));
            let (sim, name) = (SimDisk::new(), Path::new("a.tar"));
            let disk: Arc<dyn Disk> = Arc::new(sim.clone());
            let verified = verify_archive(&mut &bytes[..], name, &mut |_| Ok(()));
            let is_intact = verified.as_ref().is_ok_and(|report| report.damage.is_empty());
            let restored = restore_archive(&disk, &mut &bytes[..], name, "/restored", &mut |_| Ok(()));
            let unpacked = unpack_archive(&disk, &mut &bytes[..], name, "/unpacked", &mut |_| Ok(()));
            assert_eq!(
                (is_intact, restored.is_ok(), unpacked.is_ok()),
                (is_whole, is_whole, is_whole),
                "{files:?}: {verified:?} {restored:?} {unpacked:?}"
            );
            assert_eq!(sim.file_bytes("/unpacked/BACKUP").is_some(), is_whole);
            assert_eq!(sim.file_bytes("/restored/MANIFEST").unwrap() == b"which segments", is_whole);
        }
    }
}
