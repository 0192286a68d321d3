//! Segment files: names, headers, and the registry from which reads find them.

use std::{
    collections::BTreeMap,
    io,
    ops::RangeBounds,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    Error, Result, SegmentId,
    disk::{
        Disk, File, OpenMode,
        pool::{FilePool, PooledFile},
    },
    format::{self, SEGMENT_HEADER_LEN, SegmentHeader, StoreId},
};

/// A place in the log: a segment and a byte in it. Ordered as the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// The byte in it.
    pub offset: u32,
}

impl Position {
    /// As one number, ordered as positions are.
    pub fn pack(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// The opposite of [`Position::pack`].
    pub fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

/// An open segment. Where nobody needs it any more, its file goes with the last handle to it.
pub struct Segment {
    /// Its number.
    pub id: SegmentId,
    /// Its file.
    pub file: Arc<dyn File>,
    /// The same, to be let go of; none if it is no pool's.
    pooled: Option<Arc<PooledFile>>,
    /// Its path, for messages.
    pub path: PathBuf,
    /// The salt of its bindings.
    pub salt: u32,
    /// Where its last frame ends, once it is sealed.
    pub(crate) sealed_end: OnceLock<u32>,
    /// Set while dropping the segment is to remove its file.
    removal: Mutex<Option<Arc<Removals>>>,
}

/// Removes the files of segments that nobody needs, and remembers what went wrong: there is nobody to tell it to. What is
/// left, the next opening removes.
pub(crate) struct Removals {
    disk: Arc<dyn Disk>,
    failed: Mutex<Option<Arc<str>>>,
}

impl Removals {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, failed: Mutex::new(None) }
    }

    pub(crate) fn remove(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                *self.failed.lock() = Some(format!("removing {}: {e}", path.display()).into());
            }
            _ => {}
        }
    }

    /// The last failure.
    pub(crate) fn failed(&self) -> Option<Arc<str>> {
        self.failed.lock().clone()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(removals) = self.removal.get_mut() {
            removals.remove(&self.path);
        }
    }
}

impl Segment {
    /// From now on the file goes with the last handle to the segment.
    pub(crate) fn remove_on_drop(&self, removals: &Arc<Removals>) {
        *self.removal.lock() = Some(Arc::clone(removals));
    }

    /// From now on the file stays.
    pub(crate) fn keep(&self) {
        *self.removal.lock() = None;
    }

    /// The same file, taken for another segment: for a repair, where names were exchanged.
    #[must_use]
    pub fn as_segment(self, id: SegmentId, store: &StoreId) -> Self {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let salt = format::salt(store, id);
        let pooled = self.pooled.clone();
        Self { id, file, path, salt, pooled, sealed_end: OnceLock::new(), removal: Mutex::default() }
    }

    /// Where its last frame ends, if it is sealed.
    pub fn sealed_end(&self) -> Option<u32> {
        self.sealed_end.get().copied()
    }

    /// Marks it as sealed: no frame will come behind `end`.
    pub(crate) fn seal(&self, end: u32) {
        // A segment is sealed once; opening a log and rotating are the two places, and they never meet.
        self.sealed_end.get_or_init(|| end);
    }

    /// Nothing will be written any more: the file may be closed as long as nobody reads it.
    pub(crate) fn release(&self) {
        if let Some(file) = &self.pooled {
            file.release();
        }
    }

    /// Creates a segment, durably, with nothing but its header. A leftover of an earlier attempt that found the
    /// disk full is replaced: nothing was ever appended to it.
    pub(crate) fn create(
        files: &Arc<FilePool>,
        dir: &Path,
        header: SegmentHeader,
        allocate: u64,
    ) -> Result<Self> {
        let path = dir.join(segment_name(header.segment));
        let disk = files.disk();
        let doing = |what| move |e: io::Error| Error::io(format_args!("{what} a new segment"), e);
        let file = match files.open_held(&path, OpenMode::CreateNew) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&path).map_err(doing("replacing"))?;
                files.open_held(&path, OpenMode::CreateNew)
            }
            other => other,
        }
        .map_err(doing("creating"))?;
        file.allocate(0, allocate.max(SEGMENT_HEADER_LEN as u64)).map_err(doing("reserving space for"))?;
        file.write_all_at(&header.encode(), 0).map_err(doing("writing the header of"))?;
        file.sync_data().map_err(doing("syncing"))?;
        disk.sync_dir(dir).map_err(doing("syncing the name of"))?;
        Ok(Self::pooled(path, header.segment, &header.store, file))
    }

    /// Opens an existing segment file to append to it, without looking into it.
    pub(crate) fn open(files: &Arc<FilePool>, dir: &Path, id: SegmentId, store: &StoreId) -> Result<Self> {
        let path = dir.join(segment_name(id));
        let file = files
            .open_held(&path, OpenMode::ReadWrite)
            .map_err(|e| Error::io(format_args!("opening {}", path.display()), e))?;
        Ok(Self::pooled(path, id, store, file))
    }

    /// An existing segment file that will only be read. It is opened when that begins.
    pub(crate) fn lazily(files: &Arc<FilePool>, dir: &Path, id: SegmentId, store: &StoreId) -> Self {
        let path = dir.join(segment_name(id));
        let file = files.lazily(&path);
        Self::pooled(path, id, store, file)
    }

    /// An existing segment file, open for reading as long as the segment lives.
    pub(crate) fn alone(disk: &dyn Disk, dir: &Path, id: SegmentId, store: &StoreId) -> Result<Self> {
        let path = dir.join(segment_name(id));
        let file = disk
            .open(&path, OpenMode::Read)
            .map_err(|e| Error::io(format_args!("opening {}", path.display()), e))?;
        Ok(Self::new(path, id, store, file, None))
    }

    fn pooled(path: PathBuf, id: SegmentId, store: &StoreId, file: Arc<PooledFile>) -> Self {
        Self::new(path, id, store, Arc::clone(&file) as Arc<dyn File>, Some(file))
    }

    fn new(
        path: PathBuf,
        id: SegmentId,
        store: &StoreId,
        file: Arc<dyn File>,
        pooled: Option<Arc<PooledFile>>,
    ) -> Self {
        Self {
            id,
            file,
            pooled,
            path,
            salt: format::salt(store, id),
            sealed_end: OnceLock::new(),
            removal: Mutex::default(),
        }
    }
}

/// Set in the numbers of merged segments, so that one number tells either kind. Log segments end below it.
pub const MERGED_BIT: SegmentId = 1 << 31;

/// Whether this is the number of a merged segment.
pub fn is_merged(id: SegmentId) -> bool {
    id & MERGED_BIT != 0
}

/// The name of a segment's file.
pub fn segment_name(id: SegmentId) -> String {
    match is_merged(id) {
        true => format!("{:010}.merged", id & !MERGED_BIT),
        false => format!("{id:010}.log"),
    }
}

/// The segment whose file has this name, if one has.
pub fn parse_segment_name(name: &str) -> Option<SegmentId> {
    let (digits, kind) = match name.strip_suffix(".merged") {
        Some(digits) => (digits, MERGED_BIT),
        None => (name.strip_suffix(".log")?, 0),
    };
    let all_digits = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
    let number: SegmentId = if all_digits { digits.parse().ok()? } else { return None };
    (number < MERGED_BIT).then_some(number | kind)
}

/// The segments that reads may go to.
#[derive(Default)]
pub(crate) struct Registry {
    segments: RwLock<Segments>,
}

#[derive(Default)]
struct Segments {
    /// Those that are part of the store, of both kinds.
    all: BTreeMap<SegmentId, Arc<Segment>>,
    /// Those that were taken out of it, as long as somebody reads from them.
    retired: BTreeMap<SegmentId, Weak<Segment>>,
    /// Ends when segments are taken out.
    generation: Arc<Generation>,
}

/// A time in which no segment was taken out of the log. Held by who reads from it, and by the generation before: so it goes
/// when nobody is left who reads what was part of the log in it or earlier, and with it what was taken out at its end.
#[derive(Default)]
struct Generation {
    end: OnceLock<End>,
}

/// What keeps a generation's successor, and the segments that are not in it.
struct End {
    _retired: Vec<Arc<Segment>>,
    _next: Arc<Generation>,
}

/// Keeps every segment that is part of the log now open, until it is dropped.
#[derive(Clone)]
pub struct Pin {
    _generation: Arc<Generation>,
}

impl Registry {
    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.segments.write().all.insert(segment.id, segment);
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let retired = || segments.retired.get(&id).and_then(Weak::upgrade);
        segments.all.get(&id).cloned().or_else(retired)
    }

    /// The segment of this number, if it is part of the store.
    pub(crate) fn get_current(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.segments.read().all.get(&id).cloned()
    }

    /// Those that are part of the store and have such a number, ascending.
    pub(crate) fn range(&self, numbers: impl RangeBounds<SegmentId>) -> Vec<Arc<Segment>> {
        self.segments.read().all.range(numbers).map(|(_, segment)| Arc::clone(segment)).collect()
    }

    /// Bytes of the segments that were taken out of the store and are still held.
    pub(crate) fn retired_bytes(&self) -> u64 {
        let segments = self.segments.read();
        let held = segments.retired.values().filter_map(Weak::upgrade);
        held.filter_map(|segment| segment.sealed_end()).map(u64::from).sum()
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin { _generation: Arc::clone(&self.segments.read().generation) }
    }

    /// Takes segments out of the store; gives those that were in it.
    pub(crate) fn retire(&self, is_over: impl Fn(SegmentId) -> bool) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.write();
        let retired: Vec<_> =
            segments.all.extract_if(.., |id, _| is_over(*id)).map(|(_, segment)| segment).collect();
        if retired.is_empty() {
            return retired;
        }
        segments.retired.retain(|_, segment| segment.strong_count() > 0);
        segments.retired.extend(retired.iter().map(|segment| (segment.id, Arc::downgrade(segment))));
        let next = Arc::<Generation>::default();
        let ended = std::mem::replace(&mut segments.generation, Arc::clone(&next));
        ended.end.get_or_init(|| End { _retired: retired.clone(), _next: next });
        drop(segments);
        retired
    }
}
