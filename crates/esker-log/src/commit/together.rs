//! Submitting many batches at a time.
//!
//! A thread that runs the tasks of many connections in turns has many batches to submit after each. Were each submitted by itself, the first would
//! begin a group alone, and those behind it would wait for its sync. (Redis gathers the writes of a turn as well, in its `beforeSleep`;
//! there the sync stops the turns.)

use super::{Callback, Consumer, Entry, GroupCommit, Reply, call_back};
use crate::{SyncPolicy, writer::Draft};

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
    /// them by this call where there is nothing to wait for, as [`GroupCommit::commit_or_submit`] does, and never waits for the
    /// disk.
    pub fn submit_all(&self, submissions: impl IntoIterator<Item = Submission<C::Outcome>>) {
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
        let leads = !queue.leading && self.is_all_applied(&queue) && self.goes_on_at_once(&queue);
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
}
