//! Plain text: how the verb and the query dialect say that something is done, or why it is not.

use std::collections::BTreeMap;

use esker_wire::ErrorCode;
use http::{HeaderValue, Response, header};
use utoipa::{
    IntoResponses,
    openapi::{self, RefOr},
};

use crate::http::{answer::AnswerBody, error::ApiError, refusals::Form};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// 200 with a word.
pub(super) fn done(word: &'static str) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::full(word));
    answer.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    answer
}

/// An error: its message as it is.
pub(super) fn refuse(error: ApiError) -> Response<AnswerBody> {
    let body = error.body();
    let words = match body.code {
        ErrorCode::KeyNotFound => "Not Found".to_owned(),
        _ => body.message.clone(),
    };
    error.worded(TEXT, words)
}

/// 404.
pub(super) fn not_found() -> ApiError {
    ApiError::new(ErrorCode::KeyNotFound, "the key is absent")
}

/// What is answered to a read that fails, for the API's description.
pub(super) struct ReadRefusals;

/// The same of a write.
pub(super) struct WriteRefusals;

const READ_REFUSALS: &[(&str, &str)] = &[
    ("307", "Another node leads and this one redirects; see Location"),
    ("400", "A parameter is missing or wrong"),
    ("500", "A stored value is damaged, or the server failed"),
    ("503", "Busy, or the cluster has no leader; see Retry-After"),
];

const WRITE_REFUSALS: &[(&str, &str)] = &[
    ("307", "Another node leads and this one redirects; see Location"),
    ("400", "A parameter or the body is missing or wrong; nothing was written"),
    ("408", "The body did not arrive in time"),
    ("413", "Larger than the limits; nothing was written"),
    ("415", "The body has a Content-Encoding"),
    ("500", "The server failed"),
    ("503", "Busy, refusing writes, without a leader, or the outcome is unknown; see Retry-After"),
    ("507", "The disk or the memory for keys is full"),
];

impl IntoResponses for ReadRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        Form::Text.describe(READ_REFUSALS)
    }
}

impl IntoResponses for WriteRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        Form::Text.describe(WRITE_REFUSALS)
    }
}
