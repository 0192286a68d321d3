//! Whether the disk still answers: since when what was submitted to the log waits, without anything having come back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    submitted: usize,
    /// When something came back last, or the first of what waits was submitted.
    since: Option<Instant>,
}

impl DiskWatch {
    /// Something is submitted; [`DiskWatch::end`] is called when it comes back.
    pub(crate) fn begin(&self) {
        let mut waiting = self.0.lock();
        if waiting.submitted == 0 {
            waiting.since = Some(Instant::now());
        }
        waiting.submitted += 1;
    }

    /// Something has come back, whether well or not.
    pub(crate) fn end(&self) {
        let mut waiting = self.0.lock();
        waiting.submitted = waiting.submitted.saturating_sub(1);
        waiting.since = (waiting.submitted > 0).then(Instant::now);
    }

    /// For how long nothing has come back of what waits.
    pub(crate) fn stalled_for(&self) -> Duration {
        self.0.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_answers_slowly_does_not_stall() {
        let watch = DiskWatch::default();
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        assert_eq!(watch.stalled_for(), Duration::ZERO, "nothing waits");
        watch.begin();
        tokio::time::advance(second).await;
        watch.begin();
        assert_eq!(watch.stalled_for(), second);
        watch.end();
        assert_eq!(watch.stalled_for(), Duration::ZERO, "one came back");
        tokio::time::advance(second).await;
        assert_eq!(watch.stalled_for(), second);
        watch.end();
        tokio::time::advance(second).await;
        assert_eq!(watch.stalled_for(), Duration::ZERO);
    }
}
