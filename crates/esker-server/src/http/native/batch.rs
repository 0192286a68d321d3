//! `POST /api/v1/batch`: writes that commit together or not at all.

use axum::body::Body;
use esker_cluster::{Batch, Limits};
use esker_engine::{Condition, KeyRange};
use esker_wire::{
    ErrorCode,
    batch::{BatchAnswer, BatchError, BatchLimits, Demand, Operation, Range, decode},
};
use http::{HeaderMap, Request, Response, header};

use super::condition::applied;
use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, json},
    ask::{WRITE_PARAMETERS, write_options},
    decode::{batch_body_max, decode as decode_body},
    error::ApiError,
    query::{Query, refuse_conditions, refuse_content_encoding},
    receive::receive,
};

/// Commits writes together, if the conditions among them hold. The body is taken as JSON whatever its type says (`curl -d` says form),
/// unless the type cannot be JSON.
#[utoipa::path(post, path = "/api/v1/batch", tag = "keys",
    params(
        ("sync" = Option<String>, Query, description = "`always`, `every:<ms>` or `never`: asks for more than the server's policy"),
        ("ack" = Option<String>, Query, description = "`majority` (the default), `local` or `all`: who has the write on its disk when it is acknowledged"),
        ("Esker-Request-Id" = Option<String>, Header, description = "Two hexadecimal numbers with a dash between: of the writes with one id, a cluster applies one"),
    ),
    request_body = esker_wire::batch::BatchRequest<'static>,
    responses(
        (status = 200, description = "All committed, at one version", body = BatchAnswer),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "Not a batch; nothing was written", body = esker_wire::ErrorAnswer),
        (status = 408, description = "The body did not arrive in time", body = esker_wire::ErrorAnswer),
        (status = 409, description = "An incr met what is no integer, or its sum does not fit into 64 bits; nothing was written", body = esker_wire::ErrorAnswer),
        (status = 412, description = "A condition does not hold; nothing was written, and the details tell the present version of its key", body = esker_wire::ErrorAnswer),
        (status = 413, description = "Larger than the limits; nothing was written", body = esker_wire::ErrorAnswer),
        (status = 415, description = "The body cannot be JSON", body = esker_wire::ErrorAnswer),
        (status = 500, description = "The server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, refusing writes, without a leader, or the outcome is unknown; see the code and Retry-After", body = esker_wire::ErrorAnswer),
        (status = 507, description = "The disk is full", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn batch(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    let (parts, body) = request.into_parts();
    let options = write_options(&Query::parse(parts.uri.query(), WRITE_PARAMETERS)?, &parts.headers)?;
    // The conditions of a batch name their keys.
    refuse_conditions(&parts.headers, &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    refuse_content_encoding(&parts.headers)?;
    refuse_other_types(&parts.headers)?;
    let (limits, now_ms) = (door.limits(), door.now_ms());
    let received = receive(&door, body, batch_body_max(limits)).await?;
    let batch = decode_body(received, move |json| read(json, limits, now_ms)).await??;
    let operations = batch.len() as u64;
    let committed = applied(door.write(batch, options).await?)?;
    Ok(json(&BatchAnswer { version: committed.version, operations, sum: committed.sum() }))
}

fn read(json: &[u8], limits: Limits, now_ms: u64) -> Result<Batch, ApiError> {
    let mut batch = Batch::new(limits);
    // The value limit is the one that only the Store knows; it is kept aside for its status.
    let mut refused = None;
    let decoded = decode(
        json,
        BatchLimits { operations: limits.batch_ops, bytes: limits.batch_bytes },
        &mut |operation| {
            add(&mut batch, operation, now_ms).map_err(|e| {
                let why = e.to_string();
                refused = Some(e);
                why
            })
        },
    );
    match (decoded, refused) {
        (Ok(_), _) => Ok(batch),
        (Err(BatchError::TooLarge(why)), _) => Err(ApiError::new(ErrorCode::PayloadTooLarge, why)),
        (Err(e), Some(esker_cluster::Error::TooLarge(_))) => {
            Err(ApiError::new(ErrorCode::PayloadTooLarge, e.to_string()))
        }
        (Err(e), _) => Err(ApiError::bad_request(e.to_string())),
    }
}

/// Adds a decoded operation, or a condition, to a batch that is taken on now.
pub(crate) fn add(batch: &mut Batch, operation: Operation<'_>, now_ms: u64) -> esker_cluster::Result<()> {
    match operation {
        Operation::Put { key, value, expiry: None } => batch.put(&key, &value),
        Operation::Put { key, value, expiry: Some(expiry) } => {
            batch.put_expiring(&key, &value, expiry.at(now_ms))
        }
        Operation::Delete { key } => batch.delete(&key),
        Operation::Incr { key, by } => batch.add(&key, by),
        Operation::DeleteRange(Range::Prefix(prefix)) => batch.delete_range(&KeyRange::prefix(prefix)),
        Operation::DeleteRange(Range::Between(start, end)) => {
            batch.delete_range(&KeyRange::inclusive(start, end))
        }
        Operation::Require { key, demand } => batch.require(&key, condition(demand)),
    }
}

/// A condition as the store has it.
pub(crate) fn condition(demand: Demand) -> Condition {
    match demand {
        Demand::Absent => Condition::Absent,
        Demand::Present => Condition::Present,
        Demand::Version(version) => Condition::Version(version),
    }
}

fn refuse_other_types(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = given.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    let other =
        [&b"image/"[..], b"audio/", b"video/", b"multipart/", b"text/html", b"text/xml", b"application/xml"];
    if other.iter().any(|prefix| essence.starts_with(prefix)) || essence.ends_with(b"+xml") {
        let given = given.as_bytes().escape_ascii();
        let why = format!("a batch is JSON, not {given}: send it as application/json");
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, why));
    }
    Ok(())
}
