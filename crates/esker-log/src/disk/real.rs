//! The operating system's file system.
//!
//! A thin layer: each operation is one system call, repeated when a signal interrupts it. What the kernel or the
//! file system cannot do is replaced by something that keeps the contract: see [`RealDisk`].

use std::{
    ffi::OsStr,
    fs,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, CWD, FallocateFlags, FlockOperation, OFlags, StatxFlags},
    io::{Errno, ReadWriteFlags, retry_on_intr},
};

use super::{DirEntry, DirLock, Disk, File, FileIdentity, OpenMode};

/// The most buffers Linux takes in one call (`IOV_MAX`).
const BUFFERS_MAX: usize = 1024;

/// The highest offset a file can have; beyond it the kernel reads offsets as negative.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// What `statfs` calls ext2 to ext4, and XFS (`linux/magic.h`): the file systems on which [`Disk::writes_in_place`] was measured.
const IN_PLACE: [u32; 2] = [0xef53, 0x5846_5342];

/// The file system of the machine.
///
/// * [`File::try_read_at`] is `preadv2` with `RWF_NOWAIT`; a file system without it always answers `Ok(None)`.
/// * [`File::allocate`] is `fallocate`; a file system without it only extends the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// Whether a process holds the lock on the file at `path`. Changes nothing, not even the file.
#[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

impl Disk for RealDisk {
    #[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        // A read that need not note its time is a few per cent cheaper. Only the file's owner may ask for that.
        options.custom_flags(OFlags::NOATIME.bits() as i32);
        let file = match options.open(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => options.custom_flags(0).open(path),
            other => other,
        }?;
        Ok(Arc::new(RealFile { file, always_waits: AtomicBool::new(false) }))
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            found.extend(describe(&entry?)?);
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return sync_name_of_existing(dir);
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir_all(parent)?;
        }
        make_dir(dir)?;
        sync_directory(parent_of(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_directory(dir)
    }

    fn writes_in_place(&self, dir: &Path) -> bool {
        retry_on_intr(|| rustix::fs::statfs(dir)).is_ok_and(|found| IN_PLACE.contains(&(found.f_type as u32)))
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        let asked = StatxFlags::INO | StatxFlags::BTIME;
        let found = retry_on_intr(|| rustix::fs::statx(CWD, path, AtFlags::empty(), asked))?;
        let tells = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let created = tells.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec));
        Ok(FileIdentity { inode: found.stx_ino, created })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut file = open_lock_file(path)?;
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held_by_another(path, &mut file)),
            Err(errno) => return Err(errno.into()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// A locked file: the kernel lets the lock go when the last handle of this opening is closed, which also happens
/// when the process dies.
struct RealLock {
    _file: fs::File,
}

impl DirLock for RealLock {}

/// The entry as [`Disk::list`] shows it; none for what is not a file, not UTF-8, or gone in the meantime.
fn describe(entry: &fs::DirEntry) -> io::Result<Option<DirEntry>> {
    let Ok(name) = entry.file_name().into_string() else { return Ok(None) };
    match entry.metadata() {
        Ok(meta) if meta.is_file() => Ok(Some(DirEntry { name, len: meta.len() })),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The directory that holds the name `path`.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        other => other,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
fn sync_directory(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Makes the name of a directory durable that was there already.
///
/// An earlier process may have created it and died before its sync. Where we may not, or the parent is on a file
/// system that does not do this (a mount point on a read-only root), we cannot have created the name either.
fn sync_name_of_existing(dir: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    match sync_directory(parent_of(dir)) {
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem) => Ok(()),
        other => other,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one home of file system calls")]
fn open_lock_file(path: &Path) -> io::Result<fs::File> {
    // Not truncated before the lock is ours: the content says who holds it.
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn held_by_another(path: &Path, file: &mut fs::File) -> io::Error {
    let mut text = String::new();
    let holder = match file.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    };
    let message = format!("{} is locked by {holder}", path.display());
    io::Error::new(io::ErrorKind::WouldBlock, message)
}

/// An open file of the machine.
struct RealFile {
    file: fs::File,
    /// Set once the file system has said that it cannot read without waiting, so that we stop asking.
    always_waits: AtomicBool,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.file, &mut *buf, offset))?)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if self.always_waits.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match read_in_memory(&self.file, buf, offset) {
            // Linux 5.9 and 5.10 answer 0 where they should say EAGAIN: let a plain read decide about the end.
            Ok(0) | Err(Errno::AGAIN) => Ok(None),
            Ok(n) => Ok(Some(n)),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.always_waits.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if let [buf] = bufs {
            return Ok(retry_on_intr(|| rustix::io::pwrite(&self.file, buf, offset))?);
        }
        let bufs = &bufs[..bufs.len().min(BUFFERS_MAX)];
        Ok(retry_on_intr(|| rustix::io::pwritev(&self.file, bufs, offset))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, len)) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.extend_to(offset.saturating_add(len)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl RealFile {
    fn extend_to(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }
}

fn read_in_memory(file: &fs::File, buf: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    // An offset of all ones would mean "the file's own position".
    if offset > OFFSET_MAX {
        return Err(Errno::INVAL);
    }
    retry_on_intr(|| {
        rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut *buf)], offset, ReadWriteFlags::NOWAIT)
    })
}
