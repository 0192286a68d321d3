//! The allocator of the process: jemalloc.
//!
//! It can say who holds memory, which mimalloc, a little faster, cannot; and it gives back what is free on threads of its own.
//! How it is set up is built into it: `.cargo/config.toml` says why so. `_RJEM_MALLOC_CONF` in the environment of a process
//! overrules it, which is for trying: `_RJEM_MALLOC_CONF=prof:false esker serve`.

use esker_server::{MemoryFigures, ProfileError};
use jemalloc_pprof::PROF_CTL;
use tikv_jemalloc_ctl::{epoch, stats};

use super::failed;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// See [`Probe::memory`](esker_server::Probe::memory).
pub(super) fn figures() -> Option<MemoryFigures> {
    // The figures are collected when the epoch is advanced. None of the calls fails while jemalloc counts at all.
    epoch::advance().ok()?;
    Some(MemoryFigures {
        allocated: stats::allocated::read().ok()? as u64,
        resident: stats::resident::read().ok()? as u64,
        retained: stats::retained::read().ok()? as u64,
        metadata: stats::metadata::read().ok()? as u64,
    })
}

/// See [`Probe::heap_profile`](esker_server::Probe::heap_profile). Goes through a temporary file: the allocator writes to nothing else.
pub(super) fn heap_profile() -> Result<Vec<u8>, ProfileError> {
    let not_on =
        || ProfileError::NotSupported("heap profiles, without `prof:true` for the allocator,".into());
    let control = PROF_CTL.as_ref().ok_or_else(not_on)?;
    let mut control = control.blocking_lock();
    if !control.activated() {
        return Err(not_on());
    }
    control.dump_pprof().map_err(failed("writing down the heap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated() -> u64 {
        figures().unwrap().allocated
    }

    /// Other tests of this process allocate, too, but nothing near as much.
    #[test]
    fn what_is_allocated_is_told_until_it_is_freed() {
        const LARGE: usize = 256 << 20;
        let before = allocated();
        let held: Vec<u8> = Vec::with_capacity(LARGE);
        let with = allocated();
        drop(held);
        assert!(with >= before + LARGE as u64 / 2, "{before} {with}");
        assert!(allocated() <= with - LARGE as u64 / 2);
    }

    /// The options that are built in are those of `.cargo/config.toml`: a build that did not see it would lose heap profiles.
    #[test]
    fn the_options_are_built_in() {
        use tikv_jemalloc_ctl::{background_thread, config};
        let built_in = config::malloc_conf::read().unwrap();
        for option in ["background_thread:true", "prof:true", "lg_prof_sample:19", "dirty_decay_ms:"] {
            assert!(built_in.contains(option), "{option} is not in `{built_in}`");
        }
        assert!(background_thread::read().unwrap());
    }
}
