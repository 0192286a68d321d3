//! A list as a stream of lines, in constant memory.
//!
//! An error in mid-stream cannot be an answer any more. The body then fails, hyper ends the connection without the
//! final chunk, and the client sees that the list was cut off.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_cluster::{Chunk, Scan};
use esker_wire::NDJSON;
use http::{HeaderValue, Response, header};
use http_body::Frame;

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
    let body = Body::new(Lines { front, first, scan, base64, budget, _share: share });
    let mut answer = Response::new(AnswerBody::Boxed(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(answer)
}

struct Lines {
    front: Arc<Front>,
    first: Option<Chunk>,
    scan: Scan,
    base64: bool,
    budget: Arc<Budget>,
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
        let chunk = match this.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(this.scan.poll_next_chunk(cx)),
        };
        if let Some(Err(esker_cluster::Error::Engine(esker_engine::Error::Damage(damage)))) = &chunk {
            this.front.damage_found(damage);
        }
        Poll::Ready(chunk.map(|chunk| {
            chunk.map_err(BodyError::from).and_then(|chunk| this.lines(&chunk)).inspect_err(|e| {
                tracing::error!(error = %e, "a list was cut off");
            })
        }))
    }
}

impl Lines {
    fn lines(&self, chunk: &Chunk) -> Result<Frame<Bytes>, BodyError> {
        let mut lines = Vec::new();
        for item in chunk {
            write_item(&mut lines, item, self.base64).map_err(|_| "an item cannot be written as JSON")?;
            lines.push(b'\n');
        }
        Ok(Frame::data(Held::bytes(lines, self.budget.share())))
    }
}
