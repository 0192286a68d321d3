//! Spans of requests: a collector gets them, a dead one does no harm.

use std::{
    io::{Read, Write},
    net::{TcpListener as StdListener, TcpStream as StdStream},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::spawn,
    time::{Duration, Instant},
};

use bytes::Bytes;
use esker_proto::v1::{PutRequest, kv_client::KvClient};
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tonic::transport::Endpoint;

use super::{
    request, server,
    support::{Server, run},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of OTLP's `trace_service.proto`, what is looked at.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start_ns: u64,
    #[prost(fixed64, tag = "8")]
    end_ns: u64,
}

/// A collector on a port of its own: its address, without a scheme, and the spans that come. With TLS, if it has a certificate.
fn collector(tls: Option<TlsAcceptor>) -> (String, Receiver<Span>) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    let (sender, spans) = channel();
    spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            // One connection: when it has ended, nothing more comes.
            let (stream, _) = listener.accept().await.unwrap();
            match tls {
                None => collect(stream, &sender).await,
                Some(tls) => collect(tls.accept(stream).await.unwrap(), &sender).await,
            }
        });
    });
    (address, spans)
}

/// What `esker cert` made is what the collector shows.
fn tls(certificates: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::pem_file_iter(certificates.join("server.crt")).unwrap();
    let certificate = certificate.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(certificate, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Takes the calls of one connection until it ends.
async fn collect(stream: impl AsyncRead + AsyncWrite + Unpin, sender: &Sender<Span>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    while let Some(Ok((call, mut respond))) = connection.accept().await {
        assert_eq!(call.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        let sender = sender.clone();
        // Beside the connection, which has to go on being driven.
        calls.spawn(async move {
            let (mut body, mut message) = (call.into_body(), Vec::new());
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                body.flow_control().release_capacity(piece.len()).unwrap();
                message.extend_from_slice(&piece);
            }
            let mut answer = Response::new(());
            answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            let mut stream = respond.send_response(answer, false).unwrap();
            stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers).unwrap();
            // Behind the byte for compression and the length.
            let export = Export::decode(&message[5..]).unwrap();
            let scopes = export.resources.into_iter().flat_map(|resource| resource.scopes);
            scopes.flat_map(|scope| scope.spans).for_each(|span| sender.send(span).unwrap_or_default());
        });
    }
    // Each has been told of in full before the channel closes.
    calls.join_all().await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put_over_grpc(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
        let mut client = KvClient::new(channel.unwrap());
        let put = PutRequest { key: "grpc".into(), value: "v".into(), ..Default::default() };
        let mut put = tonic::Request::new(put);
        put.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
        client.put(put).await.unwrap();
    });
}

#[test]
fn a_collector_gets_the_span_of_a_put_with_the_callers_trace() {
    let (address, spans) = collector(None);
    let endpoint = format!("http://{address}");
    // Of requests without a trace nothing is sent.
    let (mut server, _dir) = server(&["--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "0"]);
    let put = |key: &str, headers: &str| {
        let answered = request(&server.endpoint, &format!("PUT /api/v1/kv/{key}"), headers, b"v");
        assert_eq!(answered.0, 200);
    };
    put("none", "");
    put("unsampled", &format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n"));
    put("malformed", &format!("traceparent: 00-{TRACE}-{PARENT}\r\n"));
    put("sampled", &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));
    put_over_grpc(&server.grpc);
    for _ in ["http", "grpc"] {
        let span = spans.recv_timeout(PATIENCE).unwrap();
        assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), (TRACE, PARENT));
        assert_eq!(span.name, "put");
        assert!(span.start_ns > 1_700_000_000_000_000_000 && span.end_ns > span.start_ns, "{span:?}");
    }
    assert_eq!(server.finish().0, Some(0));
    // The collector ends with its connection; what it got is here by then.
    assert_eq!(spans.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected), "two were wanted");
}

/// The system's authorities are trusted, which `SSL_CERT_FILE` names here.
#[test]
fn a_collector_with_tls_gets_spans() {
    let dir = TempDir::new().unwrap();
    let certificates = dir.path().join("certs");
    let made = run(&["cert", "--dir", certificates.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let (address, spans) = collector(Some(tls(&certificates)));
    let authority = certificates.join("ca.crt");
    let endpoint = format!("https://{address}");
    let mut server = Server::try_start_with(
        &dir.path().join("data"),
        &["--wal-sync-policy", "never", "--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "1"],
        &[("SSL_CERT_FILE", authority.to_str().unwrap())],
    )
    .unwrap();
    assert_eq!(request(&server.endpoint, "PUT /api/v1/kv/k", "", b"v").0, 200);
    let span = spans.recv_timeout(PATIENCE).expect("a span comes");
    assert_eq!(span.name, "put");
    let (code, log) = server.finish();
    assert_eq!(code, Some(0), "{log}");
}

/// Puts so many values one behind the other on a connection of its own, and reads that each was put; how long that took.
fn put_many(endpoint: &str, count: usize) -> Duration {
    let began = Instant::now();
    let mut stream = StdStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let put = |connection: &str| {
        format!("PUT /api/v1/kv/k HTTP/1.1\r\nHost: esker\r\n{connection}Content-Length: 1\r\n\r\nv")
    };
    let puts = put("").repeat(count - 1) + &put("Connection: close\r\n");
    stream.write_all(puts.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), count, "{answers}");
    began.elapsed()
}

/// Nobody listens any more where the spans are to go: the log says so, and all is answered.
#[test]
fn a_dead_collector_does_no_harm() {
    let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let (mut server, _dir) = server(&["--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "1"]);
    put_many(&server.endpoint, 50);
    let (code, log) = server.finish();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("BatchSpanProcessor.ExportError"), "{log}");
}

/// A collector that takes connections and says nothing: more spans come than may wait. They are dropped, which the log says, and
/// no request waits for it.
#[test]
fn a_collector_that_stands_still_does_no_harm() {
    /// How long the server waits for an answer of the collector.
    const ANSWER_WITHIN: Duration = Duration::from_secs(5);
    // The system takes connections in its stead.
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = ["--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "1", "--log-level", "warn"];
    let (mut server, _dir) = server(&settings);
    // Each 100 are answered in less time than it would take to make room for their spans.
    let longest = (0..60).map(|_| put_many(&server.endpoint, 100)).max().unwrap();
    let (code, log) = server.finish();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("BatchSpanProcessor.SpanDroppingStarted"), "{log}");
    assert!(longest < ANSWER_WITHIN, "puts waited {longest:?}");
}

#[test]
fn what_is_no_address_of_a_collector_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        crate::support::Server::try_start(dir.path(), &["--otlp-endpoint", "collector"]).err().unwrap();
    assert_eq!(refused.0, Some(2), "{}", refused.1);
    assert!(refused.1.contains("`otlp_endpoint`: `collector` is no address"), "{}", refused.1);
}
