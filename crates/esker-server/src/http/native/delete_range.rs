//! `DELETE /api/v1/kv`: a whole range at once, at a cost that does not depend on how much lies in it.

use axum::body::Body;
use esker_cluster::Batch;
use esker_engine::KeyRange;
use esker_wire::kv::RangeDeleteAnswer;
use http::{Request, Response, header};

use super::{
    condition::applied,
    list::{ENCODING, is_base64, key_parameter},
};
use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, json},
    ask::{WRITE_PARAMETERS, write_options},
    error::ApiError,
    query::{Query, refuse_conditions},
};

const PARAMETERS: &[&str] = &["start", "end", "prefix", ENCODING, WRITE_PARAMETERS[0], WRITE_PARAMETERS[1]];

/// Removes all keys of a range, at one version.
#[utoipa::path(delete, path = "/api/v1/kv", tag = "keys",
    params(
        ("start" = Option<String>, Query, description = "The first key of the range; goes with end"),
        ("end" = Option<String>, Query, description = "The last key of the range; goes with start"),
        ("prefix" = Option<String>, Query, description = "All keys that begin so, in place of start and end; `prefix=` is every key there is"),
        ("encoding" = Option<String>, Query, description = "`base64`: start, end and prefix are base64url"),
        ("sync" = Option<String>, Query, description = "`always`, `every:<ms>` or `never`: asks for more than the server's policy"),
        ("ack" = Option<String>, Query, description = "`majority` (the default), `local` or `all`: who has the write on its disk when it is acknowledged"),
        ("Esker-Request-Id" = Option<String>, Header, description = "Two hexadecimal numbers with a dash between: of the writes with one id, a cluster applies one"),
    ),
    responses(
        (status = 200, description = "Committed", body = RangeDeleteAnswer),
        (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
        (status = 400, description = "No range is given, or a parameter is wrong; nothing was written", body = esker_wire::ErrorAnswer),
        (status = 500, description = "The server failed", body = esker_wire::ErrorAnswer),
        (status = 503, description = "Busy, refusing writes, without a leader, or the outcome is unknown; see the code and Retry-After", body = esker_wire::ErrorAnswer),
        (status = 507, description = "The disk is full", body = esker_wire::ErrorAnswer),
    ))]
pub(super) async fn delete_range(
    door: Door,
    request: Request<Body>,
) -> Result<Response<AnswerBody>, ApiError> {
    let headers = request.headers();
    refuse_conditions(headers, &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    let query = Query::parse(request.uri().query(), PARAMETERS)?;
    let options = write_options(&query, headers)?;
    let mut batch = Batch::new(door.limits());
    batch.delete_range(&range(&query)?)?;
    let committed = applied(door.write(batch, options).await?)?;
    Ok(json(&RangeDeleteAnswer { version: committed.version, deleted: committed.existed.into() }))
}

/// The range, which must be said in full: half of one, or an end that is empty, is most likely a variable that was not set,
/// and would delete far more than was meant.
fn range(query: &Query<'_>) -> Result<KeyRange, ApiError> {
    let base64 = is_base64(query)?;
    let key = |name| key_parameter(query, name, base64);
    match (key("prefix")?, key("start")?, key("end")?) {
        (Some(prefix), None, None) => Ok(KeyRange::prefix(prefix)),
        (None, Some(start), Some(end)) if start.is_empty() || end.is_empty() => Err(ApiError::bad_request(
            "`start` and `end` are keys, which are not empty; `prefix=` stands for every key there is",
        )),
        (None, Some(start), Some(end)) => Ok(KeyRange::inclusive(start, end)),
        _ => Err(ApiError::bad_request(
            "say what to delete: `prefix`, or both `start` and `end`; `prefix=` stands for every key there is",
        )),
    }
}
