//! A range as it comes.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use esker_wire::binary::{Answer, AnswerParser};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    Call, Shared,
    failure::{refusal, unexpected},
};
use crate::{Error, Item, Result, endpoints::Endpoint, stream::Stream};

/// So much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// The pairs of a range, on a connection of their own, which goes back to the pool when all came.
#[derive(Debug)]
pub(crate) struct Pairs {
    wire: Option<Wire>,
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// What was read and not handed out.
    ahead: Option<Answer>,
    applied: Option<u64>,
    /// Whether values were asked for.
    has_values: bool,
    idle: Duration,
    has_next: bool,
}

#[derive(Debug)]
struct Wire {
    stream: Stream,
    parser: AnswerParser,
    input: BytesMut,
}

impl Pairs {
    /// Asks for a range and waits for the first of its answer. Errors: it is refused, or the connection fails.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        call: &Call,
        idle: Duration,
    ) -> Result<Self> {
        let stream = shared.pool.take(endpoint).await?;
        let mut wire = Wire { stream, parser: AnswerParser::default(), input: BytesMut::new() };
        wire.write(&call.head()).await.map_err(broken)?;
        let first = refusal(wire.next().await?)?;
        let applied = match &first {
            Answer::Pairs { extras, .. } => extras.applied,
            _ => None,
        };
        Ok(Self {
            wire: Some(wire),
            shared: Arc::clone(shared),
            endpoint: endpoint.clone(),
            ahead: Some(first),
            applied,
            has_values: !call.header.options.keys,
            idle,
            has_next: false,
        })
    }

    /// What the answering node had applied, where the scan was to be content with that.
    pub(crate) fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// Whether there is more behind the end that was come to.
    pub(super) fn has_next(&self) -> bool {
        self.has_next
    }

    /// The next pair, behind so many; `None` at the end.
    pub(crate) async fn next(&mut self, items: u64) -> Result<Option<Item>> {
        loop {
            let Some(wire) = &mut self.wire else { return Ok(None) };
            let truncated = |why: String| Error::Truncated { items, why };
            let answer = match self.ahead.take() {
                Some(answer) => answer,
                None => match timeout(self.idle, wire.next()).await {
                    Err(_) => return Err(truncated("no more came in time".into())),
                    Ok(Err(e @ Error::Protocol(_))) => return Err(e),
                    Ok(Err(e)) => return Err(truncated(e.to_string())),
                    Ok(Ok(answer)) => answer,
                },
            };
            match answer {
                Answer::Pairs { .. } => {}
                Answer::Pair { key, value, meta: Some((version, expires)) } => {
                    let value = self.has_values.then(|| value.into());
                    let expires_at = (expires > 0).then_some(expires);
                    return Ok(Some(Item { key: key.into(), value, version, expires_at }));
                }
                Answer::End { next } => {
                    self.has_next = next;
                    if let Some(wire) = self.wire.take().filter(|wire| wire.input.is_empty()) {
                        self.shared.pool.keep(&self.endpoint, wire.stream);
                    }
                    return Ok(None);
                }
                other => return Err(broken_off(other, items)),
            }
        }
    }
}

/// Why there are no more, in place of a pair.
fn broken_off(answer: Answer, items: u64) -> Error {
    match refusal(answer) {
        Ok(answer) => unexpected(&answer),
        Err(Error::RetryLater { message, .. }) => Error::Truncated { items, why: message },
        Err(Error::Server { code, message, .. }) => {
            let message = format!("{message}; the stream broke after {items} items");
            Error::Server { status: 200, code, message }
        }
        Err(e) => e,
    }
}

impl Wire {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn next(&mut self) -> Result<Answer> {
        loop {
            let next = self.parser.next(&mut self.input);
            if let Some(answer) = next.map_err(|e| Error::Protocol(e.to_string()))? {
                return Ok(answer);
            }
            self.input.reserve(self.parser.missing().min(self.input.len()).max(READ_BYTES));
            if self.stream.read_buf(&mut self.input).await.map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn broken(e: io::Error) -> Error {
    Error::Interrupted { source: Arc::new(e) }
}
