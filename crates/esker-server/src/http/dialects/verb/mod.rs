//! The verb dialect: the path says what to do (`POST /put`, `GET /get?key=`, `POST /batch`, `GET /scan`, `POST /delete?key=`).
//!
//! Bodies are JSON whatever their Content-Type says: `curl -d` sends a form's.

mod metrics;
mod openapi;
mod scan;
mod shapes;

use esker_cluster::Batch;
use http::{HeaderMap, Method, Request, Response, Uri, header, request::Parts};
use hyper::body::Incoming;

use super::{Claim, Routes, text};
use crate::{
    access::Door,
    http::{
        answer::{AnswerBody, OCTET_STREAM, held_value},
        decode::{batch_body_max, decode, value_body_max},
        error::ApiError,
        openapi::ValueBytes,
        plain,
        query::Query,
        receive::receive,
    },
    metrics::Operation,
};

pub(crate) use metrics::MetricsAnswer;
pub(crate) use openapi::Description;

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Put,
    Get,
    Batch,
    Scan,
    Delete,
    Metrics,
}

pub(crate) const ROUTES: Routes<Asked> = &[
    ("POST", "/put", Asked::Put),
    ("GET", "/get", Asked::Get),
    ("POST", "/batch", Asked::Batch),
    ("GET", "/scan", Asked::Scan),
    ("POST", "/delete", Asked::Delete),
];

/// Asked for as JSON; else it is not this dialect's.
const METRICS_PATH: &str = "/metrics";

pub(super) fn claim(method: &Method, uri: &Uri, headers: &HeaderMap) -> Claim<Asked> {
    if uri.path() == METRICS_PATH {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        return if reads && metrics::is_asked(uri, headers) { Claim::Yes(Asked::Metrics) } else { Claim::No };
    }
    super::claim(ROUTES, method, uri.path())
}

impl Asked {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Put => Operation::Put,
            Self::Get => Operation::Get,
            Self::Batch => Operation::Batch,
            Self::Scan => Operation::List,
            Self::Delete => Operation::Delete,
            Self::Metrics => Operation::Other,
        }
    }
}

type Answer = Result<Response<AnswerBody>, ApiError>;

pub(super) async fn answer(door: &Door, asked: Asked, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    match asked {
        Asked::Put => put(door, &parts, body).await,
        Asked::Get => get(door, &parts).await,
        Asked::Batch => batch(door, &parts, body).await,
        Asked::Scan => scan::scan(door, &parts).await,
        Asked::Delete => delete(door, &parts).await,
        Asked::Metrics => metrics::metrics(door),
    }
}

/// Sets a key to a value.
#[utoipa::path(post, path = "/put", tag = "verb dialect",
    request_body(content = shapes::Pair<'static>, description = "JSON, whatever the Content-Type says"),
    responses(
        (status = 200, description = "Committed: `OK`", content_type = "text/plain", body = String),
        super::text::WriteRefusals,
    ))]
async fn put(door: &Door, parts: &Parts, body: Incoming) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let limits = door.limits();
    let received = receive(door, body, value_body_max(limits)).await?;
    let batch = decode(received, move |json| shapes::read_put(json, limits)).await??;
    plain::write(door, batch, options).await?;
    Ok(text::done("OK"))
}

/// Reads a key.
#[utoipa::path(get, path = "/get", tag = "verb dialect",
    params(("key" = String, Query, description = "The key, percent-coded")),
    responses(
        (status = 200, description = "The value as it was put", content_type = "application/octet-stream", body = inline(ValueBytes)),
        (status = 404, description = "`Not Found`", content_type = "text/plain", body = String),
        super::text::ReadRefusals,
    ))]
async fn get(door: &Door, parts: &Parts) -> Answer {
    let query = Query::parse_known(parts.uri.query(), &["key"])?;
    let entry = plain::get(door, key(&query)?).await?.ok_or_else(text::not_found)?;
    let mut answer = Response::new(AnswerBody::full(held_value(door, entry.value.into_bytes())?));
    answer.headers_mut().insert(header::CONTENT_TYPE, OCTET_STREAM);
    Ok(answer)
}

/// Sets many keys, all of them or none.
#[utoipa::path(post, path = "/batch", tag = "verb dialect",
    request_body(content = shapes::BatchRequest<'static>, description = "JSON, whatever the Content-Type says"),
    responses(
        (status = 200, description = "All committed: `Batch Processed`", content_type = "text/plain", body = String),
        super::text::WriteRefusals,
    ))]
async fn batch(door: &Door, parts: &Parts, body: Incoming) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let limits = door.limits();
    let received = receive(door, body, batch_body_max(limits)).await?;
    let batch: Batch = decode(received, move |json| shapes::read_batch(json, limits)).await??;
    plain::write(door, batch, options).await?;
    Ok(text::done("Batch Processed"))
}

/// Removes a key; absent keys may be removed too.
#[utoipa::path(post, path = "/delete", tag = "verb dialect",
    params(("key" = String, Query, description = "The key, percent-coded")),
    responses(
        (status = 200, description = "Committed: `Deleted`", content_type = "text/plain", body = String),
        super::text::WriteRefusals,
    ))]
async fn delete(door: &Door, parts: &Parts) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let query = Query::parse_known(parts.uri.query(), &["key"])?;
    plain::delete(door, key(&query)?, options).await?;
    Ok(text::done("Deleted"))
}

fn key<'q>(query: &'q Query<'_>) -> Result<&'q [u8], ApiError> {
    query.key("key").ok_or_else(|| ApiError::bad_request("the parameter `key` is missing"))
}
