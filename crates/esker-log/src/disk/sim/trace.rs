//! What was done: numbers for assertions, the last operations for failure messages.

use std::{collections::VecDeque, fmt, path::Path};

use super::fault::{Fault, OpKind};

/// How many operations the trace remembers.
const TRACE_LEN: usize = 64;

/// What a [`SimDisk`](super::SimDisk) has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads that answered.
    pub reads: u64,
    /// Bytes they gave.
    pub read_bytes: u64,
    /// Writes that wrote.
    pub writes: u64,
    /// Bytes they wrote.
    pub write_bytes: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Syncs of directories that succeeded.
    pub dir_syncs: u64,
    /// The most handles to files that were open.
    pub open_handles_max: usize,
}

/// One operation: what was asked, and what was done to it.
#[derive(Debug)]
struct Record {
    number: u64,
    kind: OpKind,
    path: Box<Path>,
    offset: u64,
    len: u64,
    fault: Option<Fault>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?} {}", self.number, self.kind, self.path.display())?;
        if self.len > 0 || self.offset > 0 {
            write!(f, " {}+{}", self.offset, self.len)?;
        }
        self.fault.map_or(Ok(()), |fault| write!(f, " <- {fault:?}"))
    }
}

/// The numbering of operations and the last few of them.
#[derive(Debug, Default)]
pub(super) struct Trace {
    count: u64,
    last: VecDeque<Record>,
    pub(super) counters: Counters,
}

impl Trace {
    pub(super) fn note(&mut self, kind: OpKind, path: &Path, range: (u64, u64), fault: Option<Fault>) {
        self.count += 1;
        if self.last.len() == TRACE_LEN {
            self.last.pop_front();
        }
        let (offset, len) = range;
        self.last.push_back(Record { number: self.count, kind, path: path.into(), offset, len, fault });
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.last.iter().map(Record::to_string).collect()
    }
}
