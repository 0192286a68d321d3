//! The client: one method for each thing that can be asked.

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
    Batch, BatchDone, Deleted, Entry, Error, Meta, Page, Query, Result, ScanStream, Settings, Sync, Written,
    scan,
    transport::{Answer, Call, Transport},
};

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
        let call = Call::new(Method::PUT, with_sync(key_path(key)?, sync)).with_body(value.into());
        let answer = found(self.transport.send(call).await?)?;
        let put: PutAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Written { version: put.version })
    }

    /// Reads a key; `None` if it is absent.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        let answer = self.transport.send(Call::new(Method::GET, key_path(key)?)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(Entry { version: version_of(&answer)?, value: answer.body }))
    }

    /// A key's version and its value's length; `None` if it is absent.
    pub async fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        let answer = self.transport.send(Call::new(Method::HEAD, key_path(key)?)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let value_len = header_number(&answer, header::CONTENT_LENGTH)?;
        Ok(Some(Meta { version: version_of(&answer)?, value_len }))
    }

    /// Deletes a key; says whether it was present.
    pub async fn delete(&self, key: &[u8]) -> Result<Deleted> {
        let answer = found(self.transport.send(Call::new(Method::DELETE, key_path(key)?)).await?)?;
        let deleted: DeleteAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Deleted { version: deleted.version, existed: deleted.existed })
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
