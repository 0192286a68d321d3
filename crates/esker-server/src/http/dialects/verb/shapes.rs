//! What the verb dialect reads: `{"key","value"}`, alone and in `{"items":[...]}`.

use std::borrow::Cow;

use esker_cluster::{Batch, Limits};
use esker_wire::{Encoding, decode_text};
use serde::Deserialize;

use crate::http::{
    dialects::reading::{BodyError, NO_OBJECT, is_object, read_list},
    error::ApiError,
};

/// A key and its value. Fields that are not named here are passed over.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = verb::Pair)]
pub(super) struct Pair<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    /// How both are written; absent for text.
    encoding: Option<Encoding>,
}

/// Many of them; of two with the same key the later counts.
#[derive(utoipa::ToSchema)]
#[schema(as = verb::BatchRequest)]
#[expect(dead_code, reason = "only described: it is read item by item")]
pub(super) struct BatchRequest<'a> {
    items: Vec<Pair<'a>>,
}

impl Pair<'_> {
    fn put_into(self, batch: &mut Batch) -> Result<(), ApiError> {
        let key = decode_text(self.key, self.encoding)?;
        let value = decode_text(self.value, self.encoding)?;
        Ok(batch.put(&key, &value)?)
    }
}

/// The body of a put.
pub(super) fn read_put(json: &[u8], limits: Limits) -> Result<Batch, ApiError> {
    let refused = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the body is not {{\"key\",\"value\"}}: {why}"))
    };
    if !is_object(json) {
        return Err(refused(&NO_OBJECT));
    }
    let pair: Pair<'_> = serde_json::from_slice(json).map_err(|e| refused(&e))?;
    let mut batch = Batch::new(limits);
    pair.put_into(&mut batch)?;
    Ok(batch)
}

/// The body of a batch.
pub(super) fn read_batch(json: &[u8], limits: Limits) -> Result<Batch, ApiError> {
    let mut batch = Batch::new(limits);
    let mut at = 0;
    let read = read_list(json, "items", &mut |pair: Pair<'_>| {
        pair.put_into(&mut batch).map_err(|e| e.at(format_args!("item {at}")))?;
        at += 1;
        Ok(())
    });
    match read {
        Ok(()) => Ok(batch),
        Err(BodyError::Refused(e)) => Err(e),
        Err(BodyError::Missing) => Err(ApiError::bad_request("the body has no field `items`")),
        Err(BodyError::Malformed(why)) => Err(ApiError::bad_request(format!(
            "the body is not {{\"items\":[{{\"key\",\"value\"}}]}}: {why}"
        ))),
    }
}
