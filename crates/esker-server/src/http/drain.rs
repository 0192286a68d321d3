//! The signal that the server is shutting down.

use tokio::sync::watch;

/// Begins the drain and says whether it has begun.
pub(crate) struct Drain(watch::Sender<bool>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) fn subscribe(&self) -> DrainWatch {
        DrainWatch(self.0.subscribe())
    }
}

/// Waits for the drain.
pub(crate) struct DrainWatch(watch::Receiver<bool>);

impl DrainWatch {
    pub(crate) async fn begun(&mut self) {
        // The sender lives in the front, which outlives its watchers; were it gone, so would be the server.
        let _gone = self.0.wait_for(|begun| *begun).await.is_err();
    }
}
