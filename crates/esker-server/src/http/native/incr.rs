//! `POST /api/v1/kv/{key}/incr`: counters.

use axum::body::HttpBody;
use bytes::Bytes;
use esker_cluster::Batch;
use esker_wire::{
    ErrorCode, INCR_SUFFIX, KEY_PREFIX,
    kv::{IncrAnswer, IncrRequest},
};
use http::request::Parts;

use super::{
    condition,
    key::{Answer, METHODS, decode_key},
};
use crate::access::Door;
use crate::http::{
    answer::{etag, json},
    ask::{WRITE_PARAMETERS, write_options},
    error::ApiError,
    query::{Query, refuse_content_encoding},
    receive::receive,
};

/// An increment is a line of JSON.
const BODY_MAX: usize = 4 << 10;

/// Adds to the decimal integer that a key holds, 0 if it is absent; keeps when it expires.
#[utoipa::path(post, path = "/api/v1/kv/{key}/incr", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself"),
        ("If-Match" = Option<String>, Header, description = "The version in quotes that the key must be at, or `*`: it must be present"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: the key must be absent"),
        ("sync" = Option<String>, Query, description = "`always`, `every:<ms>` or `never`: asks for more than the server's policy"),
        ("ack" = Option<String>, Query, description = "`majority` (the default), `local` or `all`: who has the write on its disk when it is acknowledged"),
        ("Esker-Request-Id" = Option<String>, Header, description = "Two hexadecimal numbers with a dash between: of the writes with one id, a cluster applies one"),
    ),
    request_body(content = Option<IncrRequest>, description = "What is added; without a body, 1"),
    responses(
        (status = 200, description = "Committed; ETag is the version", body = IncrAnswer<'static>),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter, a condition, the body or the key is wrong", body = esker_wire::ErrorAnswer),
        (status = 408, description = "The body did not arrive in time", body = esker_wire::ErrorAnswer),
        (status = 409, description = "The value is no integer, or the sum does not fit into 64 bits; nothing was written", body = esker_wire::ErrorAnswer),
        (status = 412, description = "The condition does not hold; nothing was written, and the details tell the present version", body = esker_wire::ErrorAnswer),
        (status = 413, description = "The body is longer than an increment can be", body = esker_wire::ErrorAnswer),
        (status = 415, description = "The body has a Content-Encoding", body = esker_wire::ErrorAnswer),
        (status = 500, description = "The server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, refusing writes, without a leader, or the outcome is unknown; see the code and Retry-After", body = esker_wire::ErrorAnswer),
        (status = 507, description = "The disk is full", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn incr<B>(door: &Door, parts: &Parts, body: B) -> Answer
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let coded = parts.uri.path().get(KEY_PREFIX.len() - 1..).and_then(|path| path.strip_suffix(INCR_SUFFIX));
    // All but increments put what they write under its own path.
    let coded = coded.ok_or_else(|| ApiError::method_not_allowed(METHODS))?;
    let key = decode_key(coded.strip_prefix('/').unwrap_or_default())?;
    let options = write_options(&Query::parse(parts.uri.query(), WRITE_PARAMETERS)?, &parts.headers)?;
    let condition = condition::condition_of(&parts.headers)?;
    refuse_content_encoding(&parts.headers)?;
    let received = receive(door, body, BODY_MAX).await?;
    let IncrRequest { by } = read(&received.bytes)?;
    let mut batch = Batch::with_capacity(door.limits(), key.len());
    batch.add(&key, by)?;
    let committed = condition::write(door, batch, &key, condition, options).await?;
    let sum = committed.sum().ok_or_else(|| {
        ApiError::new(ErrorCode::Internal, "an increment was applied and has no sum: report this defect")
    })?;
    let mut answer = json(&IncrAnswer::new(&key, sum, committed.version));
    answer.headers_mut().insert(http::header::ETAG, etag(committed.version));
    Ok(answer)
}

fn read(body: &[u8]) -> Result<IncrRequest, ApiError> {
    let refused = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the body is no increment like {{\"by\":1}}: {why}"))
    };
    match body.trim_ascii() {
        b"" => Ok(IncrRequest::default()),
        // serde would take an array for an object, and an empty one for one that says nothing.
        text if text.starts_with(b"{") => serde_json::from_slice(text).map_err(|e| refused(&e)),
        _ => Err(refused(&"it is no object")),
    }
}
