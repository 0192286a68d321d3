//! Opening connections: the only module of the client side that does.

use std::{io, time::Duration};

use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpStream;

/// What the pool opens its connections with.
pub(crate) fn connector(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector
}

/// Opens a plain connection to `address` (`host:port`), without waiting for full packets (`TCP_NODELAY`). For
/// callers that speak a protocol of their own, such as a load generator.
#[expect(clippy::disallowed_methods, reason = "the one home of outgoing connections")]
pub async fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
