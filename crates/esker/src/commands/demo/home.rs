//! Where the nodes of a demonstration keep their data and logs.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::story::{Step, Story};
use crate::{cli::DemoArgs, exit::Failure, files};

/// A directory that is removed at the end, unless somebody wants it.
pub(super) enum Home {
    Temporary { dir: TempDir, keep: bool },
    Given(PathBuf),
}

impl Home {
    /// The directory that was asked for, which must hold nothing yet; or a temporary one.
    pub(super) fn new(args: &DemoArgs) -> Result<Self, Failure> {
        let Some(path) = &args.data_dir else {
            let dir = tempfile::Builder::new().prefix("esker-demo-").tempdir();
            let dir = dir.map_err(Failure::doing("making a temporary directory"))?;
            return Ok(Self::Temporary { dir, keep: args.keep });
        };
        let is_empty = files::make_dir(path).map_err(Failure::doing(format!("making {}", path.display())))?;
        if !is_empty {
            let why =
                format!("{} is not empty: give a directory that is, or that is not there", path.display());
            return Err(Failure::Usage(why));
        }
        // The nodes have working directories of their own.
        std::path::absolute(path).map(Self::Given).map_err(Failure::doing("finding the working directory"))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary { dir, .. } => dir.path(),
            Self::Given(path) => path,
        }
    }

    /// Removes it, or says where it is.
    pub(super) fn end(self, story: &Story, failed: bool) -> Result<(), Failure> {
        let path = match self {
            Self::Temporary { dir, keep } if keep || failed => dir.keep(),
            Self::Temporary { dir, .. } => {
                let path = dir.path().display().to_string();
                return dir.close().map_err(Failure::doing(format!("removing {path}")));
            }
            Self::Given(path) => path,
        };
        story.tell(&Step::Kept { dir: &path })
    }
}
