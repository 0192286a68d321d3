//! The envelope and what may be in it.

use std::borrow::Cow;

use esker_wire::{Encoding, ErrorCode, encode_pair};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::{
    Front,
    answer::{AnswerBody, AnswerRoom, JSON, json_bytes, unwritable},
    dialects::reading::Text,
    error::ApiError,
};

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Success,
    /// Some operations of a batch were invalid.
    PartialSuccess,
    Error,
}

/// The answer to what was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Envelope<T> {
    pub(super) status: Outcome,
    pub(super) data: T,
    /// When it was answered: RFC 3339, in UTC.
    pub(super) timestamp: String,
}

/// The answer to what was not done.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorEnvelope<'a> {
    status: Outcome,
    error: EnvelopeError<'a>,
    /// When it was answered: RFC 3339, in UTC.
    timestamp: String,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct EnvelopeError<'a> {
    /// For programs: NOT_FOUND, INVALID_REQUEST, INVALID_PARAMETERS, INTERNAL_ERROR, SERVICE_UNAVAILABLE, CLUSTER_ERROR; where
    /// none of these fits, the native API's code in capitals.
    code: Cow<'a, str>,
    /// For people: the same sentence for the same thing.
    message: Cow<'a, str>,
    /// For people: what it was this time.
    details: Cow<'a, str>,
}

/// 200 with data, for which room was taken before.
pub(super) fn success(front: &Front, data: impl Serialize, room: AnswerRoom) -> Response<AnswerBody> {
    enveloped(front, Outcome::Success, data, room)
}

/// The same of any outcome but an error.
pub(super) fn enveloped(
    front: &Front,
    status: Outcome,
    data: impl Serialize,
    room: AnswerRoom,
) -> Response<AnswerBody> {
    let envelope = Envelope { status, data, timestamp: rfc3339(front.now_ms()) };
    let mut answer = match serde_json::to_vec(&envelope) {
        Ok(json) => json_bytes(room.hold(json)),
        Err(e) => return Refusal::from(unwritable(e)).into_answer(front.now_ms()),
    };
    if status == Outcome::PartialSuccess {
        *answer.status_mut() = StatusCode::MULTI_STATUS;
    }
    answer
}

/// An error in this dialect's words.
#[derive(Debug)]
pub(super) struct Refusal {
    error: Box<ApiError>,
    code: Cow<'static, str>,
    message: &'static str,
    details: String,
}

impl Refusal {
    /// A request whose body is not what it should be.
    pub(super) fn body(details: impl Into<String>) -> Self {
        Self::bad_request("INVALID_REQUEST", "Invalid request body", details.into())
    }

    /// A range whose parameters are not what they should be.
    pub(super) fn range(details: impl Into<String>) -> Self {
        Self::bad_request("INVALID_PARAMETERS", "Invalid range parameters", details.into())
    }

    fn bad_request(code: &'static str, message: &'static str, details: String) -> Self {
        let error = Box::new(ApiError::bad_request(details.clone()));
        Self { error, code: code.into(), message, details }
    }

    pub(super) fn not_found(key: &[u8]) -> Self {
        let details = format!("The key '{}' does not exist", shown(key));
        let error = Box::new(ApiError::new(ErrorCode::KeyNotFound, details.clone()));
        Self { error, code: "NOT_FOUND".into(), message: "Key not found", details }
    }

    pub(super) fn unhealthy(details: String) -> Self {
        let error = Box::new(ApiError::new(ErrorCode::WritesRefused, details.clone()));
        Self { error, code: "SERVICE_UNAVAILABLE".into(), message: "Service is unhealthy", details }
    }

    pub(super) fn into_answer(self, now_ms: u64) -> Response<AnswerBody> {
        let Self { error, code, message, details } = self;
        let error_body = EnvelopeError { code, message: message.into(), details: details.into() };
        let timestamp = rfc3339(now_ms);
        let envelope = ErrorEnvelope { status: Outcome::Error, error: error_body, timestamp };
        error.worded(JSON, serde_json::to_vec(&envelope).expect("texts always serialise"))
    }
}

impl From<esker_cluster::Error> for Refusal {
    fn from(error: esker_cluster::Error) -> Self {
        ApiError::from(error).into()
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (code, message) = words_of(error.body().code);
        let details = error.body().message.clone();
        Self { error: Box::new(error), code, message, details }
    }
}

/// This dialect's code and message. What its six codes do not cover has the native code in capitals.
fn words_of(code: ErrorCode) -> (Cow<'static, str>, &'static str) {
    let (code, message) = match code {
        ErrorCode::KeyNotFound => ("NOT_FOUND", "Key not found"),
        ErrorCode::BadRequest | ErrorCode::NotSupported => ("INVALID_REQUEST", "Invalid request"),
        ErrorCode::Internal | ErrorCode::Damaged => ("INTERNAL_ERROR", "Internal server error"),
        ErrorCode::NoLeader | ErrorCode::NotLeader | ErrorCode::OutcomeUnknown => {
            ("CLUSTER_ERROR", "Cluster error")
        }
        code if code.status() == 503 => ("SERVICE_UNAVAILABLE", "Service unavailable"),
        code => {
            let message = match code {
                ErrorCode::MethodNotAllowed => "Method not allowed",
                ErrorCode::Forbidden => "Forbidden",
                ErrorCode::PayloadTooLarge => "Request or answer too large",
                ErrorCode::TooManyRequests => "Too many requests",
                ErrorCode::DiskFull | ErrorCode::MemoryFull => "Insufficient storage",
                _ => "Request refused",
            };
            return (code.as_str().to_ascii_uppercase().into(), message);
        }
    };
    (code.into(), message)
}

/// A key in a sentence.
pub(super) fn shown(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(text) => text.into(),
        Err(_) => key.escape_ascii().to_string().into(),
    }
}

/// `2026-11-22T03:18:05.042Z`.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let time =
        time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, millisecond) = time.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// The answer to a get.
#[derive(Serialize, ToSchema)]
pub(super) struct GetData<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
    /// How key and value are written; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<Encoding>,
    /// The version of the write that put it.
    pub(super) offset: u64,
}

/// The body of a put. Fields that are not named here are passed over.
#[derive(Deserialize, ToSchema)]
pub(super) struct PutRequest<'a> {
    #[serde(borrow)]
    #[schema(value_type = String, required)]
    pub(super) value: Option<Text<'a>>,
    /// How the value is written; absent for text.
    pub(super) encoding: Option<Encoding>,
}

/// The answer to a put.
#[derive(Serialize, ToSchema)]
pub(super) struct PutData<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
    /// How key and value are written; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<Encoding>,
    /// The write's version.
    pub(super) offset: u64,
    pub(super) message: &'static str,
}

/// The answer to a delete.
#[derive(Serialize, ToSchema)]
pub(super) struct DeleteData<'a> {
    pub(super) key: Cow<'a, str>,
    /// How the key is written; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<Encoding>,
    /// The write's version.
    pub(super) offset: u64,
    pub(super) message: &'static str,
}

/// A key of a range.
#[derive(Serialize, ToSchema)]
#[schema(as = envelope::Pair)]
pub(super) struct Pair<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
    /// How key and value are written; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<Encoding>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        let (key, value, encoding) = encode_pair(key, Some(value), false);
        Self { key, value: value.unwrap_or_default(), encoding }
    }
}

/// The answer to a range.
#[derive(Serialize, ToSchema)]
pub(super) struct RangeData<'a> {
    pub(super) start_key: Cow<'a, str>,
    pub(super) end_key: Cow<'a, str>,
    /// How start and end are written; absent for text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<Encoding>,
    pub(super) count: u64,
    pub(super) pairs: Vec<Pair<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(1_795_317_605_042), "2026-11-22T03:20:05.042Z");
        assert_eq!(rfc3339(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_code_has_words_and_the_six_have_their_status() {
        for code in ErrorCode::ALL {
            let (text, message) = words_of(*code);
            assert!(!message.is_empty());
            let status = match &*text {
                "NOT_FOUND" => 404,
                "INVALID_REQUEST" => 400,
                "INTERNAL_ERROR" => 500,
                "SERVICE_UNAVAILABLE" => 503,
                // Another node leads and this one is told to redirect: the one case in which it is not 503.
                "CLUSTER_ERROR" if *code != ErrorCode::NotLeader => 503,
                _ => code.status(),
            };
            assert_eq!(code.status(), status, "{code}");
        }
        assert_eq!(words_of(ErrorCode::DiskFull).0, "DISK_FULL");
    }
}
