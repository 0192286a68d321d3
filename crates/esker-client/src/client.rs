//! The client: one method for each thing that can be asked.

use std::cmp::Ordering;

use bytes::Bytes;
use esker_wire::{
    API_PREFIX, KEY_LEN_MAX, KEY_PREFIX, NDJSON,
    admin::{CheckpointAnswer, VerifyAnswer},
    batch::BatchAnswer,
    cluster::{HealthAnswer, StatusAnswer},
    kv::{DeleteAnswer, ListAnswer, PutAnswer},
    percent,
};
use hyper::{Method, StatusCode, header};
use serde_json::from_slice;

use crate::{
    Batch, BatchDone, Deleted, Entry, Error, Item, Meta, Page, Query, Range, Result, ScanStream, Settings,
    Sync, Written, scan,
    transport::{Answer, Call, Transport},
};

/// The longest path with its query: what a server takes.
const TARGET_LEN_MAX: usize = 65_534;
/// So much of a key fits into a query, with each byte percent-coded and other parameters beside it.
const SCAN_PREFIX_MAX: usize = (TARGET_LEN_MAX - 256) / 3;

/// A handle to one Esker server. Cloning gives another handle to the same connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client of the server at `endpoint`, such as `http://127.0.0.1:8080`. Connects when first used.
    pub fn new(endpoint: &str) -> Result<Self> {
        Self::with_settings(endpoint, Settings::default())
    }

    /// The same with settings.
    pub fn with_settings(endpoint: &str, settings: Settings) -> Result<Self> {
        Ok(Self { transport: Transport::new(endpoint, settings)? })
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &str {
        self.transport.endpoint()
    }

    /// Sets a key to a value, with the server's sync policy.
    pub async fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<Written> {
        self.put_with(key, value, None).await
    }

    /// Sets a key to a value; `sync` may ask for more than the server's policy.
    pub async fn put_with(&self, key: &[u8], value: impl Into<Bytes>, sync: Option<Sync>) -> Result<Written> {
        let path = with_sync(key_path(key)?, sync);
        if !fits(&path) {
            let mut batch = Batch::new();
            batch.put(key, &value.into());
            return Ok(Written { version: self.batch(batch, sync).await?.version });
        }
        let call = Call::new(Method::PUT, path).with_body(value.into());
        let answer = found(self.transport.send(call).await?)?;
        let put: PutAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Written { version: put.version })
    }

    /// Reads a key; `None` if it is absent.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        let path = key_path(key)?;
        if !fits(&path) {
            let found = self.find(key, false).await?;
            return Ok(found
                .map(|item| Entry { value: item.value.unwrap_or_default().into(), version: item.version }));
        }
        let answer = self.transport.send(Call::new(Method::GET, path)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(Entry { version: version_of(&answer)?, value: answer.body }))
    }

    /// A key's version and its value's length; `None` if it is absent.
    pub async fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        let path = key_path(key)?;
        if !fits(&path) {
            let found = self.find(key, false).await?;
            let value_len = |item: &Item| item.value.as_ref().map_or(0, |value| value.len() as u64);
            return Ok(found.map(|item| Meta { version: item.version, value_len: value_len(&item) }));
        }
        let answer = self.transport.send(Call::new(Method::HEAD, path)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let value_len = header_number(&answer, header::CONTENT_LENGTH)?;
        Ok(Some(Meta { version: version_of(&answer)?, value_len }))
    }

    /// Deletes a key; says whether it was present. For a key too long for a path it says whether it was a moment before.
    pub async fn delete(&self, key: &[u8]) -> Result<Deleted> {
        let path = key_path(key)?;
        if !fits(&path) {
            let existed = self.find(key, true).await?.is_some();
            let mut batch = Batch::new();
            batch.delete(key);
            return Ok(Deleted { version: self.batch(batch, None).await?.version, existed });
        }
        let answer = found(self.transport.send(Call::new(Method::DELETE, path)).await?)?;
        let deleted: DeleteAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Deleted { version: deleted.version, existed: deleted.existed })
    }

    /// Finds a key that is too long for a path, by a scan from as much of it as a query holds.
    async fn find(&self, key: &[u8], keys_only: bool) -> Result<Option<Item>> {
        let prefix = key[..key.len().min(SCAN_PREFIX_MAX)].to_vec();
        let query = Query { range: Range::Prefix(prefix), keys_only, ..Query::default() };
        let mut stream = self.scan(&query).await?;
        while let Some(item) = stream.next().await {
            let item = item?;
            match item.key.as_slice().cmp(key) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(item)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Does all of a batch or nothing; `sync` may ask for more than the server's policy.
    pub async fn batch(&self, batch: Batch, sync: Option<Sync>) -> Result<BatchDone> {
        let path = with_sync(format!("{API_PREFIX}/batch"), sync);
        self.send_batch(Call::new(Method::POST, path).with_body(batch.into_body())).await
    }

    /// The same with the batch as JSON: `{"operations":[{"type":"put","key","value"},{"type":"delete","key"}]}`.
    pub async fn batch_json(&self, json: impl Into<Bytes>) -> Result<BatchDone> {
        self.send_batch(Call::new(Method::POST, format!("{API_PREFIX}/batch")).with_body(json.into())).await
    }

    async fn send_batch(&self, call: Call) -> Result<BatchDone> {
        let answer = found(self.transport.send(call).await?)?;
        let done: BatchAnswer = from_slice(&answer.body).map_err(unexpected)?;
        Ok(BatchDone { version: done.version, operations: done.operations })
    }

    /// One page of a range; `cursor` is [`Page::next`] of the page before.
    pub async fn list(&self, query: &Query, cursor: Option<&str>) -> Result<Page> {
        let path = format!("{API_PREFIX}/kv?{}", query.to_parameters(cursor));
        let answer = found(self.transport.send(Call::new(Method::GET, path)).await?)?;
        let list: ListAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        let items = list.items.into_iter().map(scan::item).collect::<Result<_>>()?;
        Ok(Page { items, next: list.next })
    }

    /// A range as a stream, at one instant, to its end.
    pub async fn scan(&self, query: &Query) -> Result<ScanStream> {
        let path = format!("{API_PREFIX}/kv?{}", query.to_parameters(None));
        let call = Call { accept: Some(NDJSON), ..Call::new(Method::GET, path) };
        ScanStream::new(self.transport.stream(call).await?, self.transport.settings.request_timeout)
    }

    /// How the server and its store are.
    pub async fn status(&self) -> Result<StatusAnswer> {
        let call = Call::new(Method::GET, format!("{API_PREFIX}/cluster/status"));
        from_slice(&found(self.transport.send(call).await?)?.body).map_err(unexpected)
    }

    /// Whether the server takes requests; an error says why not.
    pub async fn health(&self) -> Result<HealthAnswer> {
        let answer = found(self.transport.send(Call::new(Method::GET, "/health".into())).await?)?;
        from_slice(&answer.body).map_err(unexpected)
    }

    /// Has the server write a checkpoint of its index.
    pub async fn checkpoint(&self) -> Result<CheckpointAnswer> {
        let call = Call::new(Method::POST, format!("{API_PREFIX}/admin/checkpoint"));
        from_slice(&found(self.transport.send(call).await?)?.body).map_err(unexpected)
    }

    /// Has the server read and check every byte it stores. On a large store give the client a long
    /// [`Settings::request_timeout`].
    pub async fn verify(&self) -> Result<VerifyAnswer> {
        let call = Call::new(Method::POST, format!("{API_PREFIX}/admin/verify"));
        from_slice(&found(self.transport.send(call).await?)?.body).map_err(unexpected)
    }
}

fn key_path(key: &[u8]) -> Result<String> {
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        let message = format!("a key has 1 to {KEY_LEN_MAX} bytes, this one {}", key.len());
        return Err(Error::invalid(message));
    }
    Ok(format!("{KEY_PREFIX}{}", percent::encode_path(key)))
}

/// Whether a path can be asked for. Others would be 414; no HTTP library that we know of sends them at all.
fn fits(path: &str) -> bool {
    path.len() <= TARGET_LEN_MAX
}

fn with_sync(path: String, sync: Option<Sync>) -> String {
    match sync {
        None => path,
        Some(sync) => format!("{path}?sync={sync}"),
    }
}

/// An answer to a request that is not about one key's value: it has no absence.
fn found(answer: Answer) -> Result<Answer> {
    match answer.status {
        StatusCode::NOT_FOUND => Err(Error::Protocol("status 404 to a request that cannot miss".into())),
        _ => Ok(answer),
    }
}

fn version_of(answer: &Answer) -> Result<u64> {
    header_number(answer, header::ETAG)
}

fn header_number(answer: &Answer, name: header::HeaderName) -> Result<u64> {
    let text = answer.headers.get(&name).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.trim_matches('"').parse().ok())
        .ok_or_else(|| Error::Protocol(format!("the answer's {name} is no number")))
}

fn unexpected(e: serde_json::Error) -> Error {
    Error::Protocol(format!("unexpected JSON: {e}"))
}
