//! A signal to a background thread: raised by anyone, seen once.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Wakes the thread that waits, or spares the next one its wait.
    pub fn raise(&self) {
        let mut raised = self.raised.lock();
        if !*raised {
            *raised = true;
            self.changed.notify_one();
        }
    }

    /// Waits until the signal is raised or `timeout` has passed, and lowers it.
    pub fn wait(&self, timeout: Duration) {
        let mut raised = self.raised.lock();
        if !*raised {
            self.changed.wait_for(&mut raised, timeout);
        }
        *raised = false;
    }
}
