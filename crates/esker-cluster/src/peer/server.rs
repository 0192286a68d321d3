//! Answers other nodes.
//!
//! A task per connection, another per call (hyper's). Shutting down: no new connections or calls, streams end, calls
//! under way get a grace, and what is left then is broken off.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::http2::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tower_service::Service as _;

use super::{
    CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, MESSAGE_BYTES_MAX, PeerApi, PeerOptions, PeerTls,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX, options::FRAME_BYTES, service::Service, status,
    wire::peer_server::PeerServer,
};

/// A connection must make its first call within this time, TLS included: places are few, and a node connects only when it
/// has something to say.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers on `listener` through `api` until `shutdown` is done, and then ends in good order. With `tls`, only those
/// are answered who show a certificate of its authority.
///
/// A call that does not say who calls is answered with INVALID_ARGUMENT, [`hello`](PeerApi::hello) excepted. Whether
/// the right one is meant is for `api` to say.
pub async fn serve(
    listener: TcpListener,
    api: Arc<dyn PeerApi>,
    options: PeerOptions,
    tls: Option<PeerTls>,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let service = PeerServer::new(Service { api, stopped: stopped.clone() });
    let service = service.max_decoding_message_size(MESSAGE_BYTES_MAX);
    let tls = tls.map(|tls| tls.acceptor());
    let server = Arc::new(Server { service, http: http(&options), tls, stopped });
    let mut connections = JoinSet::new();
    server.accept(listener, &mut connections, shutdown).await;
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(options.shutdown_grace, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "calls of other nodes are broken off");
    }
    connections.shutdown().await;
}

struct Server {
    service: PeerServer<Service>,
    http: Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    async fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        connections: &mut JoinSet<()>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((tcp, _)) => _ = connections.spawn(self.clone().connection(tcp)),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of a node");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let peer = tcp.peer_addr();
        if let Err(why) = self.answer(tcp).await {
            tracing::debug!(?peer, why, "a node's connection ended");
        }
    }

    async fn answer(&self, tcp: TcpStream) -> Result<(), String> {
        let text = |error: io::Error| status::chain(&error);
        tcp.set_nodelay(true).map_err(text)?;
        let Some(tls) = &self.tls else {
            return self.calls(TokioIo::new(tcp)).await;
        };
        let tls = timeout(FIRST_CALL_TIMEOUT, tls.accept(tcp)).await;
        let tls = tls.map_err(|_| "no TLS handshake in time")?.map_err(text)?;
        self.calls(TokioIo::new(tls)).await
    }

    async fn calls<I: Read + Write + Unpin>(&self, io: I) -> Result<(), String> {
        let called = AtomicBool::new(false);
        let service = service_fn(|request: Request<Incoming>| {
            called.store(true, Ordering::Relaxed);
            // tonic takes this status for the end of the messages, which it is: the other side gave the call up.
            let request = request.map(|body| body.map_err(|error| Status::cancelled(status::chain(&error))));
            self.service.clone().call(request)
        });
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut stopped = self.stopped.clone();
        let mut shutdown = pin!(stopped.wait_for(|stopped| *stopped));
        let mut first = pin!(sleep(FIRST_CALL_TIMEOUT));
        let (mut stopping, mut waiting) = (false, true);
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(|error| status::chain(&error)),
                _ = &mut shutdown, if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut first, if waiting => {
                    waiting = false;
                    if !called.load(Ordering::Relaxed) {
                        return Err("no call in time".to_owned());
                    }
                }
            }
        }
    }
}

fn http(options: &PeerOptions) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        // A node that was paused finds many calls that were given up meanwhile; that is no attack.
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .max_local_error_reset_streams(STREAMS_MAX as usize)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .auto_date_header(false);
    http
}
