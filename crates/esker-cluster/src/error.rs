//! What the Store answers when it cannot do what was asked.

use std::fmt;

/// The result of a Store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the Store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The request is larger than a limit: make it smaller. Nothing was written.
    TooLarge(String),
    /// The same maintenance work is under way: wait for it.
    AlreadyRunning(&'static str),
    /// The engine refused or failed; its kinds say what to do.
    Engine(esker_engine::Error),
    /// A worker died of a defect before it answered. A write may or may not have been committed.
    WorkerDied,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(why) => f.write_str(why),
            Self::AlreadyRunning(what) => write!(f, "{what} is already running: wait for it to finish"),
            Self::Engine(e) => e.fmt(f),
            Self::WorkerDied => f.write_str("a worker thread died before it answered: report this defect"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(e) => Some(e),
            _ => None,
        }
    }
}

impl From<esker_engine::Error> for Error {
    fn from(e: esker_engine::Error) -> Self {
        Self::Engine(e)
    }
}
