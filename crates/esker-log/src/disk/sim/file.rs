//! An open file of the simulated disk.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

use super::{
    content::LEN_MAX,
    fault::{Course, End, OpKind},
    inode::{FileOp, InodeId},
    state::{Machine, State},
};
use crate::disk::File;

/// A handle; it keeps its inode alive whatever becomes of the name.
pub(super) struct SimFile {
    machine: Arc<Machine>,
    id: InodeId,
    /// The path it was opened by, for fault plans and the trace.
    path: Arc<Path>,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(
        machine: Arc<Machine>,
        state: &mut State,
        id: InodeId,
        path: &Path,
        writable: bool,
    ) -> Self {
        state.inode(id).handles += 1;
        let open = state.open_handles();
        let most = &mut state.trace.counters.open_handles_max;
        *most = open.max(*most);
        Self { machine, id, path: path.into(), writable }
    }

    fn check_writable(&self, errno: Errno) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(errno.into()) }
    }

    fn read(&self, state: &mut State, course: Course, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        state.finish(course)?;
        let limit = buf.len().min(course.limit);
        let n = state.inode(self.id).current.read(&mut buf[..limit], offset);
        state.trace.counters.reads += 1;
        state.trace.counters.read_bytes += n as u64;
        Ok(n)
    }

    /// Writes as much as the course and the device allow.
    fn write(
        &self,
        state: &mut State,
        course: Course,
        bufs: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let wanted = total_len(bufs).min(course.limit);
        let free = state.free_space();
        let n = state.inode(self.id).extents.fitting(offset, wanted as u64, free) as usize;
        if n > 0 {
            state.trace.counters.writes += 1;
            state.trace.counters.write_bytes += n as u64;
            state.change_file(self.id, FileOp::Write { offset, data: gather(bufs, n) });
        }
        state.finish(course)?;
        if n == 0 && wanted > 0 { Err(Errno::NOSPC.into()) } else { Ok(n) }
    }

    fn reserve(&self, state: &mut State, start: u64, end: u64) -> io::Result<()> {
        if state.inode(self.id).extents.missing(start, end) > state.free_space() {
            return Err(Errno::NOSPC.into());
        }
        state.inode(self.id).extents.insert(start, end);
        if state.inode(self.id).current.len() < end {
            state.change_file(self.id, FileOp::Extend(end));
        }
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, course) = self.machine.begin(OpKind::Read, &self.path, (offset, buf.len() as u64))?;
        self.read(&mut state, course, buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let (mut state, mut course) =
            self.machine.begin_at_once(OpKind::Read, &self.path, (offset, buf.len() as u64))?;
        if state.limits.cold {
            return state.finish(course).map(|()| None);
        }
        course.limit = course.limit.min(state.limits.try_read_max.unwrap_or(usize::MAX));
        let n = self.read(&mut state, course, buf, offset)?;
        Ok((n > 0).then_some(n))
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.check_writable(Errno::BADF)?;
        let len = total_len(bufs) as u64;
        check_range(offset, len)?;
        let (mut state, course) = self.machine.begin(OpKind::Write, &self.path, (offset, len))?;
        self.write(&mut state, course, bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, course) = self.machine.begin(OpKind::SyncData, &self.path, (0, 0))?;
        if loses_dirty(course) {
            state.inode(self.id).fail_sync();
        }
        state.finish(course)?;
        state.inode(self.id).sync();
        state.trace.counters.syncs += 1;
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable(Errno::BADF)?;
        check_range(offset, len)?;
        let (mut state, course) = self.machine.begin(OpKind::Allocate, &self.path, (offset, len))?;
        state.finish(course)?;
        if len == 0 { Ok(()) } else { self.reserve(&mut state, offset, offset + len) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable(Errno::INVAL)?;
        check_range(len, 0)?;
        let (mut state, course) = self.machine.begin(OpKind::SetLen, &self.path, (0, len))?;
        state.finish(course)?;
        state.change_file(self.id, FileOp::SetLen(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.machine.running()?.inode(self.id).current.len())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.machine.state().inode(self.id).handles -= 1;
    }
}

/// Whether a sync that takes this course throws away what it was to write. One that was interrupted, or did not
/// begin, does not.
pub(super) fn loses_dirty(course: Course) -> bool {
    matches!(course.end, Some(End::Errno(errno)) if errno != Errno::INTR)
}

fn check_range(offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= LEN_MAX => Ok(()),
        _ => Err(Errno::FBIG.into()),
    }
}

fn total_len(bufs: &[IoSlice<'_>]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// The first `len` bytes of the buffers' concatenation.
fn gather(bufs: &[IoSlice<'_>], len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(len);
    for buf in bufs {
        data.extend_from_slice(&buf[..buf.len().min(len - data.len())]);
    }
    data
}
