//! The command words, one file each.

mod admin;
mod backup;
mod batch;
mod care;
mod cluster;
mod cluster_node;
mod completions;
mod config;
mod del;
mod demo;
mod export;
mod get;
mod import;
mod incr;
mod progress;
mod put;
mod scan;
mod serve;
mod status;
mod verify;

use esker_client::{Client, Retry, Settings};

use crate::{
    bench,
    cli::{Cli, Command, Connection},
    exit::Failure,
    output,
};

/// Does what was typed.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let connection = cli.connection;
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Get(args) => block_on(get::run(&connect(&connection)?, args)),
        Command::Put(args) => block_on(put::run(&connect(&connection)?, args)),
        Command::Del(args) => block_on(del::run(&connect(&connection)?, args)),
        Command::Incr(args) => block_on(incr::run(&connect(&connection)?, args)),
        Command::Scan(args) => block_on(scan::run(&connect(&connection)?, args)),
        Command::Batch(args) => block_on(batch::run(&connect(&connection)?, args)),
        Command::Import(args) => block_on(import::run(&connection, args)),
        Command::Export(args) => block_on(export::run(&connect(&connection)?, args)),
        Command::Status(args) => block_on(status::run(&connect(&connection)?, args.json)),
        Command::Cluster { command } => cluster::run(&connection, command),
        Command::Verify(args) => verify::run(&connection, args),
        Command::Admin { command } => admin::run(&connection, command),
        Command::Config(args) => config::run(args),
        Command::Bench(args) => bench::run(&connection, args),
        Command::Completions { shell } => completions::run(shell),
        Command::Version(args) => version(args.json),
    }
}

/// A command that a person waits for retries a busy server for a moment, but tells at once that none is there.
fn connect(connection: &Connection) -> Result<Client, Failure> {
    let mut retry = Retry::default();
    retry.unreachable = false;
    // Who gives one answer so long does not wait for longer until another attempt begins.
    retry.within = retry.within.min(connection.timeout());
    client(connection, retry)
}

/// What takes as long as it takes.
const LONG_TIMEOUT_MS: u64 = 24 * 3_600_000;

fn patient(connection: &Connection) -> Connection {
    Connection { timeout: connection.timeout.or(Some(LONG_TIMEOUT_MS)), ..connection.clone() }
}

fn client(connection: &Connection, retry: Retry) -> Result<Client, Failure> {
    let mut settings = Settings::default();
    settings.request_timeout = connection.timeout();
    settings.connect_timeout = settings.connect_timeout.min(settings.request_timeout);
    settings.retry = retry;
    Client::with_settings(&connection.endpoint, settings).map_err(|e| Failure::Usage(e.to_string()))
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::doing("starting"))?.block_on(work)
}

fn version(json: bool) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match json {
        true => output::json(&serde_json::json!({ "version": version })),
        false => output::line(format_args!("esker {version}")),
    }
}
