//! Opening a log: find its files, check that they belong together, read what no index covers, and cut off a torn tail.
//!
//! 1. [`Opening::begin`] locks the directory, reads `STORE`, and checks every segment's header and the chain of ends.
//! 2. The engine loads its index files, and rebuilds those of sealed segments that have none with
//!    [`Opening::scan_sealed`].
//! 3. [`Opening::recover`] replays what comes after, decides whether a bad frame is a torn tail or damage (see "Crash
//!    reasoning" in `docs/format.md`), cuts, makes what it found durable, and only then gives the [`Writer`].
//!
//! What an earlier process left unsynced is not made durable by a sync alone: if a sync failed under that process, the
//! kernel shows bytes, lengths and names that it counts as written and never writes again (Rebello et al., ATC 2020). So
//! whatever no later write vouches for is *written again* and then synced.

mod find;
mod header;
mod identity;
mod lock;
mod replay;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::identity::read_or_create_store;
use crate::{
    Error, Result, SegmentId,
    disk::{DirLock, Disk, File, pool::FilePool},
    format::StoreId,
    log::LogOptions,
    manifest::{MANIFEST_NAME, Manifest, is_unfinished_restore, unfinished_restore},
    segment::{Segment, is_merged, parse_segment_name},
    small_file::remove_temporaries,
    writer::Writer,
};

pub use self::{
    header::{check_segment_header, open_for_scan, sealed_end_of_previous},
    identity::read_store,
    lock::LockedDir,
};
pub use crate::error::invalid_header;

/// The file with the store's identity.
pub const STORE_NAME: &str = "STORE";

/// The file that says what a backup consists of.
pub const BACKUP_NAME: &str = "BACKUP";

/// A segment as found.
pub struct FoundSegment {
    /// The open segment.
    pub segment: Arc<Segment>,
    /// The file's length in bytes.
    pub file_len: u64,
    /// Where its last frame ends, if it is sealed; `None` for the active one.
    pub sealed_end: Option<u32>,
}

/// A log that is being opened.
pub struct Opening {
    disk: Arc<dyn Disk>,
    files: Arc<FilePool>,
    dir: PathBuf,
    options: LogOptions,
    store: StoreId,
    lock: Arc<dyn DirLock>,
    segments: Vec<FoundSegment>,
    merged: Vec<FoundSegment>,
    manifest: Manifest,
    /// Segments that an installed snapshot took the place of: before the first that counts, or of another generation.
    dead: Vec<SegmentId>,
    /// Segments that a merge took the place of whose files are still there.
    left_behind: Vec<SegmentId>,
    /// The names and lengths of all other files, for the engine.
    other_files: Vec<String>,
    notices: Vec<String>,
}

/// A log that has been opened.
pub struct Recovered {
    /// The end that is appended to.
    pub writer: Writer,
    /// What was noticed and mended, a sentence each.
    pub notices: Vec<String>,
    /// Frames replayed.
    pub replayed: u64,
}

impl Opening {
    /// Locks `dir` (created if absent) and finds what is in it. `new_store` draws the identity of a new store.
    ///
    /// Errors: `Locked`, `UnsupportedFormat`, `Damage` (a header, or a segment missing or cut short), `InvalidRequest` (a backup, or
    /// a restore that did not come to its end), `Io`, `DiskFull`.
    pub fn begin(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        new_store: impl FnOnce() -> io::Result<StoreId>,
    ) -> Result<Self> {
        Self::begin_in(LockedDir::new(disk, dir)?, options, new_store)
    }

    /// The same in a directory that is locked already, so that its files could be looked at first.
    pub fn begin_in(
        locked: LockedDir,
        options: LogOptions,
        new_store: impl FnOnce() -> io::Result<StoreId>,
    ) -> Result<Self> {
        let LockedDir { disk, dir, lock } = locked;
        let listed = disk.list(&dir).map_err(|e| Error::io(format_args!("listing {}", dir.display()), e))?;
        let names: Vec<_> = listed.into_iter().map(|entry| entry.name).collect();
        if names.iter().any(|name| name == BACKUP_NAME) {
            let why =
                format!("{} is a backup and no store: restore it to a directory of its own", dir.display());
            return Err(Error::InvalidRequest(why));
        }
        remove_temporaries(disk.as_ref(), &dir, &names)?;
        let found: Vec<_> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
        let has_files = !found.is_empty() || names.iter().any(|name| name == MANIFEST_NAME);
        let is_new = !names.iter().any(|name| name == STORE_NAME);
        let not_restored = |error| match is_unfinished_restore(disk.as_ref(), &dir) {
            Ok(true) => unfinished_restore(&dir),
            _ => error,
        };
        let store = read_or_create_store(disk.as_ref(), &dir, has_files, new_store).map_err(not_restored)?;
        let manifest = Manifest::read(disk.as_ref(), &dir, &store).map_err(not_restored)?.unwrap_or_default();
        let other_files = names.into_iter().filter(|name| parse_segment_name(name).is_none()).collect();
        let mut opening = Self {
            files: FilePool::new(Arc::clone(&disk), options.max_files),
            disk,
            dir,
            options,
            store,
            lock,
            segments: Vec::new(),
            merged: Vec::new(),
            manifest,
            dead: Vec::new(),
            left_behind: Vec::new(),
            other_files,
            notices: Vec::new(),
        };
        let (merged, log) = found.into_iter().partition(|id| is_merged(*id));
        let log = opening.sort_out(log)?;
        if log.is_empty() && !is_new {
            opening.notice(format!(
                "{} has a {STORE_NAME} file and no segment: unless its creation was interrupted, all data is gone",
                opening.dir.display()
            ));
        }
        let unfinished = opening.find_merged(merged)?;
        opening.find_segments(&log)?;
        // Only now, for a refusal changes nothing: without its manifest, a store would seem to have merged segments that
        // nobody needs, and log segments missing.
        opening.tidy_up(unfinished)?;
        Ok(opening)
    }

    /// The store's identity.
    pub fn store(&self) -> &StoreId {
        &self.store
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log segments, oldest first. All but the last are sealed.
    pub fn segments(&self) -> &[FoundSegment] {
        &self.segments
    }

    /// The merged segments that count, in the order of their making.
    pub fn merged(&self) -> &[FoundSegment] {
        &self.merged
    }

    /// What `MANIFEST` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Segments that a merge took the place of and that the full disk did not let us remove. A crash may bring them back:
    /// what belongs to them must stay as well.
    pub fn left_behind(&self) -> &[SegmentId] {
        &self.left_behind
    }

    /// Whether there is something left of what an installed snapshot took the place of: log segments before the first that
    /// counts, merged segments of another generation, or their names in `MANIFEST`.
    pub fn has_dead_segments(&self) -> bool {
        !self.dead.is_empty() || self.manifest_of_the_living() != self.manifest
    }

    fn manifest_of_the_living(&self) -> Manifest {
        let mut living = self.manifest.clone();
        living.forget_before(self.options.first_segment, self.options.generation);
        living
    }

    /// Removes it. What says which segment is the first, and which generation counts, must be durable. If a crash undoes
    /// it, the next opening does it again.
    ///
    /// Errors: `Io`, `DiskFull`.
    pub fn remove_dead_segments(&mut self) -> Result<()> {
        let living = self.manifest_of_the_living();
        if living != self.manifest {
            self.renew_manifest(living)?;
        }
        for id in std::mem::take(&mut self.dead) {
            self.remove_file(id)?;
        }
        Ok(())
    }

    /// A file that nobody writes to any more, opened by its first read, and closed like a segment's where too many are open.
    pub fn pooled_file(&self, path: &Path) -> Arc<dyn File> {
        self.files.lazily(path)
    }

    /// The names of the files that are not segments, sorted.
    pub fn other_files(&self) -> &[String] {
        &self.other_files
    }

    /// Adds a sentence to what opening reports.
    pub fn notice(&mut self, notice: String) {
        self.notices.push(notice);
    }
}
