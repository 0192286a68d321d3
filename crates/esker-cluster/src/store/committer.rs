//! Who commits: this node alone, or its cluster.

use std::{path::Path, sync::Arc};

use esker_engine::{
    BackupArchive, BackupReport, Damage, Db, Merged, Progress, Stats, Version, watch::Changes,
};

use crate::{
    Result,
    raft::RaftNode,
    single::{Accounts, Single},
    watch::Applied,
};

/// How writes are committed. Everything else is the same in every mode.
pub(super) enum Committer {
    /// This node commits for itself.
    Single { db: Db, committer: Single },
    /// The cluster commits.
    Raft { node: Arc<RaftNode>, accounts: Arc<Accounts> },
}

impl Committer {
    pub(super) fn changes(&self) -> Changes {
        match self {
            Self::Single { db, .. } => db.changes(),
            Self::Raft { node, .. } => node.replica().changes(),
        }
    }

    pub(super) fn applied(&self) -> Result<Applied> {
        Ok(match self {
            Self::Single { db, .. } => Applied::of(db)?,
            Self::Raft { node, .. } => Applied::Raft(node.applied_versions()),
        })
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Single { db, .. } => db.stats(),
            Self::Raft { node, .. } => node.replica().stats(),
        }
    }

    pub(super) fn checkpoint(&self) -> Result<Version> {
        let version = self.stats().version;
        match self {
            Self::Single { db, .. } => db.checkpoint()?,
            Self::Raft { node, .. } => node.replica().checkpoint()?,
        }
        Ok(version)
    }

    pub(super) fn merge(&self, all: bool, progress: Progress<'_>) -> Result<Merged> {
        Ok(match self {
            Self::Single { db, .. } => db.merge_with(all, progress)?,
            Self::Raft { node, .. } => node.replica().merge_with(all, progress)?,
        })
    }

    pub(super) fn backup(&self, dir: &Path, progress: Progress<'_>) -> Result<BackupReport> {
        Ok(match self {
            Self::Single { db, .. } => db.backup(dir, progress)?,
            Self::Raft { node, .. } => node.replica().backup(dir, progress)?,
        })
    }

    pub(super) fn backup_archive(&self, progress: Progress<'_>) -> Result<BackupArchive> {
        Ok(match self {
            Self::Single { db, .. } => db.backup_archive()?,
            Self::Raft { node, .. } => node.replica().backup_archive(progress)?,
        })
    }

    /// Whoever asks for something is told of damage in answer; of what merges meet by themselves, the log tells.
    pub(super) fn log_merge_damage(&self) {
        let tell = |Damage { path, offset, what }: &Damage| {
            tracing::error!(file = %path.display(), offset, what, "a merge has met stored bytes that are damaged");
        };
        match self {
            Self::Single { db, .. } => db.on_merge_damage(tell),
            Self::Raft { node, .. } => node.replica().on_merge_damage(tell),
        }
    }

    pub(super) fn close(&self) -> Result<()> {
        match self {
            Self::Single { db, .. } => db.close()?,
            Self::Raft { node, .. } => node.replica().close()?,
        }
        Ok(())
    }
}
