//! What a request asks for beside its keys: how a write is committed, what a read may see.

use esker_cluster::WriteOptions;
use esker_engine::{RequestId, Version};
use esker_wire::{
    Ack, Consistency,
    options::{APPLIED_VERSION_HEADER, REQUEST_ID_HEADER},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::{answer::AnswerBody, error::ApiError, query::Query};
use crate::access::Door;

const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
const APPLIED_VERSION: HeaderName = HeaderName::from_static(APPLIED_VERSION_HEADER);

/// The parameters of a write.
pub(crate) const WRITE_PARAMETERS: &[&str] = &["sync", "ack"];
/// The parameter of a read.
pub(crate) const CONSISTENCY: &str = "consistency";

/// How a write is to be committed.
pub(crate) fn write_options(query: &Query<'_>, headers: &HeaderMap) -> Result<WriteOptions, ApiError> {
    let ack = query.parsed::<Ack>("ack", "`majority`, `local` or `all`")?.unwrap_or_default();
    Ok(WriteOptions {
        sync: query.parsed("sync", "`always`, `every:<milliseconds>` or `never`")?,
        ack: match ack {
            Ack::Majority => esker_cluster::Ack::Majority,
            Ack::Local => esker_cluster::Ack::Local,
            Ack::All => esker_cluster::Ack::All,
        },
        request: request_id(headers)?,
    })
}

/// A malformed id is refused: taken for none, it would make a retry apply twice.
fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, ApiError> {
    let mut given = headers.get_all(REQUEST_ID).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(ApiError::bad_request(format!("the header {REQUEST_ID_HEADER} is given twice")));
    }
    let wrong = |e: &dyn std::fmt::Display| {
        let got = first.as_bytes().escape_ascii();
        ApiError::bad_request(format!("the header {REQUEST_ID_HEADER} is `{got}`: {e}"))
    };
    let text = first.to_str().map_err(|e| wrong(&e))?;
    text.parse().map(Some).map_err(|e| wrong(&e))
}

/// From where on a read may be answered, and what its answer says about that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadPoint {
    /// What this node had applied, where the read was to be content with it.
    applied: Option<Version>,
}

impl ReadPoint {
    /// Waits until this node may answer.
    pub(crate) async fn wait(door: &Door, query: &Query<'_>) -> Result<Self, ApiError> {
        let allowed = "`linearizable` or `stale`";
        let applied = match query.parsed::<Consistency>(CONSISTENCY, allowed)?.unwrap_or_default() {
            Consistency::Linearizable => {
                door.read_point(esker_cluster::Consistency::Linearizable).await?;
                None
            }
            Consistency::Stale => Some(door.read_point(esker_cluster::Consistency::Stale).await?),
        };
        Ok(Self { applied })
    }

    /// A stale answer, also one that is an error, says how far this node was.
    pub(crate) fn mark(self, answer: Result<Response<AnswerBody>, ApiError>) -> Response<AnswerBody> {
        let mut answer = answer.unwrap_or_else(ApiError::into_answer);
        if let Some(applied) = self.applied {
            answer.headers_mut().insert(APPLIED_VERSION, HeaderValue::from(applied));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str, id: &[&'static str]) -> Result<WriteOptions, ApiError> {
        let mut headers = HeaderMap::new();
        for id in id {
            headers.append(REQUEST_ID, HeaderValue::from_static(id));
        }
        write_options(&Query::parse(Some(query), WRITE_PARAMETERS)?, &headers)
    }

    #[test]
    fn a_write_says_how_it_is_committed() {
        assert_eq!(options("", &[]).unwrap(), WriteOptions::default());
        let asked = options("ack=all&sync=always", &["00ff-2a"]).unwrap();
        assert_eq!(asked.ack, esker_cluster::Ack::All);
        assert!(asked.sync.is_some());
        assert_eq!(asked.request, Some(RequestId { client: 0xff, sequence: 0x2a }));
        assert_eq!(options("ack=local", &[]).unwrap().ack, esker_cluster::Ack::Local);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (query, ids) in
            [("ack=most", &[][..]), ("sync=soon", &[]), ("", &["1"]), ("", &["g-1"]), ("", &["1-1", "1-2"])]
        {
            assert_eq!(options(query, ids).unwrap_err().into_answer().status(), 400, "{query} {ids:?}");
        }
    }
}
