//! The machine behind the handles of one simulated disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;

use super::{
    crash::{CrashMode, survivors},
    fault::{Course, End, Faults, OpKind, Ops, PoweredOff},
    inode::{FileOp, Inode, InodeId, Seq},
    names::{NameOp, Names},
    trace::Trace,
};

/// The state, and the bell for operations that a stall holds up.
#[derive(Default)]
pub(super) struct Machine {
    state: Mutex<State>,
    /// Rung when a stall begins to hold an operation, and when it ends.
    bell: Condvar,
}

/// All there is to the simulated machine.
#[derive(Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    pub(super) names: Names,
    /// The paths of the locks that are held.
    pub(super) locks: BTreeSet<PathBuf>,
    /// Of how many copies, one of the other, this is the last.
    pub(super) copies: i64,
    next_inode: InodeId,
    next_seq: Seq,
    /// After a crash: every operation fails.
    pub(super) off: bool,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    pub(super) limits: Limits,
    /// The operations that wait until the stall ends.
    stall: Option<Ops>,
    /// How many wait.
    stalled: usize,
}

/// How the device is: outlives a crash.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Bytes the device holds.
    pub(super) capacity: Option<u64>,
    /// Whether nothing is in memory, so that each read has to wait.
    pub(super) cold: bool,
    /// The most bytes that a read that must not wait finds in memory.
    pub(super) try_read_max: Option<usize>,
    /// Whether every two directories are on two devices, as far as links go.
    pub(super) no_links: bool,
}

impl Machine {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    /// The state, for what is no numbered operation.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state while the machine is on.
    pub(super) fn running(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.off { Err(powered_off()) } else { Ok(state) }
    }

    /// Begins a numbered operation: waits out a stall, counts, and says how far it will get.
    pub(super) fn begin(
        &self,
        kind: OpKind,
        path: &Path,
        range: (u64, u64),
    ) -> io::Result<(MutexGuard<'_, State>, Course)> {
        let mut state = self.running()?;
        while !state.off && state.stall.is_some_and(|ops| ops.contains(kind)) {
            state.stalled += 1;
            self.bell.notify_all();
            self.bell.wait(&mut state);
            state.stalled -= 1;
        }
        let course = state.admit(kind, path, range)?;
        Ok((state, course))
    }

    /// Begins an operation that never waits for the device: no stall holds it.
    pub(super) fn begin_at_once(
        &self,
        kind: OpKind,
        path: &Path,
        range: (u64, u64),
    ) -> io::Result<(MutexGuard<'_, State>, Course)> {
        let mut state = self.running()?;
        let course = state.admit(kind, path, range)?;
        Ok((state, course))
    }

    /// Begins an operation that happens as a whole or, with an error, not at all.
    pub(super) fn begin_whole(&self, kind: OpKind, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let (mut state, course) = self.begin(kind, path, (0, 0))?;
        state.finish(course)?;
        Ok(state)
    }

    pub(super) fn stall(&self, ops: Option<Ops>) {
        self.state().stall = ops;
        self.bell.notify_all();
    }

    pub(super) fn wait_until_stalled(&self, count: usize) {
        let mut state = self.state();
        while state.stalled < count {
            self.bell.wait(&mut state);
        }
    }

    pub(super) fn power_off(&self) {
        self.state().off = true;
        self.bell.notify_all();
    }
}

impl State {
    fn admit(&mut self, kind: OpKind, path: &Path, range: (u64, u64)) -> io::Result<Course> {
        if self.off {
            return Err(powered_off());
        }
        let fault = self.faults.meet(kind, path);
        self.trace.note(kind, path, range, fault);
        Ok(fault.map_or(Course::UNDISTURBED, |fault| Course::of(fault, kind)))
    }

    /// Ends an operation the way its course says.
    pub(super) fn finish(&mut self, course: Course) -> io::Result<()> {
        match course.end {
            None => Ok(()),
            Some(End::Errno(errno)) => Err(errno.into()),
            Some(End::Off) => {
                self.off = true;
                Err(powered_off())
            }
        }
    }

    /// The inode of an open handle.
    pub(super) fn inode(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an open handle keeps its inode")
    }

    /// The inode a name leads to.
    pub(super) fn lookup(&self, path: &Path) -> io::Result<InodeId> {
        match self.names.current.get(path) {
            Some(id) => Ok(*id),
            None if self.names.dirs.contains(path) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Makes a new empty file with an unsynced name.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        if !self.names.has_parent_of(path) {
            return Err(Errno::NOENT.into());
        }
        if self.names.current.contains_key(path) || self.names.dirs.contains(path) {
            return Err(Errno::EXIST.into());
        }
        let id = self.new_inode(Inode::default());
        self.change_name(id, None, Some(path));
        Ok(id)
    }

    pub(super) fn new_inode(&mut self, inode: Inode) -> InodeId {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.next_inode
    }

    pub(super) fn change_name(&mut self, inode: InodeId, from: Option<&Path>, to: Option<&Path>) {
        let seq = self.take_seq();
        let (from, to) = (from.map(Path::to_owned), to.map(Path::to_owned));
        self.names.apply(NameOp { seq, inode, from, to });
    }

    pub(super) fn change_file(&mut self, id: InodeId, op: FileOp) {
        let seq = self.take_seq();
        self.inode(id).apply(seq, op);
    }

    fn take_seq(&mut self) -> Seq {
        self.next_seq += 1;
        self.next_seq
    }

    /// The bytes that can still be written to new places.
    pub(super) fn free_space(&self) -> u64 {
        let Some(capacity) = self.limits.capacity else { return u64::MAX };
        capacity.saturating_sub(self.used_space())
    }

    pub(super) fn open_handles(&self) -> usize {
        self.inodes.values().map(|inode| inode.handles).sum()
    }

    /// The bytes that files with a name or an open handle take.
    pub(super) fn used_space(&self) -> u64 {
        let named: BTreeSet<InodeId> = self.names.current.values().copied().collect();
        let alive = self.inodes.iter().filter(|(id, inode)| inode.handles > 0 || named.contains(id));
        alive.map(|(_, inode)| inode.extents.total()).sum()
    }

    /// Forgets the files that nothing leads to any more, now or after a crash.
    pub(super) fn reap(&mut self) {
        let reachable = self.names.reachable();
        self.inodes.retain(|id, inode| inode.handles > 0 || reachable.contains(id));
    }

    /// The machine as the next start finds it.
    pub(super) fn after_crash(&self, mode: CrashMode) -> Self {
        let (inodes, names) = match mode {
            CrashMode::ProcessKill => (self.inodes.clone(), self.names.clone()),
            _ => survivors(&self.inodes, &self.names, mode),
        };
        let (next_inode, next_seq, limits) = (self.next_inode, self.next_seq, self.limits);
        let copies = self.copies;
        let mut found = Self { inodes, names, copies, next_inode, next_seq, limits, ..Self::default() };
        found.inodes.values_mut().for_each(|inode| inode.handles = 0);
        found.reap();
        found
    }
}

fn powered_off() -> io::Error {
    io::Error::other(PoweredOff)
}
