//! Writing: at once, or by one of the threads that commit.

use std::{sync::mpsc, time::Duration};

use esker_log::{Draft, Error, QueueLimits, Result, Submission};

use super::{Db, OnCommit};
use crate::{
    Committed, Compressor, GROUP, KeyRange, RequestId, SyncPolicy, Version, WriteBatch, bitcask::wall_ms,
    once::Begun,
};

impl Db {
    /// An empty batch that compresses values as the store is set to ([`Options::compression`](crate::Options::compression)).
    pub fn batch(&self) -> WriteBatch {
        WriteBatch::compressing(self.compressor())
    }

    /// What a batch for this store compresses with; it knows which values paid lately.
    pub fn compressor(&self) -> Compressor {
        self.inner().compressor.get()
    }

    /// Puts one key and waits until it is committed.
    ///
    /// Errors as for [`Db::write`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        let mut batch = WriteBatch::for_one(self.compressor(), key, value);
        batch.put(key, value)?;
        Ok(self.write(batch, None)?.version)
    }

    /// Deletes one key; [`Committed::existed`] says whether it was present.
    ///
    /// Errors as for [`Db::write`].
    pub fn delete(&self, key: &[u8]) -> Result<Committed> {
        let mut batch = WriteBatch::for_one(Compressor::default(), key, &[]);
        batch.delete(key)?;
        self.write(batch, None)
    }

    /// Adds to the integer that a key holds, 0 if it is absent, and gives what it came to; see [`WriteBatch::add`].
    ///
    /// Errors: `InvalidRequest` if the value is no integer or the sum does not fit, and as for [`Db::write`].
    pub fn add(&self, key: &[u8], by: i64) -> Result<i64> {
        let mut batch = WriteBatch::new();
        batch.add(key, by)?;
        let committed = self.write(batch, None)?;
        let refused = committed.refusal().map(|refusal| Error::InvalidRequest(refusal.to_string()));
        committed.sum().ok_or_else(|| refused.unwrap_or(Error::Closed))
    }

    /// Deletes all keys of a range at once, at a cost that does not depend on how many they are;
    /// [`Committed::existed`] says how many.
    ///
    /// Errors as for [`Db::write`].
    pub fn delete_range(&self, range: &KeyRange) -> Result<Committed> {
        let mut batch = WriteBatch::new();
        batch.delete_range(range)?;
        self.write(batch, None)
    }

    fn check_memory(&self, batch: &WriteBatch) -> Result<()> {
        batch.check_memory(self.inner().engine.as_ref())
    }

    /// What is appended of a batch.
    fn draft(&self, mut batch: WriteBatch) -> Draft {
        if batch.wants_stamp() {
            batch.stamp(wall_ms(self.inner().clock.as_ref()));
        }
        let (compressor, compressed) = batch.learnt();
        self.inner().compressor.learn(compressor, compressed);
        let (payload, records) = batch.into_payload();
        Draft::next(GROUP, payload, records)
    }

    /// Commits a batch and waits for it; [`Committed::outcome`] says if its conditions held. `sync` may ask for a stronger policy than the store's.
    ///
    /// Errors: `InvalidRequest` (an empty batch), `MemoryFull`, `DiskFull`, `OutOfFiles`, `Poisoned`, `Closed`. After `Poisoned` the batch may or may
    /// not be there when the store is reopened; after the others it is not.
    pub fn write(&self, batch: WriteBatch, sync: Option<SyncPolicy>) -> Result<Committed> {
        self.check_memory(&batch)?;
        match batch.request_id() {
            None => self.inner().commit.write(self.draft(batch), sync),
            Some(id) => self.write_once(id, batch, sync),
        }
    }

    fn write_once(&self, id: RequestId, batch: WriteBatch, sync: Option<SyncPolicy>) -> Result<Committed> {
        let (answer, answered) = mpsc::sync_channel(1);
        let waiting = || -> OnCommit {
            // There is room for the one answer, and who asked waits for it.
            Box::new(move |result| drop(answer.try_send(result)))
        };
        match self.inner().once().begin(id, waiting) {
            Begun::Applied(committed) => Ok(committed),
            Begun::Waits => answered.recv().unwrap_or(Err(Error::Closed)),
            Begun::First(under_way) => {
                let result = self.inner().commit.write(self.draft(batch), sync);
                under_way.finish(&result);
                result
            }
        }
    }

    /// Has a batch committed, without ever blocking on the disk; `done` is called when it is committed or failed, on another thread
    /// or, where nothing had to be waited for, by this call. A batch that asks for no sync is committed here, as a rule.
    ///
    /// Errors (then `done` is not called): `Busy`, `MemoryFull`, `Poisoned`, `Closed`, `InvalidRequest`.
    pub fn submit(&self, batch: WriteBatch, sync: Option<SyncPolicy>, done: OnCommit) -> Result<()> {
        if self.inner().has_threads {
            self.check_memory(&batch)?;
            match batch.request_id() {
                None => self.commit_or_submit(batch, sync, done),
                Some(id) => self.submit_once(id, batch, sync, done),
            }
        } else {
            done(self.write(batch, sync));
            Ok(())
        }
    }

    /// How many batches may wait to be committed, and how many bytes of them.
    pub fn queue_limits(&self) -> QueueLimits {
        self.inner().commit.limits()
    }

    /// What holds for a write that asks for this: the store's own policy counts where it is stronger.
    pub fn sync_policy(&self, asked: Option<SyncPolicy>) -> SyncPolicy {
        self.inner().commit.effective(asked)
    }

    /// Whether a sync is likely to be over in half a millisecond, as [`Db::submit_all`] sees it.
    pub fn syncs_quickly(&self) -> bool {
        self.inner().commit.syncs_quickly()
    }

    /// How long a sync is likely to take, as those before tell.
    pub fn expected_sync(&self) -> Duration {
        self.inner().commit.expected_sync()
    }

    /// Whether [`Db::submit_all`] would be likely to sync so much itself, if it came now.
    pub fn would_sync(&self, bytes: usize, batches: usize) -> bool {
        self.inner().commit.would_sync(bytes, batches)
    }

    /// Whether nothing waits to be committed.
    pub fn is_queue_empty(&self) -> bool {
        self.inner().commit.is_queue_empty()
    }

    /// Submits many batches at a time, in their order: a group of its own, if it is not too much for one. As [`Db::submit`] for each, but for a
    /// sync that is likely to be quick (half a millisecond), which is waited for if the caller `may_sync`, and for batches that carry
    /// a request id, which are not for this: what can be told at once is told to `done` as well.
    pub fn submit_all(
        &self,
        batches: impl IntoIterator<Item = (WriteBatch, Option<SyncPolicy>, OnCommit)>,
        may_sync: bool,
    ) {
        if !self.inner().has_threads {
            batches.into_iter().for_each(|(batch, sync, done)| done(self.write(batch, sync)));
            return;
        }
        let mut refused = Vec::new();
        let submissions = batches.into_iter().filter_map(|(batch, sync, done)| {
            debug_assert!(batch.request_id().is_none(), "what is applied once is submitted alone");
            if let Err(e) = self.check_memory(&batch) {
                refused.push((done, e));
                return None;
            }
            let is_quick = !batch.may_take_long();
            Some(Submission { draft: self.draft(batch), sync, is_quick, done })
        });
        // Made before the queue is locked.
        let submissions: Vec<_> = submissions.collect();
        self.inner().commit.submit_all(submissions, may_sync);
        refused.into_iter().for_each(|(done, e)| done(Err(e)));
    }

    fn commit_or_submit(&self, batch: WriteBatch, sync: Option<SyncPolicy>, done: OnCommit) -> Result<()> {
        let may_take_long = batch.may_take_long();
        let (draft, commit) = (self.draft(batch), &self.inner().commit);
        if may_take_long {
            commit.submit(draft, sync, done)
        } else {
            commit.commit_or_submit(draft, sync, done)
        }
    }

    fn submit_once(
        &self,
        id: RequestId,
        batch: WriteBatch,
        sync: Option<SyncPolicy>,
        done: OnCommit,
    ) -> Result<()> {
        let mut done = Some(done);
        let waiting = || done.take().expect("it is asked for once");
        let begun = self.inner().once().begin(id, waiting);
        match (begun, done) {
            (Begun::First(under_way), Some(done)) => {
                let finish = move |result: Result<Committed>| {
                    under_way.finish(&result);
                    done(result);
                };
                self.commit_or_submit(batch, sync, Box::new(finish))
            }
            (Begun::Applied(committed), Some(done)) => {
                done(Ok(committed));
                Ok(())
            }
            // It went to those that wait.
            (_, _) => Ok(()),
        }
    }
}
