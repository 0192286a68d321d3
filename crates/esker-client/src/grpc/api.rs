//! What can be asked.

use bytes::Bytes;
use esker_proto::v1;
use esker_wire::{
    Ack, Consistency, KEY_LEN_MAX,
    batch::{BatchLimits, decode},
    binary::Operations,
    cluster::{NodesAnswer, StatusAnswer},
    cursor::Cursor,
};
use tokio::time::timeout;

use super::{
    Chunks, Grpc,
    failure::error_of,
    messages::{Part, ack, condition, consistency, entry, node, part, range},
};
use crate::{
    Batch, BatchDone, Condition, Deleted, Entry, Error, Found, FoundAll, Incremented, KeyOptions, Meta, Page,
    PutOptions, Query, Range, RangeDeleted, Result, ScanStream, WriteOptions, Written, attempts::Manner,
    batch::half_open, types::ttl_of,
};

/// Items of a page, if nobody says how many, and at most; as over HTTP.
const PAGE_LIMIT: u64 = 100;
const PAGE_LIMIT_MAX: u64 = 10_000;
/// After so many bytes a page is full.
const PAGE_BYTES: usize = 4 << 20;

impl Grpc {
    pub(crate) async fn put_with(&self, key: &[u8], value: Bytes, options: PutOptions) -> Result<Written> {
        check_key(key)?;
        let PutOptions { write, ttl, condition } = options;
        let manner = manner(write, value.len());
        let asked = v1::PutRequest {
            key: Bytes::copy_from_slice(key),
            value,
            ttl_ms: ttl.map(ttl_of).transpose()?.map(|ttl| ttl.as_millis()),
            condition: demanded(condition),
            options: Some(self.of_write(write)),
        };
        let done = self.send(manner, asked, |mut kv, asked| async move { kv.put(asked).await }).await?;
        Ok(Written { version: done.version })
    }

    /// A write with an id of its own, so that its copies are applied once.
    fn of_write(&self, write: WriteOptions) -> v1::WriteOptions {
        let (client, sequence) = self.shared.request_ids.next_numbers();
        v1::WriteOptions {
            sync: write.sync.map(|sync| sync.to_string()).unwrap_or_default(),
            ack: ack(write.ack),
            request_id: Some(v1::RequestId { client, sequence }),
        }
    }

    pub(crate) async fn get_with(&self, key: &[u8], seen: Consistency) -> Result<Found> {
        let answer = self.ask_for(key, seen, false).await?;
        Ok(Found { entry: answer.entry.map(entry), applied: answer.applied_version })
    }

    pub(crate) async fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        let answer = self.ask_for(key, Consistency::default(), true).await?;
        let Some(entry) = answer.entry else { return Ok(None) };
        let value_len =
            answer.value_bytes.ok_or_else(|| Error::Protocol("a value without its length".into()))?;
        Ok(Some(Meta { version: entry.version, value_len, expires_at: entry.expires_at_ms }))
    }

    async fn ask_for(&self, key: &[u8], seen: Consistency, keys_only: bool) -> Result<v1::GetResponse> {
        check_key(key)?;
        let key = Bytes::copy_from_slice(key);
        let asked = v1::GetRequest { key, consistency: consistency(seen), keys_only };
        self.send(Manner::default(), asked, |mut kv, asked| async move { kv.get(asked).await }).await
    }

    pub(crate) async fn delete_with(&self, key: &[u8], options: KeyOptions) -> Result<Deleted> {
        check_key(key)?;
        let KeyOptions { write, condition } = options;
        let asked = v1::DeleteRequest {
            key: Bytes::copy_from_slice(key),
            condition: demanded(condition),
            options: Some(self.of_write(write)),
        };
        let manner = manner(write, 0);
        let done = self.send(manner, asked, |mut kv, asked| async move { kv.delete(asked).await }).await?;
        Ok(Deleted { version: done.version, existed: done.existed })
    }

    pub(crate) async fn incr_with(&self, key: &[u8], by: i64, options: KeyOptions) -> Result<Incremented> {
        check_key(key)?;
        let KeyOptions { write, condition } = options;
        let asked = v1::IncrementRequest {
            key: Bytes::copy_from_slice(key),
            by: Some(by),
            condition: demanded(condition),
            options: Some(self.of_write(write)),
        };
        let done = self
            .send(manner(write, 0), asked, |mut kv, asked| async move { kv.increment(asked).await })
            .await?;
        Ok(Incremented { value: done.value, version: done.version })
    }

    pub(crate) async fn mget_with(&self, keys: &[impl AsRef<[u8]>], seen: Consistency) -> Result<FoundAll> {
        let keys: Vec<_> = keys.iter().map(|key| Bytes::copy_from_slice(key.as_ref())).collect();
        keys.iter().try_for_each(|key| check_key(key))?;
        let count = keys.len();
        if count == 0 {
            return Err(Error::invalid("there is no key to read"));
        }
        let asked = v1::MultiGetRequest { keys, consistency: consistency(seen) };
        let answer = self
            .send(Manner::default(), asked, |mut kv, asked| async move { kv.multi_get(asked).await })
            .await?;
        if answer.lookups.len() != count {
            return Err(Error::Protocol(format!("{} items for {count} keys", answer.lookups.len())));
        }
        let entries: Vec<Option<Entry>> =
            answer.lookups.into_iter().map(|lookup| lookup.entry.map(entry)).collect();
        Ok(FoundAll { entries, applied: answer.applied_version })
    }

    pub(crate) async fn delete_range(&self, given: &Range, options: WriteOptions) -> Result<RangeDeleted> {
        if let Range::Between(None, _) | Range::Between(_, None) = given {
            return Err(half_open());
        }
        let asked =
            v1::DeleteRangeRequest { range: Some(range(given)), options: Some(self.of_write(options)) };
        let manner = manner(options, 0);
        let done =
            self.send(manner, asked, |mut kv, asked| async move { kv.delete_range(asked).await }).await?;
        Ok(RangeDeleted { version: done.version, deleted: Some(done.deleted) })
    }

    pub(crate) async fn batch(&self, batch: Batch, options: WriteOptions) -> Result<BatchDone> {
        self.send_batch(&batch.into_operations(), options).await
    }

    /// Takes JSON apart here: the protocol knows none.
    pub(crate) async fn batch_json(&self, json: Bytes, options: WriteOptions) -> Result<BatchDone> {
        let mut operations = Operations::new();
        // The server has its own limits; what is in memory here already may be sent.
        let limits = BatchLimits { operations: usize::MAX, bytes: usize::MAX };
        let decoded = decode(&json, limits, &mut |operation| {
            operations.push(&operation);
            Ok(())
        });
        decoded.map_err(|e| Error::invalid(e.to_string()))?;
        self.send_batch(&operations, options).await
    }

    async fn send_batch(&self, operations: &Operations, options: WriteOptions) -> Result<BatchDone> {
        let mut asked = v1::BatchRequest { options: Some(self.of_write(options)), ..Default::default() };
        let mut bytes = 0;
        for operation in operations.iter() {
            match part(operation) {
                Part::Condition(condition) => asked.conditions.push(condition),
                Part::Operation(operation) => {
                    if let Some(v1::operation::Operation::Put(put)) = &operation.operation {
                        bytes += put.value.len();
                    }
                    asked.operations.push(operation);
                }
            }
        }
        let manner = manner(options, bytes);
        let done = self.send(manner, asked, |mut kv, asked| async move { kv.batch(asked).await }).await?;
        Ok(BatchDone { version: done.version, operations: done.operations, sum: done.sum })
    }

    pub(crate) async fn list(&self, query: &Query, cursor: Option<&str>) -> Result<Page> {
        let limit = query.limit.unwrap_or(PAGE_LIMIT);
        if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
            return Err(Error::invalid(format!("`limit` is {limit}: a page takes 1 to {PAGE_LIMIT_MAX}")));
        }
        // One item more tells whether there is a next page.
        let mut chunks = self.open(query, limit + 1, cursor.unwrap_or_default()).await?;
        let (mut items, mut bytes, mut next) = (Vec::new(), 0, None);
        while let Some(item) = chunks.next(items.len() as u64).await? {
            if items.len() as u64 == limit || bytes >= PAGE_BYTES {
                let last_key = items.last().map(|item: &crate::Item| item.key.clone());
                next = last_key.map(|last_key| Cursor { last_key, reverse: query.reverse }.encode());
                break;
            }
            bytes += item.key.len() + item.value.as_ref().map_or(0, Vec::len);
            items.push(item);
        }
        Ok(Page { items, next })
    }

    pub(crate) async fn scan(&self, query: &Query) -> Result<ScanStream> {
        if query.limit == Some(0) {
            return Err(Error::invalid("`limit` is 0: ask for 1 or more"));
        }
        Ok(ScanStream::of_chunks(self.open(query, query.limit.unwrap_or(0), "").await?))
    }

    async fn open(&self, query: &Query, limit: u64, cursor: &str) -> Result<Chunks> {
        let asked = v1::ScanRequest {
            range: Some(range(&query.range)),
            limit,
            reverse: query.reverse,
            keys_only: query.keys_only,
            cursor: cursor.to_owned(),
            consistency: consistency(query.consistency),
        };
        let stream =
            self.send(Manner::default(), asked, |mut kv, asked| async move { kv.scan(asked).await }).await?;
        Chunks::open(stream, !query.keys_only, self.settings.request_timeout, self.endpoint()).await
    }

    pub(crate) async fn status(&self) -> Result<StatusAnswer> {
        Err(Error::NotSupported { what: "the whole status of a server" })
    }

    pub(crate) async fn nodes(&self) -> Result<NodesAnswer> {
        let (endpoint, limit) = (self.endpoint(), self.settings.request_timeout);
        let mut cluster = self.cluster(&endpoint)?;
        let asked = timeout(limit, cluster.nodes(v1::NodesRequest {})).await;
        let answer = asked.map_err(|_| Error::TimedOut { after: limit })?;
        let answer = answer.map_err(|status| error_of(&status, &endpoint))?.into_inner();
        Ok(NodesAnswer { nodes: answer.nodes.into_iter().map(node).collect() })
    }
}

fn demanded(given: Option<Condition>) -> Option<v1::Condition> {
    given.map(|given| condition(given.demand()))
}

/// One that awaits every voter takes its time.
fn manner(options: WriteOptions, body_len: usize) -> Manner {
    Manner { is_write: true, patient: options.ack == Ack::All, once: false, body_len }
}

fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        1..=KEY_LEN_MAX => Ok(()),
        len => Err(Error::invalid(format!("a key has 1 to {KEY_LEN_MAX} bytes, this one {len}"))),
    }
}
