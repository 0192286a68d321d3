//! `/kv/{key}`: one key, which is all of the raw path that follows, percent-decoded once.

use std::borrow::Cow;

use esker_cluster::{Batch, Limits};
use esker_wire::{decode_text, encode_pair, percent};
use http::request::Parts;
use hyper::body::Incoming;

use super::{
    Answer, KEY_PREFIX,
    shapes::{DeleteData, Envelope, ErrorEnvelope, GetData, PutData, PutRequest, Refusal, success},
};
use crate::access::Door;
use crate::http::{
    answer::AnswerRoom,
    decode::{decode, value_body_max},
    dialects::reading::{NO_OBJECT, Text, is_object},
    error::ApiError,
    plain,
    receive::receive,
};

fn key_of(parts: &Parts) -> Result<Cow<'_, [u8]>, Refusal> {
    let coded = parts.uri.path().get(KEY_PREFIX.len()..).unwrap_or_default();
    let key = percent::decode(coded.as_bytes()).map_err(ApiError::from)?;
    if key.is_empty() {
        return Err(ApiError::bad_request("the key is empty: write it behind /kv/").into());
    }
    Ok(key)
}

/// Reads a key.
#[utoipa::path(get, path = "/kv/{key}", tag = "envelope dialect",
    params(("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself; `range` is a word")),
    responses(
        (status = 200, description = "The value", body = Envelope<GetData<'static>>),
        (status = 404, description = "NOT_FOUND: the key is absent", body = ErrorEnvelope<'static>),
        super::openapi::ReadRefusals,
    ))]
pub(super) async fn get(door: &Door, parts: &Parts) -> Answer {
    let key = key_of(parts)?;
    let entry = plain::get(door, &key).await?.ok_or_else(|| Refusal::not_found(&key))?;
    let room = AnswerRoom::take(door, entry.value.len())?;
    let (key, value, encoding) = encode_pair(&key, Some(&entry.value), false);
    let data = GetData { key, value: value.unwrap_or_default(), encoding, offset: entry.version };
    Ok(success(door, data, room))
}

/// Sets a key to a value.
#[utoipa::path(put, path = "/kv/{key}", tag = "envelope dialect",
    params(("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself")),
    request_body(content = PutRequest<'static>, description = "JSON, whatever the Content-Type says"),
    responses(
        (status = 200, description = "Committed", body = Envelope<PutData<'static>>),
        super::openapi::WriteRefusals,
    ))]
pub(super) async fn put(door: &Door, parts: &Parts, body: Incoming) -> Answer {
    let key = key_of(parts)?;
    let options = plain::write_asked(&parts.headers)?;
    let limits = door.limits();
    let received = receive(door, body, value_body_max(limits)).await?;
    let owned_key = key.clone().into_owned();
    let (batch, value) = decode(received, move |json| read_put(json, &owned_key, limits)).await??;
    // Taken before: what was committed must not be answered with an error.
    let room = AnswerRoom::take(door, value.len())?;
    let offset = plain::write(door, batch, options).await?.version;
    let (key, value, encoding) = encode_pair(&key, Some(&value), false);
    let value = value.unwrap_or_default();
    let data = PutData { key, value, encoding, offset, message: "Value stored successfully" };
    Ok(success(door, data, room))
}

/// The write, and the value that the answer repeats.
fn read_put(json: &[u8], key: &[u8], limits: Limits) -> Result<(Batch, Vec<u8>), Refusal> {
    let missing = || Refusal::body("Missing 'value' field in request body");
    if json.trim_ascii().is_empty() {
        return Err(missing());
    }
    let refused =
        |why: &dyn std::fmt::Display| Refusal::body(format!("The body is not {{\"value\":\"...\"}}: {why}"));
    if !is_object(json) {
        return Err(refused(&NO_OBJECT));
    }
    let request: PutRequest<'_> = serde_json::from_slice(json).map_err(|e| refused(&e))?;
    let Text(value) = request.value.ok_or_else(missing)?;
    let value = decode_text(value, request.encoding)
        .map_err(|e| Refusal::body(format!("The 'value' field is {e}")))?;
    let mut batch = Batch::with_capacity(limits, key.len() + value.len());
    batch.put(key, &value).map_err(ApiError::from)?;
    Ok((batch, value.into_owned()))
}

/// Removes a key.
#[utoipa::path(delete, path = "/kv/{key}", tag = "envelope dialect",
    params(("key" = String, Path, description = "The key, percent-coded; `/` may stand for itself")),
    responses(
        (status = 200, description = "Committed", body = Envelope<DeleteData<'static>>),
        (status = 404, description = "NOT_FOUND: the key was absent", body = ErrorEnvelope<'static>),
        super::openapi::WriteRefusals,
    ))]
pub(super) async fn delete(door: &Door, parts: &Parts) -> Answer {
    let key = key_of(parts)?;
    let options = plain::write_asked(&parts.headers)?;
    let committed = plain::delete(door, &key, options).await?;
    if committed.existed == 0 {
        return Err(Refusal::not_found(&key));
    }
    let (key, _, encoding) = encode_pair(&key, None, false);
    let offset = committed.version;
    let data = DeleteData { key, encoding, offset, message: "Key deleted successfully" };
    Ok(success(door, data, AnswerRoom::none()))
}
