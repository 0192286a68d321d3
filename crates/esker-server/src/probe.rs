//! What the process that the server runs in can tell of itself. Allocators and signals belong to whoever makes the process, so the
//! server is given somebody to ask.

use std::{fmt, sync::mpsc, time::Duration};

/// Tells of the process.
pub trait Probe: fmt::Debug + Send + Sync {
    /// How much memory the allocator has; `None`: it does not count.
    fn memory(&self) -> Option<MemoryFigures>;

    /// Where processor time goes in the next `length`, looked at `hz` times in each second of it: a gzipped profile of pprof. Blocks
    /// until then, or until the other end of `gone` is dropped; then nobody wants it. Only one is asked for at a time.
    fn cpu_profile(
        &self,
        length: Duration,
        hz: u32,
        gone: &mpsc::Receiver<()>,
    ) -> Result<Vec<u8>, ProfileError>;

    /// Who holds the memory that is in use now: a gzipped profile of pprof. Blocks until it is made.
    fn heap_profile(&self) -> Result<Vec<u8>, ProfileError>;
}

/// Why there is no profile.
#[derive(Debug)]
pub enum ProfileError {
    /// Not in this process: what it would take.
    NotSupported(String),
    /// It went wrong.
    Failed(String),
}

/// Bytes of memory, as the allocator counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFigures {
    /// In use by the program: what grows where there is a leak.
    pub allocated: u64,
    /// Resident: in use, or free and not yet given back to the system.
    pub resident: u64,
    /// Addresses that are kept for later and have no memory behind them.
    pub retained: u64,
    /// The allocator's own books.
    pub metadata: u64,
}
