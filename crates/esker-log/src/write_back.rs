//! Writing out what was appended before a segment must be sealed.
//!
//! A segment is synced before its successor is created, and appends wait for that. Where nobody asks for a sync before, a
//! whole segment would have to be written then: 256 MiB at 1.5 GB/s held writers up for 115 to 155 ms. So a thread of the
//! store ([`Log::run_write_back`]) syncs whenever [`LogOptions::write_back_bytes`](crate::LogOptions::write_back_bytes) have gathered; appends go
//! on meanwhile. With 32 MiB, no append waited for more than 24 ms, and the rate stayed what it was. A last time it does so shortly before the
//! segment's end, so that sealing finds a quarter of that at most.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{Log, signal::Signal};

/// The thread looks at least this often; nothing depends on it.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Wakes the thread that writes out.
#[derive(Default)]
pub(crate) struct WriteBack {
    due: Signal,
    closed: AtomicBool,
}

impl WriteBack {
    /// So much was appended that it is time.
    pub(crate) fn raise(&self) {
        self.due.raise();
    }
}

impl Log {
    /// The life of the thread that writes out what nobody has synced; returns after [`Log::close_write_back`].
    pub fn run_write_back(&self) {
        while !self.write_back.closed.load(Ordering::Acquire) {
            self.write_back.due.wait(LOOK_INTERVAL);
            let (end, unsynced) = self.unsynced();
            if self.is_write_back_due(end, unsynced) {
                // A failure has poisoned the log, which every writer is told.
                drop(self.sync());
            }
        }
    }

    /// Ends the thread.
    pub fn close_write_back(&self) {
        self.write_back.closed.store(true, Ordering::Release);
        self.write_back.due.raise();
    }

    /// How many bytes the active segment has, and how many of them are not known to be on the disk.
    fn unsynced(&self) -> (u64, u64) {
        let (end, durable) = (self.appended(), self.durable());
        let from = if durable.segment == end.segment { durable.offset } else { 0 };
        (u64::from(end.offset), u64::from(end.offset.saturating_sub(from)))
    }
}
