//! Whether the disk still answers: for how long nothing has come back of what was submitted to the log.
//!
//! Looked at again and again, and only the time between two looks counts, as far as it is no longer than usual. So a process that
//! stood still (SIGSTOP, a debugger, a suspended machine) does not take its own pause for the disk's.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// More than so much is not counted of the time between two looks: this process was not there to be answered.
const COUNTED_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    submitted: usize,
    /// For how long nothing has come back, up to `looked`.
    stalled: Duration,
    /// When it was looked last, or something came back, or the first of what waits was submitted.
    looked: Option<Instant>,
}

impl Waiting {
    fn begin_anew(&mut self) {
        self.stalled = Duration::ZERO;
        self.looked = Some(Instant::now());
    }
}

/// Something that was submitted. Dropped when it comes back, whether well or not, or when it never will.
#[derive(Debug)]
pub(crate) struct Submitted(Arc<DiskWatch>);

impl Drop for Submitted {
    fn drop(&mut self) {
        let mut waiting = self.0.0.lock();
        waiting.submitted = waiting.submitted.saturating_sub(1);
        waiting.begin_anew();
    }
}

impl DiskWatch {
    /// Something is submitted.
    pub(crate) fn submit(self: &Arc<Self>) -> Submitted {
        let mut waiting = self.0.lock();
        if waiting.submitted == 0 {
            waiting.begin_anew();
        }
        waiting.submitted += 1;
        drop(waiting);
        Submitted(Arc::clone(self))
    }

    /// Takes note of the time that has passed. A disk that is full answers: what waits for space does not wait for the disk.
    pub(crate) fn look(&self, is_full: bool) {
        let mut waiting = self.0.lock();
        if waiting.submitted == 0 || is_full {
            return waiting.begin_anew();
        }
        let now = Instant::now();
        let since = waiting.looked.replace(now).map_or(Duration::ZERO, |looked| now.duration_since(looked));
        waiting.stalled += since.min(COUNTED_MAX);
    }

    /// For how long nothing has come back of what waits, as of the last look.
    pub(crate) fn stalled_for(&self) -> Duration {
        self.0.lock().stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Lets time pass, with a look each second.
    async fn pass(watch: &DiskWatch, seconds: u32, is_full: bool) {
        for _ in 0..seconds {
            tokio::time::advance(SECOND).await;
            watch.look(is_full);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_answers_slowly_does_not_stall() {
        let watch = Arc::<DiskWatch>::default();
        pass(&watch, 5, false).await;
        assert_eq!(watch.stalled_for(), Duration::ZERO, "nothing waits");
        let first = watch.submit();
        pass(&watch, 5, false).await;
        let second = watch.submit();
        assert_eq!(watch.stalled_for(), SECOND * 5);
        drop(first);
        assert_eq!(watch.stalled_for(), Duration::ZERO, "one came back");
        pass(&watch, 3, false).await;
        assert_eq!(watch.stalled_for(), SECOND * 3);
        drop(second);
        pass(&watch, 3, false).await;
        assert_eq!(watch.stalled_for(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_process_is_not_the_disks() {
        let watch = Arc::<DiskWatch>::default();
        let _waits = watch.submit();
        pass(&watch, 1, false).await;
        tokio::time::advance(SECOND * 600).await;
        watch.look(false);
        assert_eq!(watch.stalled_for(), SECOND * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_was_full_for_long_has_not_stalled_when_there_is_space() {
        let watch = Arc::<DiskWatch>::default();
        let _waits = watch.submit();
        pass(&watch, 600, true).await;
        assert_eq!(watch.stalled_for(), Duration::ZERO);
        pass(&watch, 1, false).await;
        assert_eq!(watch.stalled_for(), SECOND);
    }
}
