//! A scan: items as they come, one line each, and the certainty that all of them came.
//!
//! The server ends the body properly only when the range is through; a body that just stops is an error of the
//! HTTP layer and becomes [`Error::Truncated`]. So does a body whose end nothing marks. A server that cannot go on says why
//! in its last line, which becomes [`Error::Server`].

use std::time::Duration;

use esker_wire::{ErrorAnswer, kv};
use hyper::{Response, body::Incoming};

use crate::{
    Error, Item, Result,
    binary::Pairs,
    body::{Lines, Pieces},
    grpc::Chunks,
    http::applied_of,
};

/// The items of a scan.
#[derive(Debug)]
pub struct ScanStream {
    source: Source,
    items: u64,
    applied: Option<u64>,
    ended: bool,
}

/// Where they come from.
#[derive(Debug)]
enum Source {
    Lines(Lines),
    Pairs(Box<Pairs>),
    Chunks(Box<Chunks>),
}

impl ScanStream {
    pub(crate) fn new(response: Response<Incoming>, idle: Duration) -> Result<Self> {
        let (headers, pieces) = Pieces::of(response, idle)?;
        Ok(Self::of(Source::Lines(Lines::new(pieces)), applied_of(&headers)))
    }

    pub(crate) fn of_pairs(pairs: Pairs) -> Self {
        let applied = pairs.applied();
        Self::of(Source::Pairs(Box::new(pairs)), applied)
    }

    pub(crate) fn of_chunks(chunks: Chunks) -> Self {
        let applied = chunks.applied();
        Self::of(Source::Chunks(Box::new(chunks)), applied)
    }

    fn of(source: Source, applied: Option<u64>) -> Self {
        Self { source, items: 0, applied, ended: false }
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
        let items = self.items;
        let broken = |why| Error::Truncated { items, why };
        let item = match &mut self.source {
            Source::Lines(lines) => {
                let line = lines.next().await.map_err(|e| broken(e.0))?;
                line.map(|line| parse(&line, items)).transpose()?
            }
            Source::Pairs(pairs) => pairs.next(items).await?,
            Source::Chunks(chunks) => chunks.next(items).await?,
        };
        self.items += u64::from(item.is_some());
        Ok(item)
    }
}

/// The next item, behind so many; or why there are no more.
fn parse(line: &[u8], items: u64) -> Result<Item> {
    let wrong = |why: String| match serde_json::from_slice::<ErrorAnswer>(line) {
        Ok(said) => {
            let message = format!("{}; the stream broke after {items} items", said.error.message);
            Error::Server { status: 200, code: said.error.code, message }
        }
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
