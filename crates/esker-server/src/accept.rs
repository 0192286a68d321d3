//! The accept loop: takes connections, keeps their number under the cap, and never spins on an error.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use esker_cluster::metrics::Counter;
use esker_wire::ErrorCode;
use rustix::io::Errno;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    TlsControl,
    access::{Arrival, Entrance},
    connection::{linger, serve},
    grpc::Unavailable,
    guard::raw_answer,
    homes::{Homes, Lodging},
    http::{Front, Service},
    stream::Stream,
    tls::why_refused,
};

/// The first pause after the system ran out of something; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Connections over the cap that are being told so at any moment; more are just closed.
const REFUSALS_MAX: usize = 64;

/// What becomes of the connections of one front.
pub(crate) trait Serves: Clone + Send + 'static {
    /// What all fronts share.
    fn front(&self) -> &Arc<Front>;

    /// Counts connections.
    fn accepted(&self) -> &Counter;

    /// Counts those over the cap.
    fn refused(&self) -> &Counter;

    /// What they are told, in the bytes of the protocol.
    fn refusal(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The same where bytes alone do not say it.
    fn turned_away(&self) -> Told {
        Told::Bytes(self.refusal().into())
    }

    /// Which front it is.
    fn entrance(&self) -> Entrance;

    /// Serves a connection to its end, perhaps in a home.
    fn serve(self, stream: Stream, lodging: Option<Arc<Lodging>>) -> impl Future<Output = ()> + Send;
}

/// What a client is told that is not served.
#[derive(Clone)]
pub(crate) enum Told {
    /// This, whatever it asks.
    Bytes(Arc<[u8]>),
    /// This, for each of its calls over gRPC.
    Calls(Unavailable),
}

impl Told {
    /// Tells it, and closes.
    async fn tell(self, mut stream: Stream, time: Duration) {
        match self {
            Self::Bytes(answer) => {
                // The client may be gone already, which is all the same to a refusal.
                let written = tokio::time::timeout(time, async {
                    stream.write_all(&answer).await?;
                    stream.flush().await
                });
                let written = written.await;
                if written.is_ok_and(|written| written.is_ok()) {
                    linger(stream, time).await;
                }
            }
            Self::Calls(unavailable) => unavailable.answer(stream, time).await,
        }
    }
}

impl Serves for Service {
    fn front(&self) -> &Arc<Front> {
        Self::front(self)
    }

    fn accepted(&self) -> &Counter {
        &Self::front(self).metrics.connections_accepted
    }

    fn refused(&self) -> &Counter {
        &Self::front(self).metrics.connections_refused
    }

    fn refusal(&self) -> Vec<u8> {
        raw_answer(
            ErrorCode::TooManyConnections,
            "the server has as many connections as it may: retry later or raise its connection limit",
        )
    }

    fn entrance(&self) -> Entrance {
        Entrance::Http
    }

    async fn serve(self, stream: Stream, _lodging: Option<Arc<Lodging>>) {
        serve(stream, self).await;
    }
}

/// Where connections come from.
pub(crate) trait Accept: Send + 'static {
    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;

    /// Ends it, and gives the connections that were made and not yet accepted: closing resets those, with whatever
    /// their clients have sent already.
    fn close(self) -> impl Iterator<Item = TcpStream> + Send;
}

impl Accept for TcpListener {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn close(self) -> impl Iterator<Item = TcpStream> + Send {
        // Asks the kernel itself: tokio knows only of connections that its driver was told of.
        let listener =
            self.into_std().inspect_err(|e| tracing::debug!(error = %e, "cannot look for connections"));
        std::iter::from_fn(move || {
            let (stream, _peer) = listener.as_ref().ok()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            TcpStream::from_std(stream).ok()
        })
    }
}

/// Accepts until the drain begins, and whoever has connected by then; without homes, they are served in this runtime.
pub(crate) async fn accept_all(mut listener: impl Accept, service: impl Serves, homes: Option<Homes>) {
    let front = Arc::clone(service.front());
    let mut draining = front.drain.subscribe();
    let mut pause = PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.begun() => break,
        };
        match accepted {
            Ok((stream, _peer)) => {
                pause = PAUSE_MIN;
                admit(stream, &service, homes.as_ref());
            }
            Err(e) if is_exhaustion(&e) => {
                front.metrics.accept_errors.add_one();
                tracing::error!(error = %e, pause_ms = pause.as_millis() as u64, "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // The client went away before it was accepted: that concerns nobody else.
            Err(e) => tracing::debug!(error = %e, "a connection failed before it was accepted"),
        }
    }
    listener.close().for_each(|stream| admit(stream, &service, homes.as_ref()));
}

/// Whether accepting again at once would fail again: the system or the process is out of something.
fn is_exhaustion(e: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    e.raw_os_error().is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
}

fn admit(stream: TcpStream, service: &impl Serves, homes: Option<&Homes>) {
    let front = service.front();
    let place = Place::take(&front.connections, front.config.limits.connections);
    match place {
        Some(place) => {
            service.accepted().add_one();
            let shakes_hands = front.config.tls.is_some();
            let (service, front, entrance) = (service.clone(), Arc::clone(front), service.entrance());
            let serve = async move |stream, lodging| {
                let _place = place;
                if let Some(stream) = shake_hands(stream, front, entrance).await {
                    service.serve(stream, lodging).await;
                }
            };
            match homes {
                Some(homes) => {
                    homes.take_in(stream, shakes_hands, |stream, lodging| serve(stream, Some(lodging)));
                }
                None => drop(tokio::spawn(serve(stream, None))),
            }
        }
        None => refuse(stream, service),
    }
}

/// The stream of a connection, once both sides speak TLS, if they are to: as long as a head may take.
async fn shake_hands(tcp: TcpStream, front: Arc<Front>, entrance: Entrance) -> Option<Stream> {
    let Some(tls) = &front.config.tls else { return Some(Stream::Plain(tcp)) };
    let arrival = Arrival::new(entrance, tcp.peer_addr().ok());
    let accept = Stream::accept(tcp, Some(tls.acceptor(entrance)));
    let why = match tokio::time::timeout(front.config.timeouts.header, accept).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(e)) => why_refused(&e),
        Err(_) => "the handshake took too long".into(),
    };
    front.access.audit.no_tls(&arrival, &why, front.clock().monotonic());
    None
}

/// Tells a client over the cap to come back, at little cost.
fn refuse(stream: TcpStream, service: &impl Serves) {
    service.refused().add_one();
    let front = service.front();
    let tls = front.config.tls.as_ref().map(|tls| tls.acceptor(service.entrance()));
    tell((stream, tls), service.turned_away(), &front.refusals, front.config.timeouts.linger);
}

/// Gives an answer to whatever is asked, and closes.
fn tell(
    (stream, tls): (TcpStream, Option<TlsAcceptor>),
    told: Told,
    refusals: &Arc<AtomicUsize>,
    time: Duration,
) {
    let Some(place) = Place::take(refusals, REFUSALS_MAX) else { return };
    tokio::spawn(async move {
        let _place = place;
        // The client may be gone already, which is all the same to a refusal.
        if let Ok(Ok(stream)) = tokio::time::timeout(time, Stream::accept(stream, tls)).await {
            told.tell(stream, time).await;
        }
    });
}

/// Tells whoever connects that the server cannot serve yet.
pub(crate) async fn turn_away(
    mut listener: impl Accept,
    (entrance, tls): (Entrance, Option<TlsControl>),
    told: Told,
    time: Duration,
) {
    let refusals = Arc::default();
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let tls = tls.as_ref().map(|tls| tls.acceptor(entrance));
                tell((stream, tls), told.clone(), &refusals, time);
            }
            Err(e) if is_exhaustion(&e) => tokio::time::sleep(PAUSE_MAX).await,
            // The client went away before it was accepted.
            Err(e) => tracing::debug!(error = %e, "a connection failed before it was accepted"),
        }
    }
}

/// One of a bounded number of places; dropping gives it back.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::AcqRel) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::http::test_service;

    /// Runs out of files for ever.
    struct OutOfFiles(Arc<AtomicU64>);

    impl Accept for OutOfFiles {
        async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
            if self.0.fetch_add(1, Ordering::Relaxed) > 1000 {
                // It did spin: the test is to fail, not to hang.
                std::future::pending::<()>().await;
            }
            Err(io::Error::from_raw_os_error(Errno::MFILE.raw_os_error()))
        }

        fn close(self) -> impl Iterator<Item = TcpStream> + Send {
            std::iter::empty()
        }
    }

    /// CHECKS 34: EMFILE makes no accept spin.
    #[tokio::test(start_paused = true)]
    async fn running_out_of_files_does_not_spin() {
        let calls = Arc::new(AtomicU64::new(0));
        let (service, _dir) = test_service();
        let accepting = tokio::spawn(accept_all(OutOfFiles(Arc::clone(&calls)), service, None));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let calls = calls.load(Ordering::Relaxed);
        assert!((10..=70).contains(&calls), "{calls} calls in a minute");
        assert!(!accepting.is_finished());
        accepting.abort();
    }

    #[test]
    fn places_are_given_back() {
        let taken = Arc::new(AtomicUsize::new(0));
        let place = Place::take(&taken, 1).unwrap();
        assert!(Place::take(&taken, 1).is_none());
        drop(place);
        assert!(Place::take(&taken, 1).is_some());
    }
}
