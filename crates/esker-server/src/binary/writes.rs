//! Requests that write, as batches.

use std::time::Duration;

use esker_cluster::{Batch, Limits, WriteOptions};
use esker_engine::{Committed, KeyRange, RequestId, SyncPolicy};
use esker_wire::{
    Ack,
    binary::{Answer, Extras, Options, Request, SyncWish, Verb},
};

use super::execute::check_key;
use crate::http::{ApiError, add_operation, condition_of_demand};

/// What a write is answered once it is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) verb: Verb,
    pub(super) more: bool,
    operations: u64,
}

/// Whether a request shares a commit with its neighbours: one whose answer is OK and nothing else.
pub(super) fn joins(request: &Request<'_>) -> bool {
    let Options { expiry, .. } = request.header.options;
    request.header.verb == Verb::Put && request.header.options == Options { expiry, ..Options::default() }
}

/// Adds the put of such a request to a batch.
pub(super) fn put(batch: &mut Batch, request: &Request<'_>, now_ms: u64) -> esker_cluster::Result<()> {
    match request.header.options.expiry {
        None => batch.put(request.first(), request.second()),
        Some(expiry) => batch.put_expiring(request.first(), request.second(), expiry.at(now_ms)),
    }
}

/// The batch of a request that writes. Errors: it cannot be made.
pub(super) fn batch_of(
    request: &Request<'_>,
    limits: Limits,
    now_ms: u64,
) -> Result<(Batch, Pending), ApiError> {
    let (verb, options) = (request.header.verb, request.header.options);
    let mut batch = Batch::with_capacity(limits, request.body_len());
    match verb {
        Verb::Bput => request.items().pairs().try_for_each(|(key, value)| batch.put(key, value))?,
        Verb::Batch => {
            request
                .items()
                .operations()
                .try_for_each(|operation| add_operation(&mut batch, operation, now_ms))?;
        }
        Verb::DelRange => batch.delete_range(&range_to_delete(request)?)?,
        _ => {
            let key = request.first();
            check_key(key)?;
            if let Some(condition) = options.condition {
                batch.require(key, condition_of_demand(condition))?;
            }
            match verb {
                Verb::Del => batch.delete(key)?,
                Verb::Incr => batch.add(key, request.header.by)?,
                _ => put(&mut batch, request, now_ms)?,
            }
        }
    }
    let operations = batch.len() as u64;
    Ok((batch, Pending { verb, more: options.more, operations }))
}

/// The range, which must be said in full: half of one is most likely a variable that was not set.
fn range_to_delete(request: &Request<'_>) -> Result<KeyRange, ApiError> {
    let (start, end) = (request.first(), request.second());
    match request.header.options.prefix {
        true => Ok(KeyRange::prefix(start)),
        false if start.is_empty() || end.is_empty() => Err(ApiError::bad_request(
            "start and end are keys, which are not empty; `prefix` with an empty start stands for every key",
        )),
        false => Ok(KeyRange::inclusive(start, end)),
    }
}

/// How a write is to be committed. Errors: its id is none that a client has.
pub(super) fn write_options(options: &Options) -> Result<WriteOptions, ApiError> {
    let request = options.id.map(|(client, sequence)| RequestId { client, sequence });
    if request.is_some_and(|id| id.is_comparison()) {
        return Err(ApiError::bad_request("no client has the id of nothing but f"));
    }
    Ok(WriteOptions {
        sync: options.sync.map(|wish| match wish {
            SyncWish::Always => SyncPolicy::Always,
            SyncWish::Every(millis) => SyncPolicy::Every(Duration::from_millis(millis)),
            SyncWish::Never => SyncPolicy::Never,
        }),
        ack: match options.ack.unwrap_or_default() {
            Ack::Majority => esker_cluster::Ack::Majority,
            Ack::Local => esker_cluster::Ack::Local,
            Ack::All => esker_cluster::Ack::All,
        },
        request,
    })
}

impl Pending {
    /// What is answered now that the write was applied.
    pub(super) fn answer(self, committed: &Committed) -> Answer<&'static [u8]> {
        let extras = match self.verb {
            Verb::Del if self.more => Extras { existed: Some(committed.existed.into()), ..Extras::default() },
            Verb::Incr => Extras { sum: committed.sum(), ..Extras::default() },
            Verb::DelRange => Extras { deleted: Some(committed.existed.into()), ..Extras::default() },
            Verb::Batch => {
                Extras { operations: Some(self.operations), sum: committed.sum(), ..Extras::default() }
            }
            _ => Extras::default(),
        };
        Answer::Ok { version: committed.version, extras }
    }
}
