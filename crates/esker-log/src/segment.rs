//! Segment files: names, headers, and the registry from which reads find them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::RwLock;
use rustix::io::Errno;

use crate::{
    Error, Result, SegmentId,
    disk::{Disk, File, OpenMode},
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
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

/// An open segment.
pub struct Segment {
    /// Its number.
    pub id: SegmentId,
    /// Its file.
    pub file: Arc<dyn File>,
    /// Its path, for messages.
    pub path: PathBuf,
    /// The salt of its bindings.
    pub salt: u32,
    /// Where its last frame ends, once it is sealed.
    pub(crate) sealed_end: OnceLock<u32>,
}

impl Segment {
    /// Where its last frame ends, if it is sealed.
    pub fn sealed_end(&self) -> Option<u32> {
        self.sealed_end.get().copied()
    }

    /// Marks it as sealed: no frame will come behind `end`.
    pub(crate) fn seal(&self, end: u32) {
        // A segment is sealed once; opening a log and rotating are the two places, and they never meet.
        self.sealed_end.get_or_init(|| end);
    }

    /// Creates a segment, durably, with nothing but its header. A leftover of an earlier attempt that found the
    /// disk full is replaced: nothing was ever appended to it.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader, allocate: u64) -> Result<Self> {
        let path = dir.join(segment_name(header.segment));
        let doing = |what| {
            move |e: std::io::Error| match is_out_of_files(&e) {
                true => Error::OutOfFiles,
                false => Error::io(format_args!("{what} a new segment"), e),
            }
        };
        let file = match disk.open(&path, OpenMode::CreateNew) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                disk.remove(&path).map_err(doing("replacing"))?;
                disk.open(&path, OpenMode::CreateNew)
            }
            other => other,
        }
        .map_err(doing("creating"))?;
        file.allocate(0, allocate.max(SEGMENT_HEADER_LEN as u64)).map_err(doing("reserving space for"))?;
        file.write_all_at(&header.encode(), 0).map_err(doing("writing the header of"))?;
        file.sync_data().map_err(doing("syncing"))?;
        disk.sync_dir(dir).map_err(doing("syncing the name of"))?;
        Ok(Self {
            id: header.segment,
            file,
            path,
            salt: format::salt(&header.store, header.segment),
            sealed_end: OnceLock::new(),
        })
    }

    /// Opens an existing segment file without looking into it.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        id: SegmentId,
        store: &StoreId,
        mode: OpenMode,
    ) -> Result<Self> {
        let path = dir.join(segment_name(id));
        let file =
            disk.open(&path, mode).map_err(|e| Error::io(format_args!("opening {}", path.display()), e))?;
        Ok(Self { id, file, path, salt: format::salt(store, id), sealed_end: OnceLock::new() })
    }
}

/// Whether a file could not be opened because the process or the system has too many open.
fn is_out_of_files(e: &std::io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}

/// The name of a segment's file.
pub fn segment_name(id: SegmentId) -> String {
    format!("{id:010}.log")
}

/// The segment whose file has this name, if one has.
pub fn parse_segment_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".log")?;
    let all_digits = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

/// The segments that reads may go to.
#[derive(Default)]
pub(crate) struct Registry {
    segments: RwLock<Segments>,
}

#[derive(Default)]
struct Segments {
    /// Those that are part of the log.
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

    /// Those that are part of the log.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.segments.read().all.values().map(Arc::clone).collect()
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin { _generation: Arc::clone(&self.segments.read().generation) }
    }

    /// Takes the segments before `first` out of the log; gives those that were in it.
    pub(crate) fn retire_before(&self, first: SegmentId) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.write();
        let stay = segments.all.split_off(&first);
        let retired: Vec<_> = std::mem::replace(&mut segments.all, stay).into_values().collect();
        segments.retired.retain(|_, segment| segment.strong_count() > 0);
        segments.retired.extend(retired.iter().map(|segment| (segment.id, Arc::downgrade(segment))));
        let next = Arc::<Generation>::default();
        let ended = std::mem::replace(&mut segments.generation, Arc::clone(&next));
        ended.end.get_or_init(|| End { _retired: retired.clone(), _next: next });
        drop(segments);
        retired
    }
}
