//! Committing on the submitter's own thread, where nothing has to be waited for.
//!
//! To wake a committer and to be woken by it are switches of threads, which a commit that is not synced need not pay for. So whoever submits one and
//! finds nobody leading leads by itself, and takes along what others submit meanwhile: as long as that is little, asks for no sync,
//! and fits where the log ends. Everything else is a committer's: a sync, a new segment, space to be reserved, a
//! full disk, a brake, a backlog that the kernel may make its writers wait for, an amount that would keep the thread. So it is as
//! long as a group before is not applied: whoever applies that may wait for the disk, or for this very thread.

use parking_lot::MutexGuard;

use super::{Callback, Consumer, Entry, Group, GroupCommit, Persisted, Queue, Reply, UNSYNCED_BYTES_MAX};
use crate::{Result, SyncPolicy, format::FRAME_HEADER_LEN, writer::Draft};

/// What is committed at a time without a committer, in bytes (of what is submitted together it is more: [`super::together`]),
const BYTES_MAX: usize = 32 << 10;
/// and in records: some ten microseconds' worth, a hundred at most.
const RECORDS_MAX: u32 = 256;
/// So many groups a submitter commits before it leaves the next to a committer: it has other things to do.
const ROUNDS_MAX: usize = 4;

impl<C: Consumer> GroupCommit<C> {
    /// Commits a batch at once if there is nothing to wait for, and queues it if there is; `done` is called by this call, or
    /// on the thread of whoever leads. Does not wait for a sync or for another file, but where a brake, or a smaller size of
    /// segments, is set in the very moment.
    ///
    /// For a batch of which the consumer needs nothing from the disk.
    ///
    /// Errors (`done` is dropped uncalled): as for [`GroupCommit::submit`].
    pub fn commit_or_submit(
        &self,
        draft: Draft,
        sync: Option<SyncPolicy>,
        done: Callback<C::Outcome>,
    ) -> Result<()> {
        let (sync, mut queue) = self.admit(&draft, sync)?;
        let entry = Entry { draft, sync, reply: Reply::Callback(done), is_quick: true };
        let waits = queue.leading
            || !is_quick(&entry)
            || !self.is_all_applied(&queue)
            || !self.takes_at_once(frame_len(&entry));
        if waits {
            self.enqueue_submitted(&mut queue, entry);
            return Ok(());
        }
        let group = Self::group_of_one(&mut queue, entry);
        drop(queue);
        self.lead_at_once(group);
        Ok(())
    }

    /// Commits the group and what gathers meanwhile, as long as there is nothing to wait for.
    pub(super) fn lead_at_once(&self, mut group: Group<C::Outcome>) {
        for round in 1.. {
            let persisted: Persisted<_> = self.persist_group(group);
            let own = self.finish(persisted);
            debug_assert!(own.is_none(), "whoever submits is answered by its callback");
            let mut queue = self.queue.lock();
            if round == ROUNDS_MAX || !self.goes_on_at_once(&queue) {
                self.hand_on(&mut queue);
                return;
            }
            group = self.take_group(&mut queue);
        }
    }

    /// Whether all that waits can be committed without waiting; not if nothing does.
    pub(super) fn goes_on_at_once(&self, queue: &MutexGuard<'_, Queue<C::Outcome>>) -> bool {
        let entries = &queue.entries;
        !entries.is_empty()
            && queue.bytes <= BYTES_MAX
            && entries.iter().map(|entry| entry.draft.records).sum::<u32>() <= RECORDS_MAX
            && entries.iter().all(is_quick)
            && self.takes_at_once(entries.iter().map(frame_len).sum())
    }

    /// Whether nobody has a group to apply. (`turn` is never held while `queue` is waited for.)
    pub(super) fn is_all_applied(&self, queue: &MutexGuard<'_, Queue<C::Outcome>>) -> bool {
        self.turn.try_lock().is_some_and(|turn| turn.ticket == queue.next_ticket && !turn.broken)
    }

    /// Whether so many bytes can be appended without waiting.
    pub(super) fn takes_at_once(&self, bytes: usize) -> bool {
        self.brake.per_kib().is_zero()
            && !self.log.is_disk_full()
            && self.unsynced_bytes() < UNSYNCED_BYTES_MAX
            && self.writer.try_lock().is_some_and(|writer| writer.has_space(bytes as u64))
    }
}

fn is_quick<T>(entry: &Entry<T>) -> bool {
    let Draft { payload, records, .. } = &entry.draft;
    entry.sync != SyncPolicy::Always
        && entry.is_quick
        && payload.len() <= BYTES_MAX
        && *records <= RECORDS_MAX
}

pub(super) fn frame_len<T>(entry: &Entry<T>) -> usize {
    FRAME_HEADER_LEN + entry.draft.payload.len()
}
