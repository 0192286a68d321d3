//! Answers and their bodies.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_engine::Item;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde_json::Error;

use super::{Front, budget::Share, error::ApiError};
use crate::guard::Answering;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What goes wrong while a body is produced: it ends the connection, so that the client sees the truncation.
pub(crate) type BodyError = axum::BoxError;

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// Bytes at hand; `None` once they are taken.
    Full(Option<Bytes>),
    /// Anything else: streams, and what came through the router.
    Boxed(Body),
}

impl AnswerBody {
    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Boxed(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

/// Bytes with their share of the answers' budget. Not the body but its bytes hold it: hyper drops a body as soon as
/// it has taken the last of it, and holds the bytes until the client has taken them.
pub(crate) struct Held {
    bytes: Bytes,
    _share: Share,
}

impl Held {
    /// The bytes as hyper takes them; the share becomes as large as they are.
    pub(crate) fn bytes(bytes: impl Into<Bytes>, mut share: Share) -> Bytes {
        let bytes = bytes.into();
        share.hold(bytes.len());
        Bytes::from_owner(Self { bytes, _share: share })
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Shorter answers take no share of the budget: the number of connections bounds them.
pub(super) const UNCOUNTED_BYTES_MAX: usize = 16 << 10;

/// Room for one answer in the answers' budget, taken before there is anything to put into it.
pub(crate) struct AnswerRoom(Option<Share>);

impl AnswerRoom {
    /// Room for an answer of which no more can be said than that it is short.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Room for an answer of about so many bytes.
    pub(crate) fn take(front: &Front, bytes: usize) -> Result<Self, ApiError> {
        if bytes <= UNCOUNTED_BYTES_MAX {
            return Ok(Self::none());
        }
        let mut share = front.answer_budget.share();
        if share.grow(bytes) { Ok(Self(Some(share))) } else { Err(answers_fill_budget(front)) }
    }

    /// What it has of the budget, if it was worth counting.
    pub(crate) fn into_share(self) -> Option<Share> {
        self.0
    }

    /// The answer's bytes, which hold the room until the client has taken them.
    pub(crate) fn hold(self, bytes: impl Into<Bytes>) -> Bytes {
        match self.0 {
            Some(share) => Held::bytes(bytes, share),
            None => bytes.into(),
        }
    }
}

/// A value as an answer's bytes, if there is room for it.
pub(crate) fn held_value(front: &Front, value: Bytes) -> Result<Bytes, ApiError> {
    Ok(AnswerRoom::take(front, value.len())?.hold(value))
}

/// What a read is told for whose answer there is no room.
pub(crate) fn answers_fill_budget(front: &Front) -> ApiError {
    let limit = front.config.limits.answer_bytes_under_way;
    let why = "the answers that clients have not taken yet fill all the memory they may: retry later";
    ApiError::new(esker_wire::ErrorCode::Busy, why).with_details(serde_json::json!({ "limit_bytes": limit }))
}

/// A body that tells its connection when it has ended.
pub(crate) struct TrackedBody {
    pub(crate) body: AnswerBody,
    pub(crate) answering: Answering,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
            && bytes.len() > UNCOUNTED_BYTES_MAX
        {
            this.answering.hands_over(bytes.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// 200 with JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Response<AnswerBody> {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(bytes),
        Err(e) => unwritable(e).into_answer(),
    }
}

/// 200 with bytes that are JSON.
pub(crate) fn json_bytes(bytes: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::full(bytes));
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

/// What an item counts for: its key and its value.
pub(crate) fn item_bytes(item: &Item) -> usize {
    item.key.len() + item.value.as_ref().map_or(0, |value| value.len())
}

pub(crate) fn unwritable(e: Error) -> ApiError {
    ApiError::new(esker_wire::ErrorCode::Internal, format!("the answer cannot be written as JSON: {e}"))
}

/// `"<version>"`.
pub(crate) fn etag(version: u64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(version).as_bytes();
    let mut text = [b'"'; 22];
    text[1..=digits.len()].copy_from_slice(digits);
    HeaderValue::from_bytes(&text[..digits.len() + 2]).expect("quotes and digits make a header")
}

/// 304 for a version that the client has.
pub(crate) fn not_modified(version: u64) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer.headers_mut().insert(header::ETAG, etag(version));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_quote_any_version() {
        assert_eq!(etag(7), "\"7\"");
        assert_eq!(etag(u64::MAX), "\"18446744073709551615\"");
    }
}
