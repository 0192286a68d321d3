//! One HTTP/2 connection to a node: made when a call needs it, and again when it broke.
//!
//! ```text
//!         a call                    made
//! Idle ------------> Connecting ------------> Up
//!  ^                  ^      | failed          | broke
//!  |     a call after |      v                 |
//!  |     the pause    +---- Down <-------------+ before anything was answered
//!  +-------------------------------------------+ otherwise
//! ```
//!
//! Calls wait while a connection is being made, and fail at once while the link is down: a dead node costs an attempt
//! per pause, no more. A connection on which nothing was ever answered counts as a failure: with TLS 1.3 a refused
//! certificate, and always the wrong protocol, shows only after connecting.
//!
//! One task at a time makes and drives the connection; while there is one, only it changes the state. It holds the
//! link weakly, so that the connection closes when the last user has gone.

use std::{
    io,
    net::Shutdown,
    os::fd::AsFd,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, combinators::MapErr};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{Status, body::Body};
use tower_service::Service;

use super::{
    CONNECTION_WINDOW_BYTES, Jitter, MESSAGE_BYTES_MAX, PeerError, PeerOptions, PeerResult, PeerTls,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, backoff, options::FRAME_BYTES, status,
    wire::peer_client::PeerClient,
};

/// How to make a connection.
pub(super) struct Target {
    pub(super) address: String,
    pub(super) options: Arc<PeerOptions>,
    pub(super) tls: Option<PeerTls>,
    pub(super) jitter: Arc<Jitter>,
}

/// See the head of this file.
pub(super) struct Link {
    target: Arc<Target>,
    state: watch::Sender<State>,
}

enum State {
    Idle,
    Connecting,
    Up(Channel),
    Down { failures: u32, until: Instant, why: String },
}

impl Link {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, state: watch::Sender::new(State::Idle) }
    }

    /// The connection, made if need be.
    pub(super) async fn channel(self: &Arc<Self>) -> PeerResult<Channel> {
        if let State::Up(channel) = &*self.state.borrow() {
            return Ok(channel.clone());
        }
        self.connect_if_due();
        let mut watcher = self.state.subscribe();
        let state = watcher.wait_for(|state| !matches!(state, State::Connecting)).await;
        match &*state.expect("the link that is borrowed here holds the sender") {
            State::Up(channel) => Ok(channel.clone()),
            State::Down { why, .. } => Err(PeerError::Unreachable(why.clone())),
            State::Idle | State::Connecting => Err(PeerError::Unreachable("the connection broke".to_owned())),
        }
    }

    /// Starts the task that makes a connection, unless there is one or it is too early.
    fn connect_if_due(self: &Arc<Self>) {
        let mut due = None;
        self.state.send_if_modified(|state| {
            due = match state {
                State::Idle => Some(0),
                State::Down { failures, until, .. } if *until <= Instant::now() => Some(*failures),
                _ => None,
            };
            if due.is_some() {
                *state = State::Connecting;
            }
            due.is_some()
        });
        if let Some(failures) = due {
            tokio::spawn(run(Arc::downgrade(self), self.target.clone(), failures));
        }
    }

    /// The node itself has called: the pause is over. What failed before still counts.
    pub(super) fn end_pause(&self) {
        self.state.send_if_modified(|state| {
            if let State::Down { until, .. } = state {
                *until = Instant::now();
            }
            // Nobody waits for a pause to end.
            false
        });
    }

    fn down(&self, failures: u32, why: String) {
        let pause = backoff::pause(&self.target.options, failures, (self.target.jitter)());
        let address = &self.target.address;
        if failures == 1 {
            tracing::warn!(address, why, "cannot reach a node; trying on");
        } else {
            tracing::debug!(address, why, failures, ?pause, "still cannot reach a node");
        }
        self.state.send_replace(State::Down { failures, until: Instant::now() + pause, why });
    }
}

/// Makes a connection and drives it until it ends. `failures` is how often that failed before.
async fn run(link: Weak<Link>, target: Arc<Target>, failures: u32) {
    let limit = target.options.connect_timeout;
    let made = timeout(limit, target.connect()).await;
    let made = made.unwrap_or_else(|_| Err(format!("no connection within {limit:?}")));
    let why = match made {
        Err(why) => why,
        Ok((channel, driver)) => {
            let answered = channel.answered.clone();
            match link.upgrade() {
                Some(link) => link.state.send_replace(State::Up(channel)),
                None => return,
            };
            let why = driver.await;
            if answered.load(Ordering::Relaxed) {
                tracing::debug!(address = target.address, why, "the connection to a node ended");
                link.upgrade().inspect(|link| _ = link.state.send_replace(State::Idle));
                return;
            }
            why
        }
    };
    link.upgrade().inspect(|link| link.down(failures.saturating_add(1), why));
}

/// What carries a connection's bytes; ends with the connection, saying why it did.
type Driver = BoxFuture<'static, String>;

impl Target {
    async fn connect(&self) -> Result<(Channel, Driver), String> {
        let origin = Uri::builder().scheme("http").authority(&*self.address).path_and_query("/").build();
        let origin = origin.map_err(|error| format!("{} is not an address: {error}", self.address))?;
        let text = |error: io::Error| status::chain(&error);
        let tcp = self.dial().await.map_err(text)?;
        let socket = Arc::new(tcp.as_fd().try_clone_to_owned().map_err(text)?.into());
        let Some(tls) = &self.tls else {
            return self.handshake(TokioIo::new(tcp), socket, origin).await;
        };
        let name = tls.server_name(&self.address).map_err(|error| error.to_string())?;
        let tls = tls.connector().connect(name, tcp).await;
        self.handshake(TokioIo::new(tls.map_err(text)?), socket, origin).await
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of connections to other nodes")]
    async fn dial(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect(&*self.address).await?;
        // Heartbeats are small; they must not wait for more to send.
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    async fn handshake<I>(
        &self,
        io: I,
        socket: Arc<std::net::TcpStream>,
        origin: Uri,
    ) -> Result<(Channel, Driver), String>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let made = self.http().handshake(io).await;
        let (sender, connection) = made.map_err(|error| status::chain(&error))?;
        let driver = async move {
            match connection.await {
                Ok(()) => "the connection was closed".to_owned(),
                Err(error) => status::chain(&error),
            }
        };
        Ok((Channel { sender, origin, answered: Arc::default(), socket }, Box::pin(driver)))
    }

    fn http(&self) -> Builder<TokioExecutor> {
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_frame_size(FRAME_BYTES)
            .keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            // Else a node that went away without a word would be found out by the first call that needs it.
            .keep_alive_while_idle(true);
        http
    }
}

/// A connection that is up. Its errors are statuses already, so that they tell a broken connection from what the
/// other node answered.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Body>,
    origin: Uri,
    /// Whether anything was ever answered.
    answered: Arc<AtomicBool>,
    /// hyper keeps the connection in a task that nobody can end, until its last stream has ended.
    socket: Arc<std::net::TcpStream>,
}

impl Channel {
    /// What to make a call with.
    pub(super) fn client(&self) -> PeerClient<Self> {
        let client = PeerClient::with_origin(self.clone(), self.origin.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Ends the connection, and with it all that is under way on it.
    pub(super) fn break_off(&self) {
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            tracing::debug!(%error, "the connection to a node had already ended");
        }
    }
}

type ReplyBody = MapErr<Incoming, fn(hyper::Error) -> Status>;

impl Service<Request<Body>> for Channel {
    type Response = Response<ReplyBody>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    /// Always: how many calls may be under way is for the connection to hold back.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let reply = self.sender.send_request(request);
        let answered = self.answered.clone();
        Box::pin(async move {
            let reply = reply.await.map_err(status::broken)?;
            answered.store(true, Ordering::Relaxed);
            Ok(reply.map(|body| body.map_err(status::broken as fn(hyper::Error) -> Status)))
        })
    }
}
