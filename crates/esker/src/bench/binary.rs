//! A connection to Esker over the binary protocol, with one request at a time.

use std::{io, sync::Arc};

use bytes::BytesMut;
use esker_client::{Credentials, Stream};
use esker_engine::SyncPolicy;
use esker_wire::binary::{Answer, AnswerParser, Header, Options, SyncWish, Verb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BenchArgs, http::in_time, servers::Servers};

/// Where a running Esker is.
#[derive(Debug)]
pub(super) struct BinaryTarget {
    pub(super) servers: Servers,
    write: Options,
    read: Options,
}

impl BinaryTarget {
    pub(super) fn new(servers: Servers, args: &BenchArgs) -> Self {
        let sync = args.sync.map(|policy| match policy {
            SyncPolicy::Always => SyncWish::Always,
            SyncPolicy::Every(period) => {
                SyncWish::Every(u64::try_from(period.as_millis()).unwrap_or(u64::MAX))
            }
            SyncPolicy::Never => SyncWish::Never,
        });
        let write = Options { sync, ack: args.ack, ..Options::default() };
        let read = Options { stale: args.stale, ..Options::default() };
        Self { servers, write, read }
    }
}

/// One connection.
pub(super) struct Binary {
    stream: Stream,
    target: Arc<BinaryTarget>,
    request: Vec<u8>,
    input: BytesMut,
    parser: AnswerParser,
}

impl Binary {
    /// Connects to the node whose turn it is, or to the first after it that is there, and says who we are.
    pub(super) async fn connect(target: &Arc<BinaryTarget>, turn: usize) -> Result<Self, String> {
        let stream = target.servers.connect(turn).await?;
        let (request, input, parser) = Default::default();
        let mut binary = Self { stream, target: Arc::clone(target), request, input, parser };
        if let Some(credentials) = target.servers.credentials() {
            binary.introduce(credentials).await?;
        }
        Ok(binary)
    }

    async fn introduce(&mut self, credentials: &Credentials) -> Result<(), String> {
        self.request = credentials.auth().map_err(|e| e.to_string())?;
        self.done().await
    }

    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        self.begin(Header::new(Verb::Get, key.len(), 0, self.target.read), &[key]);
        match self.exchange().await? {
            Answer::Value { .. } => Ok(true),
            Answer::NotFound { .. } => Ok(false),
            other => Err(refused(&other)),
        }
    }

    pub(super) async fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.begin(Header::new(Verb::Put, key.len(), value.len(), self.target.write), &[key, value]);
        self.done().await
    }

    pub(super) async fn write_batch(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        self.begin(Header::new(Verb::Bput, pairs.len(), 0, self.target.write), &[]);
        for (key, value) in pairs {
            self.request.extend_from_slice(format!("{} {}\n", key.len(), value.len()).as_bytes());
            self.request.extend_from_slice(key);
            self.request.extend_from_slice(value);
        }
        self.done().await
    }

    pub(super) async fn scan(&mut self, start: &[u8], limit: u64) -> Result<(), String> {
        let header = Header::new(Verb::Range, start.len(), 0, self.target.read).limited(Some(limit));
        self.begin(header, &[start]);
        let mut answer = self.exchange().await?;
        loop {
            match answer {
                Answer::End { .. } => return Ok(()),
                Answer::Pairs { .. } | Answer::Pair { .. } => {}
                other => return Err(refused(&other)),
            }
            answer = in_time(
                self.target.servers.timeout,
                next(&mut self.stream, &mut self.parser, &mut self.input),
            )
            .await?;
        }
    }

    fn begin(&mut self, header: Header, parts: &[&[u8]]) {
        self.request.clear();
        header.write(&mut self.request);
        parts.iter().for_each(|part| self.request.extend_from_slice(part));
    }

    async fn done(&mut self) -> Result<(), String> {
        match self.exchange().await? {
            Answer::Ok { .. } => Ok(()),
            other => Err(refused(&other)),
        }
    }

    async fn exchange(&mut self) -> Result<Answer, String> {
        let Self { stream, target, request, input, parser } = self;
        let exchange = async {
            stream.write_all(request).await?;
            stream.flush().await?;
            next(stream, parser, input).await
        };
        in_time(target.servers.timeout, exchange).await
    }
}

async fn next(stream: &mut Stream, parser: &mut AnswerParser, input: &mut BytesMut) -> io::Result<Answer> {
    loop {
        if let Some(answer) = parser.next(input).map_err(io::Error::other)? {
            return Ok(answer);
        }
        if stream.read_buf(input).await? == 0 {
            return Err(io::Error::other("the server hung up"));
        }
    }
}

fn refused(answer: &Answer) -> String {
    match answer {
        Answer::Error { code, message, .. } => format!("{code}: {}", String::from_utf8_lossy(message)),
        Answer::TryLater { .. } => "the server says TRY_LATER".into(),
        other => format!("an unexpected answer: {other:?}"),
    }
}
