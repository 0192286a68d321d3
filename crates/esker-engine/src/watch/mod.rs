//! What was changed, read back from the log, version by version: `docs/watch.md`.
//!
//! ```text
//! cursor.rs      how far a watcher is: all that is kept for one
//! change.rs      what it is told
//! page.rs        a page of changes in the making
//! settle.rs      what came of judged batches
//! window.rs      reading the log
//! single.rs      where the versions of a single store lie
//! replicated.rs  where those of a replica do
//! ```
//!
//! A watcher asks for a page when it can take one, and waits elsewhere when there is nothing new. So a slow one costs a page, and
//! nobody waits for it. What was merged away meanwhile is gone: it is told so, and from which version on there is all.

mod change;
mod cursor;
mod page;
mod replicated;
mod settle;
mod single;
mod window;

use std::sync::Arc;

use esker_log::Result;

use self::page::Page;
pub use self::{
    change::{Change, ChangeFilter, ChangeKind},
    cursor::ChangeCursor,
};
pub(crate) use self::{replicated::ReplicatedLog, single::SingleLog};
use crate::Version;

/// The changes of a store, to be read from any version on that is still there. Cloning gives another handle.
#[derive(Clone)]
pub struct Changes {
    source: Arc<dyn Source>,
}

/// What a watcher is given.
#[derive(Debug)]
pub enum ChangesRead {
    /// Changes, in order. None at all, if nothing of what was looked through concerns the watcher; it may go on.
    Page(Vec<Change>),
    /// There is nothing behind the cursor yet.
    CaughtUp,
    /// What comes next is not to be had any more.
    Gone {
        /// From this version on everything is there.
        from: Version,
        /// Why not from where it was wanted.
        why: &'static str,
    },
}

/// Where changes are found.
pub(crate) trait Source: Send + Sync {
    /// The last version that was applied.
    fn applied(&self) -> Version;

    /// Moves the cursor on and puts what it passes on the page. `None`: it may go on.
    ///
    /// Errors: `Damage`, `Io`, `Closed`.
    fn read(&self, cursor: &mut ChangeCursor, page: &mut Page<'_>) -> Result<Option<Stop>>;
}

/// Why there is no more for now.
pub(crate) enum Stop {
    /// Everything that was applied was read.
    CaughtUp,
    /// See [`ChangesRead::Gone`].
    Gone { from: Version, why: &'static str },
}

impl Changes {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self { source: Arc::new(source) }
    }

    /// The last version that was applied: what is behind it is not shown.
    pub fn applied(&self) -> Version {
        self.source.applied()
    }

    /// Reads on behind the cursor: a page of about `bytes_max`, waiting for the disk if need be. The cursor moves behind what is
    /// given. Only what was applied is given, all of a batch before anything of the next.
    ///
    /// Errors: `Damage`, `Io`, `Closed`.
    pub fn read(
        &self,
        cursor: &mut ChangeCursor,
        filter: &ChangeFilter,
        bytes_max: usize,
    ) -> Result<ChangesRead> {
        let mut page = Page::new(filter, bytes_max);
        let stop = self.source.read(cursor, &mut page)?;
        Ok(match stop {
            // What stopped it is found again when the page is taken.
            _ if !page.changes.is_empty() => ChangesRead::Page(page.changes),
            None => ChangesRead::Page(Vec::new()),
            Some(Stop::CaughtUp) => ChangesRead::CaughtUp,
            Some(Stop::Gone { from, why }) => ChangesRead::Gone { from, why },
        })
    }
}

/// Why history is not to be had.
const MERGED: &str = "what came next was merged away";
const PURGED: &str = "what came next is not in the log any more";
const FORGOTTEN: &str = "what came of a conditional or counting write is not remembered any more";
