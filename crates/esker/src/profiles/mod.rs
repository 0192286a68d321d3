//! What the process tells of itself: where its time goes, who holds its memory.
//!
//! [`allocator`] is whom all memory comes from, and counts it; [`cpu`] looks at what is running; [`encode`] writes what it saw, in
//! [`message`]s of pprof.

pub(crate) mod allocator;
mod cpu;
mod encode;
mod message;

use std::{sync::mpsc, time::Duration};

use esker_server::{MemoryFigures, Probe, ProfileError};

/// What this process can tell of itself.
#[derive(Debug)]
pub(crate) struct ProcessProbe;

impl Probe for ProcessProbe {
    fn memory(&self) -> Option<MemoryFigures> {
        allocator::figures()
    }

    fn cpu_profile(
        &self,
        length: Duration,
        hz: u32,
        gone: &mpsc::Receiver<()>,
    ) -> Result<Vec<u8>, ProfileError> {
        naming_functions(|| cpu::profile(length, hz, gone))
    }

    fn heap_profile(&self) -> Result<Vec<u8>, ProfileError> {
        naming_functions(allocator::heap_profile)
    }
}

/// Does what has to find the names of functions. What was read of the binary for it, tens of MiB, is let go of again.
fn naming_functions<T>(work: impl FnOnce() -> T) -> T {
    let done = work();
    backtrace::clear_symbol_cache();
    done
}

/// For `map_err`: what was being done.
fn failed<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> ProfileError {
    move |e| ProfileError::Failed(format!("{doing}: {e}"))
}
