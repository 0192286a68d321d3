//! `/api/v1/kv/{key}`: one key.
//!
//! The key is all of the raw path that follows, percent-decoded once: `..`, `//`, NUL and `%2f` are bytes like
//! any other.

use std::borrow::Cow;

use axum::body::HttpBody;
use bytes::Bytes;
use esker_cluster::Batch;
use esker_engine::{Entry, Version};
use esker_wire::{
    ErrorCode, INCR_SUFFIX, KEY_PREFIX, Ttl,
    kv::{DeleteAnswer, PutAnswer},
    options::EXPIRES_AT_HEADER,
    percent,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, header, request::Parts};

use super::{
    condition::{self, condition_of},
    incr::incr,
};
use crate::access::{Door, Right};
use crate::http::{
    answer::{AnswerBody, OCTET_STREAM, etag, held_value, json, not_modified},
    ask::{CONSISTENCY, ReadPoint, WRITE_PARAMETERS, write_options},
    error::ApiError,
    openapi::ValueBytes,
    query::{Query, refuse_conditions, refuse_content_encoding},
    receive::receive,
};

const EXPIRES_AT: HeaderName = HeaderName::from_static(EXPIRES_AT_HEADER);
/// What a put says beside how it is committed.
const TTL: &str = "ttl";
const PUT_PARAMETERS: &[&str] = &[WRITE_PARAMETERS[0], WRITE_PARAMETERS[1], TTL];

/// What a key's path takes.
pub(super) const METHODS: &str = "GET, HEAD, PUT, DELETE";

pub(super) type Answer = Result<Response<AnswerBody>, ApiError>;

/// Answers a request whose path begins with [`KEY_PREFIX`].
pub(crate) async fn answer_key<B>(door: &Door, request: Request<B>) -> Answer
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::GET => get(door, &parts).await,
        Method::PUT => put(door, &parts, body).await,
        Method::HEAD => head(door, &parts).await,
        Method::DELETE => delete(door, &parts).await,
        Method::POST => incr(door, &parts, body).await,
        _ if parts.uri.path().ends_with(INCR_SUFFIX) => {
            Err(ApiError::method_not_allowed("GET, HEAD, PUT, DELETE, POST"))
        }
        _ => Err(ApiError::method_not_allowed(METHODS)),
    }
}

fn key_of(parts: &Parts) -> Result<Cow<'_, [u8]>, ApiError> {
    decode_key(parts.uri.path().get(KEY_PREFIX.len()..).unwrap_or_default())
}

/// A key as a path has it.
pub(super) fn decode_key(coded: &str) -> Result<Cow<'_, [u8]>, ApiError> {
    let key = percent::decode(coded.as_bytes())?;
    if key.is_empty() {
        return Err(ApiError::bad_request("the key is empty: write it behind /api/v1/kv/"));
    }
    Ok(key)
}

fn not_found(key: &[u8]) -> ApiError {
    let shown = esker_wire::kv::PutAnswer::new(key, 0).key;
    ApiError::new(ErrorCode::KeyNotFound, "the key is absent")
        .with_details(serde_json::json!({ "key": shown }))
}

/// Reads a key.
#[utoipa::path(get, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself"),
        ("If-None-Match" = Option<String>, Header, description = "ETags: answers 304 if one is the value's"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (the default) or `stale`: whatever this node has applied"),
    ),
    responses(
        (status = 200, description = "The value as it was put; ETag is its version",
            content_type = "application/octet-stream", body = inline(ValueBytes),
            headers(
                ("Esker-Applied-Version" = Option<u64>, description = "What the node had applied, in a stale answer"),
                ("Esker-Expires-At" = Option<u64>, description = "When the key expires, in milliseconds since 1970; absent where it does not"),
            )),
        (status = 304, description = "The value has not changed"),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter, a condition or the key is wrong", body = esker_wire::ErrorAnswer),
        (status = 404, description = "The key is absent", body = esker_wire::ErrorAnswer),
        (status = 500, description = "A stored value is damaged, or the server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, or the cluster has no leader; see Retry-After", body = esker_wire::ErrorAnswer),
    ))]
async fn get(door: &Door, parts: &Parts) -> Answer {
    let (key, query) = readable_key(parts)?;
    let point = ReadPoint::wait(door, &query).await?;
    Ok(point.mark(read_value(door, parts, &key).await))
}

async fn read_value(door: &Door, parts: &Parts, key: &[u8]) -> Answer {
    // The version is in memory: what has not changed is not read.
    if let Some(condition) = parts.headers.get(header::IF_NONE_MATCH)
        && let Some(meta) = door.meta(key)?
        && matches(condition, meta.version)
    {
        return Ok(not_modified(meta.version));
    }
    let entry = door.get(key).await?.ok_or_else(|| not_found(key))?;
    value_answer(door, entry)
}

/// Reads a key's version and length.
#[utoipa::path(head, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself"),
        ("If-None-Match" = Option<String>, Header, description = "ETags: answers 304 if one is the value's"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (the default) or `stale`: whatever this node has applied"),
    ),
    responses(
        (status = 200, description = "The key is present; ETag is its version, Content-Length its value's",
            headers(
                ("Esker-Applied-Version" = Option<u64>, description = "What the node had applied, in a stale answer"),
                ("Esker-Expires-At" = Option<u64>, description = "When the key expires, in milliseconds since 1970; absent where it does not"),
            )),
        (status = 304, description = "The value has not changed"),
        (status = 307, description = "Another node leads and this one redirects; see Location"),
        (status = 400, description = "A parameter, a condition or the key is wrong"),
        (status = 404, description = "The key is absent"),
        (status = 503, description = "The cluster has no leader; see Retry-After"),
    ))]
async fn head(door: &Door, parts: &Parts) -> Answer {
    let (key, query) = readable_key(parts)?;
    let point = ReadPoint::wait(door, &query).await?;
    Ok(point.mark(read_meta(door, parts, &key).await))
}

async fn read_meta(door: &Door, parts: &Parts, key: &[u8]) -> Answer {
    let meta = door.meta(key)?.ok_or_else(|| not_found(key))?;
    if parts.headers.get(header::IF_NONE_MATCH).is_some_and(|condition| matches(condition, meta.version)) {
        return Ok(not_modified(meta.version));
    }
    let (version, expiry, value_len) = match meta.value_len {
        Some(value_len) => (meta.version, meta.expiry, value_len),
        // Only the value itself says how long a compressed value is.
        None => {
            let entry = door.get(key).await?.ok_or_else(|| not_found(key))?;
            (entry.version, entry.expiry, entry.value.len() as u64)
        }
    };
    let mut answer = of_version(Response::new(AnswerBody::empty()), version, expiry);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(value_len));
    Ok(answer)
}

fn readable_key(parts: &Parts) -> Result<(Cow<'_, [u8]>, Query<'_>), ApiError> {
    let query = Query::parse(parts.uri.query(), &[CONSISTENCY])?;
    refuse_conditions(&parts.headers, &[header::IF_MATCH])?;
    Ok((key_of(parts)?, query))
}

fn value_answer(door: &Door, Entry { value, version, expiry }: Entry) -> Answer {
    let bytes = held_value(door, value.into_bytes())?;
    Ok(of_version(Response::new(AnswerBody::full(bytes)), version, expiry))
}

fn of_version(
    mut answer: Response<AnswerBody>,
    version: Version,
    expiry: Option<u64>,
) -> Response<AnswerBody> {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, OCTET_STREAM);
    headers.insert(header::ETAG, etag(version));
    if let Some(expiry) = expiry {
        headers.insert(EXPIRES_AT, HeaderValue::from(expiry));
    }
    answer
}

/// Whether an If-None-Match names the version. Compared weakly, as RFC 9110 says for this header.
fn matches(condition: &HeaderValue, version: Version) -> bool {
    let etag = etag(version);
    let mut tags = condition.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Sets a key to a value.
#[utoipa::path(put, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself"),
        ("ttl" = Option<String>, Query, description = "How long the key is to live, a number with its unit: `ms`, `s`, `m`, `h` or `d`; without it the key stays"),
        ("If-Match" = Option<String>, Header, description = "The version in quotes that the key must be at, or `*`: it must be present"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: the key must be absent"),
        ("sync" = Option<String>, Query, description = "`always`, `every:<ms>` or `never`: asks for more than the server's policy"),
        ("ack" = Option<String>, Query, description = "`majority` (the default), `local` or `all`: who has the write on its disk when it is acknowledged"),
        ("Esker-Request-Id" = Option<String>, Header, description = "Two hexadecimal numbers with a dash between: of the writes with one id, a cluster applies one"),
    ),
    request_body(content = inline(ValueBytes), content_type = "application/octet-stream", description = "The value, any bytes"),
    responses(
        (status = 200, description = "Committed; ETag is the version", body = esker_wire::kv::PutAnswer<'static>),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter, a condition or the key is wrong", body = esker_wire::ErrorAnswer),
        (status = 408, description = "The value did not arrive in time", body = esker_wire::ErrorAnswer),
        (status = 412, description = "The condition does not hold; nothing was written, and the details tell the present version", body = esker_wire::ErrorAnswer),
        (status = 413, description = "The value is larger than the limit", body = esker_wire::ErrorAnswer),
        (status = 414, description = "The path is too long: write the key in a batch", body = esker_wire::ErrorAnswer),
        (status = 415, description = "The body has a Content-Encoding", body = esker_wire::ErrorAnswer),
        (status = 500, description = "The server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, refusing writes, without a leader, or the outcome is unknown; see the code and Retry-After", body = esker_wire::ErrorAnswer),
        (status = 507, description = "The disk is full", body = esker_wire::ErrorAnswer),
    ))]
async fn put<B>(door: &Door, parts: &Parts, body: B) -> Answer
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let query = Query::parse(parts.uri.query(), PUT_PARAMETERS)?;
    let options = write_options(&query, &parts.headers)?;
    let ttl: Option<Ttl> =
        query.parsed(TTL, "a number above 0 with its unit: ms, s, m, h or d, as in 30s")?;
    let condition = condition_of(&parts.headers)?;
    let key = key_of(parts)?;
    refuse_content_encoding(&parts.headers)?;
    // Before the value is taken.
    door.may(Right::Write, &key)?;
    let limits = door.limits();
    let value = receive(door, body, limits.value_bytes).await?;
    let mut batch = Batch::with_capacity(limits, key.len() + value.bytes.len());
    match ttl {
        Some(ttl) => batch.put_expiring(&key, &value.bytes, ttl.after(door.now_ms()))?,
        None => batch.put(&key, &value.bytes)?,
    }
    drop(value);
    let committed = condition::write(door, batch, &key, condition, options).await?;
    let mut answer = json(&PutAnswer::new(&key, committed.version));
    answer.headers_mut().insert(header::ETAG, etag(committed.version));
    Ok(answer)
}

/// Removes a key; absent keys may be removed too.
#[utoipa::path(delete, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself"),
        ("If-Match" = Option<String>, Header, description = "The version in quotes that the key must be at, or `*`: it must be present"),
        ("sync" = Option<String>, Query, description = "`always`, `every:<ms>` or `never`: asks for more than the server's policy"),
        ("ack" = Option<String>, Query, description = "`majority` (the default), `local` or `all`: who has the write on its disk when it is acknowledged"),
        ("Esker-Request-Id" = Option<String>, Header, description = "Two hexadecimal numbers with a dash between: of the writes with one id, a cluster applies one"),
    ),
    responses(
        (status = 200, description = "Committed", body = esker_wire::kv::DeleteAnswer<'static>),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter, a condition or the key is wrong", body = esker_wire::ErrorAnswer),
        (status = 412, description = "The condition does not hold; nothing was written, and the details tell the present version", body = esker_wire::ErrorAnswer),
        (status = 500, description = "The server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, refusing writes, without a leader, or the outcome is unknown; see the code and Retry-After", body = esker_wire::ErrorAnswer),
        (status = 507, description = "The disk is full", body = esker_wire::ErrorAnswer),
    ))]
async fn delete(door: &Door, parts: &Parts) -> Answer {
    let options = write_options(&Query::parse(parts.uri.query(), WRITE_PARAMETERS)?, &parts.headers)?;
    // What is absent need not be deleted.
    refuse_conditions(&parts.headers, &[header::IF_NONE_MATCH])?;
    let condition = condition_of(&parts.headers)?;
    let key = key_of(parts)?;
    let mut batch = Batch::with_capacity(door.limits(), key.len());
    batch.delete(&key)?;
    let committed = condition::write(door, batch, &key, condition, options).await?;
    Ok(json(&DeleteAnswer::new(&key, committed.version, committed.existed > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_name_versions_in_lists_weakly_or_all() {
        for (condition, holds) in [
            ("\"7\"", true),
            ("\"6\", W/\"7\"", true),
            ("*", true),
            ("\"77\"", false),
            ("7", false),
            ("", false),
        ] {
            assert_eq!(matches(&HeaderValue::from_static(condition), 7), holds, "{condition}");
        }
    }
}
