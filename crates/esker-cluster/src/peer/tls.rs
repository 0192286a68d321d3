//! TLS between nodes: each shows a certificate that the cluster's authority signed, and checks the other's.
//!
//! TLS 1.3 only, as both ends are nodes. Sessions are never resumed: a resumed one would not look at the certificates
//! again, and links live long.

use std::{fmt, sync::Arc};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        client::Resumption,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        version::TLS13,
    },
};

use crate::tls::{TlsError, certificates, private_key, roots};

const ALPN: &[u8] = b"h2";

/// A node's certificate and key, and whose certificates it accepts.
#[derive(Clone)]
pub struct PeerTls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: Option<ServerName<'static>>,
}

impl PeerTls {
    /// All are PEM: the certificates of the authorities, the node's own chain (its own certificate first), and its
    /// private key. The node's certificate must be good for servers and clients, as it is both.
    pub fn new(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(ca)?);
        let chain = certificates(certificate, "certificate")?;
        let key = private_key(key)?;
        Ok(Self {
            client: Arc::new(client(provider.clone(), roots.clone(), chain.clone(), key.clone_key())?),
            server: Arc::new(server(provider, roots, chain, key)?),
            name: None,
        })
    }

    /// The name that every other node's certificate must have. Without it, the host of the address it is reached at.
    pub fn with_server_name(self, name: &str) -> Result<Self, TlsError> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|error| TlsError::of("server name", error))?;
        Ok(Self { name: Some(name), ..self })
    }

    /// The name to expect of the node at `address`.
    pub(super) fn server_name(&self, address: &str) -> Result<ServerName<'static>, TlsError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        ServerName::try_from(host(address).to_owned()).map_err(|error| TlsError::of("address", error))
    }

    pub(super) fn connector(&self) -> TlsConnector {
        self.client.clone().into()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.server.clone().into()
    }
}

impl fmt::Debug for PeerTls {
    /// Without the configurations, which hold the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn client(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsError::of("version", error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::of("certificate or key", error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| TlsError::of("authority", error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsError::of("version", error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::of("certificate or key", error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address() {
        assert_eq!(host("node-1.example:7000"), "node-1.example");
        assert_eq!(host("10.0.0.1:7000"), "10.0.0.1");
        assert_eq!(host("[2001:db8::1]:7000"), "2001:db8::1");
    }
}
