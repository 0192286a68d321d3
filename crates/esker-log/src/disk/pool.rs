//! Files that are open only while they are used, so that a store may have more of them than a process may open.
//!
//! A [`PooledFile`] opens its file with the first read and stays open until the [`FilePool`] has too many: then the ones
//! that were not used for a while are closed, by a clock (second chance). What a read costs beside the read itself is one
//! lock of the file's own, for reading. A file that is being read is not closed: where more threads read than files may be
//! open, there are more.
//!
//! Files that are written are *held*: they are open from their creation on, and count, but are not closed before
//! [`PooledFile::release`].

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Disk, File, OpenMode};
use crate::error::is_out_of_files;

/// Bounds how many files are open.
pub(crate) struct FilePool {
    disk: Arc<dyn Disk>,
    max: usize,
    /// How many are open, or are being opened.
    open: AtomicUsize,
    /// Locked to open and close files only.
    clock: Mutex<Clock>,
}

/// The open files that may be closed.
#[derive(Default)]
struct Clock {
    files: Vec<Weak<PooledFile>>,
    /// Where the search for a file to close goes on.
    hand: usize,
}

/// A file of a pool. Once it is released, it is read only.
pub(crate) struct PooledFile {
    pool: Arc<FilePool>,
    path: PathBuf,
    file: RwLock<Option<Arc<dyn File>>>,
    /// Set by every use, taken away by the clock's hand.
    used: AtomicBool,
    this: Weak<Self>,
}

type Opened<'a> = MappedRwLockReadGuard<'a, Arc<dyn File>>;

impl FilePool {
    /// At most `max` files of `disk`, at least one.
    pub(crate) fn new(disk: Arc<dyn Disk>, max: usize) -> Arc<Self> {
        Arc::new(Self { disk, max: max.max(1), open: AtomicUsize::new(0), clock: Mutex::default() })
    }

    /// The disk.
    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// How many files are open.
    pub(crate) fn open_files(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Opens a file that will be written, and holds it.
    pub(crate) fn open_held(self: &Arc<Self>, path: &Path, mode: OpenMode) -> io::Result<Arc<PooledFile>> {
        let file = self.open(path, mode)?;
        Ok(self.pooled(path, Some(file)))
    }

    /// A file that is opened by its first use, for reading.
    pub(crate) fn lazily(self: &Arc<Self>, path: &Path) -> Arc<PooledFile> {
        self.pooled(path, None)
    }

    fn pooled(self: &Arc<Self>, path: &Path, file: Option<Arc<dyn File>>) -> Arc<PooledFile> {
        Arc::new_cyclic(|this| PooledFile {
            pool: Arc::clone(self),
            path: path.to_owned(),
            file: RwLock::new(file),
            used: AtomicBool::new(false),
            this: Weak::clone(this),
        })
    }

    /// Opens a file, closing others to make room for it.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.open.fetch_add(1, Ordering::Relaxed);
        // If all others are in use, there is one more, until the next that is opened.
        while self.open.load(Ordering::Relaxed) > self.max && self.close_one() {}
        let opened = match self.disk.open(path, mode) {
            // The process may have fewer files left than the pool may open.
            Err(e) if is_out_of_files(&e) && self.close_one() => self.disk.open(path, mode),
            other => other,
        };
        if opened.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        opened
    }

    /// An open file may be closed from now on.
    fn enter(&self, file: &Weak<PooledFile>) {
        let mut clock = self.clock.lock();
        if clock.files.len() >= 2 * self.max {
            clock.files.retain(|file| file.strong_count() > 0);
        }
        clock.files.push(Weak::clone(file));
    }

    /// Closes the file that is next and was not used since the hand passed it last; false if all are in use.
    fn close_one(&self) -> bool {
        let mut clock = self.clock.lock();
        // The first time round may find nothing but files that were used.
        for _ in 0..2 * clock.files.len() {
            let Some(at) = clock.hand.checked_rem(clock.files.len()) else { return false };
            clock.hand = at + 1;
            let Some(file) = clock.files[at].upgrade() else {
                clock.forget(at);
                continue;
            };
            if file.used.swap(false, Ordering::Relaxed) {
                continue;
            }
            let Some(mut slot) = file.file.try_write() else { continue };
            let closed = slot.take();
            clock.forget(at);
            drop((slot, clock));
            self.open.fetch_sub(1, Ordering::Relaxed);
            drop((file, closed));
            return true;
        }
        false
    }
}

impl Clock {
    fn forget(&mut self, at: usize) {
        self.files.swap_remove(at);
        self.hand = at;
    }
}

impl PooledFile {
    /// The file, opened if need be. It is not closed while the guard lives.
    fn opened(&self) -> io::Result<Opened<'_>> {
        match self.if_open() {
            Some(file) => Ok(file),
            None => self.reopen(),
        }
    }

    fn if_open(&self) -> Option<Opened<'_>> {
        let file = RwLockReadGuard::try_map(self.file.read(), Option::as_ref).ok()?;
        // Written only where it changes something: otherwise the threads that read the file would fight for it.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(file)
    }

    fn reopen(&self) -> io::Result<Opened<'_>> {
        let mut slot = self.file.write();
        if slot.is_none() {
            *slot = Some(self.pool.open(&self.path, OpenMode::Read)?);
            self.pool.enter(&self.this);
        }
        let slot = RwLockWriteGuard::downgrade(slot);
        Ok(RwLockReadGuard::map(slot, |file| file.as_ref().expect("it was just opened")))
    }

    /// Lets go of a file that was held: nothing will be written to it any more.
    pub(crate) fn release(&self) {
        self.pool.enter(&self.this);
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        if self.file.get_mut().is_some() {
            self.pool.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl File for PooledFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.opened()?.read_at(buf, offset)
    }

    /// Of a file that is closed, nothing is in memory: opening it may have to wait.
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        match self.if_open() {
            Some(file) => file.try_read_at(buf, offset),
            None => Ok(None),
        }
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.opened()?.write_at(bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.opened()?.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.opened()?.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.opened()?.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.opened()?.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, FaultPlan, OpKind, Ops, SimDisk};

    const FILES: u8 = 20;

    fn path(n: u8) -> PathBuf {
        format!("/d/{n}").into()
    }

    /// Files that hold their number.
    fn disk() -> SimDisk {
        let disk = SimDisk::new();
        (0..FILES).for_each(|n| disk.write_file(path(n), &[n]));
        disk
    }

    fn pool(disk: &SimDisk, max: usize) -> (Arc<FilePool>, Vec<Arc<PooledFile>>) {
        let pool = FilePool::new(Arc::new(disk.clone()), max);
        let files = (0..FILES).map(|n| pool.lazily(&path(n))).collect();
        (pool, files)
    }

    fn read(file: &PooledFile) -> io::Result<u8> {
        let mut buf = [0];
        file.read_exact_at(&mut buf, 0).map(|()| buf[0])
    }

    fn is_open(file: &PooledFile) -> bool {
        file.try_read_at(&mut [0], 0).unwrap().is_some()
    }

    #[test]
    fn no_more_files_are_open_than_may_be() {
        let disk = disk();
        let (pool, files) = pool(&disk, 4);
        assert_eq!(disk.open_handles(), 0);
        for round in 0..3 {
            for (n, file) in files.iter().enumerate() {
                assert_eq!(read(file).unwrap(), n as u8);
                assert_eq!(disk.open_handles(), if round == 0 { (n + 1).min(4) } else { 4 });
                assert_eq!(pool.open_files(), disk.open_handles());
            }
        }
        drop(files);
        assert_eq!((pool.open_files(), disk.open_handles()), (0, 0));
    }

    #[test]
    fn what_is_used_stays_open() {
        let disk = disk();
        let (_pool, files) = pool(&disk, 4);
        read(&files[0]).unwrap();
        for file in &files[1..] {
            assert_eq!(read(&files[0]).unwrap(), 0);
            read(file).unwrap();
            assert!(is_open(&files[0]));
        }
        assert_eq!(disk.open_handles(), 4);
    }

    #[test]
    fn what_is_held_or_being_read_is_not_closed() {
        let disk = disk();
        let (pool, files) = pool(&disk, 2);
        let held = pool.open_held(&path(100), OpenMode::CreateNew).unwrap();
        let reading = files[0].opened().unwrap();
        for file in &files[1..] {
            read(file).unwrap();
            assert!(disk.open_handles() <= 3, "the one held, the one being read, and this");
        }
        held.write_all_at(b"x", 0).unwrap();
        drop(reading);
        held.release();
        files.iter().for_each(|file| assert!(read(file).is_ok()));
        assert!(!is_open(&held) && disk.open_handles() <= 2);
        assert_eq!(read(&held).unwrap(), b'x');
    }

    /// CHECKS 34: where no more files can be opened, others are closed; if there are none, that is what the error says.
    #[test]
    fn running_out_of_files_closes_others_and_fails_no_other_way() {
        let disk = disk();
        let (pool, files) = pool(&disk, 100);
        read(&files[0]).unwrap();
        let opens = Ops::Only(OpKind::Open);
        disk.inject(FaultPlan::nth(opens, 1, Fault::OutOfFiles));
        assert_eq!(read(&files[1]).unwrap(), 1);
        assert!(!is_open(&files[0]));
        disk.inject(FaultPlan::from_nth(opens, 1, Fault::OutOfFiles));
        let refused = read(&files[2]).unwrap_err();
        assert!(matches!(crate::Error::io("reading", refused), crate::Error::OutOfFiles));
        assert_eq!(pool.open_files(), disk.open_handles());
        disk.clear_faults();
        assert_eq!(read(&files[2]).unwrap(), 2);
    }

    #[test]
    fn reads_that_race_with_closing_get_their_own_bytes() {
        let disk = disk();
        let (pool, files) = pool(&disk, 3);
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let files = &files;
                scope.spawn(move || {
                    for n in 0..3000 {
                        let at = (n * (thread + 3) + n / 7) % files.len();
                        assert_eq!(read(&files[at]).unwrap(), at as u8);
                    }
                });
            }
        });
        assert_eq!(pool.open_files(), disk.open_handles());
        assert!(pool.open_files() <= 4 + 3, "{}", pool.open_files());
    }
}
