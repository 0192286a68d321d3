//! The outcome: each setting's value and where it came from.

use std::{fmt, path::PathBuf};

use super::{kind::Value, table::Setting};
use crate::output;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// On the command line, with this flag.
    Flag(String),
    /// In this environment variable.
    Variable(String),
    /// In a file, on this line (0 where the line is not known).
    File(PathBuf, usize),
    /// It follows from this other setting.
    Follows(&'static str),
    /// Nowhere.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::File(path, 0) => write!(f, "file {}", path.display()),
            Self::File(path, line) => write!(f, "file {}:{line}", path.display()),
            Self::Follows(name) => write!(f, "follows from {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as given somewhere, not yet read.
#[derive(Clone)]
pub(crate) struct Given {
    /// The setting it was given for.
    pub(crate) setting: &'static Setting,
    /// What was given.
    pub(crate) text: String,
    /// Where.
    pub(crate) source: Source,
}

impl fmt::Debug for Given {
    /// Without the text, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("setting", &self.setting.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// A setting's effective value.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The setting; never one that is only another name.
    pub(crate) setting: &'static Setting,
    /// Its value.
    pub(crate) value: Value,
    /// Where it came from.
    pub(crate) source: Source,
}

/// Every setting's value, in the table's order, and what the user should be told.
#[derive(Debug)]
pub(crate) struct Effective {
    /// One for each setting that is not only another name.
    pub(crate) outcomes: Vec<Outcome>,
    /// What was noticed and did not matter enough to refuse.
    pub(crate) warnings: Vec<String>,
}

impl Effective {
    /// Tells what was noticed, on standard error.
    pub(crate) fn warn(&self) {
        self.warnings.iter().for_each(|warning| output::note(format_args!("esker: warning: {warning}")));
    }

    /// A setting's value and where it came from.
    pub(super) fn outcome(&self, name: &str) -> &Outcome {
        let found = self.outcomes.iter().find(|outcome| outcome.setting.name == name);
        found.expect("a test asks for every setting by its name")
    }
}
