//! A backup in a directory. One directory holds one backup; the next takes its place, and shares with it what did not change.
//!
//! 1. What an interrupted attempt left is removed: whatever `BACKUP` does not list.
//! 2. Files that are there already stay. The others come under names that no backup has used: a second name for the
//!    store's own file where nothing is appended to it any more and the file system is the same, else a copy.
//! 3. All of it is durable, then `BACKUP` is replaced. From this instant the new backup is the one.
//! 4. What only the old one listed is removed.

use std::path::Path;

use esker_log::{
    Error, LockedDir, Result,
    disk::{Disk, File, FileIdentity, OpenMode, cannot_link},
    recovery::BACKUP_NAME,
    small_file::write_durably,
};

use super::{
    BackupReport, Progress, READ_BYTES,
    list::{FileChecksum, List, Listed, parse_stored_name, stored_name},
    source::{Content, Source, SourceFile},
};

/// Makes a backup in `dir`, which is created if absent. Only one runs at a time.
pub(super) fn back_up(
    disk: &std::sync::Arc<dyn Disk>,
    source: &Source,
    dir: &Path,
    progress: Progress<'_>,
) -> Result<BackupReport> {
    let _lock = LockedDir::new(std::sync::Arc::clone(disk), dir)?;
    let disk = disk.as_ref();
    let before = List::read(disk, dir)?;
    check_target(disk, dir, source, before.as_ref())?;
    if let Some(list) = &before {
        // What was read may be in the page cache only, and the disk may still have a list of files that are removed next.
        write_durably(disk, dir, BACKUP_NAME, &list.encode())?;
    }
    remove_unlisted(disk, dir, before.as_ref())?;
    let number = before.as_ref().map_or(0, |list| list.number) + 1;
    let mut job = Job {
        disk,
        dir,
        before,
        number,
        report: BackupReport::default(),
        is_listed: false,
        total: source.bytes(),
        progress,
    };
    job.report.version = source.version;
    match job.add_all(source) {
        Ok(list) => {
            // The new one is complete: of what is not removed now the next attempt takes care.
            remove_unlisted(disk, dir, Some(&list))?;
            Ok(job.report)
        }
        Err(error) => {
            // So that an attempt that found the disk full does not leave it so. What stays, the next one removes. If it
            // was the replacement of the list that failed, either may be found after a crash, and both need their files.
            if !job.is_listed {
                drop(remove_unlisted(disk, dir, job.before.as_ref()));
            }
            Err(error)
        }
    }
}

/// A backup goes where there is nothing, or an earlier one of the same store.
fn check_target(disk: &dyn Disk, dir: &Path, source: &Source, before: Option<&List>) -> Result<()> {
    if before.is_some_and(|list| list.store != source.store) {
        return Err(Error::InvalidRequest(format!("{} has a backup of another store", dir.display())));
    }
    if before.is_some() {
        return Ok(());
    }
    let is_ours = |name: &str| name == "LOCK" || name.ends_with(".tmp") || parse_stored_name(name).is_some();
    let foreign = names(disk, dir)?.into_iter().find(|name| !is_ours(name));
    match foreign {
        Some(name) => {
            Err(Error::InvalidRequest(format!("{} has no backup, but other files ({name})", dir.display())))
        }
        None => Ok(()),
    }
}

fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    let found = disk.list(dir).map_err(|e| Error::io(format_args!("listing {}", dir.display()), e))?;
    Ok(found.into_iter().map(|found| found.name).collect())
}

/// Removes the files of backups that `list` does not have. Files that no backup has made stay.
fn remove_unlisted(disk: &dyn Disk, dir: &Path, list: Option<&List>) -> Result<()> {
    let listed: std::collections::HashSet<_> =
        list.iter().flat_map(|list| &list.files).map(Listed::stored_name).collect();
    for name in names(disk, dir)? {
        if parse_stored_name(&name).is_some() && !listed.contains(&name) {
            let path = dir.join(name);
            disk.remove(&path).map_err(|e| Error::io(format_args!("removing {}", path.display()), e))?;
        }
    }
    Ok(())
}

/// A backup under way.
struct Job<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    /// The one whose place it takes.
    before: Option<List>,
    number: u64,
    report: BackupReport,
    /// Whether the new list may be found after a crash.
    is_listed: bool,
    total: u64,
    progress: Progress<'a>,
}

impl Job<'_> {
    fn add_all(&mut self, source: &Source) -> Result<List> {
        let mut files = Vec::with_capacity(source.files.len());
        for file in &source.files {
            files.push(self.add(file)?);
            self.report.files += 1;
            self.report.bytes += file.len;
            (self.progress)(self.report.bytes, self.total)?;
        }
        let doing = |e| Error::io(format_args!("syncing {}", self.dir.display()), e);
        self.disk.sync_dir(self.dir).map_err(doing)?;
        let list = List { store: source.store, number: self.number, version: source.version, files };
        self.is_listed = true;
        write_durably(self.disk, self.dir, BACKUP_NAME, &list.encode())?;
        Ok(list)
    }

    fn add(&mut self, file: &SourceFile) -> Result<Listed> {
        let origin = match &file.content {
            Content::File { identity, .. } => Some(*identity),
            Content::Bytes(_) => None,
        };
        if let Some(kept) = self.kept(file, origin)? {
            self.report.files_kept += 1;
            return Ok(kept);
        }
        let stored = self.dir.join(stored_name(&file.name, self.number));
        let checksum = if self.link(file, &stored)? {
            self.report.files_linked += 1;
            self.read(file, None)?
        } else {
            self.report.bytes_copied += file.len;
            self.copy(file, &stored)?
        };
        Ok(Listed { name: file.name.clone(), number: self.number, len: file.len, checksum, origin })
    }

    /// What the earlier backup has of this very file, if it still is what it was.
    fn kept(&self, file: &SourceFile, origin: Option<FileIdentity>) -> Result<Option<Listed>> {
        let Some(listed) = self.before.as_ref().and_then(|list| list.find(&file.name)).cloned() else {
            return Ok(None);
        };
        if listed.len != file.len || !self.is_whole(&listed)? {
            return Ok(None);
        }
        // What is listed was never changed since, and a file's number comes again only with another time. Where the file system
        // does not tell the time, all is copied each time.
        let is_same = origin.is_some_and(|it| it.created.is_some()) && listed.origin == origin;
        Ok(is_same.then_some(listed))
    }

    fn is_whole(&self, listed: &Listed) -> Result<bool> {
        let path = self.dir.join(listed.stored_name());
        let doing = |e| Error::io(format_args!("looking at {}", path.display()), e);
        match self.disk.open(&path, OpenMode::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => Ok(other.and_then(|file| file.len()).map_err(doing)? >= listed.len),
        }
    }

    /// Gives the store's file a second name. False: it has to be copied.
    fn link(&self, file: &SourceFile, stored: &Path) -> Result<bool> {
        let Content::File { link: Some(path), identity, .. } = &file.content else { return Ok(false) };
        match self.disk.link(path, stored) {
            Ok(()) => {}
            // An index file may have been joined with others since it was opened.
            Err(e) if cannot_link(&e) || e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io(format_args!("linking {}", path.display()), e)),
        }
        let doing = |e| Error::io(format_args!("linking {}", path.display()), e);
        let is_it = self.disk.identity(stored).map_err(doing)? == *identity;
        if !is_it {
            self.disk.remove(stored).map_err(doing)?;
        }
        Ok(is_it)
    }

    fn copy(&mut self, file: &SourceFile, stored: &Path) -> Result<u32> {
        let doing = |e| Error::io(format_args!("writing {}", stored.display()), e);
        let out = self.disk.open(stored, OpenMode::CreateNew).map_err(doing)?;
        let checksum = self.read(file, Some(&*out))?;
        out.sync_data().map_err(doing)?;
        Ok(checksum)
    }

    /// Reads what counts of a file, and writes it to `out`; gives its checksum.
    fn read(&mut self, file: &SourceFile, out: Option<&dyn File>) -> Result<u32> {
        let mut chunk = vec![0; file.len.min(READ_BYTES) as usize];
        let (mut at, mut checksum) = (0, FileChecksum::default());
        while at < file.len {
            let piece = &mut chunk[..(file.len - at).min(READ_BYTES) as usize];
            file.read_exact_at(piece, at)?;
            checksum.update(piece);
            if let Some(out) = out {
                let doing = |e| Error::io(format_args!("writing a copy of {}", file.name), e);
                out.write_all_at(piece, at).map_err(doing)?;
            }
            at += piece.len() as u64;
            (self.progress)(self.report.bytes + at, self.total)?;
        }
        Ok(checksum.finish())
    }
}
