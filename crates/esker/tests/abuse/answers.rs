//! What somebody is told for whom there is no room, on every front: that nothing was done, and when to come back
//! (docs/limits.md has the table).

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use esker_proto::v1::{GetRequest, PutRequest, kv_client::KvClient};
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    fronts::{MIB, PATIENCE},
    honest::start_with,
    support::{Server, pause},
};

/// A server with budgets of a MiB. Whoever holds them is cut off by nothing but the time-out for when memory is short, and comes again.
fn narrow() -> (Server, TempDir) {
    start_with(MIB, &[])
}

/// Sends `request`, and gives what is answered up to the end of `until`.
fn tell(address: &str, request: &[u8], until: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let (mut said, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while !said.windows(until.len()).any(|bytes| bytes == until.as_bytes()) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(len) => said.extend_from_slice(&piece[..len]),
        }
    }
    said.truncate(4096);
    String::from_utf8_lossy(&said).into_owned()
}

fn http(server: &Server, request: &[u8]) -> String {
    tell(server.endpoint.trim_start_matches("http://"), request, "\r\n\r\n")
}

/// A metric without labels.
fn metric(server: &Server, name: &str) -> f64 {
    let mut stream = TcpStream::connect(server.endpoint.trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}: {said}")).trim().parse().unwrap()
}

/// One call over gRPC.
fn grpc<T>(server: &Server, call: impl AsyncFnOnce(Channel) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = format!("http://{}", server.grpc);
    runtime.block_on(async {
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        tokio::time::timeout(PATIENCE, call(channel)).await.unwrap()
    })
}

/// What a call that was refused is told.
fn refused<T>(told: Result<T, Status>) -> Option<(Code, String, bool)> {
    let status = told.err()?;
    let code = status.metadata().get("esker-code").map(|code| code.to_str().unwrap().to_owned());
    Some((status.code(), code.unwrap_or_default(), status.metadata().get("retry-after-ms").is_some()))
}

/// Asks until somebody is told this: whoever holds the room is cut off and comes again meanwhile.
fn until<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, mut ask: impl FnMut() -> Option<T>) {
    let start = Instant::now();
    loop {
        let told = ask();
        if told.as_ref() == Some(expected) {
            return;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "{what}: nobody was told {expected:?}, but {told:?}");
        pause(Duration::from_millis(20));
    }
}

/// One that announces a body of a MiB, sends nearly all of it, and stands still.
struct Holder<'a>(&'a Server, TcpStream);

impl<'a> Holder<'a> {
    const SENT: usize = MIB - 64 * 1024;

    fn new(server: &'a Server) -> Self {
        let mut stream = TcpStream::connect(server.endpoint.trim_start_matches("http://")).unwrap();
        let head = format!("PUT /api/v1/kv/abuse HTTP/1.1\r\nhost: t\r\ncontent-length: {MIB}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'a'; Self::SENT]).unwrap();
        until("it is being received", &true, || {
            Some(metric(server, "esker_http_body_bytes") >= Self::SENT as f64)
        });
        stream.set_nonblocking(true).unwrap();
        Self(server, stream)
    }

    /// It is cut off by the time-out for bodies that stand still: then it comes again, and what was written meanwhile goes.
    fn hold(&mut self) {
        let is_waiting = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        if !self.1.peek(&mut [0]).is_err_and(|e| is_waiting(&e)) {
            *self = Self::new(self.0);
            http(self.0, b"DELETE /api/v1/kv/k HTTP/1.1\r\nhost: t\r\n\r\n");
        }
    }
}

/// The first word of an answer, up to where it begins to be about something.
fn begins(said: &str, expected: &'static str) -> Option<&'static str> {
    said.starts_with(expected).then_some(expected)
}

#[test]
fn whose_answer_has_no_room_is_told_when_to_come_back() {
    let (server, _dir) = narrow();
    let over = std::sync::atomic::AtomicBool::new(false);
    let fronts = super::fronts::fronts(&server);
    thread::scope(|scope| {
        let _ends = super::crowd::Ends(&over);
        (0..4).for_each(|_| drop(scope.spawn(|| super::crowd::Abuse::NeverReads.go_on(&fronts[1], &over))));
        let get = b"GET /api/v1/kv/big/00 HTTP/1.1\r\nhost: t\r\n\r\n";
        let is_busy = |said: &str| {
            let said = said.to_ascii_lowercase();
            (said.starts_with("http/1.1 503") && said.contains("\r\nretry-after: 1\r\n")).then_some(())
        };
        until("http", &(), || is_busy(&http(&server, get)));
        until("http, a stream", &(), || {
            let list =
                b"GET /api/v1/kv?prefix=big/ HTTP/1.1\r\nhost: t\r\naccept: application/x-ndjson\r\n\r\n";
            is_busy(&http(&server, list))
        });
        until("resp", &"-TRYAGAIN", || {
            begins(&tell(&server.resp, b"*2\r\n$3\r\nGET\r\n$6\r\nbig/00\r\n", "\r\n"), "-TRYAGAIN")
        });
        let address = server.binary.trim_start_matches("esker://");
        for request in [&b"GET 6\nbig/00"[..], b"RANGE 4 4\nbig/big0"] {
            until("binary", &"TRY_LATER 1000\n", || {
                begins(&tell(address, request, "\n"), "TRY_LATER 1000\n")
            });
        }
        until("grpc", &(Code::Unavailable, "busy".to_owned(), true), || {
            let asked = GetRequest { key: "big/00".into(), ..GetRequest::default() };
            refused(grpc(&server, async |channel| KvClient::new(channel).get(asked).await))
        });
    });
}

#[test]
fn whose_request_has_no_room_is_told_when_to_come_back() {
    let (server, _dir) = narrow();
    let mut holder = Holder::new(&server);
    let value = "v".repeat(MIB / 2);
    let length = value.len();
    let put = format!("PUT /api/v1/kv/k HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n{value}");
    until("http", &(), || {
        holder.hold();
        let said = http(&server, put.as_bytes()).to_ascii_lowercase();
        (said.starts_with("http/1.1 429") && said.contains("\r\nretry-after: 1\r\n")).then_some(())
    });
    until("resp", &"-OOM ", || {
        holder.hold();
        let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${length}\r\n{value}\r\n");
        begins(&tell(&server.resp, set.as_bytes(), "\r\n"), "-OOM ")
    });
    until("binary", &"TRY_LATER 1000\n", || {
        holder.hold();
        let put = format!("PUT 1 {length}\nk{value}");
        begins(&tell(server.binary.trim_start_matches("esker://"), put.as_bytes(), "\n"), "TRY_LATER 1000\n")
    });
    until("grpc", &(Code::Unavailable, "too_many_requests".to_owned(), true), || {
        holder.hold();
        let asked = PutRequest { key: "k".into(), value: value.clone().into(), ..PutRequest::default() };
        refused(grpc(&server, async |channel| KvClient::new(channel).put(asked).await))
    });
    drop(holder);
    assert_eq!(server.run(&["get", "k"]).status.code(), Some(3), "nothing of it was written");
}

/// Streams that need no right: a connection has few at a time, and one that ends makes room.
#[test]
fn a_connection_has_few_watches_of_health() {
    const MOST: usize = 16;
    let (server, _dir) = narrow();
    grpc(&server, async |channel| {
        let mut health = HealthClient::new(channel.clone());
        let mut watching = Vec::new();
        for _ in 0..MOST {
            let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
            assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
            watching.push(watched);
        }
        let refused = health.watch(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        // Other calls are not concerned.
        let asked = GetRequest { key: "small".into(), ..GetRequest::default() };
        KvClient::new(channel).get(asked).await.unwrap();
        drop(watching.pop());
        let mut again = health.watch(HealthCheckRequest::default()).await;
        while again.as_ref().is_err_and(|e| e.code() == Code::ResourceExhausted) {
            // That it was given up is on its way.
            again = health.watch(HealthCheckRequest::default()).await;
        }
        assert_eq!(again.unwrap().into_inner().message().await.unwrap().unwrap().status, 1);
    });
}

/// A connection of gRPC is told so by the first frame. Those with pipelines are not read from beyond what they may have.
#[test]
fn a_connection_is_told_how_many_calls_it_may_have() {
    let (server, _dir) = narrow();
    let mut stream = TcpStream::connect(&server.grpc).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(super::http2::PREFACE).unwrap();
    let mut said = [0; 256];
    let mut len = 0;
    // SETTINGS_MAX_CONCURRENT_STREAMS: 256.
    let told = [0, 3, 0, 0, 1, 0];
    while !said[..len].windows(told.len()).any(|part| part == told) {
        let read = stream.read(&mut said[len..]).unwrap();
        assert!(read > 0, "{:?}", &said[..len]);
        len += read;
    }
}
