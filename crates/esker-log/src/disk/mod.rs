//! The disk as the log and the engines see it: a directory of files, a handful of operations.
//!
//! Everything that touches a file system goes through [`Disk`] and [`File`], so that the same code runs on
//! [`RealDisk`] and on [`SimDisk`](sim::SimDisk), which forgets what was not synced, tears and reorders writes,
//! flips bits and fails any operation on demand.
//!
//! # What a caller may rely on
//!
//! * Bytes written are durable only after [`File::sync_data`] returned `Ok` on that file.
//! * A file's *name* (created, renamed, removed) is durable only after [`Disk::sync_dir`] returned `Ok`.
//! * Reads and writes may be short. [`File::read_exact_at`] and [`File::write_all_at`] loop.
//! * After a failed sync nothing may be assumed about the bytes written since the last good one; the caller
//!   must stop acknowledging (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).

#[cfg(test)]
mod contract;
pub(crate) mod pool;
mod real;
pub mod sim;

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

pub use real::{RealDisk, is_locked};

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file, for reading and writing; fails with [`io::ErrorKind::AlreadyExists`] if the name is taken.
    CreateNew,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The file's name, without its directory. Names that are not UTF-8 are none of ours and are left out.
    pub name: String,
    /// The file's length in bytes.
    pub len: u64,
}

/// What tells a file or directory from a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// Its number in its file system. Numbers are used again.
    pub inode: u64,
    /// When it was created, in seconds and nanoseconds; `None` where the file system does not tell.
    pub created: Option<(i64, u32)>,
}

/// Whether [`Disk::link`] failed because there can be no second name: the file has to be copied.
pub fn cannot_link(error: &io::Error) -> bool {
    // EPERM is what file systems without links say, and kernels that protect the files of other users.
    let errors = [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::OPNOTSUPP, Errno::NOSYS];
    errors.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A directory tree of files. Paths are used as given.
pub trait Disk: Send + Sync + 'static {
    /// Opens or creates a file. A created file's name is durable only after [`Disk::sync_dir`].
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// The files (not the directories) in `dir`, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Gives a file another name, replacing what had that name. Durable after [`Disk::sync_dir`]. If the file itself has
    /// that name already, nothing happens.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, with which it is the same file. Durable after [`Disk::sync_dir`].
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken; where the file system cannot (another device, or no such
    /// names at all) the error is one that [`cannot_link`] knows.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`]. Open handles go on working.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its missing parents, syncing each parent; no error if it exists.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether files in `dir` are written over where they are, so that the first write into reserved space costs more than those that come
    /// after it: as on ext4 and XFS, and not where all is written anew (btrfs, ZFS). False where it cannot be told.
    fn writes_in_place(&self, dir: &Path) -> bool;

    /// What tells the file or directory at `path` from a copy of it.
    fn identity(&self, path: &Path) -> io::Result<FileIdentity>;

    /// Takes the exclusive lock on the file at `path` (created if absent) until the guard is dropped or the
    /// process ends. [`io::ErrorKind::WouldBlock`] if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// Holds a lock taken by [`Disk::lock`]; dropping it lets go.
pub trait DirLock: Send + Sync {}

/// An open file. All reads and writes carry their position, so that a handle can be shared by threads.
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at or past the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Like [`File::read_at`] but only as far as the bytes are already in memory: `Ok(None)` where the call
    /// would have to wait for the device, and at the end of the file, where some kernels cannot tell the two
    /// apart. May return fewer bytes than asked for.
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes the start of the concatenation of `bufs` at `offset`; says how many bytes were written.
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes the file's bytes and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves space for `len` bytes at `offset` and extends the file over it with zeros, so that later
    /// writes there cannot fail for want of space. Where the file system cannot reserve, only extends.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset` on; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of the concatenation of `bufs` at `offset`. Afterwards the slices are used up.
    fn write_pieces_at(&self, mut bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut at = offset;
        // Empty buffers in front would have a write say that it wrote nothing.
        IoSlice::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            match self.write_at(bufs, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut bufs, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of `buf` at `offset`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.write_at(&[IoSlice::new(&buf[done..])], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
