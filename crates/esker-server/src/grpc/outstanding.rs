//! Answers that a client has not taken yet: who lets them lie for too long loses the connection.
//!
//! HTTP/2 lets a client stop one answer and go on with others, so that the socket alone does not tell. An answer is handed to
//! hyper in pieces, and at every moment one of these holds of it: nothing is there to be sent; a piece was handed over and not
//! sent; or the client has left no room for the next piece. The latter two are written down here, with the time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::http::Share;

/// What the answers of one connection wait for.
#[derive(Default)]
pub(super) struct Outstanding {
    waits: Mutex<Waits>,
    begun: Notify,
}

#[derive(Default)]
struct Waits {
    /// Since when each waits, by number: the oldest is the first.
    since: BTreeMap<u64, Instant>,
    next: u64,
    /// Bytes of the answers' budget that pieces on their way hold.
    held: usize,
    /// When a piece was sent last.
    sent_at: Option<Instant>,
    /// Whether somebody looks at them again soon.
    is_watched: bool,
}

impl Outstanding {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the waits are now; unless there is none, the caller will look again by itself.
    pub(super) fn look(&self) -> Option<Waiting> {
        let mut waits = self.waits();
        let oldest = waits.since.first_key_value().map(|(_, since)| *since);
        waits.is_watched = oldest.is_some();
        oldest.map(|oldest| Waiting { oldest, sent_at: waits.sent_at.filter(|at| *at > oldest) })
    }

    /// Ready when there is a wait that nobody looks at.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Bytes of the answers' budget that pieces on their way hold.
    pub(super) fn held(&self) -> usize {
        self.waits().held
    }

    /// Begins a wait, which ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Wait {
        let mut waits = self.waits();
        let number = waits.next;
        waits.next += 1;
        waits.since.insert(number, Instant::now());
        if !std::mem::replace(&mut waits.is_watched, true) {
            self.begun.notify_one();
        }
        Wait { all: Arc::clone(self), number }
    }

    /// A piece on its way: it waits, and has its share of the budget, until it is sent.
    pub(super) fn piece(self: &Arc<Self>, bytes: Bytes, share: Share) -> Bytes {
        self.waits().held += share.bytes();
        Bytes::from_owner(Piece { bytes, share, wait: self.begin() })
    }
}

/// Waits, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Since when the oldest waits.
    pub(super) oldest: Instant,
    /// When a piece was sent after that.
    pub(super) sent_at: Option<Instant>,
}

/// See [`Outstanding::begin`].
pub(super) struct Wait {
    all: Arc<Outstanding>,
    number: u64,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.all.waits().since.remove(&self.number);
    }
}

struct Piece {
    bytes: Bytes,
    share: Share,
    wait: Wait,
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut waits = self.wait.all.waits();
        waits.held -= self.share.bytes();
        waits.sent_at = Some(Instant::now());
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Budget;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_wait_counts_until_it_ends() {
        let (all, budget) = (Arc::new(Outstanding::default()), Arc::new(Budget::new(100)));
        assert_eq!(all.look(), None);
        let start = Instant::now();
        let mut share = budget.share();
        assert!(share.grow(5));
        let piece = all.piece(Bytes::from_static(b"piece"), share);
        tokio::time::advance(Duration::from_secs(1)).await;
        let wait = all.begin();
        let waiting = |oldest, sent_at| Some(Waiting { oldest, sent_at });
        assert_eq!((all.look(), all.held(), budget.taken()), (waiting(start, None), 5, 5));
        // A part of a piece holds all of it.
        let part = piece.slice(1..);
        drop(piece);
        assert_eq!(all.look(), waiting(start, None));
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(part);
        let (second, third) = (start + Duration::from_secs(1), start + Duration::from_secs(2));
        assert_eq!((all.look(), all.held(), budget.taken()), (waiting(second, Some(third)), 0, 0));
        drop(wait);
        assert_eq!(all.look(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_nobody_looks_at_is_told() {
        let all = Arc::new(Outstanding::default());
        let is_told = async || tokio::time::timeout(Duration::from_millis(1), all.begun()).await.is_ok();
        assert!(!is_told().await);
        let first = all.begin();
        assert!(is_told().await);
        let second = all.begin();
        assert!(!is_told().await, "whoever was told looks");
        assert!(all.look().is_some());
        drop((first, second));
        let third = all.begin();
        assert!(!is_told().await, "whoever found a wait looks again");
        drop(third);
        assert_eq!(all.look(), None);
        let _fourth = all.begin();
        assert!(is_told().await);
    }
}
