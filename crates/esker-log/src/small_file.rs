//! Small files that are replaced as a whole: temporary name, write, sync, rename, sync of the directory.

use std::{io::IoSlice, path::Path};

use crate::{
    Error, Result,
    disk::{Disk, OpenMode},
};

const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes `name` in `dir` so that after a crash it has its old content, the new, or (if it is new) is absent.
pub fn write_durably(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    write_durably_from(disk, dir, name, &[IoSlice::new(bytes)])
}

/// Like [`write_durably`], for content in several pieces.
pub fn write_durably_from(disk: &dyn Disk, dir: &Path, name: &str, pieces: &[IoSlice<'_>]) -> Result<()> {
    let path = dir.join(name);
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let doing = |e| Error::io(format_args!("writing {}", path.display()), e);
    let file = match disk.open(&temporary, OpenMode::CreateNew) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
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
    file.sync_data().map_err(doing)?;
    disk.rename(&temporary, &path).map_err(doing)?;
    disk.sync_dir(dir).map_err(doing)
}

/// Removes what interrupted writes left behind.
pub(crate) fn remove_temporaries(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<()> {
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| Error::io(format_args!("removing {}", path.display()), e))?;
    }
    Ok(())
}
