//! Small files that are replaced as a whole: temporary name, write, sync, rename, sync of the directory.

use std::{
    io::{ErrorKind, IoSlice},
    path::Path,
};

use crate::{
    Error, Result,
    disk::{Disk, OpenMode},
};

/// No small file is longer. A manifest of this length names eleven million segments.
pub const SMALL_BYTES_MAX: u64 = 256 << 20;

const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes `name` in `dir` so that after a crash it has its old content, the new, or (if it is new) is absent.
pub fn write_durably(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    write_durably_from(disk, dir, name, &[IoSlice::new(bytes)])
}

/// Like [`write_durably`], for content in several pieces.
pub fn write_durably_from(disk: &dyn Disk, dir: &Path, name: &str, pieces: &[IoSlice<'_>]) -> Result<()> {
    prepare(disk, dir, name, pieces)?;
    put_in_place(disk, dir, name)
}

/// The first half of [`write_durably_from`]: writes and syncs the temporary file. Where it fails, nothing has changed.
pub(crate) fn prepare(disk: &dyn Disk, dir: &Path, name: &str, pieces: &[IoSlice<'_>]) -> Result<()> {
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let doing = |e| Error::io(format_args!("writing {}", temporary.display()), e);
    let file = match disk.open(&temporary, OpenMode::CreateNew) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            // Left by an attempt that failed; nothing refers to it.
            disk.remove(&temporary).map_err(doing)?;
            disk.open(&temporary, OpenMode::CreateNew)
        }
        other => other,
    }
    .map_err(doing)?;
    let mut offset = 0;
    for piece in pieces {
        file.write_all_at(piece, offset).map_err(doing)?;
        offset += piece.len() as u64;
    }
    file.sync_data().map_err(doing)
}

/// The second half: gives the temporary file its name. Where it fails, the old or the new content may be found after a
/// crash.
pub(crate) fn put_in_place(disk: &dyn Disk, dir: &Path, name: &str) -> Result<()> {
    let doing = |e| Error::io(format_args!("writing {}", dir.join(name).display()), e);
    disk.rename(&dir.join(format!("{name}{TEMPORARY_SUFFIX}")), &dir.join(name)).map_err(doing)?;
    disk.sync_dir(dir).map_err(doing)
}

/// A whole small file; `None` if there is none of this name.
///
/// Errors: `Damage` if it is too long for one, `Io`.
pub fn read_small(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format_args!("opening {}", path.display()), e)),
    };
    let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
    let len = file.len().map_err(doing)?;
    if len > SMALL_BYTES_MAX {
        return Err(Error::damage(path, 0, format_args!("it is {len} bytes long")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(doing)?;
    Ok(Some(bytes))
}

/// Removes what interrupted writes left behind.
pub(crate) fn remove_temporaries(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<()> {
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| Error::io(format_args!("removing {}", path.display()), e))?;
    }
    Ok(())
}
