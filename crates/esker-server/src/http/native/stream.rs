//! A list as a stream of lines, in constant memory.
//!
//! An error in mid-stream cannot be an answer any more. The last line then says what it is, `{"error":{...}}`, and behind it
//! the body fails: hyper ends the connection without the final chunk, so that also a client that looks at no line sees that
//! the list was cut off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_cluster::{Chunk, Scan};
use esker_wire::{ErrorAnswer, NDJSON};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use tokio::sync::oneshot;

use super::list::write_item;
use crate::http::{
    Front,
    answer::{AnswerBody, BodyError, Held, answers_fill_budget},
    budget::{Budget, Share},
    error::ApiError,
};

/// What a stream takes of the answers' budget before it begins: the chunk being made and the one that waits.
const STREAM_BYTES: usize = 512 << 10;

/// The answer; the first chunk is awaited, so that a scan that fails at once is an error with a status.
pub(super) async fn answer(
    front: Arc<Front>,
    mut scan: Scan,
    base64: bool,
) -> Result<Response<AnswerBody>, ApiError> {
    let mut share = front.answer_budget.share();
    if !share.grow(STREAM_BYTES) {
        return Err(answers_fill_budget(&front));
    }
    let first = scan.next_chunk().await.transpose()?;
    let budget = Arc::clone(&front.answer_budget);
    let body = Body::new(Lines { front, first, scan, base64, budget, broken: None, _share: share });
    let mut answer = Response::new(AnswerBody::Boxed(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(answer)
}

/// A list that cannot go on.
struct Broken {
    why: String,
    /// Ready when hyper has let go of the last line: with a body that fails it drops what it has not sent.
    sent: oneshot::Receiver<()>,
}

/// The last line of a list that cannot go on.
struct LastLine {
    line: Vec<u8>,
    _sending: oneshot::Sender<()>,
}

impl AsRef<[u8]> for LastLine {
    fn as_ref(&self) -> &[u8] {
        &self.line
    }
}

struct Lines {
    front: Arc<Front>,
    first: Option<Chunk>,
    scan: Scan,
    base64: bool,
    budget: Arc<Budget>,
    /// Once the last line says why there are no more.
    broken: Option<Broken>,
    /// For the chunks that wait; the lines being sent have shares of their own.
    _share: Share,
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(broken) = &mut this.broken {
            // Nothing is ever sent there: it ends when the line's bytes are dropped.
            let _gone = ready!(Pin::new(&mut broken.sent).poll(cx)).is_err();
            return Poll::Ready(Some(Err(broken.why.clone().into())));
        }
        let chunk = match this.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(this.scan.poll_next_chunk(cx)),
        };
        if let Some(Err(esker_cluster::Error::Engine(esker_engine::Error::Damage(damage)))) = &chunk {
            this.front.damage_found(damage);
        }
        Poll::Ready(chunk.map(|chunk| {
            let lines = chunk.map_err(ApiError::from).and_then(|chunk| this.lines(&chunk));
            Ok(lines.unwrap_or_else(|error| this.break_off(error)))
        }))
    }
}

impl Lines {
    fn lines(&self, chunk: &Chunk) -> Result<Frame<Bytes>, ApiError> {
        let mut lines = Vec::new();
        for item in chunk {
            write_item(&mut lines, item, self.base64)?;
            lines.push(b'\n');
        }
        Ok(Frame::data(Held::bytes(lines, self.budget.share())))
    }

    /// The last line, behind which the body fails.
    fn break_off(&mut self, error: ApiError) -> Frame<Bytes> {
        let error = error.into_body();
        tracing::error!(error = %error.message, "a list was cut off");
        let (sending, sent) = oneshot::channel();
        self.broken = Some(Broken { why: error.message.clone(), sent });
        let mut line = ErrorAnswer { error }.to_json();
        line.push(b'\n');
        Frame::data(Bytes::from_owner(LastLine { line, _sending: sending }))
    }
}
