//! CHECKS 37 on the fronts: a wrong authority, an expired certificate, plain text, a missing certificate and an old TLS are
//! refused; certificates are replaced while connections go on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use esker_cluster::{Batch, WriteOptions};
use esker_proto::v1::{GetRequest, PutRequest};
use esker_server::{AccessControl, RuleEntry, TlsControl, TlsFiles, UserEntry, Users, UsersFile};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

use support::{
    Client, TestServer,
    calls::{Told, call, framed},
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
type Pair = (String, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, expired: bool) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// What a server of this authority speaks TLS with.
    fn files(&self, clients: Option<&Self>) -> TlsFiles {
        let (certificate, key) = self.issue("127.0.0.1", false);
        TlsFiles { certificate: certificate.into(), key: key.into(), client_ca: clients.map(Self::pem) }
    }

    /// A client that trusts this authority.
    fn client(
        &self,
        identity: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.pem()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                    .unwrap()
            }
        })
    }
}

fn server(tls: &TlsControl, access: AccessControl) -> TestServer {
    let tls = tls.clone();
    let server = TestServer::with(move |config, _| {
        config.access = access;
        config.tls = Some(tls);
        config.resp_address = Some("127.0.0.1:0".parse().unwrap());
    });
    let mut batch = Batch::new(server.store.limits());
    batch.put(b"k", b"value").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(server.store.write(batch, WriteOptions::default())).unwrap();
    server
}

type Tls = StreamOwned<ClientConnection, std::net::TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, Client::connect(address).stream)
}

/// What comes of a question, as far as something comes.
fn ask(stream: &mut Tls, question: &[u8], end: &[u8]) -> Result<String, String> {
    stream.write_all(question).map_err(|e| e.to_string())?;
    let (mut said, mut space) = (Vec::new(), [0; 4096]);
    while !said.windows(end.len()).any(|part| part == end) {
        match stream.read(&mut space) {
            Ok(0) => return Err("closed".into()),
            Ok(read) => said.extend_from_slice(&space[..read]),
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

const HTTP: &[u8] = b"GET /api/v1/kv/k HTTP/1.1\r\nhost: h\r\n\r\n";

fn http(server: &TestServer, config: &Arc<ClientConfig>) -> Result<String, String> {
    ask(&mut connect(server.address, config), HTTP, b"value")
}

fn resp(server: &TestServer, config: &Arc<ClientConfig>) -> Result<String, String> {
    ask(&mut connect(server.resp.unwrap(), config), b"GET k\r\n", b"value")
}

fn binary(server: &TestServer, config: &Arc<ClientConfig>) -> Result<String, String> {
    ask(&mut connect(server.binary.unwrap(), config), b"GET 1\nk", b"value")
}

/// A call on a connection of its own, which agrees on HTTP/2.
#[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
fn grpc_call(
    server: &TestServer,
    config: &Arc<ClientConfig>,
    method: &str,
    message: Vec<u8>,
) -> Result<Told, String> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(server.grpc.unwrap()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let stream = connected.map_err(|e| e.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        call(stream, method, None, message).await.map_err(|e| e.to_string())
    })
}

fn grpc(server: &TestServer, config: &Arc<ClientConfig>) -> Result<String, String> {
    let get = framed(&GetRequest { key: "k".into(), ..GetRequest::default() });
    let told = grpc_call(server, config, "esker.v1.Kv/Get", get)?;
    String::from_utf8(told.value()).map_err(|e| e.to_string())
}

/// One question over each front.
type Asks = fn(&TestServer, &Arc<ClientConfig>) -> Result<String, String>;

const FRONTS: [(&str, Asks, &str); 4] = [
    ("http", http, "HTTP/1.1 200"),
    ("resp", resp, "$5\r\nvalue"),
    ("binary", binary, "VALUE 5 "),
    ("grpc", grpc, "value"),
];

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

#[test]
fn every_front_speaks_tls_of_either_version() {
    let ca = Authority::new();
    let server = server(&TlsControl::new(&ca.files(None)).unwrap(), AccessControl::default());
    for versions in [BOTH, &[&TLS12], &[&TLS13]] {
        let client = ca.client(None, versions);
        for (front, ask, answer) in FRONTS {
            let said = ask(&server, &client).unwrap();
            assert!(said.starts_with(answer), "{front}: {said}");
        }
    }
}

/// Values larger than any buffer on the way, pipelines, and the end of a connection.
#[test]
fn large_answers_and_pipelines_come_through_whole() {
    let ca = Authority::new();
    let server = server(&TlsControl::new(&ca.files(None)).unwrap(), AccessControl::default());
    let mut stream = connect(server.resp.unwrap(), &ca.client(None, BOTH));
    let value = vec![b'v'; 3 << 20];
    let mut commands = format!("*3\r\n$3\r\nSET\r\n$1\r\nl\r\n${}\r\n", value.len()).into_bytes();
    commands.extend_from_slice(&value);
    commands.extend_from_slice(b"\r\nGET l\r\nPING\r\nQUIT\r\n");
    stream.write_all(&commands).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let head = format!("+OK\r\n${}\r\n", value.len());
    assert!(said.starts_with(head.as_bytes()), "{}", said[..40.min(said.len())].escape_ascii());
    assert!(said[head.len()..].starts_with(&value) && said.ends_with(b"\r\n+PONG\r\n+OK\r\n"));
}

#[test]
fn whoever_does_not_trust_the_server_or_is_not_trusted_gets_nothing() {
    let (ca, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let server = server(&TlsControl::new(&ca.files(Some(&clients))).unwrap(), AccessControl::default());
    let good = clients.issue("shop", false);
    let config = ca.client(Some(&good), BOTH);
    FRONTS.iter().for_each(|(front, ask, _)| assert!(ask(&server, &config).is_ok(), "{front}"));
    for (what, config) in [
        ("an authority that the client does not know", other.client(Some(&good), BOTH)),
        ("no certificate", ca.client(None, BOTH)),
        ("no certificate, TLS 1.2", ca.client(None, &[&TLS12])),
        ("a certificate of another authority", ca.client(Some(&other.issue("shop", false)), BOTH)),
        ("an expired certificate", ca.client(Some(&clients.issue("shop", true)), BOTH)),
    ] {
        FRONTS.iter().for_each(|(front, ask, _)| assert!(ask(&server, &config).is_err(), "{front}: {what}"));
    }
    FRONTS.iter().for_each(|(front, ask, _)| assert!(ask(&server, &config).is_ok(), "{front} goes on"));
}

#[test]
fn plain_text_and_old_versions_are_refused() {
    let ca = Authority::new();
    let server = server(&TlsControl::new(&ca.files(None)).unwrap(), AccessControl::default());
    /// A hello of TLS 1.1.
    const OLD: &[u8] = &{
        let mut hello = [0; 50];
        // A record of a handshake; a ClientHello; version 3.2.
        hello[0] = 0x16;
        hello[1] = 3;
        hello[2] = 1;
        hello[4] = 45;
        hello[5] = 1;
        hello[8] = 41;
        hello[9] = 3;
        hello[10] = 2;
        // 32 random bytes, no session, one cipher, no compression.
        hello[45] = 2;
        hello[47] = 0x2f;
        hello[48] = 1;
        hello
    };
    for (question, address) in [
        (HTTP, server.address),
        (b"GET k\r\n", server.resp.unwrap()),
        (b"PING\r\n", server.resp.unwrap()),
        (b"GET 1\nk", server.binary.unwrap()),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", server.grpc.unwrap()),
        (OLD, server.address),
        (OLD, server.resp.unwrap()),
        (OLD, server.binary.unwrap()),
        (OLD, server.grpc.unwrap()),
    ] {
        let mut client = Client::connect(address);
        client.send(question);
        let mut said = Vec::new();
        // An alert, or nothing; closed in any case.
        let _reset = client.stream.read_to_end(&mut said).is_err();
        assert!(said.is_empty() || said[0] == 0x15, "{}", said.escape_ascii());
    }
    assert!(http(&server, &ca.client(None, BOTH)).is_ok());
}

#[test]
fn a_name_in_a_certificate_is_a_user() {
    let ca = Authority::new();
    let rules = vec![RuleEntry { prefix: "k".into(), read: true, ..RuleEntry::default() }];
    let file = UsersFile { users: vec![UserEntry { name: "shop".into(), rules, ..UserEntry::default() }] };
    let access = AccessControl::of(Users::new(&file).unwrap()).unwrap();
    let server = server(&TlsControl::new(&ca.files(Some(&ca))).unwrap(), access);
    let shop = ca.client(Some(&ca.issue("shop", false)), BOTH);
    assert!(http(&server, &shop).unwrap().starts_with("HTTP/1.1 200"));
    let mut stream = connect(server.resp.unwrap(), &shop);
    assert!(ask(&mut stream, b"ACL WHOAMI\r\n", b"shop").is_ok());
    assert!(ask(&mut stream, b"SET k v\r\n", b"\r\n").unwrap().starts_with("-NOPERM "));
    let mut stream = connect(server.binary.unwrap(), &shop);
    assert!(ask(&mut stream, b"GET 1\nk", b"value").is_ok());
    assert!(ask(&mut stream, b"PUT 1 1\nkv", b"\n").unwrap().starts_with("ERR FORBIDDEN "));
    assert_eq!(grpc(&server, &shop).unwrap(), "value");
    let put = || framed(&PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() });
    let refused = grpc_call(&server, &shop, "esker.v1.Kv/Put", put()).unwrap();
    assert_eq!(refused.esker_code, "forbidden");
    let stranger = ca.client(Some(&ca.issue("other", false)), BOTH);
    let mut stream = connect(server.binary.unwrap(), &stranger);
    assert!(ask(&mut stream, b"GET 1\nk", b"\n").unwrap().starts_with("ERR UNAUTHORIZED "));
    let refused = grpc_call(&server, &stranger, "esker.v1.Kv/Put", put()).unwrap();
    assert_eq!(refused.esker_code, "unauthorized");
    let mut stream = connect(server.address, &stranger);
    assert!(ask(&mut stream, HTTP, b"\r\n").unwrap().starts_with("HTTP/1.1 401"));
}

#[test]
fn certificates_are_replaced_while_connections_go_on() {
    let (before, after) = (Authority::new(), Authority::new());
    let tls = TlsControl::new(&before.files(None)).unwrap();
    let server = server(&tls, AccessControl::default());
    let (old, new) = (before.client(None, BOTH), after.client(None, BOTH));
    let mut open = connect(server.address, &old);
    assert!(ask(&mut open, HTTP, b"value").is_ok());
    let unusable = TlsFiles { key: b"no key".into(), ..after.files(None) };
    assert!(tls.replace(&unusable).is_err());
    assert!(http(&server, &old).is_ok(), "what cannot be used replaces nothing");
    tls.replace(&after.files(None)).unwrap();
    assert!(http(&server, &new).is_ok() && http(&server, &old).is_err());
    assert!(ask(&mut open, HTTP, b"value").is_ok());
}

/// Whoever connects and says nothing is not waited for longer than for a head.
#[test]
fn a_handshake_has_its_time() {
    let ca = Authority::new();
    let tls = TlsControl::new(&ca.files(None)).unwrap();
    let server = TestServer::with(move |config, _| {
        config.tls = Some(tls);
        config.timeouts.header = std::time::Duration::from_millis(50);
    });
    let mut client = Client::connect(server.address);
    client.expect_close();
}
