//! The body of an answer: in pieces that count, to the end of the call.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::{
    call::{Call, Ending},
    outstanding::Wait,
};
use crate::http::Share;

/// So much is handed over at a time: what the client must take within the time-out.
const PIECE_BYTES: usize = 64 << 10;

/// What tonic answers with, on its way to hyper.
pub(super) struct AnswerBody {
    inner: tonic::body::Body,
    /// The rest of a message of which the client was given a part.
    rest: Bytes,
    /// Ends the answer early.
    ending: Ending,
    /// Room that was taken before there was a message to put in it.
    room: Option<Share>,
    /// Since the last piece, unless more was asked for.
    wait: Option<Wait>,
    call: Call,
    /// The trailers were given out.
    over: bool,
}

impl AnswerBody {
    pub(super) fn new(inner: tonic::body::Body, room: Option<Share>, ending: Ending, call: Call) -> Self {
        Self { inner, rest: Bytes::new(), ending, room, wait: None, call, over: false }
    }

    /// The next piece of a message.
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        let outstanding = self.call.outstanding();
        // The room goes over to the pieces.
        let mut share = self.call.front().answer_budget.share();
        share.hold(bytes.len());
        if let Some(room) = &mut self.room {
            room.hold(room.bytes().saturating_sub(bytes.len()));
        }
        let frame = Frame::data(outstanding.piece(bytes, share));
        self.wait = Some(outstanding.begin());
        frame
    }

    /// The trailers, which end the call.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.over = true;
        self.rest = Bytes::new();
        self.inner = tonic::body::Body::empty();
        self.call.end(status.code());
        let mut trailers = HeaderMap::new();
        if let Err(unwritable) = status.add_header(&mut trailers) {
            tracing::warn!(error = %unwritable, "a status cannot be told in full");
        }
        Frame::trailers(trailers)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        this.wait = None;
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = this.ending.poll(cx) {
            return Poll::Ready(Some(Ok(this.end(&status))));
        }
        while this.rest.is_empty() {
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    // The status was in the head.
                    this.over = true;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Ok(this.end(&status)))),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(bytes) => this.rest = bytes,
                Err(trailers) => {
                    this.over = true;
                    let status = trailers.trailers_ref().and_then(Status::from_header_map);
                    this.call.end(status.map_or(Code::Unknown, |status| status.code()));
                    return Poll::Ready(Some(Ok(trailers)));
                }
            }
        }
        Poll::Ready(Some(Ok(this.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Room in the answers' budget, on its way from a method to the body of its answer. It goes with the answer's extensions, which have
/// to be cloneable, as a share is not.
#[derive(Clone)]
pub(super) struct Room(Arc<Mutex<Option<Share>>>);

impl Room {
    pub(super) fn new(share: Share) -> Self {
        Self(Arc::new(Mutex::new(Some(share))))
    }

    /// The share; only once.
    pub(super) fn take(&self) -> Option<Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
