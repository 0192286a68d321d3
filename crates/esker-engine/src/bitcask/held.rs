//! Which snapshots are held, since when, and what that costs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

/// Snapshots that are held, by scans, backups and transfers to other replicas.
#[derive(Default)]
pub(crate) struct HeldSnapshots {
    /// By the order of taking.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    all: BTreeMap<u64, Since>,
}

/// The moment at which a snapshot was taken.
#[derive(Clone, Copy)]
struct Since {
    /// In monotonic time.
    at: Duration,
    /// What [`Keydir::copied_bytes`](super::keydir::Keydir::copied_bytes) was.
    copied: u64,
}

/// Counts a snapshot until it is dropped.
pub(crate) struct HeldSnapshot {
    number: u64,
    of: Weak<HeldSnapshots>,
}

/// The snapshots held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotStats {
    /// How many.
    pub held: u64,
    /// For how long the oldest is.
    pub oldest_age: Duration,
    /// Memory that they hold at most beyond what the present index has, in bytes: nodes that changed since the oldest was taken.
    pub index_bytes: u64,
    /// Bytes of segments that were merged and are still read from.
    pub retired_bytes: u64,
}

impl HeldSnapshots {
    /// Counts a snapshot that is taken `now`.
    pub(crate) fn hold(self: &Arc<Self>, now: Duration, copied: u64) -> HeldSnapshot {
        let mut held = self.held.lock();
        let number = held.next;
        held.next += 1;
        held.all.insert(number, Since { at: now, copied });
        HeldSnapshot { number, of: Arc::downgrade(self) }
    }

    /// What is held `now`.
    pub(crate) fn stats(&self, now: Duration, copied: u64, retired_bytes: u64) -> SnapshotStats {
        let held = self.held.lock();
        let oldest = held.all.first_key_value().map(|(_, since)| *since);
        SnapshotStats {
            held: held.all.len() as u64,
            oldest_age: oldest.map_or(Duration::ZERO, |since| now.saturating_sub(since.at)),
            index_bytes: oldest.map_or(0, |since| copied.saturating_sub(since.copied)),
            retired_bytes,
        }
    }
}

impl Drop for HeldSnapshot {
    fn drop(&mut self) {
        if let Some(snapshots) = self.of.upgrade() {
            snapshots.held.lock().all.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_held_counts() {
        let snapshots = Arc::<HeldSnapshots>::default();
        let seconds = Duration::from_secs;
        let first = snapshots.hold(seconds(1), 100);
        let second = snapshots.hold(seconds(5), 300);
        let stats = |now, copied| snapshots.stats(seconds(now), copied, 7);
        let expected = |held, age, index_bytes| SnapshotStats {
            held,
            oldest_age: seconds(age),
            index_bytes,
            retired_bytes: 7,
        };
        assert_eq!(stats(11, 1000), expected(2, 10, 900));
        drop(first);
        assert_eq!(stats(11, 1000), expected(1, 6, 700));
        drop(second);
        assert_eq!(stats(12, 2000), expected(0, 0, 0));
    }
}
