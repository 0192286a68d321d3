//! Bodies of answers as they come: in pieces, or line by line.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{HeaderMap, Response, body::Incoming, header};
use tokio::time::timeout;

use crate::{Error, Result};

/// The longest line taken: a value of 1 GiB in base64, its key, and the names around them.
const LINE_LEN_MAX: usize = (1 << 30) / 3 * 4 + (1 << 20);

/// Why a body broke off, in words.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

/// A body whose end is marked: one that just stops is told from one that ends.
#[derive(Debug)]
pub(crate) struct Pieces {
    body: Incoming,
    idle: Duration,
}

impl Pieces {
    /// The answer's headers, and its body, of which the next piece is awaited for no longer than `idle`.
    pub(crate) fn of(response: Response<Incoming>, idle: Duration) -> Result<(HeaderMap, Self)> {
        let (head, body) = response.into_parts();
        let headers = head.headers;
        if !headers.contains_key(header::TRANSFER_ENCODING) && !headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Error::Protocol("a stream whose end nothing marks".into()));
        }
        Ok((headers, Self { body, idle }))
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let late = |_| Broken("no more came in time".into());
            match timeout(self.idle, self.body.frame()).await.map_err(late)? {
                None => return Ok(None),
                Some(Err(e)) => return Err(Broken(crate::error::root(&e).to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The lines of a body.
#[derive(Debug)]
pub(crate) struct Lines {
    pieces: Pieces,
    buffer: BytesMut,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
    len_max: usize,
}

impl Lines {
    pub(crate) fn new(pieces: Pieces) -> Self {
        Self::bounded(pieces, LINE_LEN_MAX)
    }

    /// The same, where no line is longer than this.
    pub(crate) fn bounded(pieces: Pieces, len_max: usize) -> Self {
        Self { pieces, buffer: BytesMut::new(), searched: 0, len_max }
    }

    /// The next line, without its end; `None` at the end of the body.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            match self.pieces.next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Broken("it ends within a line".into())),
            }
            if self.buffer.len() > self.len_max {
                return Err(Broken("a line without end".into()));
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + at;
        self.searched = 0;
        Some(self.buffer.split_to(end + 1).freeze().slice(..end))
    }
}
