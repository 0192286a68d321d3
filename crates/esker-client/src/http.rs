//! What can be asked, over HTTP.

use std::{cmp::Ordering, sync::Arc};

use bytes::Bytes;
use esker_wire::{
    API_PREFIX, Ack, Consistency, INCR_SUFFIX, KEY_LEN_MAX, KEY_PREFIX, NDJSON,
    batch::BatchAnswer,
    cluster::{HealthAnswer, MembersAnswer, MembersRequest, NodesAnswer, StatusAnswer},
    encode_base64,
    kv::{self, DeleteAnswer, IncrAnswer, IncrRequest, ListAnswer, PutAnswer, RangeDeleteAnswer},
    mget::{MgetAnswer, MgetRequest},
    options::{APPLIED_VERSION_HEADER, EXPIRES_AT_HEADER},
    percent,
};
use hyper::{HeaderMap, Method, StatusCode, header};
use serde_json::from_slice;

use crate::{
    Batch, BatchDone, Condition, Deleted, Entry, Error, Found, FoundAll, Incremented, Item, KeyOptions, Meta,
    Page, PutOptions, Query, Range, RangeDeleted, Result, ScanStream, Settings, WriteOptions, Written,
    batch::half_open,
    endpoints::Endpoints,
    scan,
    transport::{Answer, Call, Transport},
    types::{add_parameter, ttl_of},
};

/// The longest path with its query: what a server takes.
const TARGET_LEN_MAX: usize = 65_534;
/// So much of a key fits into a query, with each byte percent-coded and other parameters beside it.
const SCAN_PREFIX_MAX: usize = (TARGET_LEN_MAX - 256) / 3;

/// A client's requests over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) transport: Transport,
}

impl Http {
    pub(crate) fn new(endpoints: Endpoints, settings: Settings) -> Result<Self> {
        Ok(Self { transport: Transport::new(endpoints, settings)? })
    }

    pub(crate) fn endpoint(&self) -> Arc<str> {
        self.transport.endpoint()
    }

    /// Sets a key to a value, in the way and on the condition that `options` say.
    pub(crate) async fn put_with(&self, key: &[u8], value: Bytes, options: PutOptions) -> Result<Written> {
        let PutOptions { write, ttl, condition } = options;
        let mut path = write.on(key_path(key)?);
        if let Some(ttl) = ttl {
            add_parameter(&mut path, "ttl", ttl_of(ttl)?);
        }
        if !fits(&path) {
            let mut batch = Batch::new();
            match ttl {
                Some(ttl) => batch.put_expiring(key, &value, ttl)?,
                None => batch.put(key, &value),
            }
            return Ok(Written { version: self.batch_on(batch, key, condition, write).await?.version });
        }
        let call = self.write(Method::PUT, path, write).with_body(value).on_condition(condition);
        let answer = found(self.transport.send(call).await?)?;
        let put: PutAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Written { version: put.version })
    }

    /// A batch about one key that is too long for a path.
    async fn batch_on(
        &self,
        mut batch: Batch,
        key: &[u8],
        condition: Option<Condition>,
        write: WriteOptions,
    ) -> Result<BatchDone> {
        if let Some(condition) = condition {
            batch.require(key, condition);
        }
        self.batch(batch, write).await
    }

    /// A write with an id of its own, so that its copies are applied once. One that awaits every voter takes its time.
    fn write(&self, method: Method, path: String, options: WriteOptions) -> Call {
        let request_id = Some(self.transport.request_id());
        Call { request_id, patient: options.ack == Ack::All, ..Call::new(method, path) }
    }

    /// Reads a key, and sees what `consistency` promises.
    pub(crate) async fn get_with(&self, key: &[u8], consistency: Consistency) -> Result<Found> {
        let path = with_consistency(key_path(key)?, consistency);
        if !fits(&path) {
            let (item, applied) = self.find(key, false, consistency).await?;
            return Ok(Found { entry: item.map(entry_of), applied });
        }
        let answer = self.transport.send(Call::new(Method::GET, path)).await?;
        let applied = applied_of(&answer.headers);
        let entry = match answer.status {
            StatusCode::NOT_FOUND => None,
            _ => {
                let (version, expires_at) = (version_of(&answer)?, expires_at_of(&answer.headers));
                Some(Entry { value: answer.body, version, expires_at })
            }
        };
        Ok(Found { entry, applied })
    }

    /// A key's version and its value's length; `None` if it is absent.
    pub(crate) async fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        let path = key_path(key)?;
        if !fits(&path) {
            let (found, _) = self.find(key, false, Consistency::default()).await?;
            let value_len = |item: &Item| item.value.as_ref().map_or(0, |value| value.len() as u64);
            return Ok(found.map(|item| Meta {
                version: item.version,
                value_len: value_len(&item),
                expires_at: item.expires_at,
            }));
        }
        let answer = self.transport.send(Call::new(Method::HEAD, path)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let value_len = header_number(&answer, header::CONTENT_LENGTH)?;
        Ok(Some(Meta {
            version: version_of(&answer)?,
            value_len,
            expires_at: expires_at_of(&answer.headers),
        }))
    }

    /// The same, in the way and on the condition that `options` say.
    pub(crate) async fn delete_with(&self, key: &[u8], options: KeyOptions) -> Result<Deleted> {
        let KeyOptions { write, condition } = options;
        let path = write.on(key_path(key)?);
        if !fits(&path) {
            let existed = self.find(key, true, Consistency::default()).await?.0.is_some();
            let mut batch = Batch::new();
            batch.delete(key);
            let version = self.batch_on(batch, key, condition, write).await?.version;
            return Ok(Deleted { version, existed });
        }
        let call = self.write(Method::DELETE, path, write).on_condition(condition);
        let answer = found(self.transport.send(call).await?)?;
        let deleted: DeleteAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Deleted { version: deleted.version, existed: deleted.existed })
    }

    /// The same, in the way and on the condition that `options` say.
    pub(crate) async fn incr_with(&self, key: &[u8], by: i64, options: KeyOptions) -> Result<Incremented> {
        let KeyOptions { write, condition } = options;
        let path = write.on(key_path(key)? + INCR_SUFFIX);
        if !fits(&path) {
            let mut batch = Batch::new();
            batch.incr(key, by);
            let done = self.batch_on(batch, key, condition, write).await?;
            let value = done.sum.ok_or_else(|| Error::Protocol("an increment without its sum".into()))?;
            return Ok(Incremented { value, version: done.version });
        }
        let body = serde_json::to_vec(&IncrRequest { by }).expect("numbers always serialise");
        let call = self.write(Method::POST, path, write).with_body(body.into()).on_condition(condition);
        let answer = found(self.transport.send(call).await?)?;
        let done: IncrAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        Ok(Incremented { value: done.value, version: done.version })
    }

    /// The same, and sees what `consistency` promises.
    pub(crate) async fn mget_with(
        &self,
        keys: &[impl AsRef<[u8]>],
        consistency: Consistency,
    ) -> Result<FoundAll> {
        let path = with_consistency(format!("{API_PREFIX}/mget?encoding=base64"), consistency);
        let keys: Vec<_> = keys.iter().map(|key| encode_base64(key.as_ref()).into()).collect();
        let asked = keys.len();
        let body = serde_json::to_vec(&MgetRequest { keys }).expect("strings always serialise");
        let call = Call { is_write: false, ..Call::new(Method::POST, path).with_body(body.into()) };
        let answer = found(self.transport.send(call).await?)?;
        let applied = applied_of(&answer.headers);
        let got: MgetAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        if got.items.len() != asked {
            return Err(Error::Protocol(format!("{} items for {asked} keys", got.items.len())));
        }
        let entry = |item: Option<kv::Item<'_>>| Ok(item.map(scan::item).transpose()?.map(entry_of));
        Ok(FoundAll { entries: got.items.into_iter().map(entry).collect::<Result<_>>()?, applied })
    }

    /// Deletes all keys of a range at once, however many there are. [`Range::All`] deletes everything.
    ///
    /// Errors: `InvalidRequest` for a range that is open on one side, and as for [`Client::put`].
    pub(crate) async fn delete_range(&self, range: &Range, options: WriteOptions) -> Result<RangeDeleted> {
        let path = format!("{API_PREFIX}/kv?{}", deletion_parameters(range)?);
        let path = options.on(path);
        if !fits(&path) {
            let mut batch = Batch::new();
            batch.delete_range(range)?;
            return Ok(RangeDeleted { version: self.batch(batch, options).await?.version, deleted: None });
        }
        let answer = found(self.transport.send(self.write(Method::DELETE, path, options)).await?)?;
        let done: RangeDeleteAnswer = from_slice(&answer.body).map_err(unexpected)?;
        Ok(RangeDeleted { version: done.version, deleted: Some(done.deleted) })
    }

    /// Finds a key that is too long for a path, by a scan from as much of it as a query holds; says what the scan said of
    /// its staleness.
    async fn find(
        &self,
        key: &[u8],
        keys_only: bool,
        consistency: Consistency,
    ) -> Result<(Option<Item>, Option<u64>)> {
        let prefix = key[..key.len().min(SCAN_PREFIX_MAX)].to_vec();
        let query = Query { range: Range::Prefix(prefix), keys_only, consistency, ..Query::default() };
        let mut stream = self.scan(&query).await?;
        let applied = stream.applied();
        while let Some(item) = stream.next().await {
            let item = item?;
            match item.key.as_slice().cmp(key) {
                Ordering::Less => {}
                Ordering::Equal => return Ok((Some(item), applied)),
                Ordering::Greater => break,
            }
        }
        Ok((None, applied))
    }

    /// Does all of a batch or nothing, committed as `options` say.
    pub(crate) async fn batch(&self, batch: Batch, options: WriteOptions) -> Result<BatchDone> {
        self.batch_json(batch.into_json(), options).await
    }

    /// The same with the batch as JSON: `{"operations":[{"type":"put","key","value"},{"type":"delete","key"}]}`.
    pub(crate) async fn batch_json(&self, json: Bytes, options: WriteOptions) -> Result<BatchDone> {
        let path = options.on(format!("{API_PREFIX}/batch"));
        let call = self.write(Method::POST, path, options).with_body(json);
        let answer = found(self.transport.send(call).await?)?;
        let done: BatchAnswer = from_slice(&answer.body).map_err(unexpected)?;
        Ok(BatchDone { version: done.version, operations: done.operations, sum: done.sum })
    }

    /// One page of a range; `cursor` is [`Page::next`] of the page before.
    pub(crate) async fn list(&self, query: &Query, cursor: Option<&str>) -> Result<Page> {
        let path = format!("{API_PREFIX}/kv?{}", query.to_parameters(cursor));
        let answer = found(self.transport.send(Call::new(Method::GET, path)).await?)?;
        let list: ListAnswer<'_> = from_slice(&answer.body).map_err(unexpected)?;
        let items = list.items.into_iter().map(scan::item).collect::<Result<_>>()?;
        Ok(Page { items, next: list.next })
    }

    /// A range as a stream, at one instant, to its end.
    pub(crate) async fn scan(&self, query: &Query) -> Result<ScanStream> {
        let path = format!("{API_PREFIX}/kv?{}", query.to_parameters(None));
        let call = Call { accept: Some(NDJSON), ..Call::new(Method::GET, path) };
        ScanStream::new(self.transport.stream(call).await?, self.transport.settings.request_timeout)
    }

    /// How the server and its store are.
    pub(crate) async fn status(&self) -> Result<StatusAnswer> {
        let call = Call::new(Method::GET, format!("{API_PREFIX}/cluster/status"));
        from_slice(&found(self.transport.send(call).await?)?.body).map_err(unexpected)
    }

    /// The members of the cluster, as the answering node knows them.
    pub(crate) async fn nodes(&self) -> Result<NodesAnswer> {
        let call = Call::new(Method::GET, format!("{API_PREFIX}/cluster/nodes"));
        from_slice(&found(self.transport.send(call).await?)?.body).map_err(unexpected)
    }

    /// What the server counts and measures, as OpenMetrics text.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let answer = found(self.transport.send(Call::new(Method::GET, "/metrics".into())).await?)?;
        String::from_utf8(answer.body.into()).map_err(|_| Error::Protocol("metrics that are no text".into()))
    }

    /// Changes the membership; says which member it was about. A new voter has to catch up first: give the client a long
    /// [`Settings::request_timeout`]. Where the connection breaks, ask for the [nodes](Client::nodes) to see what was done.
    pub(crate) async fn change_members(&self, change: &MembersRequest) -> Result<u64> {
        let body = serde_json::to_vec(change).expect("strings and numbers always serialise");
        let call = Call::new(Method::POST, format!("{API_PREFIX}/cluster/members")).with_body(body.into());
        let answer = found(self.transport.send(Call { once: true, ..call }).await?)?;
        let done: MembersAnswer = from_slice(&answer.body).map_err(unexpected)?;
        Ok(done.node)
    }

    /// Whether the server takes requests; an error says why not.
    pub(crate) async fn health(&self) -> Result<HealthAnswer> {
        let answer =
            found(self.transport.send(Call::new(Method::GET, format!("{API_PREFIX}/health"))).await?)?;
        from_slice(&answer.body).map_err(unexpected)
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

fn with_consistency(mut path: String, consistency: Consistency) -> String {
    if consistency != Consistency::default() {
        add_parameter(&mut path, "consistency", consistency);
    }
    path
}

fn deletion_parameters(range: &Range) -> Result<String> {
    let coded = |key: &[u8]| percent::encode_query(key);
    match range {
        Range::All => Ok("prefix=".into()),
        Range::Prefix(prefix) => Ok(format!("prefix={}", coded(prefix))),
        Range::Between(Some(start), Some(end)) => Ok(format!("start={}&end={}", coded(start), coded(end))),
        Range::Between(..) => Err(half_open()),
    }
}

fn entry_of(item: Item) -> Entry {
    Entry { value: item.value.unwrap_or_default().into(), version: item.version, expires_at: item.expires_at }
}

fn expires_at_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(EXPIRES_AT_HEADER)?.to_str().ok()?.parse().ok()
}

/// What a stale answer says that its node had applied.
pub(crate) fn applied_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(APPLIED_VERSION_HEADER)?.to_str().ok()?.parse().ok()
}

/// An answer to a request that is not about one key's value: it has no absence.
pub(crate) fn found(answer: Answer) -> Result<Answer> {
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

pub(crate) fn unexpected(e: serde_json::Error) -> Error {
    Error::Protocol(format!("unexpected JSON: {e}"))
}
