//! Faults on demand: which operation fails, and how.

use std::{fmt, io, path::Path};

use rustix::io::Errno;

/// The operations that are numbered and can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// Opening a file that exists.
    Open,
    /// Opening a new file.
    Create,
    /// A read, also one that must not wait.
    Read,
    /// A write.
    Write,
    /// Reserving space.
    Allocate,
    /// Cutting or extending a file.
    SetLen,
    /// Syncing a file.
    SyncData,
    /// Syncing a directory.
    SyncDir,
    /// Renaming a file.
    Rename,
    /// Giving a file a second name.
    Link,
    /// Removing a file.
    Remove,
    /// Listing a directory.
    List,
    /// Creating one directory.
    CreateDir,
    /// Taking a lock.
    Lock,
}

/// A choice of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ops {
    /// All of them.
    Any,
    /// What changes nothing: open, read, list.
    Reads,
    /// What changes a file: write, allocate, set the length.
    Writes,
    /// Syncs of files and directories.
    Syncs,
    /// What changes names: create, rename, link, remove, create a directory, lock.
    Names,
    /// One kind.
    Only(OpKind),
}

impl Ops {
    /// Whether `kind` is chosen.
    pub fn contains(self, kind: OpKind) -> bool {
        use OpKind::*;
        match self {
            Self::Any => true,
            Self::Reads => matches!(kind, Open | Read | List),
            Self::Writes => matches!(kind, Write | Allocate | SetLen),
            Self::Syncs => matches!(kind, SyncData | SyncDir),
            Self::Names => matches!(kind, Create | Rename | Link | Remove | CreateDir | Lock),
            Self::Only(only) => kind == only,
        }
    }
}

/// How an operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO; the operation does nothing. A sync that fails so leaves what it was to write unwritten for good.
    Io,
    /// ENOSPC; otherwise like [`Fault::Io`].
    NoSpace,
    /// EMFILE; otherwise like [`Fault::Io`].
    OutOfFiles,
    /// EINTR; the operation does nothing.
    Interrupted,
    /// A read or write stops after this many bytes and says so. Nothing to other operations.
    Short(usize),
    /// A write puts this many bytes and answers EIO. [`Fault::Io`] to other operations.
    ShortThenIo(usize),
    /// The machine goes off; the operation does nothing and every later one fails.
    Crash,
    /// The machine goes off after this many bytes of a write. [`Fault::Crash`] to other operations.
    CrashAfter(usize),
}

/// Which operations get a [`Fault`].
#[derive(Debug, Clone)]
pub struct FaultPlan {
    fault: Fault,
    ops: Ops,
    path_part: String,
    first: u64,
    last: u64,
    seen: u64,
}

impl FaultPlan {
    /// The `n`-th of `ops` from now on, counted from 1.
    pub fn nth(ops: Ops, n: u64, fault: Fault) -> Self {
        Self { fault, ops, path_part: String::new(), first: n, last: n, seen: 0 }
    }

    /// The `n`-th of `ops` from now on and all later ones.
    pub fn from_nth(ops: Ops, n: u64, fault: Fault) -> Self {
        Self { last: u64::MAX, ..Self::nth(ops, n, fault) }
    }

    /// Counts and meets only operations on paths that contain `part`. A file keeps the path it was opened by.
    pub fn on_path(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path_part);
        self
    }

    /// Counts an operation; its fault if it is to have one.
    fn meet(&mut self, kind: OpKind, path: &Path) -> Option<Fault> {
        if !self.ops.contains(kind) || !path.to_string_lossy().contains(&self.path_part) {
            return None;
        }
        self.seen += 1;
        (self.first..=self.last).contains(&self.seen).then_some(self.fault)
    }
}

/// The plans in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) plans: Vec<FaultPlan>,
    /// How many faults were dealt out.
    pub(super) fired: u64,
}

impl Faults {
    /// The fault of the operation that is about to happen. Every plan counts it; the first that hits wins.
    pub(super) fn meet(&mut self, kind: OpKind, path: &Path) -> Option<Fault> {
        let met = self.plans.iter_mut().map(|plan| plan.meet(kind, path)).fold(None, Option::or);
        self.fired += u64::from(met.is_some());
        met
    }
}

/// How far an operation gets, and what becomes of it then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// The most bytes it may read or write.
    pub(super) limit: usize,
    /// How it ends instead of well.
    pub(super) end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Errno(Errno),
    Off,
}

impl Course {
    pub(super) const UNDISTURBED: Self = Self { limit: usize::MAX, end: None };

    pub(super) fn of(fault: Fault, kind: OpKind) -> Self {
        let part = |bytes| if kind == OpKind::Write { bytes } else { 0 };
        let (limit, end) = match fault {
            Fault::Io => (0, Some(End::Errno(Errno::IO))),
            Fault::NoSpace => (0, Some(End::Errno(Errno::NOSPC))),
            Fault::OutOfFiles => (0, Some(End::Errno(Errno::MFILE))),
            Fault::Interrupted => (0, Some(End::Errno(Errno::INTR))),
            Fault::Short(bytes) => (bytes, None),
            Fault::ShortThenIo(bytes) => (part(bytes), Some(End::Errno(Errno::IO))),
            Fault::Crash => (0, Some(End::Off)),
            Fault::CrashAfter(bytes) => (part(bytes), Some(End::Off)),
        };
        Self { limit, end }
    }
}

/// The error of every operation on a machine that is off. Found by [`PoweredOff::is`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoweredOff;

impl PoweredOff {
    /// Whether `error` says that the machine is off.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for PoweredOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated machine is off")
    }
}

impl std::error::Error for PoweredOff {}
