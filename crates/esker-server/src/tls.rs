//! TLS on the fronts: TLS 1.2 and 1.3, certificates that are replaced while connections go on, and, if an authority for clients
//! is given, clients who prove who they are.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use esker_cluster::tls::{TlsError, certificates, private_key, roots};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig, ServerConnection,
        crypto::ring,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        version::{TLS12, TLS13},
    },
};

use crate::access::Entrance;

/// What a server speaks TLS with; all are PEM.
pub struct TlsFiles {
    /// The server's certificate, with those between it and its authority behind it.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The authorities of the clients' certificates: with them, whoever has none is refused.
    pub client_ca: Option<Vec<u8>>,
}

/// TLS as a server speaks it; cloning gives another handle to the same.
#[derive(Clone)]
pub struct TlsControl(Arc<RwLock<Configs>>);

/// One for each front, which differ in the protocols that they agree on.
struct Configs {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
    /// Where nothing is agreed on.
    plain: Arc<ServerConfig>,
    wants_certificates: bool,
}

impl TlsControl {
    /// TLS with these files.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Configs::new(files)?))))
    }

    /// From the next connection on, TLS with these files. After an error all is as before.
    pub fn replace(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let configs = Configs::new(files)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    /// Whether clients have to show certificates.
    pub fn wants_certificates(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).wants_certificates
    }

    /// How the next connection of a front is accepted.
    pub(crate) fn acceptor(&self, entrance: Entrance) -> TlsAcceptor {
        let configs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match entrance {
            Entrance::Http => Arc::clone(&configs.http).into(),
            Entrance::Grpc => Arc::clone(&configs.grpc).into(),
            Entrance::Resp | Entrance::Binary => Arc::clone(&configs.plain).into(),
        }
    }
}

impl fmt::Debug for TlsControl {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsControl")
            .field("wants_certificates", &self.wants_certificates())
            .finish_non_exhaustive()
    }
}

impl Configs {
    fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let plain = config(files)?;
        let (mut http, mut grpc) = (plain.clone(), plain.clone());
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        grpc.alpn_protocols = vec![b"h2".to_vec()];
        let wants_certificates = files.client_ca.is_some();
        Ok(Self { http: Arc::new(http), grpc: Arc::new(grpc), plain: Arc::new(plain), wants_certificates })
    }
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError::of("version", error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider);
            let verifier = verifier.build().map_err(|error| TlsError::of("authority for clients", error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.certificate, "certificate")?;
    let mut config = builder
        .with_single_cert(chain, private_key(&files.key)?)
        .map_err(|error| TlsError::of("certificate or key", error))?;
    if files.client_ca.is_some() {
        // A resumed session would not look at the client's certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// The names in the certificate that the client of a connection proved to have.
pub(crate) fn client_names(connection: &ServerConnection) -> Arc<[String]> {
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let parsed = certificate.and_then(|certificate| webpki::EndEntityCert::try_from(certificate).ok());
    parsed.map_or_else(Arc::default, |parsed| parsed.valid_dns_names().map(str::to_owned).collect())
}

/// Why a handshake failed, for the log.
pub(crate) fn why_refused(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "plain text came to a port that speaks TLS".into()
        }
        Some(rustls::Error::NoCertificatesPresented) => "the client showed no certificate".into(),
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
