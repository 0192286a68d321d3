//! A backup in a directory. One directory holds one backup; the next takes its place, and shares with it what did not change.
//!
//! 1. What an interrupted attempt left is removed: whatever `BACKUP` does not list.
//! 2. Files that are there already stay. The others come under names that no backup has used: a second name for the
//!    store's own file where nothing is appended to it any more and the file system is the same, else a copy.
//! 3. All of it is durable, then `BACKUP` is replaced. From this instant the new backup is the one.
//! 4. What only the old one listed is removed.
//!
//! An archive is unpacked in the same way, and shares nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use esker_log::{
    Error, LockedDir, Result,
    disk::{Disk, File, FileIdentity, OpenMode, cannot_link},
    format::StoreId,
    recovery::BACKUP_NAME,
    small_file::write_durably,
};

use super::{
    BackupReport, Progress, READ_BYTES,
    archive::{self, Sink},
    list::{FileChecksum, List, Listed, parse_stored_name, stored_name},
    source::{Content, Source, SourceFile},
};

/// Makes a backup in `dir`, which is created if absent. Only one runs at a time.
pub(super) fn back_up(
    disk: &Arc<dyn Disk>,
    source: &Source,
    dir: &Path,
    progress: Progress<'_>,
) -> Result<BackupReport> {
    let target = Directory::open(disk, dir, Some(&source.store))?;
    let report = BackupReport { version: source.version, ..BackupReport::default() };
    let mut job = Job { target, report, total: source.bytes(), progress };
    let outcome = job.add_all(source);
    job.target.settle(outcome)?;
    Ok(job.report)
}

/// Unpacks an archive into `dir`, which is created if absent, in place of the backup that is there. `path` is what the archive
/// is called in errors; `progress` gets the bytes of files done.
pub(super) fn unpack(
    disk: &Arc<dyn Disk>,
    input: &mut dyn std::io::Read,
    path: &Path,
    dir: &Path,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<BackupReport> {
    let mut unpacking = Unpacking { target: Directory::open(disk, dir, None)?, filling: None };
    let outcome = unpacking.add_all(input, path, progress);
    let mut report = BackupReport::default();
    if let Ok(list) = &outcome {
        let (files, bytes) = (list.files.len() as u64, list.bytes());
        report = BackupReport { version: list.version, files, bytes, bytes_copied: bytes, ..report };
    }
    unpacking.target.settle(outcome)?;
    Ok(report)
}

/// The directory of a backup, locked, without what an interrupted attempt left.
struct Directory<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    /// The one whose place the next takes.
    before: Option<List>,
    number: u64,
    /// Whether the new list may be found after a crash.
    is_listed: bool,
    _lock: LockedDir,
}

impl<'a> Directory<'a> {
    /// `store` is what is to be backed up, if that is known yet.
    fn open(disk: &'a Arc<dyn Disk>, dir: &'a Path, store: Option<&StoreId>) -> Result<Self> {
        let lock = LockedDir::new(Arc::clone(disk), dir)?;
        let disk = disk.as_ref();
        let before = List::read(disk, dir)?;
        match &before {
            Some(list) => store.map_or(Ok(()), |store| check_store(dir, list, store))?,
            None => check_empty(disk, dir)?,
        }
        if let Some(list) = &before {
            // What was read may be in the page cache only, and the disk may still have a list of files that are removed next.
            write_durably(disk, dir, BACKUP_NAME, &list.encode())?;
        }
        remove_unlisted(disk, dir, before.as_ref())?;
        let number = before.as_ref().map_or(0, |list| list.number) + 1;
        Ok(Self { disk, dir, before, number, is_listed: false, _lock: lock })
    }

    /// All files are there: the new backup takes the place of the old one.
    fn list(&mut self, list: &List) -> Result<()> {
        let doing = |e| Error::io(format_args!("syncing {}", self.dir.display()), e);
        self.disk.sync_dir(self.dir).map_err(doing)?;
        self.is_listed = true;
        write_durably(self.disk, self.dir, BACKUP_NAME, &list.encode())
    }

    /// Removes what does not belong to the backup that is there now.
    fn settle(&self, outcome: Result<List>) -> Result<()> {
        match outcome {
            // The new one is complete: of what is not removed now the next attempt takes care.
            Ok(list) => remove_unlisted(self.disk, self.dir, Some(&list)),
            Err(error) => {
                // So that an attempt that found the disk full does not leave it so. What stays, the next one removes. If it
                // was the replacement of the list that failed, either may be found after a crash, and both need their files.
                if !self.is_listed {
                    drop(remove_unlisted(self.disk, self.dir, self.before.as_ref()));
                }
                Err(error)
            }
        }
    }
}

/// A backup takes the place of an earlier one of the same store.
fn check_store(dir: &Path, before: &List, store: &StoreId) -> Result<()> {
    match before.store == *store {
        true => Ok(()),
        false => Err(Error::InvalidRequest(format!("{} has a backup of another store", dir.display()))),
    }
}

/// Where there is no earlier one, there may be nothing else.
fn check_empty(disk: &dyn Disk, dir: &Path) -> Result<()> {
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
    target: Directory<'a>,
    report: BackupReport,
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
        let list = List { store: source.store, number: self.target.number, version: source.version, files };
        self.target.list(&list)?;
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
        let stored = self.target.dir.join(stored_name(&file.name, self.target.number));
        let checksum = if self.link(file, &stored)? {
            self.report.files_linked += 1;
            self.read(file, None)?
        } else {
            self.report.bytes_copied += file.len;
            self.copy(file, &stored)?
        };
        Ok(Listed { name: file.name.clone(), number: self.target.number, len: file.len, checksum, origin })
    }

    /// What the earlier backup has of this very file, if it still is what it was.
    fn kept(&self, file: &SourceFile, origin: Option<FileIdentity>) -> Result<Option<Listed>> {
        let Some(listed) = self.target.before.as_ref().and_then(|list| list.find(&file.name)).cloned() else {
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
        let path = self.target.dir.join(listed.stored_name());
        let doing = |e| Error::io(format_args!("looking at {}", path.display()), e);
        match self.target.disk.open(&path, OpenMode::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => Ok(other.and_then(|file| file.len()).map_err(doing)? >= listed.len),
        }
    }

    /// Gives the store's file a second name. False: it has to be copied.
    fn link(&self, file: &SourceFile, stored: &Path) -> Result<bool> {
        let Content::File { link: Some(path), identity, .. } = &file.content else { return Ok(false) };
        match self.target.disk.link(path, stored) {
            Ok(()) => {}
            // An index file may have been joined with others since it was opened.
            Err(e) if cannot_link(&e) || e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io(format_args!("linking {}", path.display()), e)),
        }
        let doing = |e| Error::io(format_args!("linking {}", path.display()), e);
        let is_it = self.target.disk.identity(stored).map_err(doing)? == *identity;
        if !is_it {
            self.target.disk.remove(stored).map_err(doing)?;
        }
        Ok(is_it)
    }

    fn copy(&mut self, file: &SourceFile, stored: &Path) -> Result<u32> {
        let doing = |e| Error::io(format_args!("writing {}", stored.display()), e);
        let out = self.target.disk.open(stored, OpenMode::CreateNew).map_err(doing)?;
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

/// An archive that is being unpacked.
struct Unpacking<'a> {
    target: Directory<'a>,
    /// The file that is being written, and how long it is.
    filling: Option<(PathBuf, Arc<dyn File>, u64)>,
}

impl Unpacking<'_> {
    fn add_all(
        &mut self,
        input: &mut dyn std::io::Read,
        path: &Path,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<List> {
        let mut list = archive::read(input, path, self, progress)?;
        if let Some(before) = &self.target.before {
            check_store(self.target.dir, before, &list.store)?;
        }
        list.number = self.target.number;
        list.files.iter_mut().for_each(|file| file.number = list.number);
        self.target.list(&list)?;
        Ok(list)
    }
}

impl Sink for Unpacking<'_> {
    fn begin(&mut self, name: &str) -> Result<()> {
        let path = self.target.dir.join(stored_name(name, self.target.number));
        let file = self.target.disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(|e| Error::io(format_args!("creating {}", path.display()), e))?;
        self.filling = Some((path, file, 0));
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        let (path, file, len) = self.filling.as_mut().expect("a file has begun");
        file.write_all_at(piece, *len)
            .map_err(|e| Error::io(format_args!("writing {}", path.display()), e))?;
        *len += piece.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (path, file, _) = self.filling.take().expect("a file has begun");
        file.sync_data().map_err(|e| Error::io(format_args!("syncing {}", path.display()), e))
    }
}
