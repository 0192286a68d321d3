//! The command words about keys, at one time.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};
use esker_client::{Ack, Condition, Consistency, PutOptions, Query, Range, WriteOptions};

use super::values::time_to_live;

/// How a write is committed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AckArgs {
    /// When it is acknowledged: once it is on the disks of a majority of the cluster's voters (majority), of the leader
    /// (local), or of all voters (all) [default: majority]
    #[arg(long, value_name = "WHO")]
    pub(crate) ack: Option<Ack>,
}

impl AckArgs {
    pub(crate) fn options(self) -> WriteOptions {
        WriteOptions { ack: self.ack.unwrap_or_default(), ..WriteOptions::default() }
    }
}

/// What a read may see.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StaleArgs {
    /// Be content with what the node has that answers, also where the cluster has no leader
    #[arg(long)]
    pub(crate) stale: bool,
}

impl StaleArgs {
    pub(crate) fn consistency(self) -> Consistency {
        match self.stale {
            true => Consistency::Stale,
            false => Consistency::Linearizable,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The keys; of several, a line each: key, tab, value
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<OsString>,
    /// Write the value to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write the value in hexadecimal
    #[arg(long)]
    pub(crate) hex: bool,
    #[command(flatten)]
    pub(crate) stale: StaleArgs,
    /// Print JSON: key, value, version, when it expires; of several keys a line each, null for an absent one
    #[arg(long, conflicts_with_all = ["hex", "output"])]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["value", "file"]))]
#[command(group = ArgGroup::new("condition").args(["if_absent", "if_present", "if_version"]))]
pub(crate) struct PutArgs {
    /// The key
    pub(crate) key: OsString,
    /// The value; without it and --file, standard input is the value
    pub(crate) value: Option<OsString>,
    /// A file that holds the value; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How long the key is to live, such as 500ms, 30s, 5m, 2h or 7d; by default it stays
    #[arg(long, value_name = "TIME", value_parser = time_to_live)]
    pub(crate) ttl: Option<Duration>,
    /// Only if the key is absent; else the command ends with 6
    #[arg(long)]
    pub(crate) if_absent: bool,
    /// Only if the key is present
    #[arg(long)]
    pub(crate) if_present: bool,
    /// Only if the key is at this version
    #[arg(long, value_name = "N")]
    pub(crate) if_version: Option<u64>,
    #[command(flatten)]
    pub(crate) ack: AckArgs,
    /// Print JSON: key, version
    #[arg(long)]
    pub(crate) json: bool,
}

impl PutArgs {
    /// How the put is done.
    pub(crate) fn options(&self) -> PutOptions {
        let condition = match (self.if_absent, self.if_present) {
            (true, _) => Some(Condition::Absent),
            (false, true) => Some(Condition::Present),
            (false, false) => self.if_version.map(Condition::Version),
        };
        PutOptions { write: self.ack.options(), ttl: self.ttl, condition }
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["keys", "prefix", "start"]).required(true))]
pub(crate) struct DelArgs {
    /// The keys
    #[arg(value_name = "KEY", conflicts_with_all = ["prefix", "start", "end"])]
    pub(crate) keys: Vec<OsString>,
    /// All keys that begin with this; an empty one is every key, and wants --yes
    #[arg(long, conflicts_with_all = ["start", "end"])]
    pub(crate) prefix: Option<OsString>,
    /// All keys from this one
    #[arg(long, value_name = "KEY", requires = "end")]
    pub(crate) start: Option<OsString>,
    /// to this one, both of them deleted too
    #[arg(long, value_name = "KEY", requires = "start")]
    pub(crate) end: Option<OsString>,
    /// Do delete every key there is
    #[arg(long, requires = "prefix")]
    pub(crate) yes: bool,
    /// Only if the key, which must be one, is at this version; else the command ends with 6
    #[arg(long, value_name = "N", conflicts_with_all = ["prefix", "start", "end"])]
    pub(crate) if_version: Option<u64>,
    #[command(flatten)]
    pub(crate) ack: AckArgs,
    /// Print JSON: a line for each key; of a range one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IncrArgs {
    /// The key
    pub(crate) key: OsString,
    /// What is added, also less than 0
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) by: i64,
    #[command(flatten)]
    pub(crate) ack: AckArgs,
    /// Print JSON: key, value, version
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which keys a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// Only keys that begin with this
    #[arg(long, conflicts_with_all = ["start", "end"])]
    pub(crate) prefix: Option<OsString>,
    /// The first key, itself in the range
    #[arg(long, value_name = "KEY")]
    pub(crate) start: Option<OsString>,
    /// The last key, itself in the range
    #[arg(long, value_name = "KEY")]
    pub(crate) end: Option<OsString>,
}

impl RangeArgs {
    pub(crate) fn range(self) -> Range {
        let bytes = OsString::into_encoded_bytes;
        match (self.prefix, self.start, self.end) {
            (Some(prefix), ..) => Range::Prefix(bytes(prefix)),
            (None, None, None) => Range::All,
            (None, start, end) => Range::Between(start.map(bytes), end.map(bytes)),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Stop after so many
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Leave out the values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Tell when keys expire, in milliseconds since 1970, in a last column; - where they do not. JSON always tells
    #[arg(long)]
    pub(crate) expiry: bool,
    #[command(flatten)]
    pub(crate) stale: StaleArgs,
    /// Print JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

impl ScanArgs {
    pub(crate) fn query(self) -> Query {
        let Self { range, limit, reverse, keys_only, stale, .. } = self;
        Query { range: range.range(), limit, reverse, keys_only, consistency: stale.consistency() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// The file; - is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) ack: AckArgs,
    /// Print JSON: version, operations
    #[arg(long)]
    pub(crate) json: bool,
}
