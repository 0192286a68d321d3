//! A scan that ends when its caller's right does: whoever takes its answer slowly has it last, and the list of users changes
//! meanwhile.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use esker_cluster::{Admit, Chunk, Result, Room, Scan};
use esker_engine::KeyRange;

use super::Door;

/// See the module.
pub(crate) struct GuardedScan<T = Chunk> {
    scan: Scan<T>,
    /// Whose it is, and what it reads; `None`: nobody is asked.
    guard: Option<Box<(Door, KeyRange)>>,
}

impl GuardedScan {
    pub(super) fn new(door: &Door, range: &KeyRange, scan: Scan) -> Self {
        let guard = door.access.is_locked().then(|| Box::new((door.clone(), range.clone())));
        Self { scan, guard }
    }

    /// See [`Scan::shaped`].
    pub(crate) fn shaped<T: Send + 'static>(
        self,
        shape: impl Fn(Chunk) -> (T, usize) + Send + Sync + 'static,
    ) -> GuardedScan<T> {
        GuardedScan { scan: self.scan.shaped(shape), guard: self.guard }
    }
}

impl<T: Send + 'static> GuardedScan<T> {
    /// See [`Scan::admitting`].
    pub(crate) fn admitting(self, admit: Admit, patience: Duration) -> Self {
        Self { scan: self.scan.admitting(admit, patience), ..self }
    }

    /// See [`Scan::take_room`].
    pub(crate) fn take_room(&mut self) -> Option<Room> {
        self.scan.take_room()
    }

    /// See [`Scan::next_chunk`]. Once the caller's right is gone, nothing more is told than that.
    pub(crate) async fn next_chunk(&mut self) -> Option<Result<T>> {
        poll_fn(|cx| self.poll_next_chunk(cx)).await
    }

    /// The same, polled.
    pub(crate) fn poll_next_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let Some(chunk) = ready!(self.scan.poll_next_chunk(cx)) else { return Poll::Ready(None) };
        let allowed = self.guard.as_ref().map_or(Ok(()), |guard| guard.0.may_scan(&guard.1));
        Poll::Ready(Some(allowed.and(chunk)))
    }
}
