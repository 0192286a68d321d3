//! A range as a stream, in constant memory.
//!
//! An error in mid-stream cannot be an answer any more. Where there is a way to say it, the last line does; and behind it the
//! body fails: hyper ends the connection without the final chunk, so that every client sees that the range was cut off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_cluster::{Chunk, Scan};
use esker_engine::Item;
use esker_wire::ErrorBody;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use tokio::sync::oneshot;

use super::{
    Front,
    answer::{AnswerBody, BodyError, Held, answers_fill_budget, unwritable},
    budget::{Budget, Share},
    error::ApiError,
};

/// What a stream takes of the answers' budget before it begins: the chunk being made and the one that waits.
const STREAM_BYTES: usize = 512 << 10;

/// How a range is written.
#[derive(Clone, Copy)]
pub(crate) struct Framing {
    pub(crate) content_type: &'static str,
    /// Before everything.
    pub(crate) open: &'static str,
    pub(crate) item: fn(&mut Vec<u8>, &Item) -> serde_json::Result<()>,
    /// Between two items.
    pub(crate) between: &'static str,
    /// Behind everything: what lacks it was cut off.
    pub(crate) close: &'static str,
    /// What tells why there is no more, if there is a way to say it here.
    pub(crate) failure: Option<fn(ErrorBody) -> Vec<u8>>,
}

/// A range that cannot go on.
struct Broken {
    why: String,
    /// Ready when hyper has let go of the last line: with a body that fails it drops what it has not sent.
    sent: oneshot::Receiver<()>,
}

/// The last line of a range that cannot go on.
struct LastLine {
    line: Vec<u8>,
    _sending: oneshot::Sender<()>,
}

impl AsRef<[u8]> for LastLine {
    fn as_ref(&self) -> &[u8] {
        &self.line
    }
}

/// The answer; the first chunk is awaited, so that a scan that fails at once is an error with a status.
pub(crate) async fn answer(
    front: Arc<Front>,
    mut scan: Scan,
    framing: Framing,
) -> Result<Response<AnswerBody>, ApiError> {
    let mut share = front.answer_budget.share();
    if !share.grow(STREAM_BYTES) {
        return Err(answers_fill_budget(&front));
    }
    let first = scan.next_chunk().await.transpose()?;
    let budget = Arc::clone(&front.answer_budget);
    let place = Place::Start(first);
    let body = Body::new(Items { front, place, scan, framing, budget, _share: share });
    let mut answer = Response::new(AnswerBody::Boxed(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type));
    Ok(answer)
}

struct Items {
    front: Arc<Front>,
    place: Place,
    scan: Scan,
    framing: Framing,
    budget: Arc<Budget>,
    /// For the chunks that wait; the items being sent have shares of their own.
    _share: Share,
}

/// How far a stream is.
enum Place {
    /// Nothing is written; the first chunk, `None` if the range is empty.
    Start(Option<Chunk>),
    /// There was a chunk.
    Within,
    /// The last line was given out.
    Broken(Broken),
    /// Nothing follows.
    End,
}

impl HttpBody for Items {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let bytes = match std::mem::replace(&mut this.place, Place::End) {
            Place::End => return Poll::Ready(None),
            Place::Broken(mut broken) => {
                // Nothing is ever sent there: it ends when the line's bytes are dropped.
                if Pin::new(&mut broken.sent).poll(cx).is_pending() {
                    this.place = Place::Broken(broken);
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Err(broken.why.into())));
            }
            Place::Start(Some(chunk)) => this.items(&chunk, this.framing.open),
            Place::Start(None) => Ok(this.closed(this.framing.open)),
            Place::Within => {
                let Poll::Ready(chunk) = this.scan.poll_next_chunk(cx) else {
                    this.place = Place::Within;
                    return Poll::Pending;
                };
                match chunk {
                    Some(Ok(chunk)) => this.items(&chunk, this.framing.between),
                    Some(Err(error)) => Err(this.note(error)),
                    None => Ok(this.closed("")),
                }
            }
        };
        Poll::Ready(match bytes {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => Some(Ok(Frame::data(Held::bytes(bytes, this.budget.share())))),
            Err(error) => Some(this.break_off(error)),
        })
    }
}

impl Items {
    /// A chunk as it is written; more may follow.
    fn items(&mut self, chunk: &Chunk, before: &str) -> Result<Vec<u8>, ApiError> {
        let mut bytes = before.as_bytes().to_vec();
        for (at, item) in chunk.iter().enumerate() {
            if at > 0 {
                bytes.extend_from_slice(self.framing.between.as_bytes());
            }
            (self.framing.item)(&mut bytes, item).map_err(unwritable)?;
        }
        self.place = Place::Within;
        Ok(bytes)
    }

    /// The end of everything.
    fn closed(&self, before: &str) -> Vec<u8> {
        [before, self.framing.close].concat().into_bytes()
    }

    /// Damage is told to the operator, too.
    fn note(&self, error: esker_cluster::Error) -> ApiError {
        if let esker_cluster::Error::Engine(esker_engine::Error::Damage(damage)) = &error {
            self.front.damage_found(damage);
        }
        ApiError::from(error)
    }

    /// Tells why the stream ends where it should not; the body fails at once, or behind the line that says so.
    fn break_off(&mut self, error: ApiError) -> Result<Frame<Bytes>, BodyError> {
        let error = error.into_body();
        tracing::error!(error = %error.message, "a range was cut off");
        let Some(failure) = self.framing.failure else { return Err(error.message.into()) };
        let (sending, sent) = oneshot::channel();
        self.place = Place::Broken(Broken { why: error.message.clone(), sent });
        Ok(Frame::data(Bytes::from_owner(LastLine { line: failure(error), _sending: sending })))
    }
}
