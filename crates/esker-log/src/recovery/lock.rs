//! One process at a time.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Error, Result,
    disk::{DirLock, Disk, OpenMode},
};

const LOCK_NAME: &str = "LOCK";

/// A data directory that no other process has open, as long as this, a clone of it, or a log opened in it is there.
#[derive(Clone)]
pub struct LockedDir {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) lock: Arc<dyn DirLock>,
}

impl LockedDir {
    /// Locks `dir`, which is created if absent.
    ///
    /// Errors: `Locked`, `Io`, `DiskFull`.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self> {
        disk.create_dir_all(dir).map_err(|e| Error::io(format_args!("creating {}", dir.display()), e))?;
        let lock = lock_dir(disk.as_ref(), dir)?;
        Ok(Self { disk, dir: dir.to_owned(), lock: lock.into() })
    }

    /// The disk that holds it.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn lock_dir(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>> {
    let path = dir.join(LOCK_NAME);
    disk.lock(&path).map_err(|e| {
        if e.kind() == io::ErrorKind::WouldBlock {
            let holder = lock_holder(disk, &path).unwrap_or_else(|| "another process".into());
            Error::Locked { path, holder }
        } else {
            Error::io(format_args!("locking {}", path.display()), e)
        }
    })
}

/// The holder's process id, if it can be read; it is there for the message only.
fn lock_holder(disk: &dyn Disk, path: &Path) -> Option<String> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut text = vec![0; file.len().ok()?.min(20) as usize];
    file.read_exact_at(&mut text, 0).ok()?;
    let pid: u32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    Some(format!("process {pid}"))
}
