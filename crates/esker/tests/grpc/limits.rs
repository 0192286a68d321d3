//! CHECKS 32 and 33: rude clients, slow ones, many of them; and the end.

use std::time::Duration;

use bytes::{Buf, Bytes};
use esker_proto::v1::{PutRequest, ScanRequest, WatchRequest};
use http::Request;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use super::{Server, channel, get, kv, metric, put, run, server, value};

/// The preface of HTTP/2 and SETTINGS without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What the process has in memory now.
async fn resident(server: &Server) -> f64 {
    metric(server, "process_resident_memory_bytes").await
}

/// Waits for what will be, some time.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn call(server: &Server, path: &str) -> Request<()> {
    let uri = format!("http://{}/{path}", server.grpc);
    let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    request.body(()).unwrap()
}

/// A message as it goes over the wire.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat().into()
}

async fn fill(server: &Server, values: usize, bytes: usize) {
    let mut kv = kv(server).await;
    for n in 0..values {
        kv.put(put(format!("k{n:05}"), vec![b'v'; bytes])).await.unwrap();
    }
}

/// CHECKS 33, 35: its length is checked before it is received.
#[test]
fn a_message_over_the_limit_is_refused_before_it_is_there() {
    run(async {
        let (server, _dir) = server(&["--max-value-bytes", "1MiB", "--max-batch-bytes", "1MiB"]);
        let mut kv = kv(&server).await;
        let refused = kv.put(put("k", vec![0; 20 << 20])).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        kv.put(put("k", vec![0; 1 << 20])).await.unwrap();
        let got = kv.get(get("k")).await.unwrap().into_inner();
        assert_eq!(value(got).unwrap().len(), 1 << 20);
    });
}

/// CHECKS 33, 35: elements of two bytes that would each take a hundred.
#[test]
fn a_message_that_would_decode_to_far_more_is_refused() {
    run(async {
        let (server, _dir) = server(&[]);
        let before = resident(&server).await;
        let operations = vec![esker_proto::v1::Operation { operation: None }; 2_000_000];
        let batch = esker_proto::v1::BatchRequest { operations, ..Default::default() };
        let refused = kv(&server).await.batch(batch).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let grown = resident(&server).await - before;
        assert!(grown < 100e6, "{grown} bytes more");
    });
}

/// CHECKS 33: a client that takes what it wants of a large scan, and slowly: the server keeps no more of it than a little.
#[test]
fn a_slow_reader_of_a_large_scan_costs_little() {
    run(async {
        let (server, _dir) = server(&["--cache-max-size", "0B"]);
        fill(&server, 1600, 64 << 10).await;
        let before = resident(&server).await;
        let tcp = TcpStream::connect(&server.grpc).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let mut bodies = Vec::new();
        for _ in 0..20 {
            client = client.ready().await.unwrap();
            let (answer, mut request) =
                client.send_request(call(&server, "esker.v1.Kv/Scan"), false).unwrap();
            request.send_data(framed(&ScanRequest::default()), true).unwrap();
            // Nothing of the body is asked for.
            bodies.push(answer.await.unwrap().into_body());
        }
        let open = eventually("all scans wait", async || {
            let sending = metric(&server, "esker_http_answer_bytes").await;
            (sending > 0.0).then_some(sending)
        })
        .await;
        assert!(open < 64e6, "{open}");
        let grown = resident(&server).await - before;
        assert!(grown < 60e6, "{grown} bytes more for 20 scans of 100 MB");
        // One is read to its end after all.
        let mut body = bodies.swap_remove(0);
        let mut received = 0;
        // The window of the connection is shared: the others are given up.
        bodies.clear();
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            received += piece.remaining();
            body.flow_control().release_capacity(piece.remaining()).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(received > 1600 * (64 << 10), "{received}");
        eventually("what was given up holds nothing", async || {
            (metric(&server, "esker_http_answer_bytes").await == 0.0).then_some(())
        })
        .await;
    });
}

/// CHECKS 33: nobody holds an answer for ever.
#[test]
fn who_takes_nothing_of_an_answer_loses_the_connection() {
    run(async {
        let pace = ["--write-stall-timeout-ms", "100ms"];
        let (server, _dir) = server(&pace);
        fill(&server, 64, 64 << 10).await;
        let tcp = TcpStream::connect(&server.grpc).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        let ended = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (answer, mut request) = client.send_request(call(&server, "esker.v1.Kv/Scan"), false).unwrap();
        request.send_data(framed(&ScanRequest::default()), true).unwrap();
        let body = answer.await.unwrap().into_body();
        // At the slowest pace a piece takes 8 s.
        let _either_way = ended.await.unwrap();
        drop(body);
        assert_eq!(metric(&server, "esker_grpc_connections_stalled_total").await, 1.0);
    });
}

#[test]
fn a_thousand_idle_connections_cost_little() {
    run(async {
        let (server, _dir) = server(&[]);
        let before = resident(&server).await;
        let mut idle = Vec::new();
        for _ in 0..1000 {
            let mut stream = TcpStream::connect(&server.grpc).await.unwrap();
            stream.write_all(PREFACE).await.unwrap();
            idle.push(stream);
        }
        eventually("all are there", async || {
            (metric(&server, "esker_grpc_connections").await == 1000.0).then_some(())
        })
        .await;
        let each = (resident(&server).await - before) / 1000.0;
        assert!(each < 64e3, "{each} bytes each");
        let mut kv = kv(&server).await;
        kv.put(put("k", "v")).await.unwrap();
    });
}

/// CHECKS 32: silence before the first byte, and after some, is bounded.
#[test]
fn silence_and_other_protocols_are_closed() {
    run(async {
        let (server, _dir) = server(&["--header-timeout-ms", "200"]);
        for first in [&b""[..], PREFACE, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(&server.grpc).await.unwrap();
            stream.write_all(first).await.unwrap();
            let mut rest = Vec::new();
            // It ends, or breaks: either is the end.
            let _closed = stream.read_to_end(&mut rest).await;
        }
    });
}

#[test]
fn connections_over_the_cap_are_told_to_come_back() {
    run(async {
        let (server, _dir) = server(&["--max-connections", "2"]);
        let mut first = kv(&server).await;
        first.put(put("k", "v")).await.unwrap();
        let second = TcpStream::connect(&server.grpc).await.unwrap();
        let refused = kv(&server).await.get(get("k")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert_eq!(refused.metadata().get("esker-code").unwrap(), "too_many_connections");
        assert!(refused.metadata().get("retry-after-ms").is_some());
        drop(second);
        first.get(get("k")).await.unwrap();
    });
}

/// By hand: a client of tonic's would not wait for the answer.
#[test]
fn a_deadline_that_has_passed_is_told() {
    run(async {
        let (server, _dir) = server(&[]);
        let tcp = TcpStream::connect(&server.grpc).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut asked = call(&server, "esker.v1.Kv/Get");
        asked.headers_mut().insert("grpc-timeout", "0n".parse().unwrap());
        let (answer, mut request) = client.send_request(asked, false).unwrap();
        request.send_data(framed(&get("k")), true).unwrap();
        assert_eq!(answer.await.unwrap().headers()["grpc-status"], "4");
    });
}

/// CVE-2023-44487.
#[test]
fn who_gives_up_calls_by_the_thousand_is_cut_off() {
    run(async {
        let (server, _dir) = server(&[]);
        let tcp = TcpStream::connect(&server.grpc).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        let ended = tokio::spawn(connection);
        let mut given_up = 0;
        while given_up < 100_000 {
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            // The request never ends, so that it cannot be answered.
            let Ok((_, mut stream)) = client.send_request(call(&server, "esker.v1.Kv/Put"), false) else {
                break;
            };
            stream.send_reset(h2::Reason::CANCEL);
            given_up += 1;
            if given_up % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(given_up < 100_000, "nobody minded");
        let _either_way = ended.await.unwrap();
        // Others are served all the while.
        let mut kv = kv(&server).await;
        kv.put(put("k", "v")).await.unwrap();
    });
}

/// A write that is under way is finished, a watch ends with a word, and the process ends well.
#[test]
fn a_drain_finishes_calls_and_ends_watches() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        let mut watch = kv.watch(WatchRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        // A put of which a part is there.
        let tcp = TcpStream::connect(&server.grpc).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let (answer, mut request) = client.send_request(call(&server, "esker.v1.Kv/Put"), false).unwrap();
        let mut message = framed(&PutRequest { key: "late".into(), value: "v".into(), ..Default::default() });
        let rest = message.split_off(6);
        request.send_data(message, false).unwrap();
        eventually("the put is on its way", async || {
            (metric(&server, "esker_http_body_bytes").await > 0.0).then_some(())
        })
        .await;
        server.signal("TERM");
        let ended = loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::Unavailable, "{ended}");
        request.send_data(rest, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        while let Some(piece) = body.data().await {
            piece.unwrap();
        }
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        drop(client);
        assert_eq!(server.wait(), Some(0));
    });
}

/// Until the data is open, whoever connects is told so at once.
#[test]
fn while_a_node_waits_for_its_cluster_clients_are_told_to_come_back() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (port, path) = (free.port().to_string(), dir.path().to_str().unwrap().to_owned());
        let arguments =
            ["serve", "--port", "0", "--resp-port", "0", "--peer-port", "0", "--grpc-port", &port];
        let waits = ["--join", "127.0.0.1:1", "--data-dir", &path];
        let all: Vec<&str> = arguments.into_iter().chain(waits).collect();
        let mut child = super::support::esker(&all).stdout(std::process::Stdio::null()).spawn().unwrap();
        let refused = eventually("it answers", async || {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{free}")).unwrap();
            let mut kv = super::KvClient::new(endpoint.connect_lazy());
            // Where nobody listens yet, there is no such metadata.
            let status = kv.get(get("k")).await.err()?;
            status.metadata().contains_key("esker-code").then_some(status)
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    });
}

#[test]
fn there_is_no_front_where_it_is_turned_off() {
    run(async {
        let (server, _dir) = server(&["--grpc-port", "off"]);
        assert!(server.grpc.is_empty());
        let (other, _other_dir) = super::server(&[]);
        let _reached = channel(&other.grpc).await;
    });
}
