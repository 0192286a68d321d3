//! `GET /scan`: a range as one JSON object, streamed.

use std::{ops::Bound, sync::Arc};

use esker_engine::{Item, KeyRange};
use esker_wire::{Encoding, encode_pair};
use http::request::Parts;
use serde::Serialize;

use super::Answer;
use crate::access::Door;
use crate::http::{
    plain,
    query::Query,
    stream::{self, Framing},
};

/// `{"key":"value",...}`.
const OBJECT: Framing = Framing {
    content_type: "application/json",
    open: "{",
    item: write_item,
    between: ",",
    close: "}",
    failure: None,
};

/// Reads a range, both ends of which are in it, in key order. What begins and then fails breaks off without its closing bracket.
#[utoipa::path(get, path = "/scan", tag = "verb dialect",
    params(
        ("start" = Option<String>, Query, description = "The first key; absent or empty: from the first there is"),
        ("end" = Option<String>, Query, description = "The last key; absent or empty: to the last there is"),
    ),
    responses(
        (status = 200, description = "Every key with its value. What is not text has an object in place of the value, and base64 in both places", body = std::collections::BTreeMap<String, String>),
        crate::http::dialects::text::ReadRefusals,
    ))]
pub(super) async fn scan(door: &Door, parts: &Parts) -> Answer {
    let query = Query::parse_known(parts.uri.query(), &["start", "end"])?;
    let bound = |name| query.key(name).map_or(Bound::Unbounded, |key| Bound::Included(key.to_vec()));
    let scan = plain::scan(door, &KeyRange { start: bound("start"), end: bound("end") }).await?;
    stream::answer(Arc::clone(door.front()), scan, OBJECT).await
}

/// What stands in a value's place where the key or the value is not text.
#[derive(Serialize)]
struct Coded<'a> {
    encoding: Encoding,
    value: &'a str,
}

fn write_item(json: &mut Vec<u8>, item: &Item) -> serde_json::Result<()> {
    let (key, value, encoding) = encode_pair(&item.key, item.value.as_deref(), false);
    let value = value.as_deref().unwrap_or_default();
    serde_json::to_writer(&mut *json, &key)?;
    json.push(b':');
    match encoding {
        None => serde_json::to_writer(json, value),
        Some(encoding) => serde_json::to_writer(json, &Coded { encoding, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_marked_by_an_object() {
        let written = |key: &[u8], value: &[u8]| {
            let item = Item { key: key.into(), value: Some(value.to_vec().into()), version: 1, expiry: None };
            let mut json = Vec::new();
            write_item(&mut json, &item).unwrap();
            String::from_utf8(json).unwrap()
        };
        assert_eq!(written(b"k\"", b"v\n"), r#""k\"":"v\n""#);
        assert_eq!(written(b"k", b"\xff"), r#""aw==":{"encoding":"base64","value":"/w=="}"#);
        assert_eq!(written(b"\xff", b""), r#""/w==":{"encoding":"base64","value":""}"#);
    }
}
