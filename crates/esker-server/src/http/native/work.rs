//! Work that takes its time: an answer at its end or, with `Accept: application/x-ndjson`, lines that say how far it is.
//!
//! It ends when the client goes away.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_cluster::WorkProgress;
use esker_wire::{
    NDJSON,
    admin::{WorkDone, WorkLine},
};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use serde::Serialize;
use tokio::time::{Instant, Interval, interval_at};

use crate::http::{
    answer::{AnswerBody, BodyError, json},
    error::ApiError,
};

/// How often it is said how far it is.
const LINE_EVERY: Duration = Duration::from_millis(250);

type Work<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

/// Answers with what `work` comes to; in lines, if it takes long enough for one and the client asks for them.
pub(super) async fn answer<T: Serialize + Send + Unpin + 'static>(
    in_lines: bool,
    progress: WorkProgress,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Response<AnswerBody>, ApiError> {
    if !in_lines {
        return Ok(json(&work.await?));
    }
    let mut work: Work<T> = Box::pin(work);
    // What fails at once is an error with a status.
    let lines = match tokio::time::timeout(LINE_EVERY, &mut work).await {
        Ok(done) => {
            let first = Some(WorkLine::Done(done?));
            Lines { work: None, first, ticks: ticks(), progress }
        }
        Err(_) => {
            let first = Some(so_far(&progress));
            Lines { work: Some(work), first, ticks: ticks(), progress }
        }
    };
    let body = Body::new(lines);
    let mut answer = Response::new(AnswerBody::Boxed(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(answer)
}

fn ticks() -> Interval {
    interval_at(Instant::now() + LINE_EVERY, LINE_EVERY)
}

fn so_far<T>(progress: &WorkProgress) -> WorkLine<T> {
    let (done, total) = progress.get();
    WorkLine::Progress(WorkDone { done, total })
}

struct Lines<T> {
    /// `None` once it is done.
    work: Option<Work<T>>,
    first: Option<WorkLine<T>>,
    ticks: Interval,
    progress: WorkProgress,
}

impl<T: Serialize + Send + Unpin> Lines<T> {
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<WorkLine<T>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            self.work = None;
            let last = done.map_or_else(|error| WorkLine::Error(error.into_body()), WorkLine::Done);
            return Poll::Ready(Some(last));
        }
        ready!(self.ticks.poll_tick(cx));
        Poll::Ready(Some(so_far(&self.progress)))
    }
}

impl<T: Serialize + Send + Unpin> HttpBody for Lines<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll_line(cx).map(|line| {
            line.map(|line| {
                let mut bytes = serde_json::to_vec(&line)?;
                bytes.push(b'\n');
                Ok(Frame::data(bytes.into()))
            })
        })
    }
}
