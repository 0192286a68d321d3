//! A scan: items as they come, one line each, and the certainty that all of them came.
//!
//! The server ends the body properly only when the range is through; a body that just stops is an error of the
//! HTTP layer and becomes [`Error::Truncated`]. So does a body whose end nothing marks.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use esker_wire::{ErrorAnswer, kv};
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming, header};
use tokio::time::timeout;

use crate::{Error, Item, Result, client::applied_of};

/// The longest line taken: a value of 1 GiB in base64, its key, and the names around them.
const LINE_LEN_MAX: usize = (1 << 30) / 3 * 4 + (1 << 20);

/// The items of a scan.
#[derive(Debug)]
pub struct ScanStream {
    body: Incoming,
    buffer: BytesMut,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
    items: u64,
    applied: Option<u64>,
    idle: Duration,
    ended: bool,
}

impl ScanStream {
    pub(crate) fn new(response: Response<Incoming>, idle: Duration) -> Result<Self> {
        let headers = response.headers();
        if !headers.contains_key(header::TRANSFER_ENCODING) && !headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Error::Protocol("a stream whose end nothing marks".into()));
        }
        let applied = applied_of(headers);
        let body = response.into_body();
        Ok(Self { body, buffer: BytesMut::new(), searched: 0, items: 0, applied, idle, ended: false })
    }

    /// What the answering node had applied, where the scan was to be content with that.
    pub fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// The next item; `None` when every item came. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Item>> {
        if self.ended {
            return None;
        }
        let next = self.advance().await.transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    async fn advance(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(line) = self.take_line() {
                self.items += 1;
                return parse(&line).map(Some);
            }
            if !self.read_more().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(self.truncated("it ends within a line")),
                };
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + at;
        self.searched = 0;
        Some(self.buffer.split_to(end + 1).freeze().slice(..end))
    }

    /// Whether there was more.
    async fn read_more(&mut self) -> Result<bool> {
        let frame = timeout(self.idle, self.body.frame())
            .await
            .map_err(|_| self.truncated("no more came in time"))?;
        match frame {
            None => Ok(false),
            Some(Err(e)) => Err(self.truncated(&crate::error::root(&e).to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                match self.buffer.len() > LINE_LEN_MAX {
                    true => Err(Error::Protocol("a line without end".into())),
                    false => Ok(true),
                }
            }
        }
    }

    fn truncated(&self, why: &str) -> Error {
        Error::Truncated { items: self.items, why: why.to_owned() }
    }
}

fn parse(line: &[u8]) -> Result<Item> {
    let wrong = |why: String| match serde_json::from_slice::<ErrorAnswer>(line) {
        Ok(said) => Error::Server { status: 200, code: said.error.code, message: said.error.message },
        Err(_) => Error::Protocol(why),
    };
    serde_json::from_slice::<kv::Item<'_>>(line).map_err(|e| wrong(e.to_string())).and_then(item)
}

/// An item's bytes.
pub(crate) fn item(item: kv::Item<'_>) -> Result<Item> {
    let (version, expires_at) = (item.version, item.expires_at);
    let (key, value) = item.into_bytes().map_err(|e| Error::Protocol(e.to_string()))?;
    Ok(Item { key, value, version, expires_at })
}
