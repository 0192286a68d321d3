//! The signal that the server is shutting down.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Announces the drain, begins it, and says how far it is.
pub(crate) struct Drain {
    announced: AtomicBool,
    /// What `begun` says, for whoever asks with every answer.
    has_begun: AtomicBool,
    begun: watch::Sender<bool>,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            announced: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            begun: watch::Sender::new(false),
        }
    }

    /// From now on `/ready` says that the server is leaving; everything is still served.
    pub(crate) fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

    pub(crate) fn begin(&self) {
        self.announce();
        self.has_begun.store(true, Ordering::Release);
        self.begun.send_replace(true);
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// From then on every answer is its connection's last.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    pub(crate) fn subscribe(&self) -> DrainWatch {
        DrainWatch(self.begun.subscribe())
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
