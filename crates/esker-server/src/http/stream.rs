//! A range as a stream, in constant memory: the text that is being sent, and the one that is made ahead.
//!
//! An error in mid-stream cannot be an answer any more. Where there is a way to say it, the last line does; and behind it the
//! body fails: hyper ends the connection without the final chunk, so that every client sees that the range was cut off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_cluster::{Admit, Chunk, Room, with_read_ahead};
use esker_engine::Item;
use esker_wire::ErrorBody;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use tokio::sync::oneshot;

use super::{
    Front,
    answer::{AnswerBody, BodyError, Held, UNCOUNTED_BYTES_MAX, item_bytes, unwritable},
    budget::{Budget, Share},
    error::ApiError,
};
use crate::access::GuardedScan;

/// How long a stream that has begun waits for room: others give theirs back, or are cut off.
pub(crate) const ROOM_PATIENCE: Duration = Duration::from_secs(30);
/// What an item has beside its key and value, as text: about.
const ITEM_OVERHEAD: usize = 64;

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
///
/// Chunks are written as text where they are read, so that those who read much keep no thread that serves others busy; and the text has
/// its room in the answers' budget from then on, also what is made ahead.
pub(crate) async fn answer(
    front: Arc<Front>,
    scan: GuardedScan,
    framing: Framing,
) -> Result<Response<AnswerBody>, ApiError> {
    let scan = scan.shaped(move |chunk| {
        let text = framing.text(&chunk);
        let bytes = text.as_ref().map_or(0, Vec::capacity);
        (text, with_read_ahead(bytes))
    });
    let mut scan = scan.admitting(admit(&front.answer_budget), ROOM_PATIENCE);
    let place = match scan.next_chunk().await.transpose()? {
        None => Place::Empty,
        Some(text) => Place::Start(framing.held(text.map_err(unwritable)?, &mut scan, &front)),
    };
    let body = Body::new(Items { front, place, scan, framing });
    let mut answer = Response::new(AnswerBody::Boxed(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type));
    Ok(answer)
}

/// Room in a budget for what is read for an answer. What is short has it always.
pub(crate) fn admit(budget: &Arc<Budget>) -> Admit {
    let budget = Arc::clone(budget);
    Arc::new(move |bytes| {
        let mut share = budget.share();
        (bytes <= UNCOUNTED_BYTES_MAX || share.grow(bytes)).then(|| Box::new(share) as Room)
    })
}

/// The same where one connection has many answers under way, whose number bounds little: what is short counts, too, and
/// has a reserve.
pub(crate) fn admit_counted(budget: &Arc<Budget>) -> Admit {
    let budget = Arc::clone(budget);
    Arc::new(move |bytes| {
        let mut share = budget.share();
        let is_small = bytes <= UNCOUNTED_BYTES_MAX;
        let has_room = if is_small { share.grow_small(bytes) } else { share.grow(bytes) };
        has_room.then(|| Box::new(share) as Room)
    })
}

/// What [`admit`] or [`admit_counted`] gave.
pub(crate) fn share_of(room: Option<Room>, budget: &Arc<Budget>) -> Share {
    room.and_then(|room| room.downcast::<Share>().ok()).map_or_else(|| budget.share(), |share| *share)
}

/// What a chunk is made into; the items' separator stands before it.
type Text = serde_json::Result<Vec<u8>>;

impl Framing {
    fn text(&self, chunk: &Chunk) -> Text {
        let mut text = Vec::with_capacity(chunk.iter().map(|item| item_bytes(item) + ITEM_OVERHEAD).sum());
        for item in chunk {
            text.extend_from_slice(self.between.as_bytes());
            (self.item)(&mut text, item)?;
        }
        Ok(text)
    }

    /// The text with its room.
    fn held(&self, text: Vec<u8>, scan: &mut GuardedScan<Text>, front: &Front) -> Bytes {
        Held::bytes(text, share_of(scan.take_room(), &front.answer_budget))
    }
}

struct Items {
    front: Arc<Front>,
    place: Place,
    scan: GuardedScan<Text>,
    framing: Framing,
}

/// How far a stream is.
enum Place {
    /// Nothing is written, and there is nothing.
    Empty,
    /// Nothing is written; the first text.
    Start(Bytes),
    /// What stands before everything is written.
    Opened(Bytes),
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
        loop {
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
                Place::Empty => [this.framing.open, this.framing.close].concat().into(),
                Place::Start(first) => {
                    // The first item has nothing before it.
                    this.place = Place::Opened(first.slice(this.framing.between.len()..));
                    Bytes::from_static(this.framing.open.as_bytes())
                }
                Place::Opened(first) => {
                    this.place = Place::Within;
                    first
                }
                Place::Within => match ready!(this.poll_text(cx)) {
                    Ok(bytes) => bytes,
                    Err(error) => return Poll::Ready(Some(this.break_off(error))),
                },
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }
}

impl Items {
    /// The next text, or the end of everything.
    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ApiError>> {
        let Poll::Ready(chunk) = self.scan.poll_next_chunk(cx) else {
            self.place = Place::Within;
            return Poll::Pending;
        };
        Poll::Ready(match chunk {
            None => Ok(Bytes::from_static(self.framing.close.as_bytes())),
            Some(Err(error)) => Err(self.note(error)),
            Some(Ok(Err(error))) => Err(unwritable(error)),
            Some(Ok(Ok(text))) => {
                self.place = Place::Within;
                Ok(self.framing.held(text, &mut self.scan, &self.front))
            }
        })
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
