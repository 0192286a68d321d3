//! `esker.v1.Kv`.

use std::sync::Arc;

use bytes::Bytes;
use esker_cluster::{ScanOptions, WatchOptions};
use esker_engine::Entry;
use esker_proto::v1::{
    BatchRequest, BatchResponse, DeleteRangeRequest, DeleteRangeResponse, DeleteRequest, DeleteResponse,
    Entry as EntryMessage, GetRequest, GetResponse, IncrementRequest, IncrementResponse, Lookup,
    MultiGetRequest, MultiGetResponse, PutRequest, PutResponse, ScanRequest, WatchRequest, kv_server::Kv,
    operation::Operation,
};
use esker_wire::{ErrorCode, mget::KEYS_MAX};
use tonic::{Request, Response, Status};

use super::{
    ask::{condition, consistency, go_on, put, put_in_batch, range, range_to_delete, require, write_options},
    body::Room,
    scan::ScanStream,
    status::status_of,
    store,
    watch::{self, WatchStream},
};
use crate::{
    access::Door,
    http::{AnswerRoom, ApiError},
};

/// What is added where nothing is said.
const DEFAULT_INCREMENT: i64 = 1;

/// The service.
pub(super) struct KvCalls(pub(super) Door);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Kv for KvCalls {
    async fn put(&self, request: Request<PutRequest>) -> Answer<PutResponse> {
        self.answer(self.put(request.into_inner()).await)
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        let (message, room) = self.told(self.get(request.into_inner()).await)?;
        Ok(with_room(message, room.into_share()))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        self.answer(self.delete(request.into_inner()).await)
    }

    async fn batch(&self, request: Request<BatchRequest>) -> Answer<BatchResponse> {
        self.answer(self.batch(request.into_inner()).await)
    }

    async fn multi_get(&self, request: Request<MultiGetRequest>) -> Answer<MultiGetResponse> {
        let (message, share) = self.told(self.multi_get(request.into_inner()).await)?;
        Ok(with_room(message, Some(share)))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Answer<IncrementResponse> {
        self.answer(self.increment(request.into_inner()).await)
    }

    async fn delete_range(&self, request: Request<DeleteRangeRequest>) -> Answer<DeleteRangeResponse> {
        self.answer(self.delete_range(request.into_inner()).await)
    }

    type ScanStream = ScanStream;

    async fn scan(&self, request: Request<ScanRequest>) -> Answer<ScanStream> {
        self.answer(self.scan(request.into_inner()).await)
    }

    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<WatchStream> {
        let WatchRequest { prefix, from, keys_only } = request.into_inner();
        let options = WatchOptions { prefix: prefix.into(), from, keys_only };
        let watch = self.told(store::watch(&self.0, options).await)?;
        Ok(Response::new(watch::stream(Arc::clone(self.0.front()), watch)))
    }
}

/// An answer whose bytes have their room already.
fn with_room<T>(message: T, share: Option<crate::http::Share>) -> Response<T> {
    let mut answer = Response::new(message);
    if let Some(share) = share {
        answer.extensions_mut().insert(Room::new(share));
    }
    answer
}

/// What a key holds, as a message.
pub(super) fn entry_message(entry: Entry) -> EntryMessage {
    let Entry { value, version, expiry } = entry;
    EntryMessage { value: value.into_bytes(), version, expires_at_ms: expiry }
}

impl KvCalls {
    fn told<T>(&self, done: Result<T, ApiError>) -> Result<T, Status> {
        done.map_err(|error| status_of(&self.0, error))
    }

    fn answer<T>(&self, done: Result<T, ApiError>) -> Answer<T> {
        self.told(done).map(Response::new)
    }

    async fn put(&self, asked: PutRequest) -> Result<PutResponse, ApiError> {
        let PutRequest { key, value, ttl_ms, condition, options } = asked;
        let options = write_options(options)?;
        let mut batch = store::batch(&self.0, key.len() + value.len());
        put(&self.0, &mut batch, &key, &value, ttl_ms)?;
        require(&mut batch, &key, condition)?;
        drop(value);
        let committed = store::commit(&self.0, batch, options).await?;
        Ok(PutResponse { version: committed.version })
    }

    async fn get(&self, asked: GetRequest) -> Result<(GetResponse, AnswerRoom), ApiError> {
        let GetRequest { key, consistency: seen, keys_only } = asked;
        check_key(&key)?;
        let applied_version = store::read_point(&self.0, consistency(seen)?).await?;
        if keys_only {
            let answer = self.meta(&key).await?;
            return Ok((GetResponse { applied_version, ..answer }, AnswerRoom::none()));
        }
        let entry = store::get(&self.0, &key).await?;
        let len = entry.as_ref().map_or(0, |entry| entry.value.len());
        let room = AnswerRoom::take(&self.0, len)?;
        let entry = entry.map(entry_message);
        Ok((GetResponse { entry, applied_version, value_bytes: None }, room))
    }

    /// What is known of a key without its value; the length of one that is compressed tells only reading it.
    async fn meta(&self, key: &[u8]) -> Result<GetResponse, ApiError> {
        let Some(meta) = store::meta(&self.0, key)? else { return Ok(GetResponse::default()) };
        if let Some(len) = meta.value_len {
            return Ok(without_value(meta.version, meta.expiry, len));
        }
        let entry = store::get(&self.0, key).await?;
        let told = |entry: Entry| without_value(entry.version, entry.expiry, entry.value.len() as u64);
        Ok(entry.map(told).unwrap_or_default())
    }

    async fn delete(&self, asked: DeleteRequest) -> Result<DeleteResponse, ApiError> {
        let DeleteRequest { key, condition, options } = asked;
        let options = write_options(options)?;
        let mut batch = store::batch(&self.0, key.len());
        batch.delete(&key)?;
        require(&mut batch, &key, condition)?;
        let committed = store::commit(&self.0, batch, options).await?;
        Ok(DeleteResponse { version: committed.version, existed: committed.existed > 0 })
    }

    async fn batch(&self, asked: BatchRequest) -> Result<BatchResponse, ApiError> {
        let BatchRequest { operations, conditions, options } = asked;
        let options = write_options(options)?;
        let mut batch = store::batch(&self.0, 0);
        for (at, operation) in operations.into_iter().enumerate() {
            let added = match operation.operation {
                Some(Operation::Put(it)) => put_in_batch(&self.0, &mut batch, &it),
                Some(Operation::Increment(it)) => {
                    batch.add(&it.key, it.by.unwrap_or(DEFAULT_INCREMENT)).map_err(ApiError::from)
                }
                Some(Operation::Delete(it)) => batch.delete(&it.key).map_err(ApiError::from),
                Some(Operation::DeleteRange(it)) => {
                    range_to_delete(Some(it)).and_then(|range| Ok(batch.delete_range(&range)?))
                }
                None => Err(ApiError::bad_request("give `put`, `delete`, `delete_range` or `increment`")),
            };
            added.map_err(|e| e.at(format_args!("operations[{at}]")))?;
        }
        for (at, given) in conditions.into_iter().enumerate() {
            let required = condition(given.condition.unwrap_or_default())
                .and_then(|condition| Ok(batch.require(&given.key, condition)?));
            required.map_err(|e| e.at(format_args!("conditions[{at}]")))?;
        }
        let operations = batch.len() as u64;
        let committed = store::commit(&self.0, batch, options).await?;
        Ok(BatchResponse { version: committed.version, operations, sum: committed.sum() })
    }

    async fn multi_get(
        &self,
        asked: MultiGetRequest,
    ) -> Result<(MultiGetResponse, crate::http::Share), ApiError> {
        let MultiGetRequest { keys, consistency: seen } = asked;
        if keys.len() > KEYS_MAX {
            let why =
                format!("{} keys are asked for, the limit is {KEYS_MAX}: split the request", keys.len());
            return Err(ApiError::new(ErrorCode::PayloadTooLarge, why));
        }
        for (at, key) in keys.iter().enumerate() {
            check_key(key).map_err(|e| e.at(format_args!("keys[{at}]")))?;
        }
        let applied_version = store::read_point(&self.0, consistency(seen)?).await?;
        let keys = keys.into_iter().map(Vec::from).collect();
        let (entries, share) = store::multi_get(&self.0, keys).await?;
        let lookups = entries.into_iter().map(|entry| Lookup { entry: entry.map(entry_message) }).collect();
        Ok((MultiGetResponse { lookups, applied_version }, share))
    }

    async fn increment(&self, asked: IncrementRequest) -> Result<IncrementResponse, ApiError> {
        let IncrementRequest { key, by, condition, options } = asked;
        let options = write_options(options)?;
        let mut batch = store::batch(&self.0, key.len());
        batch.add(&key, by.unwrap_or(DEFAULT_INCREMENT))?;
        require(&mut batch, &key, condition)?;
        let committed = store::commit(&self.0, batch, options).await?;
        let value = committed.sum().ok_or_else(|| {
            ApiError::new(ErrorCode::Internal, "an increment was applied and has no sum: report this defect")
        })?;
        Ok(IncrementResponse { value, version: committed.version })
    }

    async fn delete_range(&self, asked: DeleteRangeRequest) -> Result<DeleteRangeResponse, ApiError> {
        let options = write_options(asked.options)?;
        let mut batch = store::batch(&self.0, 0);
        batch.delete_range(&range_to_delete(asked.range)?)?;
        let committed = store::commit(&self.0, batch, options).await?;
        Ok(DeleteRangeResponse { version: committed.version, deleted: committed.existed.into() })
    }

    async fn scan(&self, asked: ScanRequest) -> Result<ScanStream, ApiError> {
        let ScanRequest { range: given, limit, reverse, keys_only, cursor, consistency: seen } = asked;
        let range = go_on(range(given)?, &cursor, reverse)?;
        let applied_version = store::read_point(&self.0, consistency(seen)?).await?;
        let limit = Some(limit).filter(|limit| *limit > 0);
        let scan = store::scan(&self.0, &range, ScanOptions { reverse, keys_only, limit })?;
        ScanStream::begin(Arc::clone(self.0.front()), scan, reverse, applied_version).await
    }
}

fn without_value(version: u64, expires_at_ms: Option<u64>, len: u64) -> GetResponse {
    let entry = EntryMessage { value: Bytes::new(), version, expires_at_ms };
    GetResponse { entry: Some(entry), applied_version: None, value_bytes: Some(len) }
}

/// A key that there can be.
fn check_key(key: &[u8]) -> Result<(), ApiError> {
    match key.len() {
        1..=esker_wire::KEY_LEN_MAX => Ok(()),
        len => {
            Err(ApiError::bad_request(format!("a key has 1 to {} bytes, not {len}", esker_wire::KEY_LEN_MAX)))
        }
    }
}
