//! `esker serve`: settings, store, sockets, banner, signals; the rest is the server's.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{Arc, mpsc},
};

use esker_cluster::Store;
use esker_engine::{Db, OpenReport};
use esker_log::clock::SystemClock;
use esker_server::{Server, Sockets};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing::Level;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::cluster_node::{self, ClusterNode};
use crate::{
    cli::ServeArgs,
    config::{LogFormat, Security, Settings},
    exit::Failure,
    files::{self, Whole},
    otlp::Otlp,
    output,
    profiles::ProcessProbe,
};

/// What the shell reports for a process that an interrupt killed.
const INTERRUPTED: i32 = 130;

/// What whoever asks is told until the node belongs to its cluster and has opened its data.
const WAITING: &str = "this node waits for its cluster, or opens its data: its log says which";

pub(super) fn run(args: ServeArgs) -> Result<(), Failure> {
    let effective = args.config.effective().map_err(Failure::Usage)?;
    effective.warn();
    let mut settings = Settings::new(&effective).map_err(Failure::Usage)?;
    start_log(&settings);
    bound_connections(&mut settings);
    if let Some(path) = &args.ready_file {
        // One that an earlier server left would tell scripts that we are ready.
        files::remove(path).map_err(Failure::doing(format!("removing {}", path.display())))?;
    }
    settings.server.access = settings.security.access().map_err(Failure::Usage)?;
    settings.server.tls = settings.security.tls().map_err(Failure::Usage)?;
    settings.server.probe = Some(Arc::new(ProcessProbe));
    // From here on a signal is heard, also while a large store is being opened.
    let shutdown = listen_for_signals(reload(&settings))?;

    let sockets = Sockets::bind(&settings.server).map_err(|e| Failure::Error(e.to_string()))?;
    let mut shutdown = shutdown;
    let (store, report, node) = match &settings.cluster {
        None => {
            let db = Db::open(&settings.data_dir, settings.engine.clone())?;
            let report = db.open_report();
            let store = Store::single(db, settings.store.clone(), Arc::new(SystemClock::new()));
            (store.map_err(cannot_start)?, report, None)
        }
        Some(cluster) => {
            let waiting = sockets.turn_away(&settings.server, WAITING);
            let waiting = waiting.map_err(Failure::doing("answering while the node waits"))?;
            let started = cluster_node::start(&settings, cluster, sockets.http_address(), &mut shutdown)?;
            // A signal came while it waited for the others.
            let Some((node, report)) = started else { return Ok(()) };
            drop(waiting);
            let store = node.store(settings.store.clone()).map_err(cannot_start)?;
            (store, report, Some(node))
        }
    };
    let otlp = start_spans(&mut settings, sockets.http_address())?;
    let server = Server::on(sockets, settings.server.clone(), store);

    let address = server.http_address();
    if !address.ip().is_loopback() {
        warn_of_exposure(&settings.security, address);
    }
    // A server does not depend on somebody reading what it says.
    let fronts = Fronts {
        http: address,
        resp: server.resp_address(),
        binary: server.binary_address(),
        grpc: server.grpc_address(),
    };
    if let Err(e) = banner(&settings, fronts, &report, node.as_ref()) {
        tracing::warn!(error = %e, %address, "cannot write to standard output");
    }
    if let Some(path) = &args.ready_file {
        write_ready_file(path, address).map_err(Failure::doing(format!("writing {}", path.display())))?;
    }
    // A listener that died has said why; draining is then the right thing, too.
    let stepping_down = node.as_ref().map(ClusterNode::raft);
    let drained = server.run(async {
        shutdown.await.unwrap_or_default();
        if let Some(node) = stepping_down {
            // First of all, so that no client waits for an election while this node drains.
            node.step_down().await;
        }
    });
    if let Some(otlp) = otlp {
        otlp.finish();
    }
    let drained = drained.map_err(|e| Failure::Error(e.to_string()))?;
    match drained.connections_cut {
        0 => tracing::info!("stopped"),
        cut => tracing::warn!(
            connections_cut = cut,
            "stopped; requests that did not finish in time were cut off"
        ),
    }
    Ok(())
}

/// Says what whoever reaches the fronts from elsewhere can do that nobody may have meant.
fn warn_of_exposure(security: &Security, address: SocketAddr) {
    let danger = match (security.has_tls(), security.has_users()) {
        (true, true) => return,
        (false, false) => "with neither TLS nor users: whoever reaches it may read and write everything",
        (true, false) => {
            "without users: whoever has the certificates that it asks for, if any, may read and write everything"
        }
        (false, true) => "without TLS: passwords, tokens and values cross the network as they are",
    };
    output::note(format_args!("esker: warning: {address} can be reached from other machines, {danger}"));
}

/// Who sends the spans of requests, if anybody wants them. Servers are told apart by where they listen.
fn start_spans(settings: &mut Settings, address: SocketAddr) -> Result<Option<Arc<Otlp>>, Failure> {
    let Some(wanted) = &settings.otlp else { return Ok(None) };
    let otlp = Arc::new(Otlp::new(wanted, &address.to_string()).map_err(Failure::Usage)?);
    settings.server.spans = Some(Arc::clone(&otlp) as _);
    Ok(Some(otlp))
}

/// What SIGHUP asks for.
fn reload(settings: &Settings) -> impl Fn() + Send + 'static {
    let (security, access) = (settings.security.clone(), settings.server.access.clone());
    let tls = settings.server.tls.clone();
    move || security.reload(&access, tls.as_ref())
}

/// Raises the limit of open files as far as it goes. Where it stays low, connections get what the store leaves of it, so that they
/// cannot take those away from it.
fn bound_connections(settings: &mut Settings) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let room = room_for_connections(files, settings.engine.max_files);
    let connections = &mut settings.server.limits.connections;
    if *connections > room {
        tracing::warn!(
            max_connections = *connections,
            now = room,
            "the limit of open files leaves room for fewer connections: raise it (ulimit -n)"
        );
        *connections = room;
    }
}

/// What is open for as long as it takes: inputs and outputs of a merge with their index files, backups; and sockets of peers.
const FILES_BESIDE: usize = 1024;

/// How many connections there may be where so many files can be open, and the store keeps as many of its own open as `max_files`:
/// that and [`FILES_BESIDE`] are left to it, or half of all, if that is less.
fn room_for_connections(files: usize, max_files: usize) -> usize {
    files - max_files.saturating_add(FILES_BESIDE).min(files / 2)
}

/// The log goes to standard error: standard output is for the banner.
fn start_log(settings: &Settings) {
    // The consensus library tells the story of every heartbeat: only who asks for everything wants that.
    let library = if settings.log_level >= Level::DEBUG { settings.log_level } else { Level::ERROR };
    // So does the exporter of spans of each batch.
    let exporter = if settings.log_level >= Level::DEBUG {
        settings.log_level
    } else {
        settings.log_level.min(Level::WARN)
    };
    let filter = Targets::new()
        .with_default(settings.log_level)
        .with_target("openraft", library)
        .with_target("opentelemetry", exporter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    match settings.log_format {
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
            registry.with(lines.with_filter(filter)).init();
        }
        LogFormat::Json => registry.with(lines.json().with_filter(filter)).init(),
    }
}

pub(super) fn cannot_start(why: impl std::fmt::Display) -> Failure {
    Failure::Error(format!("cannot start: {why}"))
}

/// Where the server listens.
#[derive(Clone, Copy)]
struct Fronts {
    http: SocketAddr,
    resp: Option<SocketAddr>,
    binary: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

fn banner(
    settings: &Settings,
    Fronts { http: address, resp, binary, grpc }: Fronts,
    report: &OpenReport,
    node: Option<&ClusterNode>,
) -> std::io::Result<()> {
    let mut out = output::stdout();
    let dir = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    writeln!(out, "Esker {}", env!("CARGO_PKG_VERSION"))?;
    // Every scheme says so with an `s` behind it.
    let s = if settings.security.has_tls() { "s" } else { "" };
    writeln!(out, "  listening  http{s}://{address}")?;
    if let Some(resp) = resp {
        writeln!(out, "  redis      redis{s}://{resp}")?;
    }
    if let Some(binary) = binary {
        writeln!(out, "  binary     esker{s}://{binary}")?;
    }
    if let Some(grpc) = grpc {
        writeln!(out, "  grpc       grpc{s}://{grpc}")?;
    }
    if let Some(node) = node {
        writeln!(out, "  cluster    node {}, peers at {}", node.number(), node.peer_address())?;
    }
    writeln!(out, "  data       {}", dir.display())?;
    writeln!(out, "  sync       {}", settings.engine.sync)?;
    writeln!(out, "  opened     in {:.1?}, {} batches replayed", report.took, report.replayed)?;
    for notice in &report.notices {
        writeln!(out, "  noticed    {notice}")?;
    }
    invite(&mut out, settings, address, resp)?;
    out.flush()
}

/// What to try first, with what it takes to be let in.
fn invite(
    out: &mut impl Write,
    settings: &Settings,
    address: SocketAddr,
    resp: Option<SocketAddr>,
) -> std::io::Result<()> {
    let (has_tls, has_users) = (settings.security.has_tls(), settings.security.has_users());
    let said = |shown: bool, what: &'static str| if shown { what } else { "" };
    let address = reachable(address);
    let s = said(has_tls, "s");
    let endpoint = match (address.port(), has_tls) {
        (8080, false) => String::new(),
        _ => format!(" --endpoint http{s}://{address}"),
    };
    // The command line takes the token from the environment by itself.
    let bearer = said(has_users, r#" -H "Authorization: Bearer $KV_TOKEN""#);
    let (cacert, ca) = (said(has_tls, " --cacert ca.crt"), said(has_tls, " --ca ca.crt"));
    writeln!(out, "Try:")?;
    writeln!(
        out,
        "  curl{cacert}{bearer} -X PUT --data-binary 'hello' http{s}://{address}/api/v1/kv/greeting"
    )?;
    writeln!(out, "  esker get greeting{endpoint}{ca}")?;
    if let Some(resp) = resp {
        let (tls, user) = (said(has_tls, " --tls"), said(has_users, " --user NAME --askpass"));
        let (ip, port) = (reachable(resp).ip(), resp.port());
        writeln!(out, "  redis-cli -h {ip} -p {port}{tls}{cacert}{user} get greeting")?;
    }
    Ok(())
}

/// From this machine: no certificate is for 0.0.0.0.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Scripts wait for this file; it appears with its content in it.
fn write_ready_file(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    let mut file = Whole::create(path)?;
    writeln!(file, "{address}")?;
    file.finish()
}

/// The first SIGTERM or SIGINT makes the answer ready; the second ends the process at once. On a thread of its own,
/// because a drain that hangs is when the second one is wanted.
fn listen_for_signals(hung_up: impl Fn() + Send + 'static) -> Result<oneshot::Receiver<()>, Failure> {
    let (first, shutdown) = oneshot::channel();
    let (ready, started) = mpsc::channel();
    std::thread::Builder::new()
        .name("esker-signals".into())
        .spawn(move || signals(first, &ready, hung_up))
        .map_err(Failure::doing("starting a thread"))?;
    match started.recv() {
        Ok(Ok(())) => Ok(shutdown),
        Ok(Err(e)) => Err(Failure::doing("listening for signals")(e)),
        Err(_) => Err(Failure::Error("the thread that listens for signals died".into())),
    }
}

fn signals(first: oneshot::Sender<()>, ready: &mpsc::Sender<std::io::Result<()>>, hung_up: impl Fn()) {
    let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let guard = runtime.enter();
        // Once somebody listens to it, a file beyond its limit (ulimit -f) is an error of the write, told like a full
        // disk, instead of the end of the process.
        let _heard = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        let both = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)))?;
        let hangup = signal(SignalKind::hangup())?;
        drop(guard);
        Ok((runtime, both, hangup))
    });
    let (runtime, (mut terminate, mut interrupt), mut hangup) = match outcome {
        Ok(outcome) => outcome,
        Err(e) => {
            // Nobody waits for it any more only if the process is ending.
            let _ = ready.send(Err(e));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    runtime.block_on(async {
        loop {
            tokio::select! {
                () = either(&mut terminate, &mut interrupt) => break,
                _ = hangup.recv() => hung_up(),
            }
        }
        tracing::info!("stopping: requests under way are finished first; signal again to stop at once");
        // The server may not have started yet: then it finds the answer waiting.
        let _ = first.send(());
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(INTERRUPTED);
    });
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_files_to_itself() {
        for (files, max_files, room) in [
            (20_000, 1024, 17_952),
            (1024, 1024, 512),
            (4096, 8, 3064),
            (usize::MAX, 1024, usize::MAX - 2048),
        ] {
            assert_eq!(room_for_connections(files, max_files), room);
        }
    }
}
