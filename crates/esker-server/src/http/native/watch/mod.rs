//! `GET /api/v1/watch`: changes as server-sent events. `docs/watch.md` says what is told, and how.

mod body;
mod events;

use axum::body::Body;
use esker_cluster::WatchOptions;
use esker_engine::Version;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};

use self::body::EventStream;
use super::list::{ENCODING, is_base64, key_parameter};
use crate::{
    access::Door,
    http::{
        answer::AnswerBody,
        error::ApiError,
        query::{Query, refuse_conditions},
    },
};

const PARAMETERS: &[&str] = &["prefix", "from", "keys_only", ENCODING];
/// What an `EventSource` sends when it connects again: the id of the last event that it got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that gather answers before they pass them on are told not to.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Watches the changes of keys with a prefix, as server-sent events in the order of their versions, each once: `put` (its data is an item of a list), `delete`,
/// `delete_range`, `progress`, `resync`, and `error`, behind which the stream ends, as behind `resync`. Only the last event of a version has an id, and so has
/// progress: with it as `Last-Event-ID` (or the version behind it as `from`) the stream goes on, at this node or another, and tells everything once.
#[utoipa::path(get, path = "/api/v1/watch", tag = "keys",
    params(
        ("prefix" = Option<String>, Query, description = "Keys that begin so; default: all"),
        ("from" = Option<u64>, Query, description = "The first version to be told; default: what is written from now on"),
        ("keys_only" = Option<bool>, Query, description = "No values"),
        ("encoding" = Option<String>, Query, description = "`base64`: the prefix is base64url, and all keys and values come in base64"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on behind this version; outranks `from`"),
    ),
    responses(
        (status = 200, description = "Events, until the client ends it",
            content((esker_wire::kv::Item<'static> = "text/event-stream"), (esker_wire::watch::Deleted<'static> = "text/event-stream; event=delete"),
                (esker_wire::watch::DeletedRange<'static> = "text/event-stream; event=delete_range"),
                (esker_wire::watch::Progress = "text/event-stream; event=progress"), (esker_wire::watch::Resync<'static> = "text/event-stream; event=resync"))),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter is wrong", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Too many watch, or the cluster has no leader; see Retry-After", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn watch(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    refuse_conditions(request.headers(), &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    let query = Query::parse(request.uri().query(), PARAMETERS)?;
    let base64 = is_base64(&query)?;
    let options = WatchOptions {
        prefix: key_parameter(&query, "prefix", base64)?.unwrap_or_default(),
        from: resumed(request.headers())?.or(query.parsed("from", "a version: a whole number")?),
        keys_only: query.flag("keys_only")?,
    };
    let watch = door.watch(options).await?;
    let mut answer =
        Response::new(AnswerBody::Boxed(EventStream::new(door.front(), watch, base64).into_body()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(answer)
}

/// Where a client that connects again goes on.
fn resumed(headers: &HeaderMap) -> Result<Option<Version>, ApiError> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let told = id.to_str().ok().and_then(|id| id.parse::<Version>().ok());
    let told = told.and_then(|told| told.checked_add(1)).ok_or_else(|| {
        let got = id.as_bytes().escape_ascii();
        ApiError::bad_request(format!("the header Last-Event-ID is `{got}`: it takes the id of an event"))
    })?;
    Ok(Some(told))
}
