//! The query dialect: the key is a parameter and the value the raw body (`PUT /put?key=`, `GET /read?key=`,
//! `GET /range?start=&end=`, `POST /batchput`, `DELETE /delete?key=`).

mod openapi;
mod range;

use esker_cluster::{Batch, Limits};
use http::{Method, Request, Response, header, request::Parts};
use hyper::body::Incoming;

use super::{
    Claim, Routes,
    reading::{BodyError, read_pairs},
    text,
};
use crate::{
    access::Door,
    http::{
        answer::{AnswerBody, OCTET_STREAM, held_value},
        decode::{batch_body_max, decode},
        error::ApiError,
        openapi::ValueBytes,
        plain,
        query::Query,
        receive::receive,
    },
    metrics::Operation,
};

pub(crate) use openapi::Description;

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Put,
    Read,
    Range,
    BatchPut,
    Delete,
}

pub(crate) const ROUTES: Routes<Asked> = &[
    ("PUT", "/put", Asked::Put),
    ("GET", "/read", Asked::Read),
    ("GET", "/range", Asked::Range),
    ("POST", "/batchput", Asked::BatchPut),
    ("DELETE", "/delete", Asked::Delete),
];

pub(super) fn claim(method: &Method, path: &str) -> Claim<Asked> {
    super::claim(ROUTES, method, path)
}

impl Asked {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Put => Operation::Put,
            Self::Read => Operation::Get,
            Self::Range => Operation::List,
            Self::BatchPut => Operation::Batch,
            Self::Delete => Operation::Delete,
        }
    }
}

type Answer = Result<Response<AnswerBody>, ApiError>;

pub(super) async fn answer(door: &Door, asked: Asked, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    match asked {
        Asked::Put => put(door, &parts, body).await,
        Asked::Read => read(door, &parts).await,
        Asked::Range => range::range(door, &parts).await,
        Asked::BatchPut => batch_put(door, &parts, body).await,
        Asked::Delete => delete(door, &parts).await,
    }
}

/// Sets a key to a value.
#[utoipa::path(put, path = "/put", tag = "query dialect",
    params(("key" = String, Query, description = "The key, percent-coded")),
    request_body(content = inline(ValueBytes), content_type = "application/octet-stream", description = "The value, any bytes"),
    responses(
        (status = 200, description = "Committed: `OK`", content_type = "text/plain", body = String),
        super::text::WriteRefusals,
    ))]
async fn put(door: &Door, parts: &Parts, body: Incoming) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let query = Query::parse_known(parts.uri.query(), &["key"])?;
    let key = required(&query, "key")?;
    let value = receive(door, body, door.limits().value_bytes).await?;
    let batch = plain::put_batch(door, key, &value.bytes)?;
    drop(value);
    plain::write(door, batch, options).await?;
    Ok(text::done("OK"))
}

/// Reads a key.
#[utoipa::path(get, path = "/read", tag = "query dialect",
    params(("key" = String, Query, description = "The key, percent-coded")),
    responses(
        (status = 200, description = "The value as it was put", content_type = "application/octet-stream", body = inline(ValueBytes)),
        (status = 404, description = "`Not Found`", content_type = "text/plain", body = String),
        super::text::ReadRefusals,
    ))]
async fn read(door: &Door, parts: &Parts) -> Answer {
    let query = Query::parse_known(parts.uri.query(), &["key"])?;
    let entry = plain::get(door, required(&query, "key")?).await?.ok_or_else(text::not_found)?;
    let mut answer = Response::new(AnswerBody::full(held_value(door, entry.value.into_bytes())?));
    answer.headers_mut().insert(header::CONTENT_TYPE, OCTET_STREAM);
    Ok(answer)
}

/// Sets many keys, all of them or none.
#[utoipa::path(post, path = "/batchput", tag = "query dialect",
    request_body(content = std::collections::BTreeMap<String, String>, description = "An object of keys and values: JSON, whatever the Content-Type says"),
    responses(
        (status = 200, description = "All committed: `OK`", content_type = "text/plain", body = String),
        super::text::WriteRefusals,
    ))]
async fn batch_put(door: &Door, parts: &Parts, body: Incoming) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let limits = door.limits();
    let received = receive(door, body, batch_body_max(limits)).await?;
    let batch = decode(received, move |json| read_batch(json, limits)).await??;
    plain::write(door, batch, options).await?;
    Ok(text::done("OK"))
}

fn read_batch(json: &[u8], limits: Limits) -> Result<Batch, ApiError> {
    let mut batch = Batch::new(limits);
    let read = read_pairs(json, &mut |key, value| {
        let put = batch.put(key.as_bytes(), value.as_bytes()).map_err(ApiError::from);
        put.map_err(|e| e.at(format_args!("the key {key:?}")))
    });
    match read {
        Ok(()) => Ok(batch),
        Err(BodyError::Refused(e)) => Err(e),
        Err(BodyError::Malformed(why)) => {
            Err(ApiError::bad_request(format!("the body is not a JSON object of keys and values: {why}")))
        }
        Err(BodyError::Missing) => unreachable!("an object of pairs has no field that it could lack"),
    }
}

/// Removes a key.
#[utoipa::path(delete, path = "/delete", tag = "query dialect",
    params(("key" = String, Query, description = "The key, percent-coded")),
    responses(
        (status = 200, description = "Committed: `OK`", content_type = "text/plain", body = String),
        (status = 404, description = "It was absent: `Not Found`", content_type = "text/plain", body = String),
        super::text::WriteRefusals,
    ))]
async fn delete(door: &Door, parts: &Parts) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let query = Query::parse_known(parts.uri.query(), &["key"])?;
    let committed = plain::delete(door, required(&query, "key")?, options).await?;
    if committed.existed == 0 { Err(text::not_found()) } else { Ok(text::done("OK")) }
}

/// A parameter that must be there, and is not empty.
fn required<'q>(query: &'q Query<'_>, name: &str) -> Result<&'q [u8], ApiError> {
    query.key(name).ok_or_else(|| ApiError::bad_request(format!("the parameter `{name}` is missing")))
}
