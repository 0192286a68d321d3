//! `POST /api/v1/mget`: many keys at one snapshot.

use std::sync::Arc;

use axum::body::Body;
use esker_engine::Entry;
use esker_wire::{
    ErrorCode, kv,
    mget::{MgetAnswer, MgetError, decode},
};
use http::{Request, Response, header};

use super::list::{ENCODING, is_base64};
use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, Held, json_bytes, unwritable},
    ask::{CONSISTENCY, ReadPoint},
    error::ApiError,
    query::{Query, refuse_conditions, refuse_content_encoding},
    receive::receive,
    room::Room,
};

/// Room for as many keys as are allowed, if they are not all of the longest.
const BODY_MAX: usize = 8 << 20;

/// Reads many keys at one snapshot.
#[utoipa::path(post, path = "/api/v1/mget", tag = "keys",
    params(
        ("encoding" = Option<String>, Query, description = "`base64`: the keys are base64, and all items come in base64"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (the default) or `stale`: whatever this node has applied"),
    ),
    request_body = esker_wire::mget::MgetRequest<'static>,
    responses(
        (status = 200, description = "For each key, in order, its item, or null where it is absent", body = MgetAnswer<'static>,
            headers(("Esker-Applied-Version" = Option<u64>, description = "What the node had applied, in a stale answer"))),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter or the body is wrong", body = esker_wire::ErrorAnswer),
        (status = 408, description = "The body did not arrive in time", body = esker_wire::ErrorAnswer),
        (status = 413, description = "More than 10,000 keys, a body of more than 8 MiB, or values of more bytes together than a batch may have", body = esker_wire::ErrorAnswer),
        (status = 415, description = "The body has a Content-Encoding", body = esker_wire::ErrorAnswer),
        (status = 500, description = "A stored value is damaged, or the server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, or the cluster has no leader; see Retry-After", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn mget(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    let (parts, body) = request.into_parts();
    refuse_conditions(&parts.headers, &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    refuse_content_encoding(&parts.headers)?;
    let query = Query::parse(parts.uri.query(), &[ENCODING, CONSISTENCY])?;
    let base64 = is_base64(&query)?;
    let received = receive(&door, body, BODY_MAX).await?;
    let keys = decode(&received.bytes, base64).map_err(refused)?;
    drop(received);
    let point = ReadPoint::wait(&door, &query).await?;
    Ok(point.mark(read(&door, keys, base64).await))
}

fn refused(e: MgetError) -> ApiError {
    match e {
        MgetError::TooLarge(why) => ApiError::new(ErrorCode::PayloadTooLarge, why),
        other => ApiError::bad_request(other.to_string()),
    }
}

async fn read(door: &Door, keys: Vec<Vec<u8>>, base64: bool) -> Result<Response<AnswerBody>, ApiError> {
    // What can be written in one request can be read in one.
    let room = Arc::new(Room::new(door, door.limits().batch_bytes));
    let admit = Arc::clone(&room);
    let read = door.multi_get(keys.clone(), move |bytes| admit.take(bytes)).await;
    let (share, refusal) = room.close();
    let entries = read.map_err(|e| refusal.map_or_else(|| e.into(), |refusal| refusal.told(door)))?;
    Ok(json_bytes(Held::bytes(to_json(&keys, entries, base64)?, share)))
}

/// Entry by entry, so that a value and its text are not held longer than need be.
fn to_json(keys: &[Vec<u8>], entries: Vec<Option<Entry>>, base64: bool) -> Result<Vec<u8>, ApiError> {
    let mut json = br#"{"items":["#.to_vec();
    for (at, (key, entry)) in keys.iter().zip(entries).enumerate() {
        if at > 0 {
            json.push(b',');
        }
        let item = entry.as_ref().map(|entry| {
            kv::Item::new(key, Some(&entry.value), entry.version, base64).expiring(entry.expiry)
        });
        serde_json::to_writer(&mut json, &item).map_err(unwritable)?;
    }
    json.extend_from_slice(b"]}");
    Ok(json)
}
