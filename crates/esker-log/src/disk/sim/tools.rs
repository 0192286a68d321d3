//! What tests do to a simulated disk behind the back of the code under test. None of it is numbered or can fail
//! by a fault, and it works on a machine that is off, too.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    SimDisk,
    content::Content,
    extents::Extents,
    fault::{Fault, FaultPlan, Ops},
    inode::Inode,
    names::parent,
    trace::Counters,
};

/// Faults and the state of the device.
impl SimDisk {
    /// Puts a plan in force beside those that are.
    pub fn inject(&self, plan: FaultPlan) {
        self.machine.state().faults.plans.push(plan);
    }

    /// Gives the `n`-th operation from now on, of whatever kind, a fault; counted from 1.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.inject(FaultPlan::nth(Ops::Any, n, fault));
    }

    /// Drops all plans.
    pub fn clear_faults(&self) {
        self.machine.state().faults.plans.clear();
    }

    /// How many operations met a fault. A loop over n ends when the n-th run leaves this at 0.
    pub fn faults_fired(&self) -> u64 {
        self.machine.state().faults.fired
    }

    /// Whether the machine is off, by [`SimDisk::crash`] or by a fault.
    pub fn is_off(&self) -> bool {
        self.machine.state().off
    }

    /// Bounds the bytes that files may take, counting what they wrote or allocated; `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.state().limits.capacity = bytes;
    }

    /// How many handles to files are open.
    pub fn open_handles(&self) -> usize {
        self.machine.state().open_handles()
    }

    /// The bytes that files take.
    pub fn used_space(&self) -> u64 {
        self.machine.state().used_space()
    }

    /// With `true`, nothing is in memory: [`File::try_read_at`](crate::disk::File::try_read_at) answers `None`.
    pub fn set_cold(&self, cold: bool) {
        self.machine.state().limits.cold = cold;
    }

    /// Bounds the bytes that one [`File::try_read_at`](crate::disk::File::try_read_at) finds in memory.
    pub fn set_try_read_max(&self, bytes: Option<usize>) {
        self.machine.state().limits.try_read_max = bytes;
    }

    /// With `true`, no file gets a second name: [`Disk::link`](crate::disk::Disk::link) says that it is on another device.
    pub fn set_no_links(&self, no_links: bool) {
        self.machine.state().limits.no_links = no_links;
    }

    /// Makes `ops` wait, as a hanging device does, until [`SimDisk::end_stall`] or a crash.
    pub fn stall(&self, ops: Ops) {
        self.machine.stall(Some(ops));
    }

    /// Lets the operations that wait go on.
    pub fn end_stall(&self) {
        self.machine.stall(None);
    }

    /// Waits until the stall holds up `count` operations.
    pub fn wait_until_stalled(&self, count: usize) {
        self.machine.wait_until_stalled(count);
    }
}

/// What was done.
impl SimDisk {
    /// How many numbered operations there were.
    pub fn op_count(&self) -> u64 {
        self.machine.state().trace.count()
    }

    /// The last operations, oldest first, for failure messages.
    pub fn op_trace(&self) -> Vec<String> {
        self.machine.state().trace.lines()
    }

    /// Operations and bytes so far.
    pub fn counters(&self) -> Counters {
        self.machine.state().trace.counters
    }
}

/// Looking at the files.
impl SimDisk {
    /// All files as a reader sees them now.
    pub fn files(&self) -> Vec<PathBuf> {
        self.machine.state().names.current.keys().cloned().collect()
    }

    /// All files whose names are durable.
    pub fn durable_files(&self) -> Vec<PathBuf> {
        self.machine.state().names.durable.keys().cloned().collect()
    }

    /// A file's bytes as a reader sees them now.
    pub fn file_bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.machine.state();
        let id = state.names.current.get(path.as_ref())?;
        Some(state.inodes.get(id)?.current.to_vec())
    }

    /// The bytes found under a name after [`CrashMode::DropUnsynced`](super::CrashMode::DropUnsynced).
    pub fn durable_bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.machine.state();
        let id = state.names.durable.get(path.as_ref())?;
        Some(state.inodes.get(id)?.durable.to_vec())
    }
}

/// Changing files as nobody should.
impl SimDisk {
    /// Makes a durable file of `bytes` with a durable name, in place of what is there; makes its directory too.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        let mut content = Content::default();
        content.write(bytes, 0);
        let mut extents = Extents::default();
        extents.insert(0, bytes.len() as u64);

        let mut state = self.machine.state();
        let dirs = path.ancestors().skip(1).map(Path::to_owned);
        state.names.dirs.extend(dirs);
        let id = state.new_inode(Inode::found(content, extents));
        state.change_name(id, None, Some(path));
        state.names.sync(parent(path));
    }

    /// Syncs a file and inverts bit `bit` (0 to 7) of a byte, on the platter and in memory.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.machine.state();
        let id = state.lookup(path.as_ref())?;
        let inode = state.inode(id);
        inode.sync();
        inode.durable.flip_bit(offset, bit);
        if inode.current.flip_bit(offset, bit) { Ok(()) } else { Err(Errno::INVAL.into()) }
    }

    /// Cuts or extends a file to `len`, durably.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        let mut state = self.machine.state();
        let id = state.lookup(path.as_ref())?;
        let inode = state.inode(id);
        inode.sync();
        inode.durable.set_len(len);
        inode.current.set_len(len);
        inode.extents.truncate(len);
        Ok(())
    }
}
