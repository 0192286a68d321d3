//! What can be typed: the command words here, what is said behind them in a file for each kind.

mod admin;
mod cluster;
mod connection;
mod keys;
mod live;
mod records;
mod security;
mod serve;
mod values;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use clap_complete::Shell;

pub(crate) use self::{
    admin::{AdminCommand, BackupArgs, VerifyArgs},
    cluster::{ClusterCommand, DemoArgs},
    connection::{Connection, Identity},
    keys::{AckArgs, BatchArgs, DelArgs, GetArgs, IncrArgs, PutArgs, ScanArgs, StaleArgs},
    live::{ShellArgs, TopArgs, WatchArgs},
    records::{CsvArgs, ExportArgs, ImportArgs},
    security::{CertArgs, UserArgs, UserCommand, UsersFileArgs},
    serve::{ConfigCommandArgs, ServeArgs},
    values::{bytes, millis},
};
use crate::{
    bench::BenchArgs,
    exit::{CODES, Failure},
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
    /// Print changes as they happen
    ///
    /// Goes on over broken connections and nodes that leave, and repeats and leaves out nothing. Ends with 1 where the server no
    /// longer knows what happened from the version asked for on.
    Watch(WatchArgs),
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
    #[command(visible_alias = "stats")]
    Status(JsonArgs),
    /// Show how busy the server is: throughput, latencies, memory, disk, cluster
    ///
    /// On a terminal the picture is drawn anew until q or Ctrl-C; elsewhere one sample is printed after another.
    Top(TopArgs),
    /// Type commands, with history, completion and help
    ///
    /// Where standard input is no terminal, the commands are read from it, and the last one that failed gives the exit code.
    #[command(visible_aliases = ["console", "attach"])]
    Shell(ShellArgs),
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
    /// Look after a file of users: who may do what (docs/security.md)
    User {
        /// What to do.
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Make an authority and certificates for development
    ///
    /// Writes ca.crt, ca.key, server.crt and server.key, and NAME.crt and NAME.key for each --client, to a directory. An authority that
    /// is there is used again; so is a server's certificate, unless --host says for what it is.
    Cert(CertArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version(JsonArgs),
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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
