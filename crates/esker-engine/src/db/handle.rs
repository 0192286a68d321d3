//! Closing a store, whoever does it.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::{JoinHandle, ThreadId},
};

use esker_log::{Error, Result, is_in_callback};
use parking_lot::Mutex;

use super::Inner;

/// Closes the store when the last user's handle goes; the store's own threads hold only [`Inner`].
pub(super) struct Handle {
    pub(super) inner: Arc<Inner>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Which threads these are: they cannot wait for themselves.
    pub(super) own: Vec<ThreadId>,
}

impl Handle {
    pub(super) fn close(&self) -> Result<()> {
        if self.waits_for_itself() {
            return Err(Error::InvalidRequest("a callback cannot close the store that calls it".into()));
        }
        // Held to the end: who comes second returns when the store is closed.
        let mut threads = self.threads.lock();
        close(&self.inner, std::mem::take(&mut *threads))
    }

    /// Whether the store would wait for whoever asks.
    fn waits_for_itself(&self) -> bool {
        is_in_callback() || self.own.contains(&std::thread::current().id())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let threads = std::mem::take(self.threads.get_mut());
        // What cannot be saved here is replayed at the next opening; `close` is there for those who want to know.
        if !self.waits_for_itself() {
            drop(close(&self.inner, threads));
            return;
        }
        // A callback held the last handle, so another thread has to do it; if there is none to be had, the store stays
        // open until the process ends.
        let inner = Arc::clone(&self.inner);
        let closing = std::thread::Builder::new().name("esker-close".into());
        drop(closing.spawn(move || drop(close(&inner, threads))));
    }
}

fn close(inner: &Inner, threads: Vec<JoinHandle<()>>) -> Result<()> {
    if inner.closing.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    inner.commit.close();
    inner.maintenance.raise();
    inner.merger.wake();
    inner.commit.log().close_write_back();
    for thread in threads {
        thread.join().expect("the store's threads do not panic");
    }
    inner.checkpoint(true)
}
