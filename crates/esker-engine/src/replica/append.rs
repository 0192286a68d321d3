//! What goes into the log, in the order in which it is submitted.

use std::{
    sync::{atomic::Ordering, mpsc},
    time::Duration,
};

use esker_log::{
    Append, Draft, Error, GroupEnd, OnAppended, Result, Written,
    format::{FrameKind, PAYLOAD_LEN_MAX},
};

use super::{
    Inner, LogEntry, Replica, Tracker,
    entries::{Entries, Held},
};
use crate::{GROUP, db::user_bytes};

/// Who waits for an append looks this often whether the disk is full.
const STALL_LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Replica {
    /// Saves a vote; `done` is called when it is durable. [`Replica::vote`] gives it at once.
    pub fn save_vote(&self, vote: Vec<u8>, done: OnAppended) {
        *self.inner.shared.vote.lock() = Some(vote.clone());
        let draft = Draft::new(FrameKind::Vote, GROUP, GroupEnd::default(), vote, 0);
        self.inner.submit(Append { drafts: vec![draft], sync: true, done });
    }

    /// Appends entries, each behind the last; `done` is called when they are durable. They can be read at once.
    ///
    /// Errors (then `done` is not called): `InvalidRequest` if they do not follow the last entry.
    pub fn append(&self, entries: &[LogEntry], done: OnAppended) -> Result<()> {
        let inner = &self.inner;
        if !entries.iter().all(|entry| entry.kind.is_entry() && entry.payload.len() <= PAYLOAD_LEN_MAX) {
            return Err(Error::InvalidRequest("only entries of bounded length are appended".into()));
        }
        let draft =
            |entry: &LogEntry| Draft::new(entry.kind, GROUP, entry.id, entry.payload.to_vec(), entry.records);
        // Copied before the locks are taken.
        let drafts: Vec<_> = entries.iter().map(draft).collect();
        let mut log_end = inner.shared.log_end.lock();
        let mut last = *log_end;
        for entry in entries {
            last = entry.id.behind(last, entry.kind).ok_or_else(|| {
                Error::InvalidRequest(format!("entry {:?} does not follow {last:?}", entry.id))
            })?;
        }
        inner.shared.with_entries(|held| entries.iter().for_each(|entry| held.push(Held::unwritten(entry))));
        *log_end = last;
        inner.appended_entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let bytes = entries.iter().map(|entry| user_bytes(entry.payload.len(), entry.records)).sum();
        inner.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Still under the lock: the order of submission is the order of the indexes.
        inner.queue.submit(Append { drafts, sync: true, done });
        drop(log_end);
        inner.note_queued();
        Ok(())
    }

    /// Cuts off the entries behind `last`, which must not be committed. Appends that come later follow `last`. Durable
    /// with whatever is appended next: until then a crash may bring the entries back, which does no harm.
    pub fn truncate_after(&self, last: GroupEnd) {
        let inner = &self.inner;
        let mut log_end = inner.shared.log_end.lock();
        if last.index >= log_end.index {
            return;
        }
        if last.index < inner.machine.lock().applied.index {
            let why =
                std::io::Error::other("entries that were applied were to be cut off: report this defect");
            inner.log().poison_with(&Error::io("truncating the log", why));
            return;
        }
        inner.shared.with_entries(|entries| entries.cut(last.index));
        *log_end = last;
        inner.queue_lazily(FrameKind::Truncate, last);
        drop(log_end);
        inner.note_queued();
    }

    /// Forgets entries up to `upto`, which should be covered by a checkpoint ([`Replica::checkpointed`]): a restart
    /// brings back those that are not. The bytes stay: values are read from them. If the log ends before `upto`, it goes
    /// on behind it.
    pub fn purge(&self, upto: GroupEnd) {
        let inner = &self.inner;
        let mut log_end = inner.shared.log_end.lock();
        if upto.index > log_end.index {
            inner.shared.with_entries(|entries| entries.cut(upto.index));
            *log_end = upto;
            inner.queue_lazily(FrameKind::Base, upto);
        }
        inner.shared.with_entries(|entries| entries.purge(upto));
        drop(log_end);
        inner.note_queued();
    }

    /// Notes in the log that everything up to `last` is committed, so that a restart applies it without asking. Not
    /// synced: what of it is lost is learnt again.
    pub fn note_committed(&self, last: GroupEnd) {
        self.inner.queue_lazily(FrameKind::Commit, last);
        self.inner.note_queued();
    }
}

impl Inner {
    pub(super) fn submit(&self, append: Append) {
        self.queue.submit(append);
        self.note_queued();
    }

    /// Queues a mark that takes effect at once and is durable with whatever comes behind it.
    pub(super) fn queue_lazily(&self, kind: FrameKind, at: GroupEnd) {
        let draft = Draft::new(kind, GROUP, at, Vec::new(), 0);
        // If it is not written, nothing later will be either, and that is told.
        let done = Box::new(|_told_to_the_next| ());
        self.queue.submit(Append { drafts: vec![draft], sync: false, done });
    }

    /// Without a thread of its own, what is queued is appended by whoever was asked to, or here.
    pub(super) fn note_queued(&self) {
        if self.has_threads {
            return;
        }
        match &self.shared.hooks.queued {
            Some(queued) => queued(),
            None => drop(self.queue.pump()),
        }
    }

    /// Appends and waits. After `DiskFull` it is still queued: it may be written later.
    pub(super) fn append_and_wait(&self, drafts: Vec<Draft>, sync: bool) -> Result<()> {
        let told = self.queue_and_tell(drafts, sync);
        self.wait(&told)
    }

    pub(super) fn queue_and_tell(&self, drafts: Vec<Draft>, sync: bool) -> mpsc::Receiver<Result<()>> {
        let (tell, told) = mpsc::channel();
        let done = Box::new(move |outcome| drop(tell.send(outcome)));
        self.queue.submit(Append { drafts, sync, done });
        told
    }

    pub(super) fn wait(&self, told: &mpsc::Receiver<Result<()>>) -> Result<()> {
        if !self.has_threads {
            // Waiting would be for ever: there is only this thread.
            while self.queue.queued_bytes() > 0 && self.queue.pump() {}
            return told.try_recv().unwrap_or_else(|e| match e {
                mpsc::TryRecvError::Empty => Err(Error::DiskFull),
                mpsc::TryRecvError::Disconnected => Err(Error::Closed),
            });
        }
        loop {
            match told.recv_timeout(STALL_LOOK_INTERVAL) {
                Err(mpsc::RecvTimeoutError::Timeout) if self.queue.is_stalled() => {
                    return Err(Error::DiskFull);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Error::Closed),
                Ok(outcome) => return outcome,
            }
        }
    }
}

impl Written for Tracker {
    fn written(&self, drafts: &[Draft]) {
        let mut log_end = self.log_end.lock();
        let mut last = None;
        for draft in drafts {
            let id = GroupEnd { index: draft.appended_index, term: draft.term };
            match draft.kind {
                kind if kind.is_entry() => {
                    let is_held = self.shared.with_entries(|held| held.note_written(id, draft.position));
                    last = is_held.then_some(id.index).or(last);
                }
                FrameKind::Truncate | FrameKind::Base => self.shared.with_entries(Entries::note_cut_written),
                FrameKind::Placed => {
                    self.shared.placing.lock().note(draft, *log_end, self.engine.as_ref());
                }
                _ => {}
            }
            *log_end = id.behind(*log_end, draft.kind).unwrap_or(*log_end);
        }
        if let Some(last) = last {
            (self.shared.hooks.written)(last);
        }
    }
}
