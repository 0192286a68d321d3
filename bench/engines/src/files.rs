//! Directories of stores: copied, removed, and taken out of the page cache.

use std::{fs, io, path::Path};

use anyhow::Result;
use rustix::fs::{Advice, fadvise, syncfs};

pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Copies a store and waits until the copy is on the disk, so that writing it back slows down nobody afterwards.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    copy_all(from, to)?;
    sync(to)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Waits until the whole file system is on the disk.
pub fn sync(dir: &Path) -> Result<()> {
    Ok(syncfs(fs::File::open(dir)?)?)
}

/// Takes a store's files out of the page cache: pages that others brought in would not count against a group's limit.
pub fn evict(dir: &Path) -> Result<()> {
    sync(dir)?;
    evict_all(dir)
}

fn evict_all(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            evict_all(&entry.path())?;
        } else {
            fadvise(fs::File::open(entry.path())?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
