//! A thread that waits for its batch, and may be given work meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread::Thread,
};

use parking_lot::Mutex;

use super::Persisted;
use crate::Result;

/// What a waiting thread is told.
pub(super) enum Call<T> {
    /// Take the front of the queue and lead.
    Lead,
    /// Apply and answer this group, which holds its own batch.
    Finish(Persisted<T>),
    /// Its batch is answered.
    Done(Result<T>),
}

const WAITING: u8 = 0;
const CALLED: u8 = 1;

/// See the module. Calls come one after another: each is taken before the next can be made, because it is the
/// thread's own batch that they are about.
pub(super) struct Waiter<T> {
    state: AtomicU8,
    call: Mutex<Option<Call<T>>>,
    thread: Thread,
}

impl<T> Waiter<T> {
    /// A waiter for the current thread.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(WAITING),
            call: Mutex::new(None),
            thread: std::thread::current(),
        })
    }

    /// Waits for a call: looks so many times, then sleeps.
    pub(super) fn wait(&self, looks: usize) -> Call<T> {
        let mut looked = 0;
        while self.state.load(Ordering::Acquire) == WAITING {
            if looked < looks {
                looked += 1;
                std::hint::spin_loop();
            } else {
                std::thread::park();
            }
        }
        self.state.store(WAITING, Ordering::Relaxed);
        self.call.lock().take().expect("a waiter that was called has its call")
    }

    /// Tells the thread what to do.
    pub(super) fn tell(&self, call: Call<T>) {
        *self.call.lock() = Some(call);
        self.state.store(CALLED, Ordering::Release);
        self.thread.unpark();
    }
}
