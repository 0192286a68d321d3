//! CHECKS 37: between nodes, a wrong authority, an expired certificate, plaintext and a missing certificate are
//! refused, whichever side has it. Nothing of a refused call reaches the node.

use std::sync::Arc;

use esker_cluster::peer::{PeerApi, PeerError, PeerOptions, PeerTls};
use futures_util::StreamExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::fake::{Dialer, IGNORED, Node, append, ask, listen, matched, soon, stays_open};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate of this authority, for who trusts `trusted`.
    fn issue(&self, trusted: &Authority, name: &str, expired: bool) -> PeerTls {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        let ca = trusted.0.pem();
        PeerTls::new(ca.as_bytes(), certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn good(&self) -> PeerTls {
        self.issue(self, "127.0.0.1", false)
    }
}

fn node(tls: Option<PeerTls>) -> Node {
    Node::start_with(listen(0), PeerOptions::default(), tls)
}

fn connect(node: &Node, tls: Option<PeerTls>) -> Arc<dyn PeerApi> {
    Dialer::new(PeerOptions::default(), tls).connect(node.address)
}

/// Why a node with the one refuses, or is refused by, a caller with the other.
async fn refused(server: Option<PeerTls>, client: Option<PeerTls>) -> String {
    let node = node(server);
    let told = ask(&connect(&node, client)).await;
    assert_eq!(node.fake.callers.lock().len(), 0);
    match told {
        Err(PeerError::Unreachable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nodes_of_one_authority_talk() {
    let ca = Authority::new();
    let node = node(Some(ca.good()));
    let peer = connect(&node, Some(ca.good()));
    assert_eq!(ask(&peer).await.unwrap(), 42);
    let payload = vec![9; 3 << 20];
    let mut replies = peer.append(IGNORED, stays_open([append(1, payload.clone())]));
    assert_eq!(soon(replies.next()).await.unwrap().unwrap(), matched(1));
    assert!(node.fake.payloads.lock()[0] == payload);
}

#[tokio::test]
async fn a_configured_name_takes_the_place_of_the_host() {
    let ca = Authority::new();
    let named = || ca.issue(&ca, "esker.example", false);
    let why = refused(Some(named()), Some(named())).await;
    assert!(why.contains("not valid for name"), "{why}");
    let node = node(Some(named()));
    let client = named().with_server_name("esker.example").unwrap();
    assert_eq!(ask(&connect(&node, Some(client))).await.unwrap(), 42);
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused() {
    let (ca, other) = (Authority::new(), Authority::new());
    let why = refused(Some(other.issue(&ca, "127.0.0.1", false)), Some(ca.good())).await;
    assert!(why.contains("invalid peer certificate"), "{why}");
}

#[tokio::test]
async fn a_caller_of_another_authority_is_refused() {
    let (ca, other) = (Authority::new(), Authority::new());
    refused(Some(ca.good()), Some(other.issue(&ca, "127.0.0.1", false))).await;
}

#[tokio::test]
async fn an_expired_certificate_of_a_node_is_refused() {
    let ca = Authority::new();
    let why = refused(Some(ca.issue(&ca, "127.0.0.1", true)), Some(ca.good())).await;
    assert!(why.contains("expired"), "{why}");
}

#[tokio::test]
async fn an_expired_certificate_of_a_caller_is_refused() {
    let ca = Authority::new();
    refused(Some(ca.good()), Some(ca.issue(&ca, "127.0.0.1", true))).await;
}

#[tokio::test]
async fn plaintext_is_refused_where_tls_is_asked_for() {
    refused(Some(Authority::new().good()), None).await;
}

#[tokio::test]
async fn tls_is_refused_where_there_is_none() {
    refused(None, Some(Authority::new().good())).await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let ca = Authority::new();
    let node = node(Some(ca.good()));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.0.pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpSocket::new_v4().unwrap().connect(node.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut tls = soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap();
    // TLS 1.3 tells only after the handshake; a write may or may not fail before.
    _ = tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let told = soon(tls.read_to_end(&mut Vec::new())).await.unwrap_err().to_string();
    assert!(told.contains("CertificateRequired"), "{told}");
}

#[tokio::test]
async fn a_refused_certificate_is_not_tried_over_and_over() {
    let (ca, other) = (Authority::new(), Authority::new());
    let node = node(Some(ca.good()));
    let hour = std::time::Duration::from_secs(3600);
    let options = PeerOptions { backoff_min: hour, backoff_max: hour, ..Default::default() };
    let dialer = Dialer::new(options, Some(other.issue(&ca, "127.0.0.1", false)));
    let peer = dialer.connect(node.address);
    for _ in 0..20 {
        assert!(matches!(ask(&peer).await, Err(PeerError::Unreachable(_))));
    }
    assert_eq!(dialer.failures(), 1);
}

#[test]
fn what_cannot_be_used_is_named() {
    let pem = Authority::new().0.pem();
    let told = PeerTls::new(pem.as_bytes(), pem.as_bytes(), b"").unwrap_err().to_string();
    assert!(told.contains("TLS key"), "{told}");
    let ca = Authority::new();
    let key = KeyPair::generate().unwrap().serialize_pem();
    let told = PeerTls::new(b"", pem.as_bytes(), key.as_bytes()).unwrap_err().to_string();
    assert!(told.contains("authority") && told.contains("no certificate"), "{told}");
    let told = PeerTls::new(pem.as_bytes(), pem.as_bytes(), key.as_bytes()).unwrap_err().to_string();
    assert!(told.contains("certificate or key"), "{told}");
    assert!(!format!("{:?}", ca.good()).contains("KEY"));
}
