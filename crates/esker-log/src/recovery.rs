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

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Damage, Error, GroupId, Result, SegmentId,
    disk::{DirLock, Disk, File, OpenMode, pool::FilePool},
    format::{
        self, FORMAT_VERSION, Invalid, SEGMENT_HEADER_LEN, SegmentHeader, StoreId, decode_store, encode_store,
    },
    log::{Log, LogOptions},
    manifest::{MANIFEST_NAME, Manifest, MergedSegment, is_unfinished_restore, unfinished_restore},
    scan::{Frame, FrameScanner, Step, scan_stretch},
    segment::{Position, Segment, is_merged, parse_segment_name, segment_name},
    small_file::{read_small, remove_temporaries, write_durably},
    writer::{GroupEnd, Writer},
};

pub use crate::error::invalid_header;

/// The file with the store's identity.
pub const STORE_NAME: &str = "STORE";
/// The file that says what a backup consists of.
pub const BACKUP_NAME: &str = "BACKUP";
const LOCK_NAME: &str = "LOCK";
/// What an earlier process left unsynced is written again by so many bytes at a time.
const REWRITE_BYTES: u64 = 1 << 20;

/// A segment as found.
pub struct FoundSegment {
    /// The open segment.
    pub segment: Arc<Segment>,
    /// The file's length in bytes.
    pub file_len: u64,
    /// Where its last frame ends, if it is sealed; `None` for the active one.
    pub sealed_end: Option<u32>,
}

/// A data directory that no other process has open, as long as this, a clone of it, or a log opened in it is there.
#[derive(Clone)]
pub struct LockedDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lock: Arc<dyn DirLock>,
}

impl LockedDir {
    /// Locks `dir`, which is created if absent.
    ///
    /// Errors: `Locked`, `Io`, `DiskFull`.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self> {
        disk.create_dir_all(dir).map_err(|e| Error::io(format_args!("creating {}", dir.display()), e))?;
        let lock = lock_dir(disk.as_ref(), dir)?;
        Ok(Self { disk, dir: dir.to_owned(), lock: lock.into() })
    }

    /// The disk that holds it.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
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

    /// The log segments that count. None may be missing in between, and none behind those that are gone.
    fn sort_out(&mut self, found: Vec<SegmentId>) -> Result<Vec<SegmentId>> {
        let first = self.options.first_segment;
        let mut live = Vec::new();
        let mut due = self.manifest.next_there(first);
        for id in found {
            if id < first {
                self.dead.push(id);
            } else if self.manifest.is_gone(id) {
                self.left_behind.push(id);
            } else if id != due {
                return Err(self.missing(due));
            } else {
                live.push(id);
                due = self.manifest.next_there(id + 1);
            }
        }
        let reached = live.last().copied().unwrap_or(0);
        let promised = self.manifest.gone.last().map_or(0, |range| range.last).max(first.saturating_sub(1));
        if promised > reached { Err(self.missing(due)) } else { Ok(live) }
    }

    fn missing(&self, id: SegmentId) -> Error {
        Error::damage(self.dir.join(segment_name(id)), 0, "the segment is missing")
    }

    /// Finds the merged segments that count; gives the numbers of files that no manifest can have named.
    fn find_merged(&mut self, found: Vec<SegmentId>) -> Result<Vec<SegmentId>> {
        let (current, other): (Vec<_>, Vec<_>) =
            self.manifest.merged.iter().partition(|named| named.generation == self.options.generation);
        for named in current {
            let segment = self.open_merged(&named)?;
            self.merged.push(segment);
        }
        let (unfinished, known): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|id| *id >= self.manifest.next_merged);
        for id in known {
            if other.iter().any(|named| named.id == id) {
                self.dead.push(id);
            } else if self.manifest.merged(id).is_none() {
                self.left_behind.push(id);
            }
        }
        Ok(unfinished)
    }

    fn open_merged(&self, named: &MergedSegment) -> Result<FoundSegment> {
        let segment = Segment::lazily(&self.files, &self.dir, named.id, &self.store);
        let file_len = match file_len(&segment) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(self.missing(named.id));
            }
            other => other?,
        };
        let header = read_header(&segment, file_len)?;
        self.check_header(&segment, &header.map_err(|why| Error::damage(&segment.path, 0, why))?)?;
        check_not_cut(&segment, file_len, named.len)?;
        segment.seal(named.len);
        Ok(FoundSegment { segment: Arc::new(segment), file_len, sealed_end: Some(named.len) })
    }

    /// Removes what merges left: outputs that were never installed, and inputs of those that were.
    fn tidy_up(&mut self, unfinished: Vec<SegmentId>) -> Result<()> {
        for id in unfinished {
            self.manifest.skip_number(id);
            self.remove_file(id)?;
        }
        if self.left_behind.is_empty() {
            return Ok(());
        }
        // What was read may be in the page cache only, and the disk may still have a manifest that names these files.
        match self.renew_manifest(self.manifest.clone()) {
            Ok(()) => {
                for id in std::mem::take(&mut self.left_behind) {
                    self.remove_file(id)?;
                }
                Ok(())
            }
            Err(Error::DiskFull) => {
                self.notice(format!(
                    "the disk is full: {} segments that were merged could not be removed",
                    self.left_behind.len()
                ));
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn renew_manifest(&mut self, manifest: Manifest) -> Result<()> {
        let next = Manifest { number: manifest.number + 1, ..manifest };
        write_durably(self.disk.as_ref(), &self.dir, MANIFEST_NAME, &next.encode(&self.store))?;
        self.manifest = next;
        Ok(())
    }

    fn remove_file(&self, id: SegmentId) -> Result<()> {
        let path = self.dir.join(segment_name(id));
        self.disk.remove(&path).map_err(|e| Error::io(format_args!("removing {}", path.display()), e))
    }

    fn find_segments(&mut self, ids: &[SegmentId]) -> Result<()> {
        let gone = self.manifest.gone.iter().filter(|range| range.first > 1);
        let mut previous_ends: HashMap<_, _> =
            gone.map(|range| (range.first - 1, range.previous_end)).collect();
        for &id in ids {
            let is_last = Some(&id) == ids.last();
            let segment = match is_last {
                true => Segment::open(&self.files, &self.dir, id, &self.store)?,
                false => Segment::lazily(&self.files, &self.dir, id, &self.store),
            };
            let file_len = file_len(&segment)?;
            match read_header(&segment, file_len)? {
                Ok(header) => {
                    self.check_header(&segment, &header)?;
                    previous_ends.insert(id - 1, header.previous_end);
                }
                Err(why) if is_last && !self.manifest.is_gone(id - 1) => {
                    // The header is synced before the first frame is written, so a segment without a header but with a
                    // frame was damaged; one without either was never finished.
                    self.discard_unfinished(&segment, file_len, why)?;
                    // The one before it is the last again, and will be written.
                    if let Some(last) = self.segments.last_mut() {
                        let id = last.segment.id;
                        last.segment = Arc::new(Segment::open(&self.files, &self.dir, id, &self.store)?);
                    }
                    continue;
                }
                Err(why) => return Err(Error::damage(&segment.path, 0, why)),
            }
            let mut found = FoundSegment { segment: Arc::new(segment), file_len, sealed_end: None };
            if is_last
                && FrameScanner::new(&found.segment, SEGMENT_HEADER_LEN as u64, file_len).rest_is_zero()?
            {
                if file_len == SEGMENT_HEADER_LEN as u64 {
                    self.notices.push(unreserved(&found.segment, file_len));
                }
                found = self.renew_empty(&found.segment)?;
            }
            self.segments.push(found);
        }
        for found in &mut self.segments {
            found.sealed_end = previous_ends.get(&found.segment.id).copied();
            let Some(end) = found.sealed_end else { continue };
            found.segment.seal(end);
            check_not_cut(&found.segment, found.file_len, end)?;
        }
        Ok(())
    }

    fn check_header(&self, segment: &Segment, header: &SegmentHeader) -> Result<()> {
        if header.segment != segment.id {
            return Err(Error::damage(&segment.path, 12, format_args!("this is segment {}", header.segment)));
        }
        if header.store != self.store {
            return Err(Error::damage(&segment.path, 16, "the segment belongs to another store"));
        }
        Ok(())
    }

    /// Writes a segment without a frame again: neither its header nor its name need ever have been synced. The hint of
    /// the segment before it may only be written once they are.
    fn renew_empty(&self, segment: &Segment) -> Result<FoundSegment> {
        let doing = |e| Error::io(format_args!("renewing {}", segment.path.display()), e);
        let disk = self.disk.as_ref();
        let mut header = [0; SEGMENT_HEADER_LEN];
        segment.file.read_exact_at(&mut header, 0).map_err(doing)?;
        match write_durably(disk, &self.dir, &segment_name(segment.id), &header) {
            // No room for a second file: short of a new name, this is the best there is.
            Err(Error::DiskFull) => {
                segment.file.write_all_at(&header, 0).map_err(doing)?;
                segment.file.sync_data().map_err(doing)?;
                disk.sync_dir(&self.dir).map_err(doing)?;
            }
            other => other?,
        }
        let segment = Arc::new(Segment::open(&self.files, &self.dir, segment.id, &self.store)?);
        let file_len = file_len(&segment)?;
        Ok(FoundSegment { segment, file_len, sealed_end: None })
    }

    fn discard_unfinished(&mut self, segment: &Segment, file_len: u64, why: &'static str) -> Result<()> {
        let mut scanner = FrameScanner::new(segment, SEGMENT_HEADER_LEN as u64, file_len);
        let has_frame = matches!(scanner.step()?, Step::Frame(_)) || scanner.durable_mark_behind()? > 0;
        if has_frame {
            return Err(Error::damage(&segment.path, 0, why));
        }
        self.notices.push(format!(
            "{} was not finished when the store stopped and held no write: removed",
            segment.path.display()
        ));
        let doing = || format!("removing {}", segment.path.display());
        self.disk.remove(&segment.path).map_err(|e| Error::io(doing(), e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io(doing(), e))
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

    /// Reads every frame of a sealed segment. A bad one is damage: sealed segments are durable.
    pub fn scan_sealed(
        found: &FoundSegment,
        on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = found.sealed_end.map_or(found.file_len, u64::from);
        scan_stretch(&found.segment, SEGMENT_HEADER_LEN as u64, end, on_frame)
    }

    /// Replays all frames from `from` on, cuts a torn tail, and hands out the writer. `last` is the group's last frame
    /// before `from`.
    ///
    /// Errors: `Damage`, `Io`, `DiskFull` (a new store), and whatever `on_frame` says.
    pub fn recover(
        mut self,
        from: Position,
        last: HashMap<GroupId, GroupEnd>,
        on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<Recovered> {
        let mut groups = last;
        let mut replayed = 0;
        let mut on_frame = |path: &Path, frame: Frame<'_>| {
            check_succession(path, &frame, &mut groups)?;
            replayed += 1;
            on_frame(frame)
        };
        let segments = std::mem::take(&mut self.segments);
        let (mut end, mut file_len) = (SEGMENT_HEADER_LEN as u64, 0);
        for found in segments.iter().filter(|found| found.segment.id >= from.segment) {
            let path = found.segment.path.as_path();
            let is_first = found.segment.id == from.segment;
            let start = if is_first { u64::from(from.offset).max(end) } else { SEGMENT_HEADER_LEN as u64 };
            file_len = found.file_len;
            if let Some(sealed_end) = found.sealed_end {
                scan_stretch(&found.segment, start, u64::from(sealed_end), &mut |frame| {
                    on_frame(path, frame)
                })?;
            } else {
                let mut vouched = start;
                end = recover_active(found, start, &mut self.notices, &mut |frame| {
                    vouched = vouched.max(u64::from(frame.header.durable));
                    on_frame(path, frame)
                })?;
                let whole_len = self.options.segment_max_bytes;
                if found.file_len == end && end > SEGMENT_HEADER_LEN as u64 && end < whole_len {
                    self.notices.push(unreserved(&found.segment, end));
                }
                file_len = settle(&found.segment, vouched, end, &self.options)?;
            }
        }
        let log =
            Log::new(self.disk, self.files, self.dir, self.store, self.options, self.manifest, self.lock);
        for found in segments.iter().chain(&self.merged) {
            log.registry.insert(Arc::clone(&found.segment));
        }
        let log = Arc::new(log);
        let active = match segments.last() {
            Some(found) => Arc::clone(&found.segment),
            None => {
                let (segment, allocated) = create_first(&log)?;
                file_len = allocated;
                segment
            }
        };
        log.advance_durable(Position { segment: active.id, offset: SEGMENT_HEADER_LEN as u32 });
        let writer = Writer::new(Arc::clone(&log), active, end, file_len, groups);
        // What was found may never have been synced: nothing may be acknowledged or indexed on top of it before it is.
        log.sync()?;
        Ok(Recovered { writer, notices: self.notices, replayed })
    }
}

fn lock_dir(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>> {
    let path = dir.join(LOCK_NAME);
    disk.lock(&path).map_err(|e| {
        if e.kind() == io::ErrorKind::WouldBlock {
            let holder = lock_holder(disk, &path).unwrap_or_else(|| "another process".into());
            Error::Locked { path, holder }
        } else {
            Error::io(format_args!("locking {}", path.display()), e)
        }
    })
}

/// The holder's process id, if it can be read; it is there for the message only.
fn lock_holder(disk: &dyn Disk, path: &Path) -> Option<String> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut text = vec![0; file.len().ok()?.min(20) as usize];
    file.read_exact_at(&mut text, 0).ok()?;
    let pid: u32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    Some(format!("process {pid}"))
}

fn read_or_create_store(
    disk: &dyn Disk,
    dir: &Path,
    has_files: bool,
    new_store: impl FnOnce() -> io::Result<StoreId>,
) -> Result<StoreId> {
    let id = match read_versioned_store(disk, dir)? {
        Some((id, FORMAT_VERSION)) if has_files => return Ok(id),
        // Without a segment, the process that wrote it got no further, so its name need never have been synced. With an
        // older version, those who read no newer one must be kept from taking what we write for damage.
        Some((id, _)) => id,
        None if has_files => return Err(Error::damage(dir.join(STORE_NAME), 0, "the file is missing")),
        None => new_store().map_err(|e| Error::io("drawing a store id", e))?,
    };
    write_durably(disk, dir, STORE_NAME, &encode_store(&id))?;
    Ok(id)
}

/// The identity of the store in `dir`, if there is one.
///
/// Errors: `Damage`, `UnsupportedFormat`, `Io`.
pub fn read_store(disk: &dyn Disk, dir: &Path) -> Result<Option<StoreId>> {
    Ok(read_versioned_store(disk, dir)?.map(|(id, _)| id))
}

fn read_versioned_store(disk: &dyn Disk, dir: &Path) -> Result<Option<(StoreId, u32)>> {
    let path = dir.join(STORE_NAME);
    let Some(bytes) = read_small(disk, &path)? else { return Ok(None) };
    decode_store(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
}

fn file_len(segment: &Segment) -> Result<u64> {
    segment.file.len().map_err(|e| Error::io(format_args!("reading {}", segment.path.display()), e))
}

/// A segment's file must reach as far as its last frame.
fn check_not_cut(segment: &Segment, file_len: u64, end: u32) -> Result<()> {
    if file_len >= u64::from(end) {
        return Ok(());
    }
    let what = format!("the file was cut short: it is {file_len} bytes long and ended at {end}");
    Err(Error::damage(&segment.path, file_len, what))
}

/// Opens a segment file for reading, without looking into it, to scan a log that is not open.
pub fn open_for_scan(disk: &dyn Disk, dir: &Path, id: SegmentId, store: &StoreId) -> Result<Segment> {
    Segment::alone(disk, dir, id, store)
}

/// Where a segment's header says that the segment before it ended; `None` if the header is not whole.
pub fn sealed_end_of_previous(segment: &Segment) -> Result<Option<u32>> {
    Ok(read_header(segment, file_len(segment)?)?.ok().map(|header| header.previous_end))
}

/// Checks the header of an open segment.
pub fn check_segment_header(segment: &Segment) -> Result<Option<Damage>> {
    let damage = |what: &str| Some(Damage { path: segment.path.clone(), offset: 0, what: what.into() });
    Ok(match read_header(segment, SEGMENT_HEADER_LEN as u64)? {
        Err(why) => damage(why),
        Ok(header)
            if header.segment != segment.id
                || format::salt(&header.store, header.segment) != segment.salt =>
        {
            damage("the header is of another segment")
        }
        Ok(_) => None,
    })
}

/// The segment's header, or why there is none; a newer format is an error of its own.
fn read_header(segment: &Segment, file_len: u64) -> Result<Result<SegmentHeader, &'static str>> {
    if file_len < SEGMENT_HEADER_LEN as u64 {
        return Ok(Err("the header is cut off"));
    }
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    segment
        .file
        .read_exact_at(&mut bytes, 0)
        .map_err(|e| Error::io(format_args!("reading {}", segment.path.display()), e))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) => Ok(Ok(header)),
        Err(Invalid::Bad(why)) => Ok(Err(why)),
        Err(newer @ Invalid::Newer(_)) => Err(invalid_header(&segment.path, newer)),
    }
}

/// Replays the active segment, reports a torn tail, and gives the end.
fn recover_active(
    found: &FoundSegment,
    start: u64,
    notices: &mut Vec<String>,
    on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<u64> {
    let segment = &*found.segment;
    if found.file_len < start {
        let what = format!("the file was cut short: a checkpoint covers it up to {start}");
        return Err(Error::damage(&segment.path, found.file_len, what));
    }
    let mut scanner = FrameScanner::new(segment, start, found.file_len);
    let why = loop {
        match scanner.step()? {
            Step::Frame(frame) => on_frame(frame)?,
            Step::End => break "bytes behind a gap",
            Step::Bad(why) => break why,
        }
    };
    let end = scanner.offset();
    if scanner.rest_is_zero()? {
        return Ok(end);
    }
    if u64::from(scanner.durable_mark_behind()?) > end {
        return Err(Error::damage(&segment.path, end, why));
    }
    notices.push(format!(
        "{} had a torn tail at byte {end} ({why}): {} bytes that were never synced were cut off",
        segment.path.display(),
        found.file_len - end
    ));
    Ok(end)
}

/// What there is to say of an active segment that ends right behind its last frame. Bytes that were cut off with all
/// that would vouch for them leave no other trace.
fn unreserved(segment: &Segment, end: u64) -> String {
    format!(
        "{} ends at byte {end} without the space that is reserved behind an end: unless the disk was full, writes behind \
         it were cut off",
        segment.path.display()
    )
}

/// Cuts the active segment at `end`, writes again what is not vouched for, and syncs; gives the file's length.
fn settle(segment: &Segment, vouched: u64, end: u64, options: &LogOptions) -> Result<u64> {
    let doing = |e| Error::io(format_args!("settling the tail of {}", segment.path.display()), e);
    // Also where there seems to be nothing to cut: an earlier cut may have failed to reach the disk.
    segment.file.set_len(end).map_err(doing)?;
    let mut at = vouched;
    let mut chunk = vec![0; end.saturating_sub(at).min(REWRITE_BYTES) as usize];
    while at < end {
        let len = (end - at).min(REWRITE_BYTES) as usize;
        segment.file.read_exact_at(&mut chunk[..len], at).map_err(doing)?;
        segment.file.write_all_at(&chunk[..len], at).map_err(doing)?;
        at += len as u64;
    }
    let reserved = (end + 1).next_multiple_of(options.allocate_bytes.max(1)).min(options.segment_max_bytes);
    let file_len = match segment.file.allocate(end, reserved.saturating_sub(end)) {
        Ok(()) => reserved.max(end),
        // Nothing depends on it: the next append reserves what it needs.
        Err(e) if e.kind() == io::ErrorKind::StorageFull => end,
        Err(e) => return Err(doing(e)),
    };
    segment.file.sync_data().map_err(doing)?;
    Ok(file_len)
}

fn check_succession(path: &Path, frame: &Frame<'_>, groups: &mut HashMap<GroupId, GroupEnd>) -> Result<()> {
    let header = &frame.header;
    let last = groups.entry(header.group).or_default();
    let here = GroupEnd { index: header.index, term: header.term };
    *last = here.behind(*last, header.kind).ok_or_else(|| {
        let what = format!("frame {} of group {} follows frame {}", header.index, header.group, last.index);
        Error::damage(path, u64::from(frame.position.offset), what)
    })?;
    Ok(())
}

/// Creates the first segment of a new store; gives also the file's length.
fn create_first(log: &Log) -> Result<(Arc<Segment>, u64)> {
    let header = SegmentHeader { segment: 1, store: log.store, previous_end: 0 };
    let allocate =
        log.options.allocate_bytes.min(log.options.segment_max_bytes).max(SEGMENT_HEADER_LEN as u64);
    let segment = Arc::new(Segment::create(&log.files, &log.dir, header, allocate)?);
    log.registry.insert(Arc::clone(&segment));
    Ok((segment, allocate))
}
