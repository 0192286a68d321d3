//! `GET /api/v1/kv`: a range of keys, page by page or as a stream.

use std::{ops::Bound, sync::Arc};

use axum::body::Body;
use esker_cluster::ScanOptions;
use esker_engine::{Item, KeyRange};
use esker_wire::{ErrorAnswer, ErrorCode, NDJSON, cursor::Cursor, decode_base64, kv};
use http::{HeaderMap, Request, Response, Version, header};

use crate::access::{Door, GuardedScan};
use crate::http::{
    answer::{AnswerBody, Held, item_bytes, json_bytes, unwritable},
    ask::{CONSISTENCY, ReadPoint},
    error::ApiError,
    query::{Query, refuse_conditions},
    room::Room,
    stream::{self, Framing},
};

const LIMIT_DEFAULT: u64 = 100;
const LIMIT_MAX: u64 = 10_000;
/// The parameter that says how keys are written.
pub(super) const ENCODING: &str = "encoding";
const PARAMETERS: &[&str] =
    &["start", "end", "prefix", "limit", "reverse", "keys_only", "cursor", ENCODING, CONSISTENCY];

/// A stream: one item a line.
const LINES: Framing = Framing {
    content_type: NDJSON,
    open: "",
    item: |json, item| write_line(json, item, false),
    between: "",
    close: "",
    failure: Some(|error| {
        let mut line = ErrorAnswer { error }.to_json();
        line.push(b'\n');
        line
    }),
};
const BASE64_LINES: Framing = Framing { item: |json, item| write_line(json, item, true), ..LINES };

/// What a list asks for.
struct ListRequest {
    range: KeyRange,
    limit: Option<u64>,
    reverse: bool,
    keys_only: bool,
    base64: bool,
}

/// Lists keys and values in key order. With `Accept: application/x-ndjson` the answer is one item a line, streamed
/// to the end of the range (or to `limit`) from one snapshot; an answer that breaks off failed, and its last line then says
/// why: `{"error":{...}}` in place of an item.
#[utoipa::path(get, path = "/api/v1/kv", tag = "keys",
    params(
        ("start" = Option<String>, Query, description = "The first key of the range"),
        ("end" = Option<String>, Query, description = "The last key of the range"),
        ("prefix" = Option<String>, Query, description = "All keys that begin so, in place of start and end"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "At most so many items: 1 to 10,000, default 100; 1 or more for a stream, default all"),
        ("reverse" = Option<bool>, Query, description = "From the range's end to its start"),
        ("keys_only" = Option<bool>, Query, description = "No values"),
        ("cursor" = Option<String>, Query, description = "`next` of the answer before; the other parameters stay the same"),
        ("encoding" = Option<String>, Query, description = "`base64`: start, end and prefix are base64url, and all items come in base64"),
        ("consistency" = Option<String>, Query, description = "`linearizable` (the default) or `stale`: whatever this node has applied"),
    ),
    responses(
        (status = 200, description = "A page of items, or with the Accept header a stream of lines",
            content((esker_wire::kv::ListAnswer<'static> = "application/json"), (esker_wire::kv::Item<'static> = "application/x-ndjson")),
            headers(("Esker-Applied-Version" = Option<u64>, description = "What the node had applied, in a stale answer"))),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "A parameter is wrong", body = esker_wire::ErrorAnswer),
        (status = 500, description = "A stored value is damaged, or the server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, or the cluster has no leader; see Retry-After", body = esker_wire::ErrorAnswer),
        (status = 505, description = "A stream was asked for over HTTP/1.0", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn list(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    let headers = request.headers();
    refuse_conditions(headers, &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    let query = Query::parse(request.uri().query(), PARAMETERS)?;
    let list = ListRequest::parse(&query)?;
    let streamed = wants_stream(headers);
    if streamed && request.version() < Version::HTTP_11 {
        // There a body ends with its connection, and so does one that is cut off before its last line.
        let why = format!(
            "{NDJSON} takes HTTP/1.1, which tells whether a stream is whole: use it, or ask for pages"
        );
        return Err(ApiError::new(ErrorCode::HttpVersionNotSupported, why));
    }
    let limit = list.limit.unwrap_or(LIMIT_DEFAULT);
    if !streamed && !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!(
            "`limit` is {limit}: a page takes 1 to {LIMIT_MAX}; go on with the cursor or ask for {NDJSON}"
        )));
    }
    let point = ReadPoint::wait(&door, &query).await?;
    Ok(point.mark(match streamed {
        true => {
            let scan = list.scan(&door, list.limit)?;
            stream::answer(Arc::clone(door.front()), scan, if list.base64 { BASE64_LINES } else { LINES })
                .await
        }
        false => page(&door, &list, limit).await,
    }))
}

/// Whether the client asks for lines.
pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    let types =
        headers.get_all(header::ACCEPT).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    let mut essences = types.map(|given| given.split(|&b| b == b';').next().unwrap_or_default().trim_ascii());
    essences.any(|essence| essence.eq_ignore_ascii_case(NDJSON.as_bytes()))
}

impl ListRequest {
    fn parse(query: &Query<'_>) -> Result<Self, ApiError> {
        let base64 = is_base64(query)?;
        let key = |name| key_parameter(query, name, base64);
        let mut range = range(key("start")?, key("end")?, key("prefix")?)?;
        let reverse = query.flag("reverse")?;
        if let Some(cursor) = query.bytes("cursor") {
            range = go_on(range, Cursor::decode(cursor)?, reverse)?;
        }
        let limit = query.parsed("limit", "a whole number")?;
        if limit == Some(0) {
            return Err(ApiError::bad_request("`limit` is 0: ask for 1 or more"));
        }
        Ok(Self { range, limit, reverse, keys_only: query.flag("keys_only")?, base64 })
    }

    fn scan(&self, door: &Door, limit: Option<u64>) -> Result<GuardedScan, ApiError> {
        let options = ScanOptions { reverse: self.reverse, keys_only: self.keys_only, limit };
        Ok(door.scan(&self.range, options)?)
    }
}

/// Whether `encoding` says that keys are base64.
pub(super) fn is_base64(query: &Query<'_>) -> Result<bool, ApiError> {
    match query.bytes(ENCODING) {
        None => Ok(false),
        Some(b"base64") => Ok(true),
        Some(_) => Err(ApiError::bad_request("the parameter `encoding` takes `base64` only")),
    }
}

/// A parameter that is a key, or a part of one.
pub(super) fn key_parameter(
    query: &Query<'_>,
    name: &str,
    base64: bool,
) -> Result<Option<Vec<u8>>, ApiError> {
    match query.bytes(name) {
        Some(text) if base64 => decode_base64(text)
            .map(Some)
            .map_err(|e| ApiError::bad_request(format!("the parameter `{name}` is {e}"))),
        text => Ok(text.map(<[u8]>::to_vec)),
    }
}

fn range(
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
) -> Result<KeyRange, ApiError> {
    match (start, end, prefix) {
        (None, None, Some(prefix)) => Ok(KeyRange::prefix(prefix)),
        (_, _, Some(_)) => Err(ApiError::bad_request("give either `prefix`, or `start` and `end`")),
        (start, end, None) => {
            let bound = |key: Option<Vec<u8>>| key.map_or(Bound::Unbounded, Bound::Included);
            Ok(KeyRange { start: bound(start), end: bound(end) })
        }
    }
}

/// The rest of a range behind a cursor.
fn go_on(range: KeyRange, cursor: Cursor, reverse: bool) -> Result<KeyRange, ApiError> {
    if cursor.reverse != reverse || !range.contains(&cursor.last_key) {
        return Err(ApiError::bad_request(
            "the cursor belongs to another list: repeat start, end, prefix and reverse with it",
        ));
    }
    let behind = Bound::Excluded(cursor.last_key);
    Ok(if reverse { KeyRange { end: behind, ..range } } else { KeyRange { start: behind, ..range } })
}

/// A page: at most `limit` items and about `list_answer_bytes`.
async fn page(door: &Door, list: &ListRequest, limit: u64) -> Result<Response<AnswerBody>, ApiError> {
    // One item more tells whether there is a next page.
    let room = Arc::new(Room::new(door, usize::MAX));
    let mut scan = room.admit(list.scan(door, Some(limit + 1))?);
    let mut page = Page::new(limit, door.config.limits.list_answer_bytes, list.base64);
    let mut more = false;
    while !more && let Some(chunk) = scan.next_chunk().await {
        for item in chunk.map_err(|e| room.ended(e, door))? {
            if page.is_full() {
                more = true;
                break;
            }
            page.push(&item)?;
        }
    }
    let next = page.last_key.take().filter(|_| more);
    let json = page.finish(next.map(|last_key| Cursor { last_key, reverse: list.reverse }))?;
    Ok(json_bytes(Held::bytes(json, room.close().0)))
}

/// A page as it is written.
struct Page {
    json: Vec<u8>,
    last_key: Option<Vec<u8>>,
    items_left: u64,
    bytes_left: usize,
    base64: bool,
}

impl Page {
    fn new(limit: u64, bytes: usize, base64: bool) -> Self {
        Self { json: br#"{"items":["#.to_vec(), last_key: None, items_left: limit, bytes_left: bytes, base64 }
    }

    fn is_full(&self) -> bool {
        self.items_left == 0 || self.bytes_left == 0
    }

    fn push(&mut self, item: &Item) -> Result<(), ApiError> {
        if self.last_key.is_some() {
            self.json.push(b',');
        }
        write_item(&mut self.json, item, self.base64).map_err(unwritable)?;
        self.last_key = Some(item.key.clone());
        self.items_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(item_bytes(item));
        Ok(())
    }

    fn finish(mut self, next: Option<Cursor>) -> Result<Vec<u8>, ApiError> {
        self.json.extend_from_slice(br#"],"next":"#);
        serde_json::to_writer(&mut self.json, &next.map(|cursor| cursor.encode())).map_err(unwritable)?;
        self.json.push(b'}');
        Ok(self.json)
    }
}

/// Appends an item as JSON.
fn write_item(json: &mut Vec<u8>, item: &Item, base64: bool) -> serde_json::Result<()> {
    let expiry = item.expiry;
    let item = kv::Item::new(&item.key, item.value.as_deref(), item.version, base64);
    serde_json::to_writer(json, &item.expiring(expiry))
}

fn write_line(json: &mut Vec<u8>, item: &Item, base64: bool) -> serde_json::Result<()> {
    write_item(json, item, base64)?;
    json.push(b'\n');
    Ok(())
}
