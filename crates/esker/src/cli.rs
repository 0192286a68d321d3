//! What can be typed.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use clap_complete::Shell;
use esker_client::{Ack, Condition, Consistency, PutOptions, Query, Range, WriteOptions};
use esker_wire::Ttl;

use crate::{
    bench::BenchArgs,
    config::{ConfigArgs, parse_bytes, parse_millis},
    exit::{CODES, Failure},
    records::Format,
};

/// A persistent key/value store.
#[derive(Debug, Parser)]
#[command(name = "esker", version, after_help = CODES, propagate_version = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How the client commands reach the server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// The server, or some nodes of a cluster with commas between: the leader is found, and the other nodes
    #[arg(
        long,
        global = true,
        env = "KV_ENDPOINT",
        value_name = "URL[,URL...]",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) endpoint: String,
    /// How long to wait for an answer, such as 500ms or 30s [default: 30s; verify, admin and changes of a cluster's members: a day]
    #[arg(long, global = true, value_name = "TIME", value_parser = millis)]
    pub(crate) timeout: Option<u64>,
}

impl Connection {
    /// How long to wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        const TIMEOUT: Duration = Duration::from_secs(30);
        self.timeout.map_or(TIMEOUT, Duration::from_millis)
    }
}

/// The command words.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(visible_alias = "start")]
    Serve(ServeArgs),
    /// Print a key's value, or those of several keys as they are at one instant
    Get(GetArgs),
    /// Set a key to a value given as an argument, in a file, or on standard input
    Put(PutArgs),
    /// Delete keys, or all keys of a range at once
    Del(DelArgs),
    /// Add to the decimal integer that a key holds (0 if it is absent), and print the sum
    Incr(IncrArgs),
    /// Print the keys and values of a range
    Scan(ScanArgs),
    /// Do writes from a file or standard input, all or none of them
    ///
    /// Reads one operation a line, {"type":"put","key":"k","value":"v"} (with "ttl":"30s" if it is to expire),
    /// {"type":"delete","key":"k"}, {"type":"incr","key":"n","by":1} or {"type":"delete_range","prefix":"p"}, or one JSON
    /// object {"operations":[...],"if":[{"key":"k","is":"absent"},{"key":"l","version":7}]}, which is done if all conditions
    /// hold. "encoding":"base64" on an operation carries any bytes.
    Batch(BatchArgs),
    /// Load keys and values from JSON Lines or CSV
    ///
    /// A line of JSON Lines is {"key":"k","value":"v"}, with "encoding":"base64" for any bytes, and "expires_at" in
    /// milliseconds since 1970 for what does not stay. A CSV file has the columns key and value (and encoding and
    /// expires_at, if it likes) in its header, or key and value in its first two columns.
    /// Where a key occurs more than once, the last one counts.
    Import(ImportArgs),
    /// Write keys and values as JSON Lines or CSV
    Export(ExportArgs),
    /// Show how the server and its store are
    Status(JsonArgs),
    /// Show a cluster and its nodes, and change which they are
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Check every stored byte, through a running server or in a data directory that none is using
    Verify(VerifyArgs),
    /// Look after a node (merge, checkpoint, verify) or a data directory (backup, restore, repair)
    Admin {
        /// What to do.
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Show every setting's value and where it came from
    Config(ConfigCommandArgs),
    /// Measure throughput and latency
    ///
    /// Writes keys that begin with "user" (or, if they are short, are hexadecimal digits) into the store it is pointed
    /// at, over what is there under them, and leaves them there: measure on a store of its own.
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version(JsonArgs),
}

/// The command words behind `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show what the node is in its cluster, and who leads
    Status(JsonArgs),
    /// List the members: addresses, roles, and as far as the leader tells, how they keep up
    Nodes(JsonArgs),
    /// Make the node that listens for peers at HOST:PORT a member; it votes once it has caught up
    ///
    /// A node that is started with --join does this by itself.
    Add {
        /// Where it listens for the other nodes
        #[arg(value_name = "HOST:PORT")]
        peer_address: String,
        /// Without a vote: it follows, and the cluster does not wait for it
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Give a learner a vote
    Promote {
        /// Its number
        #[arg(value_name = "ID")]
        node: u64,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Take a member out of the cluster
    Remove {
        /// Its number
        #[arg(value_name = "ID")]
        node: u64,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Hand the leadership on, as before the leader is stopped
    Transfer {
        /// The voter that is to lead; by default the one that is furthest
        #[arg(value_name = "ID")]
        node: Option<u64>,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Run three nodes on this machine, kill the leader, and show what that costs
    ///
    /// Clients write all the time while the leader is killed, comes back, and the next one is stopped in order.
    /// Everything acknowledged is read back after each. Ends with 0 if nothing was lost; the processes end with it.
    Demo(DemoArgs),
}

/// A demonstration of a cluster.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How often a leader is killed, and the next one stopped
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Keep the nodes' data and logs in this directory, which must be empty, and leave them there; by default they are in
    /// a temporary one and removed
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Leave the temporary directory there
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) keep: bool,
    /// Print JSON: a line for each step
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a write is committed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AckArgs {
    /// When it is acknowledged: once it is on the disks of a majority of the cluster's voters (majority), of the leader
    /// (local), or of all voters (all) [default: majority]
    #[arg(long, value_name = "WHO")]
    ack: Option<Ack>,
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
    stale: bool,
}

impl StaleArgs {
    pub(crate) fn consistency(self) -> Consistency {
        match self.stale {
            true => Consistency::Stale,
            false => Consistency::Linearizable,
        }
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Write the address served, as host:port, to this file once requests are taken
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCommandArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the manual's page about the settings
    #[arg(long, hide = true, conflicts_with = "json")]
    pub(crate) markdown: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
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

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; - is standard input
    pub(crate) file: PathBuf,
    /// The format; by default the file's extension tells: .csv, or .jsonl, .ndjson, .json
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// At most so many keys in one atomic batch
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch_ops: u32,
    /// At most so many bytes of keys and values in one batch
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = bytes)]
    pub(crate) batch_bytes: u64,
    /// Send batches on so many connections at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,
    /// Go on past lines that cannot be read and keys and values that the server refuses, and count them; the import
    /// then succeeds
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// How long to try again while the server is busy, restarting or away
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = millis)]
    pub(crate) retry_for: u64,
    #[command(flatten)]
    pub(crate) csv: CsvArgs,
    /// Print JSON: what was done
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a CSV file is laid out.
#[derive(Debug, Clone, Args)]
pub(crate) struct CsvArgs {
    /// CSV: what separates columns
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub(crate) delimiter: u8,
    /// CSV: the first line is data, even if it reads key,value
    #[arg(long, conflicts_with_all = ["key_column", "value_column"])]
    pub(crate) no_header: bool,
    /// CSV: the name of the keys' column
    #[arg(long, value_name = "NAME")]
    pub(crate) key_column: Option<String>,
    /// CSV: the name of the values' column
    #[arg(long, value_name = "NAME")]
    pub(crate) value_column: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file; - is standard output. A file appears only when it is complete; it replaces the one of that name and
    /// keeps its mode
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// The format; by default the file's extension tells; on standard output it is JSON Lines
    #[arg(long)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
}

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

/// Reads a time such as `30s`, for clap.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    parse_millis(text).ok_or_else(|| "give a time such as 500ms, 30s or 5m".into())
}

/// Reads a time to live such as `30s`, for clap.
fn time_to_live(text: &str) -> Result<Duration, String> {
    text.parse().map(|ttl: Ttl| Duration::from_millis(ttl.as_millis())).map_err(|e| e.to_string())
}

/// Reads a size such as `64MiB`, for clap.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).filter(|bytes| *bytes > 0).ok_or_else(|| "give a size such as 4KiB or 64MiB".into())
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err("give one character, or \\t for a tab".into()),
    }
}

/// Reads the command line. clap itself ends the process for `--help` and wrong usage.
pub(crate) fn parse() -> Result<Cli, Failure> {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    refuse_idle_options(&cli, &matches)?;
    Ok(cli)
}

/// An option that would have no effect is a misunderstanding: better told than ignored.
fn refuse_idle_options(cli: &Cli, matches: &clap::ArgMatches) -> Result<(), Failure> {
    let (offline, idle): (_, &[&str]) = match &cli.command {
        Command::Bench(args) if args.blocks() => ("bench --target dir:", &["endpoint", "timeout"]),
        Command::Bench(args) if args.target.is_some() => ("bench --target", &["endpoint"]),
        Command::Serve(_) => ("serve", &["endpoint", "timeout"]),
        Command::Config(_) => ("config", &["endpoint", "timeout"]),
        Command::Completions { .. } => ("completions", &["endpoint", "timeout"]),
        Command::Version(_) => ("version", &["endpoint", "timeout"]),
        Command::Cluster { command: ClusterCommand::Demo(_) } => ("cluster demo", &["endpoint", "timeout"]),
        Command::Verify(args) | Command::Admin { command: AdminCommand::Verify(args) }
            if args.data_dir.is_some() =>
        {
            ("verify --data-dir", &["endpoint", "timeout"])
        }
        Command::Admin { command: AdminCommand::Backup(args) } if args.data_dir.is_some() => {
            ("admin backup --data-dir", &["endpoint", "timeout"])
        }
        Command::Admin { command: AdminCommand::Restore { .. } } => {
            ("admin restore", &["endpoint", "timeout"])
        }
        Command::Admin { command: AdminCommand::Repair { .. } } => ("admin repair", &["endpoint", "timeout"]),
        _ => return Ok(()),
    };
    let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    match idle.iter().find(|name| typed(name)) {
        Some(name) => {
            Err(Failure::Usage(format!("--{name} has no meaning with `esker {offline}`: leave it out")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_endpoint_goes_on_either_side_of_the_word() {
        for line in [
            ["esker", "--endpoint", "http://h:1", "get", "k"],
            ["esker", "get", "k", "--endpoint", "http://h:1"],
        ] {
            let matches = Cli::command().try_get_matches_from(line).unwrap();
            assert_eq!(Cli::from_arg_matches(&matches).unwrap().connection.endpoint, "http://h:1");
        }
    }

    #[test]
    fn an_endpoint_means_nothing_to_the_server() {
        let matches = Cli::command().try_get_matches_from(["esker", "serve", "--endpoint", "x"]).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        assert!(matches!(refuse_idle_options(&cli, &matches), Err(Failure::Usage(_))));
    }
}
