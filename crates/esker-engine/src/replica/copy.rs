//! A replica's state becomes a store of its own, or a backup.
//!
//! A node's own files are no backup: they hold votes and entries that are not decided, and lack what others hold. So a backup
//! of a node is made of a copy, which takes the space of what lives for as long as the backup takes.

use std::{io, path::Path, sync::Arc};

use esker_log::{
    Error, LockedDir, Log, Result, disk::Disk, format::StoreId, record::record_len, recovery::STORE_NAME,
};

use super::Replica;
use crate::{
    BackupArchive, BackupReport, KeyRange, Progress,
    backup::{self, Source},
    bitcask::repair::FreshStore,
};

/// Where, in the data directory, the copy is that a backup is made of.
const COPY_DIR: &str = "copy";
/// What is left there.
const LOCK_NAME: &str = "LOCK";

impl Replica {
    /// Writes the state at this instant to a single store in `dir`, which must be absent or empty: keys, values, versions and
    /// expiries, and nothing of the cluster. Writes go on meanwhile. As long as it is not complete, the store cannot be opened.
    ///
    /// It is never to be a member of a cluster: what this node has promised the others is not in it.
    ///
    /// Errors: `InvalidRequest` if `dir` is not empty, `Damage`, `DiskFull`, `Io`, and what `progress` says, which gets (bytes
    /// done, bytes in all).
    pub fn copy_to(
        &self,
        dir: impl AsRef<Path>,
        new_store: fn() -> io::Result<StoreId>,
        progress: Progress<'_>,
    ) -> Result<BackupReport> {
        let log = self.log();
        let mut fresh = FreshStore::create(log.disk(), dir.as_ref(), log.segment_max_bytes(), new_store)?;
        let report = self.fill(&mut fresh, progress)?;
        fresh.finish()?;
        Ok(report)
    }

    /// Makes a backup of the state at this instant in `dir`, as [`Db::backup`](crate::Db::backup) does: it restores as a single
    /// store. Everything is copied each time.
    ///
    /// Errors: `InvalidRequest` if `dir` holds something else; `Locked` if another backup is under way; `Damage`, `DiskFull`,
    /// `Io`, and what `progress` says, which gets (bytes done, bytes in all): what lives counts twice, when it is copied and when
    /// the copy is backed up, and how long that is with its index files is known once it is made.
    pub fn backup(&self, dir: impl AsRef<Path>, progress: Progress<'_>) -> Result<BackupReport> {
        let mut copied = 0;
        let copy = self.copy(&mut |done, total| {
            copied = done;
            progress(done, 2 * total)
        })?;
        let report = backup::into_dir(self.log().disk(), &copy.source, dir.as_ref(), &mut |done, total| {
            progress(copied + done, copied + total)
        })?;
        Ok(BackupReport { bytes_copied: report.bytes_copied + copy.source.bytes(), ..report })
    }

    /// Makes ready a backup of the state at this instant as one stream of bytes; it restores as a single store.
    ///
    /// Errors: as for [`Replica::backup`]; `progress` gets (bytes copied, bytes that live).
    pub fn backup_archive(&self, progress: Progress<'_>) -> Result<BackupArchive> {
        let Copy { source, dir } = self.copy(progress)?;
        Ok(backup::into_archive(source).holding(Box::new(dir)))
    }

    fn fill(&self, fresh: &mut FreshStore, progress: Progress<'_>) -> Result<BackupReport> {
        let snapshot = self.snapshot();
        fresh.at_version(snapshot.last.index);
        let mut report = BackupReport { version: snapshot.last.index, ..BackupReport::default() };
        // As the engine counts what lives; but that goes on changing, and sums of adds, which it does not count, become records.
        let (live, mut done) = (self.inner.engine.stats().live_bytes, 0);
        for item in snapshot.view.stored(&KeyRange::all(), false) {
            let item = item?;
            fresh.put(&item.key, item.version, item.flags, &item.stored)?;
            report.bytes_copied += (item.key.len() + item.stored.len()) as u64;
            done += record_len(item.key.len(), item.stored.len()) as u64;
            progress(done, live.max(done))?;
        }
        report.bytes = report.bytes_copied;
        Ok(report)
    }

    fn copy(&self, progress: Progress<'_>) -> Result<Copy> {
        let log = self.log();
        // From here on, whatever fails: nothing of the copy stays on the disk of a node that goes on.
        let dir = CopyDir::take(log)?;
        // The same each time, so that one backup takes the place of the one before, and never this node's own.
        let store = log.store().map(|byte| !byte);
        let mut fresh = FreshStore::create_in(dir.0.clone(), log.segment_max_bytes(), || Ok(store))?;
        self.fill(&mut fresh, progress)?;
        let (copy, saved) = fresh.finish()?;
        let source = Source::of(&copy, saved)?;
        Ok(Copy { source, dir })
    }
}

/// A copy of the state, as long as it is needed.
struct Copy {
    source: Source,
    /// Dropped behind it.
    dir: CopyDir,
}

/// Where a copy is made, one at a time: empty when it is taken, and again when this is dropped.
struct CopyDir(LockedDir);

impl CopyDir {
    fn take(log: &Log) -> Result<Self> {
        let dir = Self(LockedDir::new(Arc::clone(log.disk()), &log.dir().join(COPY_DIR))?);
        dir.empty()?;
        Ok(dir)
    }

    fn empty(&self) -> Result<()> {
        empty(self.0.disk().as_ref(), self.0.dir())
    }
}

impl Drop for CopyDir {
    fn drop(&mut self) {
        // What stays goes when the next copy is made, or the replica opened.
        let _left = self.empty().is_err();
    }
}

/// Removes what an interrupted backup left in a data directory.
pub(super) fn remove_left_copy(disk: &dyn Disk, data_dir: &Path) -> Result<()> {
    let dir = data_dir.join(COPY_DIR);
    match disk.list(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if found.iter().all(|found| found.name == LOCK_NAME) => Ok(()),
        _ => empty(disk, &dir),
    }
}

/// Removes the files of a copy; the first to go is what makes a store of it.
fn empty(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let doing = |e| Error::io(format_args!("emptying {}", dir.display()), e);
    let mut names: Vec<_> = disk.list(dir).map_err(doing)?.into_iter().map(|found| found.name).collect();
    names.sort_by_key(|name| name != STORE_NAME);
    for name in names.iter().filter(|name| *name != LOCK_NAME) {
        disk.remove(&dir.join(name)).map_err(doing)?;
    }
    Ok(())
}
