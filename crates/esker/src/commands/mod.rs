//! The command words, one file each.

mod admin;
mod backup;
mod batch;
mod care;
mod cert;
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
mod shell;
mod status;
mod top;
mod user;
mod verify;
mod watch;

use esker_client::{Client, Credentials, Retry, Settings, TlsSettings};

use crate::{
    bench,
    cli::{Cli, Command, Connection, Identity},
    exit::Failure,
    files, output,
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
        Command::Watch(args) => block_on(watch::run(&connection, args)),
        Command::Shell(args) => shell::run(connection, args),
        Command::Top(args) => block_on(top::run(&connect(&connection)?, args)),
        Command::Batch(args) => block_on(batch::run(&connect(&connection)?, args)),
        Command::Import(args) => block_on(import::run(&connection, args)),
        Command::Export(args) => block_on(export::run(&connect(&connection)?, args)),
        Command::Status(args) => block_on(status::run(&connect(&connection)?, args.json)),
        Command::Cluster { command } => cluster::run(&connection, command),
        Command::Verify(args) => verify::run(&connection, args),
        Command::Admin { command } => admin::run(&connection, command),
        Command::Config(args) => config::run(args),
        Command::Bench(args) => bench::run(&connection, args),
        Command::User { command } => user::run(command),
        Command::Cert(args) => cert::run(&args),
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
    (settings.credentials, settings.tls) = secrets(&connection.identity)?;
    Client::with_settings(&connection.endpoint, settings).map_err(|e| Failure::Usage(e.to_string()))
}

/// What to show to servers, and whom to trust.
pub(crate) fn secrets(identity: &Identity) -> Result<(Option<Credentials>, TlsSettings), Failure> {
    Ok((credentials(identity)?, tls(identity)?))
}

/// What to show to servers.
fn credentials(identity: &Identity) -> Result<Option<Credentials>, Failure> {
    if let Some(user) = &identity.user_name {
        let password = std::env::var("KV_PASSWORD").map_err(|_| {
            Failure::Usage("`--user` takes the password in the environment: KV_PASSWORD".into())
        })?;
        return Ok(Some(Credentials::Password { user: user.clone(), password }));
    }
    Ok(identity.token.clone().map(Credentials::Token))
}

fn tls(identity: &Identity) -> Result<TlsSettings, Failure> {
    let read = |path: &std::path::PathBuf| {
        files::read(path).map_err(|e| Failure::Usage(format!("cannot read {}: {e}", path.display())))
    };
    let ca = identity.ca.as_ref().map(read).transpose()?;
    let identity = match (&identity.cert, &identity.key_file) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(TlsSettings { ca, identity })
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
