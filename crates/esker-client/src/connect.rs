//! Opening connections: the only module of the client side that does.

use std::{fmt, io, sync::Arc, time::Duration};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::{Result, TlsSettings, stream::Stream};

/// Connections, through TLS where the endpoint says so.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// The version of HTTP that is spoken.
pub(crate) enum Version {
    Http1,
    Http2,
}

/// What the pool opens its connections with.
pub(crate) fn connector(timeout: Duration, tls: ClientConfig, version: Version) -> Connector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    match version {
        Version::Http1 => builder.enable_http1().wrap_connector(connector),
        Version::Http2 => builder.enable_http2().wrap_connector(connector),
    }
}

/// Opens connections for those who speak a protocol of their own on them, such as a load generator.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<TlsConnector>,
}

impl fmt::Debug for Dialer {
    /// Without certificates and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("speaks_tls", &self.tls.is_some()).finish()
    }
}

impl Dialer {
    /// Of plain connections, or of those through TLS with these settings.
    ///
    /// Errors: `InvalidRequest` where a certificate or key cannot be used.
    pub fn new(tls: Option<&TlsSettings>) -> Result<Self> {
        let connector = |tls: &TlsSettings| Ok(TlsConnector::from(Arc::new(tls.config(true)?)));
        Ok(Self { tls: tls.map(connector).transpose()? })
    }

    /// Connects to `address` (`host:port`), TLS's handshake included, without waiting for full packets (`TCP_NODELAY`).
    pub async fn connect(&self, address: &str, timeout: Duration) -> io::Result<Stream> {
        let end = tokio::time::Instant::now() + timeout;
        let tcp = connect(address, timeout).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::plain(tcp)) };
        let name = ServerName::try_from(host_of(address).to_owned()).map_err(io::Error::other)?;
        Ok(Stream::tls(timeout_at(end, tls.connect(name, tcp)).await??))
    }
}

/// The name or number in `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _port)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Opens a plain connection to `address` (`host:port`), without waiting for full packets (`TCP_NODELAY`).
#[expect(clippy::disallowed_methods, reason = "the one home of outgoing connections")]
pub async fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_of_hosts() {
        for (address, host) in [("h:1", "h"), ("[::1]:443", "::1"), ("127.0.0.1:80", "127.0.0.1")] {
            assert_eq!(host_of(address), host);
        }
    }
}
