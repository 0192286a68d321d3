//! A backup becomes a store.
//!
//! While it is under way, `MANIFEST` says so: nobody can open the directory. Replacing it is the last step, and the instant
//! at which there is a store.

use std::{path::Path, sync::Arc};

use esker_log::{
    Error, LockedDir, Result,
    disk::{Disk, File, OpenMode},
    manifest::{MANIFEST_NAME, UNFINISHED_RESTORE, is_unfinished_restore},
    recovery::BACKUP_NAME,
    segment::{is_merged, parse_segment_name},
    small_file::write_durably,
};

use super::{
    Progress, READ_BYTES, RestoreReport,
    archive::{self, Sink},
    list::{FileChecksum, List, Listed},
};

/// So many zeros are put behind the last segment: a log that ends without reserved space looks as if its end was lost.
const RESERVED_BYTES: u64 = 4096;

/// Makes a store in `data_dir`, which must be absent or empty, of the backup in `backup_dir`.
///
/// Every file is checked against its checksum on the way. It is a store of its own, at just the version of the backup; that
/// it once was another's does not show. An interrupted attempt can be made again.
///
/// Errors: `InvalidRequest` (no backup, or the target is not empty), `Damage`, `UnsupportedFormat`, `Locked`, `DiskFull`, `Io`,
/// and what `progress` says, which gets (bytes done, bytes in all).
pub fn restore(
    disk: &Arc<dyn Disk>,
    backup_dir: impl AsRef<Path>,
    data_dir: impl AsRef<Path>,
    progress: Progress<'_>,
) -> Result<RestoreReport> {
    let (backup_dir, data_dir) = (backup_dir.as_ref(), data_dir.as_ref());
    let list = List::require(disk.as_ref(), backup_dir)?;
    list.check(&backup_dir.join(BACKUP_NAME))?;
    let target = Target::begin(disk, data_dir)?;
    let disk = disk.as_ref();
    let mut done = 0;
    let mut manifest = None;
    for file in &list.files {
        let path = backup_dir.join(file.stored_name());
        if file.name == MANIFEST_NAME {
            manifest = Some(read_checked(disk, &path, file)?);
            continue;
        }
        let from = open(disk, &path)?;
        let mut copied = target.create(&file.name)?;
        let mut at = 0;
        let mut chunk = vec![0; file.len.min(READ_BYTES) as usize];
        while at < file.len {
            let piece = &mut chunk[..(file.len - at).min(READ_BYTES) as usize];
            read_listed(&*from, &path, piece, at)?;
            copied.write(piece)?;
            at += piece.len() as u64;
            progress(done + at, list.bytes())?;
        }
        if copied.finish()? != file.checksum {
            return Err(mismatch(&path));
        }
        done += file.len;
    }
    target.finish(&list, &manifest.expect("the list was checked: it has one"))?;
    Ok(RestoreReport { version: list.version, files: list.files.len() as u64, bytes: list.bytes() })
}

/// The same of an archive, which `path` names in errors. `progress` gets the bytes of files done.
///
/// Errors: those of [`restore`].
pub fn restore_archive(
    disk: &Arc<dyn Disk>,
    input: &mut dyn std::io::Read,
    path: &Path,
    data_dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<RestoreReport> {
    let mut filling = Filling { disk, dir: data_dir.as_ref(), target: None, file: None, manifest: None };
    let list = archive::read(input, path, &mut filling, progress)?;
    let manifest = filling.manifest.take().expect("an archive without one is refused");
    filling.target()?.finish(&list, &manifest)?;
    Ok(RestoreReport { version: list.version, files: list.files.len() as u64, bytes: list.bytes() })
}

/// A data directory that is filled from an archive.
struct Filling<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    /// There from the first file on: what is no archive leaves nothing behind.
    target: Option<Target<'a>>,
    /// The file that is being written; none while it is the manifest.
    file: Option<Copied>,
    /// Kept to the end, when it makes a store of the directory.
    manifest: Option<Vec<u8>>,
}

impl<'a> Filling<'a> {
    fn target(&mut self) -> Result<&Target<'a>> {
        if self.target.is_none() {
            self.target = Some(Target::begin(self.disk, self.dir)?);
        }
        Ok(self.target.as_ref().expect("it was just made"))
    }
}

impl Sink for Filling<'_> {
    fn begin(&mut self, name: &str) -> Result<()> {
        let target = self.target()?;
        match name {
            MANIFEST_NAME => self.manifest = Some(Vec::new()),
            _ => self.file = Some(target.create(name)?),
        }
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        match (&mut self.file, &mut self.manifest) {
            (Some(file), _) => file.write(piece)?,
            (None, manifest) => manifest.get_or_insert_default().extend_from_slice(piece),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        // Its checksum is taken of what comes, not here.
        self.file.take().map_or(Ok(()), |file| file.finish().map(drop))
    }
}

pub(super) fn mismatch(path: &Path) -> Error {
    Error::damage(path, 0, "the checksum of the file is not what BACKUP says")
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn File>> {
    match disk.open(path, OpenMode::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::damage(path, 0, "the file is missing"))
        }
        other => other.map_err(|e| Error::io(format_args!("opening {}", path.display()), e)),
    }
}

/// Fills `buf` from a file of a backup: that it is long enough is what the list says.
pub(super) fn read_listed(file: &dyn File, path: &Path, buf: &mut [u8], offset: u64) -> Result<()> {
    match file.read_exact_at(buf, offset) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::damage(path, offset, "the file was cut short"))
        }
        other => other.map_err(|e| Error::io(format_args!("reading {} at {offset}", path.display()), e)),
    }
}

fn read_checked(disk: &dyn Disk, path: &Path, file: &Listed) -> Result<Vec<u8>> {
    let from = open(disk, path)?;
    let len = from.len().map_err(|e| Error::io(format_args!("reading {}", path.display()), e))?;
    if len < file.len {
        return Err(Error::damage(path, len, "the file was cut short"));
    }
    let mut bytes = vec![0; file.len as usize];
    read_listed(&*from, path, &mut bytes, 0)?;
    if FileChecksum::of(&bytes) == file.checksum { Ok(bytes) } else { Err(mismatch(path)) }
}

/// A data directory that is being filled.
pub(super) struct Target<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    _lock: LockedDir,
}

impl<'a> Target<'a> {
    /// From now on the directory cannot be opened as a store, until the end.
    pub(super) fn begin(disk: &'a Arc<dyn Disk>, dir: &'a Path) -> Result<Self> {
        let lock = LockedDir::new(Arc::clone(disk), dir)?;
        let disk = disk.as_ref();
        let doing = |e| Error::io(format_args!("listing {}", dir.display()), e);
        let names = disk.list(dir).map_err(doing)?.into_iter().map(|found| found.name);
        let found: Vec<_> = names.filter(|name| name != "LOCK").collect();
        let is_interrupted = is_unfinished_restore(disk, dir)?;
        if found.iter().any(|name| !is_interrupted && !name.ends_with(".tmp")) {
            let why = format!("{} is not empty: a restore wants a new directory", dir.display());
            return Err(Error::InvalidRequest(why));
        }
        write_durably(disk, dir, MANIFEST_NAME, UNFINISHED_RESTORE)?;
        for name in found.iter().filter(|name| *name != MANIFEST_NAME) {
            let path = dir.join(name);
            match disk.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format_args!("removing {}", path.display()), e));
                }
                _ => {}
            }
        }
        Ok(Self { disk, dir, _lock: lock })
    }

    pub(super) fn create(&self, name: &str) -> Result<Copied> {
        let path = self.dir.join(name);
        let file = self.disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(|e| Error::io(format_args!("creating {}", path.display()), e))?;
        Ok(Copied { file, path, at: 0, checksum: FileChecksum::default() })
    }

    /// All files are there and checked: the directory becomes a store.
    pub(super) fn finish(&self, list: &List, manifest: &[u8]) -> Result<()> {
        let segments = list.files.iter().filter_map(|file| Some((parse_segment_name(&file.name)?, file)));
        if let Some((_, last)) = segments.filter(|(id, _)| !is_merged(*id)).max_by_key(|(id, _)| *id) {
            self.reserve(last)?;
        }
        let doing = |e| Error::io(format_args!("syncing {}", self.dir.display()), e);
        self.disk.sync_dir(self.dir).map_err(doing)?;
        write_durably(self.disk, self.dir, MANIFEST_NAME, manifest)
    }

    fn reserve(&self, last: &Listed) -> Result<()> {
        let path = self.dir.join(&last.name);
        let doing = |e| Error::io(format_args!("reserving space in {}", path.display()), e);
        let file = self.disk.open(&path, OpenMode::ReadWrite).map_err(doing)?;
        file.allocate(last.len, RESERVED_BYTES).and_then(|()| file.sync_data()).map_err(doing)
    }
}

/// A file that is being written, front to back.
pub(super) struct Copied {
    file: Arc<dyn File>,
    path: std::path::PathBuf,
    at: u64,
    checksum: FileChecksum,
}

impl Copied {
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<()> {
        let doing = |e| Error::io(format_args!("writing {}", self.path.display()), e);
        self.file.write_all_at(piece, self.at).map_err(doing)?;
        self.checksum.update(piece);
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Makes it durable; gives its checksum.
    pub(super) fn finish(self) -> Result<u32> {
        let doing = |e| Error::io(format_args!("syncing {}", self.path.display()), e);
        self.file.sync_data().map_err(doing)?;
        Ok(self.checksum.finish())
    }
}
