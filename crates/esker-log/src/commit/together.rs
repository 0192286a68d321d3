//! Submitting many batches at a time.
//!
//! A thread that runs the tasks of many connections in turns has many batches to submit after each. Were each submitted by itself, the first would
//! begin a group alone, and those behind it would wait for its sync. (Redis gathers the writes of a turn as well, in its `beforeSleep`.)
//!
//! Where the disk is as quick as two switches of threads, and nobody leads, the thread syncs the group itself, as Redis does: what it would gain
//! by going on meanwhile it would lose by waking a committer and being woken, and more comes together for the next sync. Where
//! syncs take longer, or one did lately ([`QUICK_SYNC`]), a committer is called, and nobody waits for the disk but those who write.
//!
//! What asks for no sync the thread commits itself as well. Both only as long as it is little ([`BYTES_MAX`], [`RECORDS_MAX`]).

use std::time::Duration;

use parking_lot::MutexGuard;

use super::{Callback, Consumer, Entry, GroupCommit, Queue, Reply, at_once::frame_len, call_back};
use crate::{SyncPolicy, writer::Draft};

/// A sync that is expected to take no longer is not left to a committer.
const QUICK_SYNC: Duration = Duration::from_micros(500);
/// What is committed so, synced or not, in bytes,
const BYTES_MAX: usize = 256 << 10;
/// and in records: a millisecond's worth, in an index that no cache holds. It is more than a submitter commits of one batch
/// ([`GroupCommit::commit_or_submit`]), for it is what many connections wait for.
const RECORDS_MAX: u32 = 1024;
/// A sync waits for what others left unsynced before, too; not for more than this.
const UNSYNCED_MAX: u32 = 1 << 20;

/// A batch to be committed, and who is told.
pub struct Submission<T> {
    /// What is appended.
    pub draft: Draft,
    /// What the writer asks for; the log's policy counts where it is stronger.
    pub sync: Option<SyncPolicy>,
    /// Whether the consumer needs nothing from the disk to apply it.
    pub is_quick: bool,
    /// Told the outcome, or why it was not taken.
    pub done: Callback<T>,
}

impl<C: Consumer> GroupCommit<C> {
    /// Queues batches in their order, without anything between them but what has no room ([`Error::Busy`](crate::Error::Busy)); each is told its outcome. Commits
    /// them by this call where that is 256 KiB and 1,024 records at most and waits for nothing, or for nothing but a sync that is
    /// likely to be over in half a millisecond, if the caller `may_sync`.
    pub fn submit_all(&self, submissions: impl IntoIterator<Item = Submission<C::Outcome>>, may_sync: bool) {
        let mut refused = Vec::new();
        let mut queue = self.queue.lock();
        for Submission { draft, sync, is_quick, done } in submissions {
            match self.check(&draft, &queue) {
                Err(e) => refused.push((done, e)),
                Ok(()) => {
                    let (sync, reply) = (self.effective(sync), Reply::Callback(done));
                    Self::enqueue(&mut queue, Entry { draft, sync, reply, is_quick });
                }
            }
        }
        let leads = !queue.leading && self.is_all_applied(&queue) && self.is_soon_committed(&queue, may_sync);
        if leads {
            queue.leading = true;
            let group = self.take_group(&mut queue);
            drop(queue);
            self.lead_at_once(group);
        } else {
            self.call_if_nobody_leads(&mut queue);
            drop(queue);
        }
        refused.into_iter().for_each(|(done, e)| call_back(done, Err(e)));
    }

    /// Whether nothing waits to be committed: what is on its way is not counted.
    pub fn is_queue_empty(&self) -> bool {
        self.queue.lock().entries.is_empty()
    }

    /// Whether [`GroupCommit::submit_all`] would be likely to sync so much itself, if it came now.
    pub fn would_sync(&self, bytes: usize, batches: usize) -> bool {
        let queue = self.queue.lock();
        let is_idle = !queue.leading && queue.entries.is_empty();
        is_idle && bytes <= BYTES_MAX && batches <= RECORDS_MAX as usize && self.syncs_quickly()
    }

    /// Whether a sync is likely to be so quick that [`GroupCommit::submit_all`] waits for it.
    pub fn syncs_quickly(&self) -> bool {
        self.expected_sync() <= QUICK_SYNC
    }

    /// How long a sync is likely to take, as those before tell.
    pub fn expected_sync(&self) -> Duration {
        self.sync_time.expected()
    }

    /// Whether all that waits is so little that the caller commits it, and needs no sync, or a quick one for which it waits.
    fn is_soon_committed(&self, queue: &MutexGuard<'_, Queue<C::Outcome>>, may_sync: bool) -> bool {
        let entries = &queue.entries;
        let syncs = || entries.iter().any(|entry| entry.sync == SyncPolicy::Always);
        let waits_for_it = || may_sync && self.syncs_quickly() && self.unsynced_bytes() <= UNSYNCED_MAX;
        !entries.is_empty()
            && queue.bytes <= BYTES_MAX
            && entries.iter().map(|entry| entry.draft.records).sum::<u32>() <= RECORDS_MAX
            && entries.iter().all(|entry| entry.is_quick)
            && (!syncs() || waits_for_it())
            && self.takes_at_once(entries.iter().map(frame_len).sum())
    }
}
