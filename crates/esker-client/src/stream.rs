//! A connection's bytes: plain, or through TLS.

use std::{
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// A connection's bytes. Plain ones cost a branch, and those of TLS the state that there is only where it is spoken.
pub struct Stream(Either<TcpStream, Box<TlsStream<TcpStream>>>);

impl fmt::Debug for Stream {
    /// Without the state of TLS.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Either::Left(_) => "Plain",
            Either::Right(_) => "Tls",
        })
    }
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self(Either::Left(tcp))
    }

    pub(crate) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self(Either::Right(Box::new(tls)))
    }

    /// Whether the server has neither closed nor said anything.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.0 {
            Either::Left(tcp) => {
                matches!(tcp.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
            // What TLS says for itself, such as a ticket, is nothing. Nobody is woken: whoever uses it reads again.
            Either::Right(tls) => {
                pin!(tls.read(&mut byte)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
