//! `GET /kv/range`: a range as one answer that says how much it holds. So it has an end: what is longer is for the native
//! API, which streams.

use std::sync::Arc;

use esker_engine::{Item, KeyRange};
use esker_wire::{ErrorCode, encode_pair};
use http::{Response, request::Parts};

use super::{
    Answer,
    shapes::{Envelope, ErrorEnvelope, Pair, RangeData, Refusal, rfc3339},
};
use crate::access::{Door, GuardedScan};
use crate::http::{
    answer::{AnswerBody, Held, json_bytes, unwritable},
    error::ApiError,
    plain,
    query::Query,
    room::Room,
};

/// Reads a range, both ends of which are in it, in key order. What is larger than a batch may be is refused.
#[utoipa::path(get, path = "/kv/range", tag = "envelope dialect",
    params(
        ("start" = String, Query, description = "The first key"),
        ("end" = String, Query, description = "The last key"),
    ),
    responses(
        (status = 200, description = "The keys of the range with their values", body = Envelope<RangeData<'static>>),
        (status = 413, description = "PAYLOAD_TOO_LARGE: ask for a part, or stream it with the native API", body = ErrorEnvelope<'static>),
        super::openapi::ReadRefusals,
    ))]
pub(super) async fn range(door: &Door, parts: &Parts) -> Answer {
    let query = Query::parse_known(parts.uri.query(), &["start", "end"])
        .map_err(|e| Refusal::range(e.body().message.clone()))?;
    let (Some(start), Some(end)) = (query.key("start"), query.key("end")) else {
        return Err(Refusal::range("Both 'start' and 'end' parameters are required"));
    };
    let scan = plain::scan(door, &KeyRange::inclusive(start, end)).await?;
    let pairs = Pairs::read(door, scan).await?;
    pairs.answer(door, start, end)
}

/// The pairs of a range as they are written, within what one answer may hold.
struct Pairs {
    json: Vec<u8>,
    count: u64,
    room: Arc<Room>,
}

impl Pairs {
    async fn read(door: &Door, scan: GuardedScan) -> Result<Self, Refusal> {
        let limit = door.limits().batch_bytes;
        let room = Arc::new(Room::new(door, limit));
        let mut scan = room.admit(scan);
        let mut pairs = Self { json: Vec::new(), count: 0, room };
        while let Some(chunk) = scan.next_chunk().await {
            let chunk = chunk.map_err(|error| pairs.room.ended(error, door)).map_err(|error| match error
                .body()
                .code
            {
                ErrorCode::PayloadTooLarge => too_large(limit),
                _ => error,
            })?;
            chunk.iter().try_for_each(|item| pairs.push(item)).map_err(unwritable)?;
        }
        Ok(pairs)
    }

    fn push(&mut self, item: &Item) -> serde_json::Result<()> {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.count += 1;
        let value = item.value.as_deref().unwrap_or_default();
        serde_json::to_writer(&mut self.json, &Pair::new(&item.key, value))
    }

    /// The envelope around the pairs. It is written as if there were none, and they are put in where they belong: their number
    /// stands before them, and is known only now.
    fn answer(self, door: &Door, start: &[u8], end: &[u8]) -> Result<Response<AnswerBody>, Refusal> {
        let (start_key, end_key, encoding) = encode_pair(start, Some(end), false);
        let end_key = end_key.unwrap_or_default();
        let data = RangeData { start_key, end_key, encoding, count: self.count, pairs: Vec::new() };
        let status = super::shapes::Outcome::Success;
        let timestamp = rfc3339(door.now_ms());
        let tail = format!("]}},\"timestamp\":\"{timestamp}\"}}");
        let around = serde_json::to_vec(&Envelope { status, data, timestamp }).map_err(unwritable)?;
        let head = around.len() - tail.len();
        let mut json = self.json;
        drop(json.splice(..0, around[..head].iter().copied()));
        json.extend_from_slice(tail.as_bytes());
        Ok(json_bytes(Held::bytes(json, self.room.close().0)))
    }
}

fn too_large(limit: usize) -> ApiError {
    let hint = "ask for a part of it, or stream it: GET /api/v1/kv with Accept: application/x-ndjson";
    ApiError::too_large(format!("the range has more than {limit} bytes: {hint}"), limit)
}
