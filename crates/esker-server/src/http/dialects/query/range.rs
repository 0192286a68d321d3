//! `GET /range`: a range as one JSON array, streamed.

use std::{borrow::Cow, sync::Arc};

use esker_engine::{Item, KeyRange};
use esker_wire::{Encoding, encode_pair};
use http::request::Parts;
use serde::Serialize;

use super::{Answer, required};
use crate::access::Door;
use crate::http::{
    plain,
    query::Query,
    stream::{self, Framing},
};

/// `[{"key","value"},...]`.
const ARRAY: Framing = Framing {
    content_type: "application/json",
    open: "[",
    item: write_item,
    between: ",",
    close: "]",
    failure: None,
};

/// A key and its value.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = query::Pair)]
pub(super) struct Pair<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
    /// How both are written; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
}

/// Reads a range, both ends of which are in it, in key order. What begins and then fails breaks off without its closing bracket.
#[utoipa::path(get, path = "/range", tag = "query dialect",
    params(
        ("start" = String, Query, description = "The first key"),
        ("end" = String, Query, description = "The last key"),
    ),
    responses(
        (status = 200, description = "The keys of the range with their values", body = Vec<Pair<'static>>),
        crate::http::dialects::text::ReadRefusals,
    ))]
pub(super) async fn range(door: &Door, parts: &Parts) -> Answer {
    let query = Query::parse_known(parts.uri.query(), &["start", "end"])?;
    let range = KeyRange::inclusive(required(&query, "start")?, required(&query, "end")?);
    let scan = plain::scan(door, &range).await?;
    stream::answer(Arc::clone(door.front()), scan, ARRAY).await
}

fn write_item(json: &mut Vec<u8>, item: &Item) -> serde_json::Result<()> {
    let (key, value, encoding) = encode_pair(&item.key, item.value.as_deref(), false);
    serde_json::to_writer(json, &Pair { key, value: value.unwrap_or_default(), encoding })
}
