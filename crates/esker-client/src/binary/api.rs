//! What can be asked.

use bytes::Bytes;
use esker_wire::{
    Ack, Consistency, KEY_LEN_MAX,
    batch::{BatchLimits, Expiry, decode},
    binary::{Answer, Extras, Header, Operations, Options, SyncWish, Verb},
    cluster::{NodesAnswer, StatusAnswer},
    cursor::Cursor,
};
use serde::de::DeserializeOwned;

use super::{Binary, Call, connection::Reply, failure::unexpected};
use crate::{
    Batch, BatchDone, Condition, Deleted, Entry, Error, Found, FoundAll, Incremented, KeyOptions, Meta, Page,
    PutOptions, Query, Range, RangeDeleted, Result, ScanStream, Sync, WriteOptions, Written,
    attempts::Manner, batch::half_open, types::ttl_of,
};

/// Items of a page, if nobody says how many, and at most; as over HTTP.
const PAGE_LIMIT: u64 = 100;
const PAGE_LIMIT_MAX: u64 = 10_000;
/// After so many bytes a page is full.
const PAGE_BYTES: u64 = 4 << 20;
/// Smaller values are copied: they would keep all alive that was read with them.
const SHARED_MIN: usize = 4 << 10;

impl Binary {
    pub(crate) async fn put_with(&self, key: &[u8], value: Bytes, options: PutOptions) -> Result<Written> {
        check_key(key)?;
        let PutOptions { write, ttl, condition } = options;
        let expiry = ttl.map(ttl_of).transpose()?.map(Expiry::After);
        let options = Options { expiry, ..self.of_write(write, condition) };
        let header = Header::new(Verb::Put, key.len(), value.len(), options);
        let manner = manner(write, value.len());
        let call = Call { header, body: key.to_vec(), value, manner };
        let (version, _) = done(self.send(call).await?)?;
        Ok(Written { version })
    }

    /// A write with an id of its own, so that its copies are applied once.
    fn of_write(&self, write: WriteOptions, condition: Option<Condition>) -> Options {
        Options {
            condition: condition.map(Condition::demand),
            sync: write.sync.map(|sync| match sync {
                Sync::Always => SyncWish::Always,
                Sync::Every(period) => SyncWish::Every(u64::try_from(period.as_millis()).unwrap_or(u64::MAX)),
            }),
            ack: (write.ack != Ack::default()).then_some(write.ack),
            id: Some(self.shared.request_ids.next_numbers()),
            unordered: true,
            more: true,
            ..Options::default()
        }
    }

    pub(crate) async fn get_with(&self, key: &[u8], consistency: Consistency) -> Result<Found> {
        check_key(key)?;
        let header = Header::new(Verb::Get, key.len(), 0, of_read(consistency));
        let reply = self.send(Call::read(header, key.to_vec())).await?;
        let applied = match &reply.first {
            Answer::Value { extras, .. } | Answer::NotFound { extras } => extras.applied,
            _ => None,
        };
        Ok(Found { entry: entry(reply.first)?, applied })
    }

    pub(crate) async fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        check_key(key)?;
        let header = Header::new(Verb::Head, key.len(), 0, of_read(Consistency::default()));
        match self.send(Call::read(header, key.to_vec())).await?.first {
            Answer::NotFound { .. } => Ok(None),
            Answer::Meta { len, version, extras } => {
                Ok(Some(Meta { version, value_len: len, expires_at: extras.expires }))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn delete_with(&self, key: &[u8], options: KeyOptions) -> Result<Deleted> {
        check_key(key)?;
        let KeyOptions { write, condition } = options;
        let header = Header::new(Verb::Del, key.len(), 0, self.of_write(write, condition));
        let manner = manner(write, 0);
        let call = Call { manner, ..Call::read(header, key.to_vec()) };
        let (version, extras) = done(self.send(call).await?)?;
        Ok(Deleted { version, existed: extras.existed == Some(1) })
    }

    pub(crate) async fn incr_with(&self, key: &[u8], by: i64, options: KeyOptions) -> Result<Incremented> {
        check_key(key)?;
        let KeyOptions { write, condition } = options;
        let header = Header::incr(key.len(), by, self.of_write(write, condition));
        let call = Call { manner: manner(write, 0), ..Call::read(header, key.to_vec()) };
        let (version, extras) = done(self.send(call).await?)?;
        let value = extras.sum.ok_or_else(|| Error::Protocol("an increment without its sum".into()))?;
        Ok(Incremented { value, version })
    }

    pub(crate) async fn mget_with(
        &self,
        keys: &[impl AsRef<[u8]>],
        consistency: Consistency,
    ) -> Result<FoundAll> {
        let mut body = Vec::new();
        for key in keys.iter().map(AsRef::as_ref) {
            check_key(key)?;
            body.extend_from_slice(format!("{}\n", key.len()).as_bytes());
            body.extend_from_slice(key);
        }
        if keys.is_empty() {
            return Err(Error::invalid("there is no key to read"));
        }
        let header = Header::new(Verb::Mget, keys.len(), 0, of_read(consistency));
        let Reply { first, rest } = self.send(Call::read(header, body)).await?;
        let Answer::Values { extras, .. } = first else { return Err(unexpected(&first)) };
        if rest.len() != keys.len() {
            return Err(Error::Protocol(format!("{} items for {} keys", rest.len(), keys.len())));
        }
        let entries = rest.into_iter().map(entry).collect::<Result<_>>()?;
        Ok(FoundAll { entries, applied: extras.applied })
    }

    pub(crate) async fn delete_range(&self, range: &Range, options: WriteOptions) -> Result<RangeDeleted> {
        let (start, end, prefix): (&[u8], &[u8], bool) = match range {
            Range::All => (b"", b"", true),
            Range::Prefix(prefix) => (prefix, b"", true),
            Range::Between(Some(start), Some(end)) => (start, end, false),
            Range::Between(..) => return Err(half_open()),
        };
        check_bounds(start, end)?;
        let words = Options { prefix, ..self.of_write(options, None) };
        let header = Header::new(Verb::DelRange, start.len(), end.len(), words);
        let call = Call { manner: manner(options, 0), ..Call::read(header, [start, end].concat()) };
        let (version, extras) = done(self.send(call).await?)?;
        Ok(RangeDeleted { version, deleted: extras.deleted })
    }

    pub(crate) async fn batch(&self, batch: Batch, options: WriteOptions) -> Result<BatchDone> {
        self.send_batch(batch.into_operations(), options).await
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
        self.send_batch(operations, options).await
    }

    async fn send_batch(&self, operations: Operations, options: WriteOptions) -> Result<BatchDone> {
        if operations.count() == 0 {
            return Err(Error::invalid("a batch has at least one operation"));
        }
        let header = Header::new(Verb::Batch, operations.count(), 0, self.of_write(options, None));
        let value = Bytes::from(operations.into_bytes());
        let manner = manner(options, value.len());
        let (version, extras) = done(self.send(Call { header, body: Vec::new(), value, manner }).await?)?;
        let operations = extras.operations.unwrap_or_default();
        Ok(BatchDone { version, operations, sum: extras.sum })
    }

    pub(crate) async fn list(&self, query: &Query, cursor: Option<&str>) -> Result<Page> {
        let limit = query.limit.unwrap_or(PAGE_LIMIT);
        if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
            return Err(Error::invalid(format!("`limit` is {limit}: a page takes 1 to {PAGE_LIMIT_MAX}")));
        }
        let cursor = cursor.map(|cursor| Cursor::decode(cursor.as_bytes())).transpose();
        let cursor = cursor.map_err(|e| Error::invalid(e.to_string()))?;
        let mut call = range_call(query, Some(limit), cursor)?;
        call.header.options.page = Some(PAGE_BYTES);
        let mut pairs = self.open(call).await?;
        let mut items = Vec::new();
        while let Some(item) = pairs.next(items.len() as u64).await? {
            items.push(item);
        }
        let next = items.last().filter(|_| pairs.has_next());
        let next = next.map(|item| Cursor { last_key: item.key.clone(), reverse: query.reverse }.encode());
        Ok(Page { items, next })
    }

    pub(crate) async fn scan(&self, query: &Query) -> Result<ScanStream> {
        if query.limit == Some(0) {
            return Err(Error::invalid("`limit` is 0: ask for 1 or more"));
        }
        Ok(ScanStream::of_pairs(self.open(range_call(query, query.limit, None)?).await?))
    }

    pub(crate) async fn status(&self) -> Result<StatusAnswer> {
        self.info(Verb::Status).await
    }

    pub(crate) async fn nodes(&self) -> Result<NodesAnswer> {
        self.info(Verb::Nodes).await
    }

    async fn info<T: DeserializeOwned>(&self, verb: Verb) -> Result<T> {
        let header = Header::new(verb, 0, 0, of_read(Consistency::default()));
        match self.send(Call::read(header, Vec::new())).await?.first {
            Answer::Info(json) => {
                serde_json::from_slice(&json).map_err(|e| Error::Protocol(format!("unexpected JSON: {e}")))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// A range, or what is left of it behind a cursor.
fn range_call(query: &Query, limit: Option<u64>, cursor: Option<Cursor>) -> Result<Call> {
    let mut words = Options { reverse: query.reverse, keys: query.keys_only, ..of_read(query.consistency) };
    let (mut start, mut end): (Vec<u8>, Vec<u8>) = match &query.range {
        Range::All => Default::default(),
        Range::Prefix(prefix) => {
            words.prefix = true;
            (prefix.clone(), Vec::new())
        }
        Range::Between(start, end) => (start.clone().unwrap_or_default(), end.clone().unwrap_or_default()),
    };
    if let Some(Cursor { last_key, reverse }) = cursor {
        let is_within = last_key.starts_with(&start) && words.prefix
            || !words.prefix && last_key >= start && (end.is_empty() || last_key <= end);
        if reverse != query.reverse || !is_within {
            return Err(Error::invalid("the cursor belongs to another list: repeat its query with it"));
        }
        if std::mem::take(&mut words.prefix) {
            // The rest of a prefix is a range: up to the last key that can begin so, or from the first one.
            end = last_of_prefix(&start);
        }
        match reverse {
            false => (start, words.after) = (last_key, true),
            true => (end, words.before) = (last_key, true),
        }
    }
    check_bounds(&start, &end)?;
    let header = Header::new(Verb::Range, start.len(), end.len(), words).limited(limit);
    Ok(Call::read(header, [start, end].concat()))
}

/// The last key that begins so: as long as a key can be.
fn last_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut last = prefix.to_vec();
    if !prefix.is_empty() {
        last.resize(KEY_LEN_MAX, 0xff);
    }
    last
}

fn of_read(consistency: Consistency) -> Options {
    Options { stale: consistency == Consistency::Stale, more: true, ..Options::default() }
}

/// One that awaits every voter takes its time.
fn manner(options: WriteOptions, body_len: usize) -> Manner {
    let patient = options.ack == Ack::All;
    Manner { is_write: true, patient, once: false, body_len }
}

fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        1..=KEY_LEN_MAX => Ok(()),
        len => Err(Error::invalid(format!("a key has 1 to {KEY_LEN_MAX} bytes, this one {len}"))),
    }
}

fn check_bounds(start: &[u8], end: &[u8]) -> Result<()> {
    match start.len().max(end.len()) {
        0..=KEY_LEN_MAX => Ok(()),
        len => Err(Error::invalid(format!("a key has 1 to {KEY_LEN_MAX} bytes, this one {len}"))),
    }
}

/// What a write is answered: its version, and more.
fn done(reply: Reply) -> Result<(u64, Extras)> {
    match reply.first {
        Answer::Ok { version, extras } => Ok((version, extras)),
        other => Err(unexpected(&other)),
    }
}

fn entry(answer: Answer) -> Result<Option<Entry>> {
    match answer {
        Answer::NotFound { .. } => Ok(None),
        Answer::Value { value, version, extras } => {
            let value = if value.len() < SHARED_MIN { Bytes::copy_from_slice(&value) } else { value };
            Ok(Some(Entry { value, version, expires_at: extras.expires }))
        }
        other => Err(unexpected(&other)),
    }
}
