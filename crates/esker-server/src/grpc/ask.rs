//! What messages ask for, in the Store's terms. What cannot be meant is refused.

use std::ops::Bound;

use bytes::Bytes;
use esker_cluster::{Ack, Batch, WriteOptions};
use esker_engine::{Condition, KeyRange, RequestId};
use esker_proto::v1::{self, condition::Demand};
use esker_wire::{Ttl, cursor::Cursor};

use crate::http::{ApiError, Front};

/// What a read may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Linearizable,
    Stale,
}

/// How a write is to be committed.
pub(super) fn write_options(given: Option<v1::WriteOptions>) -> Result<WriteOptions, ApiError> {
    let Some(v1::WriteOptions { sync, ack, request_id }) = given else { return Ok(WriteOptions::default()) };
    let sync = match sync.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            ApiError::bad_request("`sync` is `always`, `every:<milliseconds>` or `never`, or empty")
        })?),
    };
    let ack = match v1::Ack::try_from(ack) {
        Ok(v1::Ack::Unspecified | v1::Ack::Majority) => Ack::Majority,
        Ok(v1::Ack::Local) => Ack::Local,
        Ok(v1::Ack::All) => Ack::All,
        Err(_) => return Err(unknown("ack", ack)),
    };
    let request = request_id.map(|id| RequestId { client: id.client, sequence: id.sequence });
    Ok(WriteOptions { sync, ack, request })
}

/// A number that stands for nothing this version knows. To take it for the default could promise less than was asked for.
fn unknown(field: &str, number: i32) -> ApiError {
    ApiError::bad_request(format!("`{field}` is {number}, which this version does not know"))
}

/// What a read may see.
pub(super) fn consistency(given: i32) -> Result<Read, ApiError> {
    match v1::Consistency::try_from(given) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => Ok(Read::Linearizable),
        Ok(v1::Consistency::Stale) => Ok(Read::Stale),
        Err(_) => Err(unknown("consistency", given)),
    }
}

/// What must hold of a key.
pub(super) fn condition(given: v1::Condition) -> Result<Condition, ApiError> {
    match given.demand {
        Some(Demand::Version(version)) => Ok(Condition::Version(version)),
        Some(Demand::Presence(presence)) => match v1::Presence::try_from(presence) {
            Ok(v1::Presence::Absent) => Ok(Condition::Absent),
            Ok(v1::Presence::Present) => Ok(Condition::Present),
            Ok(v1::Presence::Unspecified) => Err(demands_nothing()),
            Err(_) => Err(unknown("presence", presence)),
        },
        None => Err(demands_nothing()),
    }
}

fn demands_nothing() -> ApiError {
    ApiError::bad_request("a condition demands something: `presence` or `version`")
}

/// Adds a condition to a batch, if one is given.
pub(super) fn require(batch: &mut Batch, key: &[u8], given: Option<v1::Condition>) -> Result<(), ApiError> {
    match given {
        Some(given) => Ok(batch.require(key, condition(given)?)?),
        None => Ok(()),
    }
}

/// Adds a put to a batch.
pub(super) fn put(
    front: &Front,
    batch: &mut Batch,
    key: &[u8],
    value: &[u8],
    ttl_ms: Option<u64>,
) -> Result<(), ApiError> {
    let Some(ttl_ms) = ttl_ms else { return Ok(batch.put(key, value)?) };
    let ttl = Ttl::from_millis(ttl_ms).ok_or_else(|| {
        ApiError::bad_request("`ttl_ms` is 0: give 1 or more, or leave it out for a key that stays")
    })?;
    Ok(batch.put_expiring(key, value, ttl.after(front.now_ms()))?)
}

/// Adds a put of a batch.
pub(super) fn put_in_batch(
    front: &Front,
    batch: &mut Batch,
    given: &v1::PutOperation,
) -> Result<(), ApiError> {
    let v1::PutOperation { key, value, ttl_ms, expires_at_ms } = given;
    match (ttl_ms, expires_at_ms) {
        (Some(_), Some(_)) => Err(ApiError::bad_request("give either `ttl_ms` or `expires_at_ms`")),
        (None, Some(at)) => Ok(batch.put_expiring(key, value, *at)?),
        (ttl_ms, None) => put(front, batch, key, value, *ttl_ms),
    }
}

/// What is to be read.
pub(super) fn range(given: Option<v1::Range>) -> Result<KeyRange, ApiError> {
    let v1::Range { start, end, prefix } = given.unwrap_or_default();
    match (start, end, prefix) {
        (None, None, Some(prefix)) => Ok(KeyRange::prefix(prefix)),
        (_, _, Some(_)) => Err(ApiError::bad_request("give either `prefix`, or `start` and `end`")),
        (start, end, None) => {
            let bound = |key: Option<Bytes>| key.map_or(Bound::Unbounded, |key| Bound::Included(key.into()));
            Ok(KeyRange { start: bound(start), end: bound(end) })
        }
    }
}

/// What is to be deleted, which must be said in full.
pub(super) fn range_to_delete(given: Option<v1::Range>) -> Result<KeyRange, ApiError> {
    match given.unwrap_or_default() {
        v1::Range { start: None, end: None, prefix: Some(prefix) } => Ok(KeyRange::prefix(prefix)),
        v1::Range { start: Some(start), end: Some(end), prefix: None }
            if !start.is_empty() && !end.is_empty() =>
        {
            Ok(KeyRange::inclusive(start, end))
        }
        _ => Err(ApiError::bad_request(
            "say what to delete: `prefix`, or both `start` and `end`, which are not empty; an empty `prefix` stands for every \
             key there is",
        )),
    }
}

/// The rest of a range behind a cursor.
pub(super) fn go_on(range: KeyRange, cursor: &str, reverse: bool) -> Result<KeyRange, ApiError> {
    if cursor.is_empty() {
        return Ok(range);
    }
    let cursor = Cursor::decode(cursor.as_bytes())?;
    if cursor.reverse != reverse || !range.contains(&cursor.last_key) {
        return Err(ApiError::bad_request(
            "the cursor belongs to another scan: repeat `range` and `reverse` with it",
        ));
    }
    let behind = Bound::Excluded(cursor.last_key);
    Ok(if reverse { KeyRange { end: behind, ..range } } else { KeyRange { start: behind, ..range } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_bad<T>(asked: Result<T, ApiError>) -> bool {
        asked.is_err_and(|e| e.body().code == esker_wire::ErrorCode::BadRequest)
    }

    #[test]
    fn a_write_says_how_it_is_committed() {
        assert_eq!(write_options(None).unwrap(), WriteOptions::default());
        assert_eq!(write_options(Some(v1::WriteOptions::default())).unwrap(), WriteOptions::default());
        let request_id = Some(v1::RequestId { client: 7, sequence: 8 });
        let asked = v1::WriteOptions { sync: "every:5".into(), ack: v1::Ack::All.into(), request_id };
        let options = write_options(Some(asked)).unwrap();
        assert_eq!(options.sync.unwrap().to_string(), "every:5");
        assert_eq!((options.ack, options.request), (Ack::All, Some(RequestId { client: 7, sequence: 8 })));
        assert!(is_bad(write_options(Some(v1::WriteOptions { ack: 9, ..Default::default() }))));
        assert!(is_bad(write_options(Some(v1::WriteOptions { sync: "soon".into(), ..Default::default() }))));
    }

    #[test]
    fn a_condition_demands_something() {
        let demand = |demand| condition(v1::Condition { demand });
        assert_eq!(demand(Some(Demand::Version(0))).unwrap(), Condition::Version(0));
        assert_eq!(demand(Some(Demand::Presence(1))).unwrap(), Condition::Absent);
        assert_eq!(demand(Some(Demand::Presence(2))).unwrap(), Condition::Present);
        assert!(is_bad(demand(None)));
        assert!(is_bad(demand(Some(Demand::Presence(0)))) && is_bad(demand(Some(Demand::Presence(3)))));
    }

    #[test]
    fn half_a_range_is_read_and_not_deleted() {
        let half = v1::Range { start: Some("a".into()), ..Default::default() };
        let read = range(Some(half.clone())).unwrap();
        assert!(read.contains(b"a") && read.contains(b"z") && !read.contains(b"Z"));
        let empty = v1::Range { start: Some("".into()), end: Some("b".into()), prefix: None };
        let both = v1::Range { prefix: Some("p".into()), ..half.clone() };
        for given in [None, Some(half), Some(empty), Some(both.clone())] {
            assert!(is_bad(range_to_delete(given)));
        }
        assert!(is_bad(range(Some(both))));
        let all = v1::Range { prefix: Some(Bytes::new()), ..Default::default() };
        assert!(range_to_delete(Some(all)).unwrap().contains(b"anything"));
        assert!(range(None).unwrap().contains(b"anything"));
    }

    #[test]
    fn a_cursor_goes_on_in_its_own_scan_only() {
        let range = || KeyRange::inclusive("a", "m");
        let cursor = |last_key: &[u8], reverse| Cursor { last_key: last_key.to_vec(), reverse }.encode();
        assert!(go_on(range(), "", true).unwrap().contains(b"a"));
        let rest = go_on(range(), &cursor(b"c", false), false).unwrap();
        assert!(!rest.contains(b"c") && rest.contains(b"c\0"));
        let rest = go_on(range(), &cursor(b"c", true), true).unwrap();
        assert!(!rest.contains(b"c") && rest.contains(b"b"));
        assert!(is_bad(go_on(range(), &cursor(b"c", true), false)));
        assert!(is_bad(go_on(range(), &cursor(b"z", false), false)));
        assert!(is_bad(go_on(range(), "x", false)));
    }
}
