//! Where processor time goes: a signal for so much time used interrupts whatever thread is running, which notes its stack.
//!
//! The library keeps some 80 MiB for stacks from the first profile on. It finds its callers by the tables that panics are unwound
//! with, so that nothing has to be compiled with frame pointers.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use esker_server::ProfileError;
use pprof::ProfilerGuardBuilder;

use super::{encode::encode, failed};

/// Whoever is just unwinding a stack is not interrupted to unwind it.
const LEFT_ALONE: &[&str] = &["libgcc_s"];

/// See [`Probe::cpu_profile`](esker_server::Probe::cpu_profile). Needs some MiB of stack.
pub(super) fn profile(length: Duration, hz: u32, gone: &mpsc::Receiver<()>) -> Result<Vec<u8>, ProfileError> {
    let frequency = i32::try_from(hz).map_err(failed("the frequency"))?;
    let profiler = ProfilerGuardBuilder::default().frequency(frequency).blocklist(LEFT_ALONE);
    let running = profiler.build().map_err(failed("starting"))?;
    match gone.recv_timeout(length) {
        Err(RecvTimeoutError::Timeout) => {}
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            return Err(ProfileError::Failed("nobody waits for it any more".into()));
        }
    }
    let report = running.report().build().map_err(failed("finding the names of functions"))?;
    drop(running);
    encode(&report).map_err(failed("writing it"))
}
