//! A server on a free port, and a client that can also be rude.

pub(crate) mod calls;
pub(crate) mod events;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use esker_cluster::{Store, StoreConfig};
use esker_engine::{Db, Environment, Options};
use esker_log::{
    clock::{Clock, ManualClock, SystemClock},
    disk::sim::SimDisk,
};
use esker_server::{DrainReport, Runtime, Server, ServerConfig, ServerError};
use serde_json::Value;
use tokio::sync::oneshot;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) resp: Option<SocketAddr>,
    /// Where the binary protocol is spoken.
    pub(crate) binary: Option<SocketAddr>,
    /// Where clients of gRPC connect.
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) store: Store,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<DrainReport, ServerError>>>,
    pub(crate) dir: tempfile::TempDir,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with(|_, _| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut ServerConfig, &mut StoreConfig)) -> Self {
        Self::over(|dir| Db::open(dir, Options::default()).unwrap(), configure)
    }

    /// A server over a store on a simulated disk.
    pub(crate) fn on_disk(
        disk: &SimDisk,
        options: Options,
        configure: impl FnOnce(&mut ServerConfig, &mut StoreConfig),
    ) -> Self {
        let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
        Self::over(|_| Db::open_in(&environment, "/data", options).unwrap(), configure)
    }

    /// A server whose clock the test moves.
    pub(crate) fn with_clock(clock: &Arc<ManualClock>) -> Self {
        let environment = Environment { clock: Arc::clone(clock) as _, ..Environment::default() };
        let open = |dir: &Path| Db::open_in(&environment, dir, Options::default()).unwrap();
        Self::over_with(open, |_, _| {}, Arc::clone(clock) as _)
    }

    fn over(
        open: impl FnOnce(&Path) -> Db,
        configure: impl FnOnce(&mut ServerConfig, &mut StoreConfig),
    ) -> Self {
        Self::over_with(open, configure, Arc::new(SystemClock::new()))
    }

    fn over_with(
        open: impl FnOnce(&Path) -> Db,
        configure: impl FnOnce(&mut ServerConfig, &mut StoreConfig),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            http_address: "127.0.0.1:0".parse().unwrap(),
            resp_address: None,
            binary_address: Some("127.0.0.1:0".parse().unwrap()),
            grpc_address: Some("127.0.0.1:0".parse().unwrap()),
            runtime: Runtime::Homes(NonZeroUsize::new(2).unwrap()),
            ..ServerConfig::default()
        };
        let mut store_config = StoreConfig::default();
        configure(&mut config, &mut store_config);
        let db = open(dir.path());
        let store = Store::single(db, store_config, clock).unwrap();
        let server = Server::bind(config, store.clone()).unwrap();
        let (address, resp) = (server.http_address(), server.resp_address());
        let (binary, grpc) = (server.binary_address(), server.grpc_address());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || server.run(async { stopped.await.unwrap_or(()) }));
        Self { address, resp, binary, grpc, store, stop: Some(stop), thread: Some(thread), dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn request(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.client().request(method, target, &[], body)
    }

    /// The figure behind the first metric that begins so, labels included.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.request("GET", "/metrics", b"").text();
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
    pub(crate) fn takes_connections(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    pub(crate) fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end, however it ends.
    pub(crate) fn outcome(&mut self) -> Result<DrainReport, ServerError> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn finish(&mut self) -> DrainReport {
        self.outcome().unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.finish();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Asserts that this is an error with its body, and returns its message.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["error"]["code"], code, "{json}");
        assert!(json["error"].as_object().unwrap().contains_key("details"), "{json}");
        if matches!(status, 429 | 503) {
            assert!(
                self.header("retry-after").is_some_and(|after| after.parse::<u64>().unwrap() > 0),
                "{self:?}"
            );
        }
        json["error"]["message"].as_str().filter(|message| !message.is_empty()).unwrap().into()
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send_request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "PUT" || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.send(&[head.as_bytes(), body].concat());
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send_request(method, target, headers, body);
        if method == "HEAD" { self.read_head().unwrap() } else { self.read().unwrap() }
    }

    pub(crate) fn read_head(&mut self) -> Option<Answer> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines[1..].iter().map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        });
        Some(Answer { status, headers: headers.collect(), body: Vec::new(), complete: true })
    }

    /// The next answer; `None` if the connection ended before it.
    pub(crate) fn read(&mut self) -> Option<Answer> {
        let answer = self.read_head()?;
        Some(if answer.status == 304 { answer } else { self.read_body(answer) })
    }

    /// The body that belongs to a head.
    pub(crate) fn read_body(&mut self, mut answer: Answer) -> Answer {
        if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut answer.body).unwrap();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            answer.complete = self.read_chunks(&mut answer.body).is_some();
        }
        answer
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let chunk = self.read_chunk()?;
            if chunk.is_empty() {
                return Some(());
            }
            body.extend(chunk);
        }
    }

    /// The next chunk of a body; empty at its end, `None` if the connection ended before.
    pub(crate) fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim_end(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        Some(chunk)
    }

    /// Waits for the server to close.
    #[track_caller]
    /// Nobody answers yet.
    pub(crate) fn expect_silence(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let kind = self.stream.read(&mut [0]).unwrap_err().kind();
        assert!(matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{kind}");
    }

    pub(crate) fn expect_close(&mut self) {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "{}", rest.escape_ascii()),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
    }

    /// One line of a body that is being streamed, as it comes.
    pub(crate) fn raw_line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }
}

/// Waits until something holds, without guessing how long it takes.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.monotonic() < PATIENCE, "never happened: {what}");
        std::thread::yield_now();
    }
}
