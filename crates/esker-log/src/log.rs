//! The shared side of an open log: point reads, syncs, and whether it still takes writes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    Error, Index, Result, SegmentId,
    disk::{DirLock, Disk, File, pool::FilePool},
    format::{FRAME_HEADER_LEN, FrameHeader, StoreId, unseal_payload, verify_frame},
    install::MergeState,
    manifest::Manifest,
    record::{self, RECORD_HEADER_LEN, binding, record_len},
    segment::{MERGED_BIT, Pin, Position, Registry, Removals, Segment},
    write_back::WriteBack,
};

/// A segment is written out so many times before it is sealed, as long as each time is worth a sync.
const WRITE_BACKS_OF_SEGMENT: u64 = 4;
const WRITE_BACK_BYTES_MIN: u64 = 4 << 20;
/// When so much of a write-out is left to a segment's end, it is written out once more: sealing it finds about as much to sync.
const LAST_WRITE_BACK_PART: u64 = 4;

/// How a log lays out its files.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment is sealed before it grows beyond this many bytes; a longer frame gets a segment of its own.
    pub segment_max_bytes: u64,
    /// Space is reserved this many bytes at a time, so that most syncs need not write file metadata and a full
    /// disk is met before a frame is half written.
    pub allocate_bytes: u64,
    /// The first segment that counts; see [`Opening::remove_dead_segments`](crate::Opening::remove_dead_segments). 1 unless a snapshot took the place
    /// of what came before.
    pub first_segment: SegmentId,
    /// Merged segments of another generation are dead: a snapshot took the place of what they hold. 0 as long as none
    /// was installed.
    pub generation: u64,
    /// So many segments' files are open at a time; the others are opened when they are read. More only while more
    /// threads than that read at once.
    pub max_files: usize,
    /// When so many bytes were appended that nobody has synced, [`Log::run_write_back`] does it, so that sealing a segment does
    /// not take long. Less makes for more syncs, more for longer ones.
    pub write_back_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_max_bytes: 256 << 20,
            allocate_bytes: 4 << 20,
            first_segment: 1,
            generation: 0,
            max_files: 1024,
            write_back_bytes: 32 << 20,
        }
    }
}

/// Where a record lies, and how long its parts are: all that a point read needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLocation {
    /// The segment.
    pub segment: SegmentId,
    /// Where in the segment the record begins.
    pub offset: u32,
    /// The key's length.
    pub key_len: u16,
    /// The value's length.
    pub value_len: u32,
    /// The index of the record's frame.
    pub index: Index,
}

impl RecordLocation {
    /// The record's length in bytes.
    pub fn len(&self) -> usize {
        record_len(usize::from(self.key_len), self.value_len as usize)
    }

    /// Never: a record has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where the value begins within the record.
    pub fn value_start(&self) -> usize {
        RECORD_HEADER_LEN + usize::from(self.key_len)
    }
}

/// Counters since the log was opened.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Calls of fdatasync.
    pub syncs: AtomicU64,
    /// Bytes of frames and headers written, and of zeros where frames will be.
    pub bytes_written: AtomicU64,
}

/// An open log. Everything here may be called from any thread; appending is [`Writer`](crate::Writer)'s, which
/// has one owner.
pub struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    /// The segments' files.
    pub(crate) files: Arc<FilePool>,
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) options: LogOptions,
    pub(crate) registry: Registry,
    /// What `MANIFEST` says.
    pub(crate) merges: Mutex<MergeState>,
    pub(crate) removals: Arc<Removals>,
    pub(crate) write_back: WriteBack,
    /// A segment is sealed before it grows beyond this many bytes.
    segment_target: AtomicU64,
    /// Everything before this position is on the disk. Only grows.
    durable: AtomicU64,
    /// The end of what was appended. Only grows.
    appended: AtomicU64,
    /// Set once, by the first failed write or sync. Nothing is appended after that.
    poison: Mutex<Option<Arc<str>>>,
    poisoned: AtomicBool,
    disk_full: AtomicBool,
    /// Held during every sync. The kernel reports a write-back error to one fsync per open file only; were two
    /// to run at once, the other would take the same lost bytes for synced.
    pub(crate) sync_turn: Mutex<()>,
    pub(crate) counters: LogCounters,
    _lock: Arc<dyn DirLock>,
}

impl Log {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        files: Arc<FilePool>,
        dir: PathBuf,
        store: StoreId,
        options: LogOptions,
        manifest: Manifest,
        lock: Arc<dyn DirLock>,
    ) -> Self {
        Self {
            merges: Mutex::new(MergeState::new(manifest, options.generation)),
            write_back: WriteBack::default(),
            segment_target: AtomicU64::new(options.segment_max_bytes),
            removals: Arc::new(Removals::new(Arc::clone(&disk))),
            disk,
            files,
            dir,
            store,
            options,
            registry: Registry::default(),
            durable: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            poison: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            sync_turn: Mutex::new(()),
            counters: LogCounters::default(),
            _lock: lock,
        }
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk that holds it.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The store's identity.
    pub fn store(&self) -> &StoreId {
        &self.store
    }

    /// A segment is sealed before it grows beyond this many bytes.
    pub fn segment_max_bytes(&self) -> u64 {
        self.options.segment_max_bytes
    }

    /// Counters since opening.
    pub fn counters(&self) -> &LogCounters {
        &self.counters
    }

    /// The log segments that are there, oldest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.registry.range(..MERGED_BIT)
    }

    /// The merged segments of the store, in the order of their making.
    pub fn merged(&self) -> Vec<Arc<Segment>> {
        self.registry.range(MERGED_BIT..)
    }

    /// The end of what was appended.
    pub fn appended(&self) -> Position {
        Position::unpack(self.appended.load(Ordering::Acquire))
    }

    /// Everything before this position is on the disk.
    pub fn durable(&self) -> Position {
        Position::unpack(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn advance_appended(&self, to: Position) {
        self.appended.fetch_max(to.pack(), Ordering::AcqRel);
    }

    pub(crate) fn advance_durable(&self, to: Position) {
        self.durable.fetch_max(to.pack(), Ordering::AcqRel);
    }

    /// Why the log takes no more writes, if it does not.
    pub fn poison(&self) -> Option<Arc<str>> {
        if self.poisoned.load(Ordering::Acquire) { self.poison.lock().clone() } else { None }
    }

    /// Whether the last append was refused for want of space.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    /// Refuses all further writes, and says why.
    pub fn poison_with(&self, why: &Error) {
        let mut poison = self.poison.lock();
        if poison.is_none() {
            *poison = Some(why.to_string().into());
            self.poisoned.store(true, Ordering::Release);
        }
    }

    /// Errors with [`Error::Poisoned`] once a write or sync has failed.
    pub fn check_healthy(&self) -> Result<()> {
        match self.poison() {
            Some(why) => Err(Error::Poisoned(why)),
            None => Ok(()),
        }
    }

    /// Makes everything appended so far durable. A failure poisons the log and is never retried: the kernel may
    /// have dropped the bytes and called the pages clean (Rebello et al., ATC 2020).
    pub fn sync(&self) -> Result<()> {
        self.sync_to(self.appended())
    }

    /// Makes everything before `target` durable; returns at once if it is.
    pub fn sync_to(&self, target: Position) -> Result<()> {
        if self.durable() >= target {
            return Ok(());
        }
        let _turn = self.sync_turn.lock();
        self.check_healthy()?;
        if self.durable() >= target {
            return Ok(());
        }
        // All segments but the last are durable since they were sealed, so one file is all there is to sync.
        let mark = self.appended();
        let segment = self.segment(mark.segment)?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        if let Err(e) = segment.file.sync_data() {
            let error = Error::io(format_args!("syncing {}", segment.path.display()), e);
            self.poison_with(&error);
            return Err(Error::Poisoned(error.to_string().into()));
        }
        self.advance_durable(mark);
        Ok(())
    }

    /// Whether it is time to write out, where the active segment has `end` bytes of which `unsynced` were not.
    pub(crate) fn is_write_back_due(&self, end: u64, unsynced: u64) -> bool {
        let bytes = self.write_back_bytes();
        let last = bytes / LAST_WRITE_BACK_PART;
        unsynced >= bytes || (unsynced >= last && end + last >= self.segment_target())
    }

    /// From now on a segment is sealed before it grows beyond `bytes`, if that is less than `segment_max_bytes`.
    pub fn set_segment_target(&self, bytes: u64) {
        self.segment_target.store(bytes.min(self.options.segment_max_bytes), Ordering::Relaxed);
    }

    /// A segment is sealed before it grows beyond so many bytes.
    pub fn segment_target(&self) -> u64 {
        self.segment_target.load(Ordering::Relaxed)
    }

    /// When so many bytes were appended that nobody has synced, it is done: of small segments, before most of one has gathered.
    pub(crate) fn write_back_bytes(&self) -> u64 {
        let of_segment = (self.segment_target() / WRITE_BACKS_OF_SEGMENT).max(WRITE_BACK_BYTES_MIN);
        self.options.write_back_bytes.min(of_segment)
    }

    /// A file of the store that nobody writes to any more. It is opened by its first read, and closed like a segment's where too
    /// many are open: as long as it is read, it must keep its name.
    pub fn pooled_file(&self, path: &Path) -> Arc<dyn File> {
        self.files.lazily(path)
    }

    /// How many files are open, of segments and those of [`Log::pooled_file`].
    pub fn open_files(&self) -> usize {
        self.files.open_files()
    }

    /// Keeps what is part of the log now readable until the pin is dropped, whatever is retired meanwhile. To be taken
    /// before looking up the places that will be read.
    pub fn pin(&self) -> Pin {
        self.registry.pin()
    }

    /// Bytes of segments that were taken out of the store and are still read from.
    pub fn retired_bytes(&self) -> u64 {
        self.registry.retired_bytes()
    }

    /// The segment of this number, if it is part of the log or somebody still reads from it.
    pub fn find_segment(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.registry.get(id)
    }

    /// An open segment. Errors: `Damage` if there is none of this number.
    pub fn segment(&self, id: SegmentId) -> Result<Arc<Segment>> {
        self.registry.get(id).ok_or_else(|| {
            Error::damage(self.dir.join(crate::segment::segment_name(id)), 0, "the segment is missing")
        })
    }

    /// Reads and verifies the frame at `position`, of which `payload_len` is known, waiting for the disk if need be. Its
    /// payload comes out of its place (see [`unseal_payload`]): fit for another node's log.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn read_frame(&self, position: Position, payload_len: u32) -> Result<(FrameHeader, Vec<u8>)> {
        let segment = self.segment(position.segment)?;
        let mut bytes = vec![0; FRAME_HEADER_LEN + payload_len as usize];
        let damage = |what: &str| Error::damage(&segment.path, u64::from(position.offset), what);
        match segment.file.read_exact_at(&mut bytes, u64::from(position.offset)) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(damage("the file ends within a frame"));
            }
            other => other.map_err(|e| {
                Error::io(format_args!("reading {} at {}", segment.path.display(), position.offset), e)
            })?,
        }
        let header = verify_frame(&bytes, segment.salt, position.offset).map_err(damage)?;
        if header.payload_len != payload_len {
            return Err(damage("the frame is of another length"));
        }
        bytes.drain(..FRAME_HEADER_LEN);
        unseal_payload(&header, &mut bytes, segment.salt, position.offset);
        Ok((header, bytes))
    }
}

impl Segment {
    /// Reads and verifies one record, waiting for the disk if need be: one positioned read.
    ///
    /// Errors: `Damage` if the bytes fail their checksum or hold another record, `Io`.
    pub fn read_record(&self, at: &RecordLocation) -> Result<Vec<u8>> {
        let mut bytes = vec![0; at.len()];
        match self.file.read_exact_at(&mut bytes, u64::from(at.offset)) {
            Ok(()) => verify_record(bytes, at, self),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(Error::damage(&self.path, u64::from(at.offset), "the file ends within a record"))
            }
            Err(e) => Err(Error::io(format_args!("reading {} at {}", self.path.display(), at.offset), e)),
        }
    }

    /// Whether `bytes` are the record that lies there.
    pub(crate) fn is_intact(&self, bytes: &[u8], at: &RecordLocation) -> bool {
        let bound = binding(self.salt, at.offset, at.index);
        let lengths_match = record::RecordHeader::decode(bytes).is_ok_and(|head| {
            head.key_len == usize::from(at.key_len) && head.value_len == at.value_len as usize
        });
        lengths_match && record::checksum_matches(bytes, bound)
    }

    /// Like [`Segment::read_record`], but `Ok(None)` where the bytes are not in memory.
    pub fn try_read_record(&self, at: &RecordLocation) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; at.len()];
        match self.file.try_read_at(&mut bytes, u64::from(at.offset)) {
            Ok(Some(n)) if n == bytes.len() => verify_record(bytes, at, self).map(Some),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Ok(None),
            Err(e) => Err(Error::io(format_args!("reading {} at {}", self.path.display(), at.offset), e)),
        }
    }
}

fn verify_record(bytes: Vec<u8>, at: &RecordLocation, segment: &Segment) -> Result<Vec<u8>> {
    if segment.is_intact(&bytes, at) {
        Ok(bytes)
    } else {
        Err(Error::damage(&segment.path, u64::from(at.offset), "a record's checksum does not match"))
    }
}
