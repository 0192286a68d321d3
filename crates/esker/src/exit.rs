//! How the process ends. Scripts rely on these codes; `esker --help` and docs/cli.md list them.

use std::{fmt, io, process::ExitCode};

use esker_client::{Error as ClientError, ErrorCode};
use esker_engine::Error as EngineError;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for failed.
    Error(String),
    /// The command line or the configuration is wrong.
    Usage(String),
    /// The key is absent.
    NotFound(String),
    /// The server cannot be reached.
    Unreachable(String),
    /// Stored bytes are damaged; what is printed says where.
    Damage(String),
    /// A condition does not hold: nothing was written.
    Condition(String),
    /// A disk is full, or the memory that the server's index may take.
    Full(String),
    /// What went wrong was told already; this is the exit code that is left of it.
    Told(u8),
    /// Whoever read our output has gone, as `head` does when it has enough. Nothing to complain about.
    OutputClosed,
}

/// The codes as `--help` shows them.
pub(crate) const CODES: &str = "\
Exit codes:
  0    success
  1    an error
  2    wrong usage or configuration
  3    the key is absent
  4    the server cannot be reached
  5    damage found in stored data
  6    the condition does not hold: nothing was written
  7    a disk, or the server's memory for keys, is full
  130  stopped by a second signal before the first one's work was done";

impl Failure {
    /// An error with what was being done.
    pub(crate) fn doing(what: impl fmt::Display) -> impl Fn(io::Error) -> Self {
        move |e| Self::of_kind(&e, format!("{what}: {e}"))
    }

    fn of_kind(e: &io::Error, message: String) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(message),
            _ => Self::Error(message),
        }
    }

    /// The process's exit code, and what the user is to be told.
    fn code_and_message(&self) -> (u8, Option<&str>) {
        let (code, message) = match self {
            Self::Error(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::NotFound(message) => (3, message),
            Self::Unreachable(message) => (4, message),
            Self::Damage(message) => (5, message),
            Self::Condition(message) => (6, message),
            Self::Full(message) => (7, message),
            Self::Told(code) => return (*code, None),
            Self::OutputClosed => return (0, None),
        };
        (code, Some(message))
    }

    /// Tells the user; gives the process's exit code.
    pub(crate) fn report(&self) -> ExitCode {
        ExitCode::from(self.tell())
    }

    /// Tells the user; gives the exit code as a number.
    pub(crate) fn tell(&self) -> u8 {
        let (code, message) = self.code_and_message();
        if let Some(message) = message {
            crate::output::note(format_args!("esker: {message}"));
        }
        code
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        match e {
            ClientError::ConditionFailed { .. } => Self::Condition(e.to_string()),
            ClientError::Unreachable { .. } => Self::Unreachable(e.to_string()),
            ClientError::Server { code: ErrorCode::Damaged, .. } => Self::Damage(e.to_string()),
            ClientError::Server { code: ErrorCode::DiskFull | ErrorCode::MemoryFull, .. } => {
                Self::Full(e.to_string())
            }
            _ => Self::Error(e.to_string()),
        }
    }
}

/// An engine's error, with what the one who runs it can do.
impl From<EngineError> for Failure {
    fn from(e: EngineError) -> Self {
        match &e {
            EngineError::Damage(_) => Self::Damage(format!(
                "{e}\nNothing was changed. Restore the whole store from a backup (`esker admin restore`); if there is \
                 none, save what is intact into a new directory with `esker admin repair`, which changes nothing \
                 either. `esker verify --data-dir` lists all that is damaged."
            )),
            EngineError::Locked { .. } => Self::Error(format!(
                "{e}\nStop the other process, or give this one a directory of its own with --data-dir."
            )),
            EngineError::DiskFull => Self::Full(format!("{e}\nFree space on the disk and start again.")),
            _ => Self::Error(e.to_string()),
        }
    }
}

/// Failing to write the command's output.
pub(crate) fn output(e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::of_kind(&e, format!("writing the output: {e}")),
    }
}
