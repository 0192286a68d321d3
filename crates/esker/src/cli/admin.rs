//! `esker admin` and `esker verify`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::JsonArgs;

/// Maintenance of the node that is asked, now instead of when it is due.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Merge what is worth it now
    MergeNow(AdminArgs),
    /// Make every write durable and write a checkpoint, so that reopening replays nothing
    Checkpoint(AdminArgs),
    /// Merge everything: dead records go, and what lives lies in key order
    Compact(AdminArgs),
    /// Check every stored byte, like `esker verify`
    Verify(VerifyArgs),
    /// Make a backup: of a server, which sends it or keeps it, or of a data directory that none is using
    ///
    /// A crash leaves the earlier backup or the new one. In a directory that a server or --data-dir shares a file system
    /// with, files that never change are linked, and only what is new is copied.
    Backup(BackupArgs),
    /// Make a data directory of a backup: a store of its own, at just that version
    ///
    /// Every file is checked on the way. Never start it as the node of a cluster that the backup was made of.
    Restore {
        /// The backup: its directory, or its archive
        #[arg(value_name = "DIR|FILE")]
        from: PathBuf,
        /// The new data directory: absent or empty
        #[arg(long, value_name = "PATH")]
        data_dir: PathBuf,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Save every whole record of a damaged data directory to a new one, and say what is lost
    ///
    /// The damaged one is not changed.
    Repair {
        /// The damaged data directory, which no server may be using
        #[arg(long, value_name = "PATH")]
        data_dir: PathBuf,
        /// The new data directory: absent or empty [default: beside the damaged one, with -repaired behind its name]
        #[arg(long, value_name = "NEWDIR")]
        output: Option<PathBuf>,
        #[command(flatten)]
        json: JsonArgs,
    },
}

/// What is backed up, and where to.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["output", "name", "data_dir"]).required(true))]
pub(crate) struct BackupArgs {
    /// Have the server send it: to FILE, an archive, which appears when it is complete, or unpacked to DIR, which is there or
    /// ends with a slash; - is standard output
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Have the server keep it, in the directory of this name below its backup_dir
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Back up this data directory, without a server
    #[arg(long, value_name = "PATH", requires = "to")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the backup of the data directory goes
    #[arg(value_name = "DIR", requires = "data_dir")]
    pub(crate) to: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// Check this data directory, backup's directory or backup's archive, without a server
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
