//! What can go wrong, told by what the caller can do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::io::Errno;

use crate::format::{FORMAT_VERSION, Invalid};

/// The result of a log or engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the log or of an engine. Cheap to clone: one failed sync answers every writer of its group.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The request breaks a limit or is malformed: fix it. Nothing was written.
    InvalidRequest(String),
    /// The bounded write queue is full: try again after the given time. Nothing was written.
    Busy {
        /// When a retry is likely to be taken.
        retry_after: Duration,
    },
    /// The disk is full: free space and try again; reads go on. Nothing was written.
    DiskFull,
    /// The index has filled the memory budget, and the batch would add keys: delete some or raise the budget; overwrites, deletes
    /// and reads go on. Nothing was written.
    MemoryFull,
    /// No more files can be opened: raise the limit of open files, or use fewer connections, and try again. Nothing was
    /// written; reads go on.
    OutOfFiles,
    /// A write or sync failed, so the log takes no more writes until it is reopened; reads go on.
    /// Whether the writes that were under way survive is known only after reopening.
    Poisoned(Arc<str>),
    /// Stored bytes are damaged: restore the file from a backup or a replica, or repair the store.
    Damage(Damage),
    /// The data directory is in use by another process.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What is known of the holder, such as its process id.
        holder: String,
    },
    /// The data was written in a format this version does not know: use a newer Esker.
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The format version found.
        found: u32,
        /// The newest one this build reads.
        supported: u32,
    },
    /// The operating system refused an operation.
    Io {
        /// What was being done, to which file.
        doing: Arc<str>,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The store was closed.
    Closed,
    /// Who asked for it does not want it any more.
    Cancelled,
}

/// Where stored bytes fail their checks. Never returned as data, never skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file the damaged structure begins, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    pub what: String,
}

impl Error {
    /// An I/O error with what was being done when it struck; a full disk becomes [`Error::DiskFull`], a lack of file
    /// descriptors [`Error::OutOfFiles`].
    pub fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull
            }
            _ if is_out_of_files(&source) => Self::OutOfFiles,
            _ => Self::Io { doing: doing.to_string().into(), source: Arc::new(source) },
        }
    }

    /// Damage found in `path` at `offset`.
    pub fn damage(path: impl Into<PathBuf>, offset: u64, what: impl fmt::Display) -> Self {
        Self::Damage(Damage { path: path.into(), offset, what: what.to_string() })
    }
}

/// Whether a file could not be opened because the process or the system has too many open.
pub(crate) fn is_out_of_files(e: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}

/// The error for a header that does not decode.
pub fn invalid_header(path: &Path, invalid: Invalid) -> Error {
    match invalid {
        Invalid::Newer(found) => {
            Error::UnsupportedFormat { path: path.to_owned(), found, supported: FORMAT_VERSION }
        }
        Invalid::Bad(why) => Error::damage(path, 0, why),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(why) => f.write_str(why),
            Self::Busy { retry_after } => {
                write!(f, "the write queue is full; retry in {} ms", retry_after.as_millis())
            }
            Self::DiskFull => {
                f.write_str("the disk is full: writes are refused until there is space, reads go on")
            }
            Self::MemoryFull => f.write_str(
                "the index has filled the memory budget: keys that are new are refused until some are deleted or memory_budget \
                 is raised; overwrites, deletes and reads go on",
            ),
            Self::OutOfFiles => f.write_str(
                "no more files can be opened: raise the limit of open files or close connections, then try again",
            ),
            Self::Poisoned(why) => {
                write!(
                    f,
                    "writes are refused until the store is reopened, because an earlier one failed: {why}"
                )
            }
            Self::Damage(damage) => damage.fmt(f),
            Self::Locked { path, holder } => {
                write!(f, "{} is locked by {holder}: one process per data directory", path.display())
            }
            Self::UnsupportedFormat { path, found, supported } => write!(
                f,
                "{} has format version {found}, this build reads up to {supported}: use a newer Esker",
                path.display()
            ),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Closed => f.write_str("the store is closed"),
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}
