//! A connection's bytes: plain, or through TLS.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    access::{Arrival, Entrance},
    tls::client_names,
};

/// A connection's bytes. Plain ones cost a branch, and those of TLS the state that there is only where it is spoken.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The stream of a connection that was just made. Takes as long as the client does: whoever calls gives it a time-out.
    pub(crate) async fn accept(tcp: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        match tls {
            None => Ok(Self::Plain(tcp)),
            Some(acceptor) => Ok(Self::Tls(Box::new(acceptor.accept(tcp).await?))),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Has the runtime of this thread watch the connection, which another did. Errors: it does as before.
    pub(crate) fn register_here(&mut self) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_mut().0,
        };
        // Another descriptor for a moment: the one that is watched cannot be taken out without putting something in.
        let same = tcp.as_fd().try_clone_to_owned()?;
        *tcp = TcpStream::from_std(same.into())?;
        Ok(())
    }

    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp().peer_addr().ok()
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp().local_addr().ok()
    }

    /// Answers are written whole; Nagle would only delay them. Without it they are slower, not wrong.
    pub(crate) fn set_nodelay(&self) {
        if let Err(e) = self.tcp().set_nodelay(true) {
            tracing::debug!(error = %e, "cannot set TCP_NODELAY");
        }
    }

    /// Who comes in through it, as far as that is known by now.
    pub(crate) fn arrival(&self, entrance: Entrance) -> Arrival {
        let certificate = match self {
            Self::Plain(_) => Arc::default(),
            Self::Tls(tls) => client_names(tls.get_ref().1),
        };
        Arrival { certificate, ..Arrival::new(entrance, self.peer_addr()) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
