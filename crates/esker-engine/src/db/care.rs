//! How a store fares, and what is done for it.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use esker_log::{Damage, Result};

use super::Db;
use crate::{
    BackupArchive, BackupReport, Merged, Progress, SnapshotStats, Stats, VerifyReport,
    backup::{self, Source},
    merger::Mergeable as _,
    verify,
};

impl Db {
    /// The store's figures.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let (log, commit, engine) = (inner.commit.log(), inner.commit.counters(), inner.engine.stats());
        let (queued_batches, queued_bytes) = inner.commit.queued();
        let appended = log.appended();
        let segments = log.segments();
        let merged = log.merged();
        let sealed = segments.iter().chain(&merged).filter_map(|segment| segment.sealed_end());
        let sealed: u64 = sealed.map(u64::from).sum();
        Stats {
            keys: engine.keys,
            version: inner.commit.consumer().version.load(Ordering::Acquire),
            index_bytes: engine.index_bytes,
            segments: segments.len() as u64,
            merged_segments: merged.len() as u64,
            active_segment: appended.segment,
            log_bytes: sealed + u64::from(appended.offset),
            live_bytes: engine.live_bytes,
            syncs: log.counters().syncs.load(Ordering::Relaxed),
            groups: commit.groups.load(Ordering::Relaxed),
            batches: commit.batches.load(Ordering::Relaxed),
            operations: commit.operations.load(Ordering::Relaxed),
            bytes_written: log.counters().bytes_written.load(Ordering::Relaxed) + engine.checkpoint_bytes,
            queued_batches: queued_batches as u64,
            queued_bytes: queued_bytes as u64,
            checkpoints: engine.checkpoints,
            cache: engine.cache,
            memory_full: engine.memory_full,
            snapshots: SnapshotStats { retired_bytes: log.retired_bytes(), ..engine.snapshots },
            throttled: inner.commit.brake().waited(),
            user_bytes: inner.commit.consumer().user_bytes.load(Ordering::Relaxed),
            compression: inner.compressor.stats(),
            poisoned: log.poison().map(|why| why.to_string()),
            disk_full: log.is_disk_full(),
            checkpoint_error: inner.checkpoint_error.lock().clone().or(engine.join_error),
            merges: engine.merges,
            merge_error: inner.merger.error.lock().clone(),
            damage: inner.damage.lock().clone(),
        }
    }

    /// Notes damage that a read or a verification came upon, for [`Stats::damage`]. What merges in the background meet is noted
    /// by itself.
    pub fn note_damage(&self, damage: &Damage) {
        self.inner().note_damage(damage);
    }

    /// From now on `tell` is told of damage that merges in the background meet, once for each file; for a log, say. Damage met
    /// before is told when the merge is tried again.
    pub fn on_merge_damage(&self, tell: impl Fn(&Damage) + Send + 'static) {
        self.inner().merger.on_damage(tell);
    }

    /// Makes everything acknowledged durable. Errors: `Poisoned`.
    pub fn sync(&self) -> Result<()> {
        self.inner().commit.log().sync()
    }

    /// Syncs and writes a checkpoint, so that reopening replays nothing. Errors: `Poisoned`, `DiskFull`, `Io`.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner().checkpoint(true)
    }

    /// Does what is due of periodic syncs, hints and checkpoints; says when to come back. Only needed in an
    /// environment without threads.
    pub fn maintain(&self) -> Duration {
        self.inner().maintain()
    }

    /// Merges now what is worth it, or with `all` everything: then what lives lies in key order. Waits until it is done.
    ///
    /// Errors: `DiskFull`, `OutOfFiles`, `Io`, `Damage`, `Poisoned`, `Closed`. Nothing is lost; what was merged before stays so.
    pub fn merge(&self, all: bool) -> Result<Merged> {
        self.merge_with(all, &mut |_, _| Ok(()))
    }

    /// The same; `progress` gets (bytes copied, 0: it is not known before how many there will be).
    ///
    /// Errors: those of [`Db::merge`], and what `progress` says.
    pub fn merge_with(&self, all: bool, progress: Progress<'_>) -> Result<Merged> {
        let inner = self.inner();
        inner.merger.merge_now(inner, all, progress)
    }

    /// Makes a copy of the store in `dir` while it is in use, at the version that it has when this begins. What an earlier
    /// backup in `dir` has is kept, and files that never change are shared with the store if both are on one file system.
    /// A crash at any moment leaves the earlier backup or the new one.
    ///
    /// Errors: those of [`Db::checkpoint`]; `InvalidRequest` if `dir` holds something else; `Locked` if another backup
    /// goes there; `Damage`, and what `progress` says, which gets (bytes done, bytes in all).
    pub fn backup(&self, dir: impl AsRef<Path>, progress: Progress<'_>) -> Result<BackupReport> {
        backup::into_dir(self.inner().commit.log().disk(), &self.backup_source()?, dir.as_ref(), progress)
    }

    /// Makes ready a backup as one stream of bytes, at the version that the store has when this begins.
    ///
    /// Errors: those of [`Db::checkpoint`].
    pub fn backup_archive(&self) -> Result<BackupArchive> {
        Ok(backup::into_archive(self.backup_source()?))
    }

    /// Everything there is, held open.
    fn backup_source(&self) -> Result<Source> {
        self.checkpoint()?;
        let inner = self.inner();
        let log = inner.commit.log();
        Source::of(log, inner.engine.saved(log)?)
    }

    /// Reads and checks every byte of the store; `progress` gets (bytes done, bytes in all).
    ///
    /// Errors: `Io`, and what `progress` says. Damage is in the report.
    pub fn verify(&self, progress: Progress<'_>) -> Result<VerifyReport> {
        let log = self.inner().commit.log();
        verify::verify_open(log, self.inner().engine.as_ref(), progress)
    }

    /// Refuses new writes, commits what is queued, syncs, writes a checkpoint and stops the background threads.
    /// Dropping the last handle does the same but cannot say what failed.
    ///
    /// Errors: those of [`Db::checkpoint`]: the store is closed all the same. `InvalidRequest` in a callback of
    /// [`Db::submit`], which would wait for itself: the store stays open.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}
