//! Streams as iterators.

use bytes::Bytes;

use super::thread::Thread;
use crate::{BackupStream, Error, Item, Result, ScanStream, WatchEvent, WatchStream};

/// The items of a scan; after an error there is nothing more.
#[derive(Debug)]
pub struct Scan {
    // Dropped before the thread that drives its connection.
    stream: ScanStream,
    thread: Thread,
    failed: bool,
}

impl Scan {
    pub(super) fn new(thread: Thread, stream: ScanStream) -> Self {
        Self { stream, thread, failed: false }
    }

    /// What the answering node had applied, where the scan was to be content with that.
    pub fn applied(&self) -> Option<u64> {
        self.stream.applied()
    }
}

impl Iterator for Scan {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.thread.wait(async { self.stream.next().await.transpose() }).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Changes as they come, as of [`WatchStream`]; every one is waited for.
#[derive(Debug)]
pub struct Watch {
    stream: WatchStream,
    thread: Thread,
}

impl Watch {
    pub(super) fn new(thread: Thread, stream: WatchStream) -> Self {
        Self { stream, thread }
    }

    /// As [`WatchStream::up_to`].
    pub fn up_to(&self) -> Option<u64> {
        self.stream.up_to()
    }
}

impl Iterator for Watch {
    type Item = Result<WatchEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        self.thread.wait(async { self.stream.next().await.transpose() }).transpose()
    }
}

/// A backup as it comes, as of [`BackupStream`].
#[derive(Debug)]
pub struct Backup {
    stream: BackupStream,
    thread: Thread,
    failed: bool,
}

impl Backup {
    pub(super) fn new(thread: Thread, stream: BackupStream) -> Self {
        Self { stream, thread, failed: false }
    }

    /// The last version that it has.
    pub fn version(&self) -> u64 {
        self.stream.version()
    }

    /// How many bytes it has in all.
    pub fn bytes(&self) -> u64 {
        self.stream.bytes()
    }
}

impl Iterator for Backup {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.thread.wait(self.stream.next()).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
