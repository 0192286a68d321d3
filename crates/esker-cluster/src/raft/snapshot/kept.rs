//! The snapshot that is being sent, kept so that a transfer that breaks goes on where it stopped, though the state has
//! changed meanwhile.
//!
//! One at a time, the same for all who need one. It is kept while it is sent, and for [`KEPT_FOR`] after a transfer broke. It
//! pins what of the index has changed since (at most the index once more), the segments that it reads from, and the log
//! behind its last entry, from which its receiver goes on: up to [`KEPT_LOG_FACTOR`] times as many entries as are kept
//! otherwise. When more than that was written, it is of no use any more and let go of.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use esker_engine::{Replica, replica::Snapshot};
use esker_log::Index;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A receiver that does not come back within this time begins anew.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// So many times the usual number of entries are kept for who is being sent a snapshot.
const KEPT_LOG_FACTOR: u64 = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Outgoing {
    kept: Mutex<Option<Kept>>,
    /// The one that was given out last: two who ask before either is sent it get the same.
    given: Mutex<Weak<Snapshot>>,
}

struct Kept {
    snapshot: Arc<Snapshot>,
    receivers: BTreeMap<u64, Transfer>,
}

#[derive(Clone, Copy)]
enum Transfer {
    /// So many calls send it; more than one only while a broken one ends.
    UnderWay(u32),
    BrokenSince(Instant),
}

impl Outgoing {
    /// What a follower is to be sent that needs a snapshot: the one that is kept, if the log behind it is still there;
    /// or the state as it is now.
    pub(crate) fn current(&self, replica: &Replica) -> Arc<Snapshot> {
        let mut given = self.given.lock();
        let usable = given.upgrade().filter(|kept| kept.last.index >= replica.purged().index);
        usable.unwrap_or_else(|| {
            let snapshot = Arc::new(replica.snapshot());
            *given = Arc::downgrade(&snapshot);
            snapshot
        })
    }

    /// A transfer begins: `snapshot` is kept from here on.
    pub(super) fn begin(self: &Arc<Self>, snapshot: &Arc<Snapshot>, to: u64) -> Sending {
        let mut slot = self.kept.lock();
        let kept = match &mut *slot {
            Some(kept) if Arc::ptr_eq(&kept.snapshot, snapshot) => kept,
            other => other.insert(Kept { snapshot: Arc::clone(snapshot), receivers: BTreeMap::new() }),
        };
        let transfer = kept.receivers.entry(to).or_insert(Transfer::UnderWay(0));
        *transfer = match *transfer {
            Transfer::UnderWay(calls) => Transfer::UnderWay(calls + 1),
            Transfer::BrokenSince(_) => Transfer::UnderWay(1),
        };
        Sending { outgoing: Arc::clone(self), snapshot: Arc::clone(snapshot), to, done: false }
    }

    /// Lets go of it for those who did not come back.
    pub(crate) fn expire(&self) {
        let is_awaited = |transfer: &Transfer| match transfer {
            Transfer::UnderWay(_) => true,
            Transfer::BrokenSince(when) => when.elapsed() < KEPT_FOR,
        };
        let mut slot = self.kept.lock();
        *slot = slot.take().and_then(|kept| kept.retain(is_awaited));
    }

    /// The last entry that may be let go of, of a log of which no more than so many bytes and entries are kept: what is
    /// behind the snapshot stays as well, within bounds.
    pub(crate) fn surplus(&self, replica: &Replica, bytes: u64, entries: u64) -> Index {
        let last = self.kept.lock().as_ref().map(|kept| kept.snapshot.last.index);
        let Some(last) = last else { return replica.surplus(bytes, entries, Index::MAX) };
        let most = entries.saturating_mul(KEPT_LOG_FACTOR);
        replica.surplus(bytes, entries, last).max(replica.surplus(u64::MAX, most, Index::MAX))
    }

    fn end(&self, sending: &Sending) {
        let mut slot = self.kept.lock();
        let Some(kept) = slot.as_mut().filter(|kept| Arc::ptr_eq(&kept.snapshot, &sending.snapshot)) else {
            return;
        };
        if sending.done {
            kept.receivers.remove(&sending.to);
        } else if let Some(transfer) = kept.receivers.get_mut(&sending.to) {
            *transfer = match *transfer {
                Transfer::UnderWay(calls) if calls > 1 => Transfer::UnderWay(calls - 1),
                Transfer::BrokenSince(when) => Transfer::BrokenSince(when),
                Transfer::UnderWay(_) => Transfer::BrokenSince(Instant::now()),
            };
        }
        *slot = slot.take().and_then(|kept| kept.retain(|_| true));
    }
}

impl Kept {
    /// Itself, if anybody is left who waits for it.
    fn retain(mut self, is_awaited: impl Fn(&Transfer) -> bool) -> Option<Self> {
        self.receivers.retain(|_, transfer| is_awaited(transfer));
        (!self.receivers.is_empty()).then_some(self)
    }
}

/// A transfer under way. Dropped without [`Sending::done`], it broke.
pub(super) struct Sending {
    outgoing: Arc<Outgoing>,
    snapshot: Arc<Snapshot>,
    to: u64,
    done: bool,
}

impl Sending {
    /// The receiver has it.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let outgoing = Arc::clone(&self.outgoing);
        outgoing.end(self);
    }
}

#[cfg(test)]
mod tests {
    use esker_engine::{
        Environment, Options,
        replica::{Hooks, LogEntry},
    };
    use esker_log::{GroupEnd, clock::ManualClock, disk::sim::SimDisk, format::FrameKind};

    use super::*;

    fn replica() -> Replica {
        let environment = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::<ManualClock>::default(),
            threads: false,
            ..Environment::default()
        };
        Replica::open(&environment, "/replica", Options::default(), Hooks::default()).unwrap()
    }

    /// Appends and applies entries up to `last`.
    fn write(replica: &Replica, last: Index) {
        for index in replica.last().index + 1..=last {
            let id = GroupEnd { index, term: 1 };
            let entry = LogEntry { id, kind: FrameKind::Blank, payload: Arc::default(), records: 0 };
            replica.append(std::slice::from_ref(&entry), Box::new(|outcome| outcome.unwrap())).unwrap();
            replica.apply(&[entry]).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_kept_until_all_have_it_or_nobody_comes_back() {
        let (replica, outgoing) = (replica(), Arc::<Outgoing>::default());
        write(&replica, 5);
        let first = outgoing.current(&replica);
        let (to_two, to_three) = (outgoing.begin(&first, 2), outgoing.begin(&first, 3));
        write(&replica, 9);
        assert!(Arc::ptr_eq(&first, &outgoing.current(&replica)));
        to_two.done();
        drop(to_three);
        assert_eq!(outgoing.current(&replica).last.index, 5, "the third may come back");
        tokio::time::advance(KEPT_FOR / 2).await;
        outgoing.begin(&first, 3).done();
        drop(first);
        assert_eq!(outgoing.current(&replica).last.index, 9, "all have it");

        let second = outgoing.current(&replica);
        assert!(Arc::ptr_eq(&second, &outgoing.current(&replica)), "also before it is sent");
        drop(outgoing.begin(&second, 2));
        drop(second);
        tokio::time::advance(KEPT_FOR - Duration::from_secs(1)).await;
        outgoing.expire();
        write(&replica, 10);
        assert_eq!(outgoing.current(&replica).last.index, 9);
        tokio::time::advance(Duration::from_secs(1)).await;
        outgoing.expire();
        assert_eq!(outgoing.current(&replica).last.index, 10);
    }

    /// A call that ends late, after its successor has begun, does not end that one's.
    #[tokio::test(start_paused = true)]
    async fn it_is_kept_for_the_call_that_took_over() {
        let (replica, outgoing) = (replica(), Arc::<Outgoing>::default());
        write(&replica, 5);
        let snapshot = outgoing.current(&replica);
        let (old, new) = (outgoing.begin(&snapshot, 2), outgoing.begin(&snapshot, 2));
        drop((old, snapshot));
        write(&replica, 6);
        tokio::time::advance(KEPT_FOR * 2).await;
        outgoing.expire();
        assert_eq!(outgoing.current(&replica).last.index, 5);
        new.done();
        assert_eq!(outgoing.current(&replica).last.index, 6);
    }

    #[tokio::test]
    async fn the_log_behind_it_is_kept_within_bounds() {
        let (replica, outgoing) = (replica(), Arc::<Outgoing>::default());
        write(&replica, 20);
        let snapshot = outgoing.current(&replica);
        let _sending = outgoing.begin(&snapshot, 2);
        write(&replica, 50);
        assert_eq!(replica.surplus(u64::MAX, 10, Index::MAX), 40);
        assert_eq!(outgoing.surplus(&replica, u64::MAX, 10), 20, "its receiver goes on behind 20");
        write(&replica, 70);
        assert_eq!(outgoing.surplus(&replica, u64::MAX, 10), 30, "but no more than 40 are kept");
        replica.purge(GroupEnd { index: 30, term: 1 });
        assert_eq!(outgoing.current(&replica).last.index, 70);
    }
}
