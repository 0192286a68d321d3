//! The server: sockets, runtimes, drain.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use esker_cluster::Store;
use esker_wire::ErrorCode;
use tokio::{
    net::TcpListener,
    runtime,
    sync::{mpsc, oneshot},
};

use crate::{
    BindError, Runtime, ServerConfig,
    accept::{Serves, Told, accept_all, turn_away},
    access::Entrance,
    binary::{BinaryService, later},
    grpc::{GrpcService, Unavailable},
    guard::raw_answer,
    homes::{HomeThreads, Homes},
    http::{Front, Service},
    listen::listen,
    metrics::Recent,
    resp::{RespService, loading},
};

/// Threads for what takes long without waiting, such as decoding large batches.
pub(crate) const BLOCKING_THREADS: usize = 4;

/// A server whose sockets are open and which serves once it is [run](Server::run).
pub struct Server {
    front: Arc<Front>,
    listeners: Listeners,
}

/// A listener for each front.
struct Listeners {
    http: std::net::TcpListener,
    resp: Option<std::net::TcpListener>,
    binary: Option<std::net::TcpListener>,
    grpc: Option<std::net::TcpListener>,
}

/// Where the fronts listen; never port 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) resp: Option<SocketAddr>,
    pub(crate) binary: Option<SocketAddr>,
    pub(crate) grpc: Option<SocketAddr>,
}

/// Open sockets without a server yet: a node of a cluster tells the others its address before it has a Store.
pub struct Sockets {
    addresses: Addresses,
    listeners: Listeners,
}

impl Sockets {
    /// Opens the sockets of the fronts. Connections wait in the backlog until a server runs.
    pub fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        let listen_at = |address| -> Result<_, BindError> {
            let listener = listen(address, config.backlog)?;
            Ok((listener.local_addr().unwrap_or(address), listener))
        };
        let (http, http_listener) = listen_at(config.http_address)?;
        let (resp, resp_listener) = config.resp_address.map(listen_at).transpose()?.unzip();
        let (binary, binary_listener) = config.binary_address.map(listen_at).transpose()?.unzip();
        let (grpc, grpc_listener) = config.grpc_address.map(listen_at).transpose()?.unzip();
        let listeners = Listeners {
            http: http_listener,
            resp: resp_listener,
            binary: binary_listener,
            grpc: grpc_listener,
        };
        Ok(Self { addresses: Addresses { http, resp, binary, grpc }, listeners })
    }

    /// Where the native HTTP front listens; never port 0.
    pub fn http_address(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Where the front for clients of Redis listens, if it does; never port 0.
    pub fn resp_address(&self) -> Option<SocketAddr> {
        self.addresses.resp
    }

    /// Where the front for the binary protocol listens, if it does; never port 0.
    pub fn binary_address(&self) -> Option<SocketAddr> {
        self.addresses.binary
    }

    /// Where the gRPC front listens, if it does; never port 0.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.addresses.grpc
    }
}

impl Sockets {
    /// Answers everything with 503, LOADING, TRY_LATER or UNAVAILABLE, and `why`, until what is returned is dropped: where a server cannot
    /// serve yet, whoever asks shall not wait in the backlog for as long.
    pub fn turn_away(&self, config: &ServerConfig, why: &'static str) -> io::Result<TurningAway> {
        let bytes = |answer: Vec<u8>| Told::Bytes(answer.into());
        let (http, resp) = (bytes(raw_answer(ErrorCode::Unavailable, why)), bytes(loading(why)));
        let binary = bytes(later());
        let grpc = Told::Calls(Unavailable::new(ErrorCode::Unavailable, why));
        let listeners = &self.listeners;
        let others = [
            (&listeners.resp, Entrance::Resp, &resp),
            (&listeners.binary, Entrance::Binary, &binary),
            (&listeners.grpc, Entrance::Grpc, &grpc),
        ];
        let others = others
            .into_iter()
            .filter_map(|(listener, entrance, told)| Some((listener.as_ref()?, entrance, told)));
        let listeners = std::iter::once((&listeners.http, Entrance::Http, &http))
            .chain(others)
            .map(|(listener, entrance, told)| Ok((listener.try_clone()?, entrance, told.clone())));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (time, tls) = (config.timeouts.linger, config.tls.clone());
        let thread = std::thread::Builder::new().name("esker-waiting".into()).spawn(move || {
            runtime.block_on(async {
                for (listener, entrance, answer) in listeners {
                    match TcpListener::from_std(listener) {
                        Ok(listener) => {
                            drop(tokio::spawn(turn_away(listener, (entrance, tls.clone()), answer, time)));
                        }
                        Err(e) => tracing::warn!(error = %e, "cannot answer yet"),
                    }
                }
                // Dropped with the guard, which is the sign.
                let _dropped = stopped.await.is_err();
            });
        })?;
        Ok(TurningAway { stop: Some(stop), thread: Some(thread) })
    }
}

/// See [`Sockets::turn_away`].
#[derive(Debug)]
pub struct TurningAway {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for TurningAway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that told others to wait died of a defect");
        }
    }
}

/// Opens a socket for the other nodes of a cluster; port 0 becomes a free one.
pub fn listen_for_peers(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    /// Each of the other nodes connects twice.
    const BACKLOG: u32 = 128;
    listen(address, BACKLOG)
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were cut off because their requests did not finish in time.
    pub connections_cut: usize,
}

/// What ended a server other than its shutdown.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// A thread or runtime could not be started, or died.
    Runtime(io::Error),
    /// The Store could not be closed in order: what was acknowledged is in the log, but reopening takes longer.
    Close(esker_cluster::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(e) => write!(f, "cannot run the server: {e}"),
            Self::Close(e) => write!(f, "the store was not closed in order: {e}"),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Runtime(e) => Some(e),
            Self::Close(e) => Some(e),
        }
    }
}

impl Server {
    /// Opens the sockets. Connections wait in the backlog until the server runs.
    pub fn bind(config: ServerConfig, store: Store) -> Result<Self, BindError> {
        let sockets = Sockets::bind(&config)?;
        Ok(Self::on(sockets, config, store))
    }

    /// A server on sockets that are open already.
    pub fn on(sockets: Sockets, config: ServerConfig, store: Store) -> Self {
        let front = Front::new(config, store, sockets.addresses);
        Self { front: Arc::new(front), listeners: sockets.listeners }
    }

    /// Where the native HTTP front listens; never port 0.
    pub fn http_address(&self) -> SocketAddr {
        self.front.address
    }

    /// Where the front for clients of Redis listens, if it does; never port 0.
    pub fn resp_address(&self) -> Option<SocketAddr> {
        self.front.resp.address
    }

    /// Where the front for the binary protocol listens, if it does; never port 0.
    pub fn binary_address(&self) -> Option<SocketAddr> {
        self.front.binary.address
    }

    /// Where the gRPC front listens, if it does; never port 0.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.front.grpc.address
    }

    /// Serves until `shutdown` is ready, then drains and closes the Store. Blocks the calling thread, on which
    /// `shutdown` is polled within a tokio runtime: waiting for signals works there.
    pub fn run(self, shutdown: impl Future<Output = ()>) -> Result<DrainReport, ServerError> {
        let control =
            runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
        let front = self.front;
        let (leaving, mut left_early) = mpsc::channel::<()>(1);
        let leave = || Leaving(leaving.clone());
        let shared = build_runtime(front.config.runtime).map_err(ServerError::Runtime)?;
        let started = match front.config.runtime {
            Runtime::Homes(threads) => Some(Homes::start(&front, threads, Some(shared.handle()), leave)),
            Runtime::PerCore(threads) => Some(Homes::start(&front, threads, None, leave)),
            Runtime::Shared(_) => None,
        };
        let (homes, home_threads) = started.transpose().map_err(ServerError::Runtime)?.unzip();
        let worker = start_worker((shared, &front), self.listeners, homes.clone(), leave())
            .map_err(ServerError::Runtime)?;
        control.block_on(async {
            tokio::select! {
                () = shutdown => {}
                // No thread leaves before the drain unless it died: a part of a server is not left running.
                _ = left_early.recv() => return,
                never = keep_counts(&front) => match never {},
                never = pack(homes.as_ref(), &front) => match never {},
            }
            front.drain.announce();
            tokio::time::sleep(front.config.timeouts.drain_notice).await;
        });
        front.drain.begin();
        let left = join(worker);
        let homes_left = home_threads.map_or(Ok(()), HomeThreads::join);
        control.block_on(front.guarded.close()).map_err(ServerError::Close)?;
        homes_left.map_err(ServerError::Runtime)?;
        Ok(DrainReport { connections_cut: left.map_err(ServerError::Runtime)? })
    }
}

/// Opens and closes homes as they have work, if there are any.
async fn pack(homes: Option<&Homes>, front: &Front) -> Infallible {
    match homes {
        Some(homes) => homes.pack(front.clock().as_ref()).await,
        None => std::future::pending().await,
    }
}

/// Notes now and then what was counted, so that it can be told how busy the server has been lately.
async fn keep_counts(front: &Front) -> Infallible {
    let mut ticks = tokio::time::interval(Recent::EVERY);
    loop {
        ticks.tick().await;
        front.metrics.note_totals(front.clock().monotonic());
    }
}

type Worker = JoinHandle<io::Result<usize>>;

fn join(worker: Worker) -> io::Result<usize> {
    worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker died of a defect")))
}

/// Says, when dropped, that its thread leaves; also if it panics.
struct Leaving(mpsc::Sender<()>);

impl Drop for Leaving {
    fn drop(&mut self) {
        // One such word is enough, and after the drain nobody listens.
        let _said_already = self.0.try_send(()).is_err();
    }
}

fn start_worker(
    (runtime, front): (runtime::Runtime, &Arc<Front>),
    listeners: Listeners,
    homes: Option<Homes>,
    leaving: Leaving,
) -> io::Result<Worker> {
    let front = Arc::clone(front);
    std::thread::Builder::new().name("esker-accept".into()).spawn(move || {
        let _leaving = leaving;
        let left = work(&runtime, listeners, homes.as_ref(), front);
        // Cuts off what the drain has left.
        runtime.shutdown_timeout(Duration::ZERO);
        left
    })
}

/// What accepts connections, and serves those that have no home.
fn build_runtime(kind: Runtime) -> io::Result<runtime::Runtime> {
    let mut builder = match kind {
        Runtime::PerCore(_) => runtime::Builder::new_current_thread(),
        Runtime::Homes(threads) | Runtime::Shared(threads) => {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(NonZeroUsize::get(threads));
            builder
        }
    };
    builder.max_blocking_threads(BLOCKING_THREADS).thread_name("esker-shared").enable_all().build()
}

/// Accepts connections of a front, if it is there.
fn accept_from<S: Serves>(
    listener: Option<std::net::TcpListener>,
    service: impl FnOnce() -> S,
    homes: Option<Homes>,
) -> io::Result<impl Future<Output = ()>> {
    let listener = listener.map(TcpListener::from_std).transpose()?;
    let accepting = listener.map(|listener| accept_all(listener, service(), homes));
    Ok(async move {
        if let Some(accepting) = accepting {
            accepting.await;
        }
    })
}

/// Accepts until the drain begins, then waits for the connections; says how many are left after that.
fn work(
    runtime: &runtime::Runtime,
    listeners: Listeners,
    homes: Option<&Homes>,
    front: Arc<Front>,
) -> io::Result<usize> {
    runtime.block_on(async {
        let homes = || homes.cloned();
        let others = || matches!(front.config.runtime, Runtime::PerCore(_)).then(homes).flatten();
        let http = accept_from(Some(listeners.http), || Service::new(Arc::clone(&front)), others())?;
        let resp = accept_from(listeners.resp, || RespService::new(Arc::clone(&front)), homes())?;
        let binary = accept_from(listeners.binary, || BinaryService::new(Arc::clone(&front)), homes())?;
        let grpc = accept_from(listeners.grpc, || GrpcService::new(Arc::clone(&front)), others())?;
        tokio::join!(http, resp, binary, grpc);
        let drained = front.connections_ended();
        if tokio::time::timeout(front.config.timeouts.drain, drained).await.is_err() {
            tracing::warn!("requests did not finish in time and are cut off");
        }
        Ok(front.connections.load(Ordering::Acquire))
    })
}
