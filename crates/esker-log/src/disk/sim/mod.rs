//! A simulated disk with faults: the same workload, crash and fault give the same bytes every time.
//!
//! # The model of a power loss
//!
//! A file is an *inode*; a name leads to it. Both have a state that readers see (the page cache) and a state that
//! is durable (the platter), and between the two an ordered list of operations that no sync has covered:
//!
//! ```text
//!   names   durable ──▶ create, rename, remove … ──▶ current      Disk::sync_dir moves durable forward
//!   inode   durable ──▶ write, set_len, allocate … ──▶ current    File::sync_data moves durable forward
//! ```
//!
//! A power loss replaces `current` by `durable` plus what the [`CrashMode`] keeps of the list:
//!
//! * *The two syncs are separate.* A synced file whose name was not synced is gone. Journaling file systems mostly
//!   hide this, as any sync commits the whole journal; POSIX does not promise it (Pillai et al., "All File Systems
//!   Are Not Created Equal", OSDI 2014).
//! * *A write is not atomic.* It can end at any byte, and since a device writes sectors of 512 bytes in the order
//!   it likes, any subset of its sectors can be there. Writes of one file are reordered as freely.
//! * *A length can come without its bytes* (delayed allocation): the file then ends in zeros.
//! * *Changes of one file's length by `set_len` and `allocate` keep their order*, for they go through a journal.
//! * *A rename is atomic*: the old names or the new ones. A rename between two directories is synced by a sync of
//!   either. Changes of different files' names are lost or kept in any combination; those of one file in order.
//! * *Directories are durable once made*, since [`Disk::create_dir_all`] syncs their parents.
//! * *A failed sync forgets.* Linux marks the pages clean though they were not written: readers go on seeing them,
//!   a power loss takes them, and no later sync brings them back (Rebello et al., ATC 2020). We let all of them be
//!   lost, byte by byte, where a kernel would save those that share a page with a later write. The same holds for
//!   the names of a directory.
//!
//! [`CrashMode::ProcessKill`] is no power loss: the kernel keeps what was written, and what was not synced is as
//! unsynced as before.
//!
//! # Faults
//!
//! Every operation that could matter has a number (see [`OpKind`]); [`SimDisk::inject`] makes any of them fail.
//! [`File::len`] and [`Disk::identity`] are not numbered.
//!
//! # Left out
//!
//! Permissions, symbolic links, time stamps, and misdirected writes (use [`SimDisk::write_file`] for the effect of one).

mod content;
mod crash;
mod extents;
mod fault;
mod file;
mod inode;
mod names;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod tools;
mod trace;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::Errno;

use self::{
    file::{SimFile, loses_dirty},
    state::Machine,
};
use super::{DirEntry, DirLock, Disk, File, FileIdentity, OpenMode};

pub use self::{
    crash::CrashMode,
    fault::{Fault, FaultPlan, OpKind, Ops, PoweredOff},
    trace::Counters,
};

/// A disk in memory; clones are handles to the same one.
#[derive(Clone, Default)]
pub struct SimDisk {
    machine: Arc<Machine>,
}

impl SimDisk {
    /// An empty disk with the directory `/`, unbounded and without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns the machine off, so that every operation on this disk and its files fails with [`PoweredOff`], and
    /// gives the disk as the next start finds it: no locks held, no faults, counters at zero. Can be called again,
    /// also after [`Fault::Crash`], to see what another mode or seed leaves of the same moment.
    pub fn crash(&self, mode: CrashMode) -> Self {
        self.machine.power_off();
        self.after_crash(mode)
    }

    /// A copy of what is there now, made file by file: the same bytes in other files.
    pub fn copied(&self) -> Self {
        let mut found = self.machine.state().after_crash(CrashMode::ProcessKill);
        found.copies += 1;
        Self { machine: Arc::new(Machine::new(found)) }
    }

    /// What [`SimDisk::crash`] would give now, while this machine goes on.
    pub fn after_crash(&self, mode: CrashMode) -> Self {
        let found = self.machine.state().after_crash(mode);
        Self { machine: Arc::new(Machine::new(found)) }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let new = mode == OpenMode::CreateNew;
        let kind = if new { OpKind::Create } else { OpKind::Open };
        let mut state = self.machine.begin_whole(kind, path)?;
        let id = if new { state.create(path)? } else { state.lookup(path)? };
        let machine = Arc::clone(&self.machine);
        Ok(Arc::new(SimFile::new(machine, &mut state, id, path, mode != OpenMode::Read)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.machine.begin_whole(OpKind::List, dir)?;
        if !state.names.dirs.contains(dir) {
            return Err(Errno::NOENT.into());
        }
        let found: Vec<_> =
            state.names.files_in(dir).filter_map(|(path, id)| Some((utf8_name(path)?, id))).collect();
        Ok(found
            .into_iter()
            .map(|(name, id)| DirEntry { name, len: state.inode(id).current.len() })
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.machine.begin_whole(OpKind::Rename, from)?;
        let id = state.lookup(from)?;
        if !state.names.has_parent_of(to) {
            return Err(Errno::NOENT.into());
        }
        if state.names.dirs.contains(to) {
            return Err(Errno::ISDIR.into());
        }
        // POSIX: between two names of one file, nothing happens.
        if state.names.current.get(to) != Some(&id) {
            state.change_name(id, Some(from), Some(to));
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.machine.begin_whole(OpKind::Link, from)?;
        let id = state.lookup(from)?;
        if !state.names.has_parent_of(to) {
            return Err(Errno::NOENT.into());
        }
        if state.names.current.contains_key(to) || state.names.dirs.contains(to) {
            return Err(Errno::EXIST.into());
        }
        if state.limits.no_links {
            return Err(Errno::XDEV.into());
        }
        state.change_name(id, None, Some(to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.machine.begin_whole(OpKind::Remove, path)?;
        let id = state.lookup(path)?;
        state.change_name(id, Some(path), None);
        Ok(())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        {
            let state = self.machine.running()?;
            missing.extend(dir.ancestors().take_while(|dir| !state.names.dirs.contains(*dir)));
        }
        for dir in missing.into_iter().rev() {
            let mut state = self.machine.begin_whole(OpKind::CreateDir, dir)?;
            if state.names.current.contains_key(dir) {
                return Err(Errno::EXIST.into());
            }
            state.names.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, course) = self.machine.begin(OpKind::SyncDir, dir, (0, 0))?;
        if !state.names.dirs.contains(dir) {
            return Err(Errno::NOENT.into());
        }
        if loses_dirty(course) {
            state.names.fail_sync(dir);
        }
        state.finish(course)?;
        state.names.sync(dir);
        state.reap();
        state.trace.counters.dir_syncs += 1;
        Ok(())
    }

    fn writes_in_place(&self, _dir: &Path) -> bool {
        true
    }

    fn identity(&self, path: &Path) -> io::Result<FileIdentity> {
        let state = self.machine.running()?;
        let is_dir = state.names.dirs.contains(path);
        let inode = if is_dir { 0 } else { state.lookup(path)? };
        Ok(FileIdentity { inode, created: Some((state.copies, 0)) })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.machine.begin_whole(OpKind::Lock, path)?;
        if !state.names.current.contains_key(path) {
            state.create(path)?;
        }
        if !state.locks.insert(path.to_owned()) {
            let message = format!("{} is locked", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
        }
        Ok(Box::new(SimLock { machine: Arc::clone(&self.machine), path: path.to_owned() }))
    }
}

/// A lock on a simulated machine; a crash makes another machine, on which it is not held.
struct SimLock {
    machine: Arc<Machine>,
    path: PathBuf,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.state().locks.remove(&self.path);
    }
}

fn utf8_name(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}
