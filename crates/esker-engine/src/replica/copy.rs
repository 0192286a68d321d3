//! A replica's state becomes a store of its own.

use std::{io, path::Path};

use esker_log::{Result, format::StoreId};

use super::Replica;
use crate::{BackupReport, KeyRange, Progress, bitcask::repair::FreshStore};

impl Replica {
    /// Writes the state at this instant to a single store in `dir`, which must be absent or empty: keys, values, versions and
    /// expiries, and nothing of the cluster. Writes go on meanwhile. As long as it is not complete, the store cannot be opened.
    ///
    /// It is never to be a member of a cluster: what this node has promised the others is not in it.
    ///
    /// Errors: `InvalidRequest` if `dir` is not empty, `Damage`, `DiskFull`, `Io`, and what `progress` says, which gets (keys
    /// done, keys in all).
    pub fn copy_to(
        &self,
        dir: impl AsRef<Path>,
        new_store: fn() -> io::Result<StoreId>,
        progress: Progress<'_>,
    ) -> Result<BackupReport> {
        let (log, snapshot) = (self.log(), self.snapshot());
        let mut fresh = FreshStore::create(log.disk(), dir.as_ref(), log.segment_max_bytes(), new_store)?;
        fresh.at_version(snapshot.last.index);
        let mut report = BackupReport { version: snapshot.last.index, ..BackupReport::default() };
        for (done, item) in snapshot.view.stored(&KeyRange::all(), false).enumerate() {
            let item = item?;
            fresh.put(&item.key, item.version, item.flags, &item.stored)?;
            report.bytes_copied += (item.key.len() + item.stored.len()) as u64;
            progress(done as u64 + 1, snapshot.keys())?;
        }
        report.bytes = report.bytes_copied;
        fresh.finish()?;
        Ok(report)
    }
}
