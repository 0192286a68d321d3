//! Errors as answers: what to tell the client, with which status and headers.

use std::{borrow::Cow, time::Duration};

use axum::response::IntoResponse;
use bytes::Bytes;
use esker_engine::{Damage, Refusal};
use esker_wire::{ErrorAnswer, ErrorCode, kv::PreconditionDetails, options::RETRY_AFTER_MS_HEADER};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::answer::{AnswerBody, JSON};
use crate::access::Refused;

/// When to come back if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// When to ask again how a write ended: whoever knows has most likely been found by then.
const RETRY_SOON: Duration = Duration::from_millis(50);
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"esker\"");
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"esker\", charset=\"UTF-8\"");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static(RETRY_AFTER_MS_HEADER);

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError {
    answer: ErrorAnswer,
    retry_after: Option<Duration>,
    allow: Option<Cow<'static, str>>,
    damage: Option<Box<Damage>>,
    elsewhere: Option<Box<Elsewhere>>,
}

/// Left in the answer that sends the client to another node: where that node's HTTP front is, `host:port`.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere(pub(crate) String);

/// Left in the answer for the log.
#[derive(Debug, Clone)]
pub(crate) struct ErrorNote {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// What the request found damaged, to be counted and logged.
    pub(crate) damage: Option<Box<Damage>>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after = matches!(code.status(), 429 | 503).then_some(RETRY_AFTER);
        let answer = ErrorAnswer::new(code, message);
        Self { answer, retry_after, allow: None, damage: None, elsewhere: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    pub(crate) fn not_supported(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotSupported, format!("{what} is not supported by this version: leave it out"))
    }

    pub(crate) fn too_large(message: impl Into<String>, limit: usize) -> Self {
        Self::new(ErrorCode::PayloadTooLarge, message)
            .with_details(serde_json::json!({ "limit_bytes": limit }))
    }

    /// `allow` lists the methods that the route has.
    pub(crate) fn method_not_allowed(allow: impl Into<Cow<'static, str>>) -> Self {
        let allow = allow.into();
        let message = format!("this path takes no such method, only {allow}");
        Self { allow: Some(allow), ..Self::new(ErrorCode::MethodNotAllowed, message) }
    }

    pub(crate) fn with_details(mut self, details: serde_json::Value) -> Self {
        self.answer = self.answer.with_details(details);
        self
    }

    /// The same, saying where in the request it is.
    pub(crate) fn at(mut self, place: impl std::fmt::Display) -> Self {
        self.answer.error.message = format!("{place}: {}", self.answer.error.message);
        self
    }

    /// The leader is elsewhere; the Location is made where the request's path is known.
    fn not_leader(leader: u64, http_address: String, message: String) -> Self {
        let details = serde_json::json!({ "leader": leader, "http_address": http_address });
        let elsewhere = Some(Box::new(Elsewhere(http_address)));
        Self { elsewhere, ..Self::new(ErrorCode::NotLeader, message) }.with_details(details)
    }

    /// What it says, for where the answer has begun.
    pub(crate) fn into_body(self) -> esker_wire::ErrorBody {
        self.answer.error
    }

    /// What it says.
    pub(crate) fn body(&self) -> &esker_wire::ErrorBody {
        &self.answer.error
    }

    /// When to come back, if that is known or worth it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What was found damaged, if that is why.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.as_deref()
    }

    /// The answer as the native API words it.
    pub(crate) fn into_answer(self) -> Response<AnswerBody> {
        let body = self.answer.to_json();
        self.worded(JSON, body)
    }

    /// The answer in a dialect's words; status and headers are the same in all of them. `Retry-After` is in whole seconds, at
    /// least one, with the milliseconds beside it.
    pub(crate) fn worded(self, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<AnswerBody> {
        let code = self.answer.error.code;
        let mut answer = Response::new(AnswerBody::full(body));
        *answer.status_mut() =
            StatusCode::from_u16(code.status()).expect("the table of codes holds valid statuses");
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
        if let Some(allow) = self.allow {
            let allow = HeaderValue::try_from(&*allow).expect("methods and commas make a header");
            headers.insert(header::ALLOW, allow);
        }
        if code == ErrorCode::Unauthorized {
            headers.append(header::WWW_AUTHENTICATE, BEARER);
            headers.append(header::WWW_AUTHENTICATE, BASIC);
        }
        let extensions = answer.extensions_mut();
        if let Some(elsewhere) = self.elsewhere {
            extensions.insert(*elsewhere);
        }
        extensions.insert(ErrorNote { code, message: self.answer.error.message, damage: self.damage });
        answer
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        self.into_answer().into_response()
    }
}

impl From<esker_wire::DecodeError> for ApiError {
    fn from(e: esker_wire::DecodeError) -> Self {
        Self::bad_request(e.to_string())
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let message = refused.message();
        match refused {
            Refused::Wrong => Self::new(ErrorCode::Unauthorized, message),
            Refused::TooOften(after) => {
                Self { retry_after: Some(after), ..Self::new(ErrorCode::TooManyRequests, message) }
            }
            Refused::Crowded => Self::new(ErrorCode::Busy, message),
        }
    }
}

impl From<esker_cluster::Error> for ApiError {
    fn from(e: esker_cluster::Error) -> Self {
        use esker_cluster::Error;
        let message = e.to_string();
        match e {
            Error::TooLarge(why) => Self::new(ErrorCode::PayloadTooLarge, why),
            Error::AlreadyRunning(_) | Error::Refused(_) => Self::new(ErrorCode::Conflict, message),
            Error::Engine(e) => e.into(),
            Error::NoLeader { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(ErrorCode::NoLeader, message) }
            }
            Error::NoRoom { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(ErrorCode::Busy, message) }
            }
            Error::Unauthenticated => Self::new(ErrorCode::Unauthorized, message),
            Error::Denied(why) => Self::new(ErrorCode::Forbidden, why),
            Error::Removed => Self::new(ErrorCode::NoLeader, message),
            Error::NotLeader { leader, http_address } => Self::not_leader(leader, http_address, message),
            Error::OutcomeUnknown(_) => {
                Self { retry_after: Some(RETRY_SOON), ..Self::new(ErrorCode::OutcomeUnknown, message) }
            }
            _ => Self::new(ErrorCode::Internal, message),
        }
    }
}

/// Why a write was not applied.
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Condition(version) => Self::new(ErrorCode::PreconditionFailed, message)
                .with_details(serde_json::json!(PreconditionDetails { version })),
            Refusal::NotAnInteger => Self::new(ErrorCode::NotAnInteger, message),
            Refusal::Overflow => Self::new(ErrorCode::Overflow, message),
            _ => Self::new(ErrorCode::Conflict, message),
        }
    }
}

impl From<esker_engine::Error> for ApiError {
    fn from(e: esker_engine::Error) -> Self {
        use esker_engine::Error;
        let message = e.to_string();
        match e {
            Error::InvalidRequest(why) => Self::bad_request(why),
            Error::Busy { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(ErrorCode::Busy, message) }
            }
            Error::DiskFull => Self::new(ErrorCode::DiskFull, message),
            Error::MemoryFull => Self::new(ErrorCode::MemoryFull, message),
            Error::OutOfFiles => Self::new(ErrorCode::Unavailable, message),
            Error::Poisoned(_) => Self::new(ErrorCode::WritesRefused, message),
            Error::Damage(damage) => {
                let todo = "Restore the file from a backup, or delete the key or write it anew; `esker verify` lists \
                            all damage";
                Self {
                    damage: Some(Box::new(damage)),
                    ..Self::new(ErrorCode::Damaged, format!("{message}. {todo}"))
                }
            }
            Error::Closed => Self::new(ErrorCode::Draining, "the server is shutting down: retry later"),
            _ => Self::new(ErrorCode::Internal, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use esker_engine::Error;

    use super::*;

    /// What the engine refuses reaches the client with the status that says what to do.
    #[test]
    fn every_kind_of_refusal_has_its_status() {
        let retry_after = Duration::from_millis(1200);
        let damage = Damage { path: "f".into(), offset: 7, what: "a checksum".into() };
        let io = Error::Io { doing: "reading".into(), source: Arc::new(io::Error::other("broken")) };
        for (error, status, code, after) in [
            (Error::InvalidRequest("why".into()), 400, ErrorCode::BadRequest, None),
            (Error::Busy { retry_after }, 503, ErrorCode::Busy, Some("2")),
            (Error::DiskFull, 507, ErrorCode::DiskFull, None),
            (Error::MemoryFull, 507, ErrorCode::MemoryFull, None),
            (Error::OutOfFiles, 503, ErrorCode::Unavailable, Some("1")),
            (Error::Poisoned("why".into()), 503, ErrorCode::WritesRefused, Some("1")),
            (Error::Damage(damage), 500, ErrorCode::Damaged, None),
            (io, 500, ErrorCode::Internal, None),
            (Error::Closed, 503, ErrorCode::Draining, Some("1")),
        ] {
            let answer = ApiError::from(esker_cluster::Error::from(error)).into_answer();
            let given = answer.extensions().get::<ErrorNote>().map(|note| note.code);
            let retry = answer.headers().get(header::RETRY_AFTER).map(|after| after.to_str().unwrap());
            assert_eq!((answer.status().as_u16(), given, retry), (status, Some(code), after));
        }
    }

    /// What only a cluster answers.
    #[test]
    fn every_trouble_of_a_cluster_has_its_status() {
        use esker_cluster::Error;
        let retry_after = Duration::from_millis(70);
        let not_leader = Error::NotLeader { leader: 3, http_address: "h:8082".into() };
        for (error, status, code, after, after_ms) in [
            (Error::NoLeader { retry_after }, 503, ErrorCode::NoLeader, Some("1"), Some("70")),
            (Error::Removed, 503, ErrorCode::NoLeader, Some("1"), Some("1000")),
            (not_leader, 307, ErrorCode::NotLeader, None, None),
            (Error::OutcomeUnknown("why".into()), 503, ErrorCode::OutcomeUnknown, Some("1"), Some("50")),
            (Error::Refused("why".into()), 409, ErrorCode::Conflict, None, None),
            (Error::WorkerDied, 500, ErrorCode::Internal, None, None),
        ] {
            let answer = ApiError::from(error).into_answer();
            let text = |name| answer.headers().get(name).map(|after| after.to_str().unwrap());
            let given = answer.extensions().get::<ErrorNote>().map(|note| note.code);
            assert_eq!((answer.status().as_u16(), given), (status, Some(code)));
            assert_eq!((text(header::RETRY_AFTER), text(RETRY_AFTER_MS)), (after, after_ms), "{code}");
            let elsewhere = answer.extensions().get::<Elsewhere>().map(|elsewhere| elsewhere.0.as_str());
            assert_eq!(elsewhere, (code == ErrorCode::NotLeader).then_some("h:8082"));
        }
    }
}
