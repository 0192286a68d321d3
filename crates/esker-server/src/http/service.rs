//! From hyper's request to a finished answer: routing, timing, request ids, the log.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use esker_wire::{ErrorCode, KEY_PREFIX};
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tower_service::Service as _;

use super::{
    Front,
    answer::{AnswerBody, TrackedBody},
    error::{ApiError, ErrorNote},
    native,
};
use crate::{guard::Answering, metrics::Operation};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers requests. Each connection has one of its own, so that cores do not share its reference count.
#[derive(Clone)]
pub(crate) struct Service {
    front: Arc<Front>,
    router: Router,
}

impl Service {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self { router: native::router(Arc::clone(&front)), front }
    }

    pub(crate) fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Never fails: whatever goes wrong is an answer.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        answering: Answering,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let start = self.front.store.clock().monotonic();
        let request_id = request.headers().get(REQUEST_ID).cloned();
        let operation = operation_of(&request);
        let answer = match refuse_head(&request, &self.front) {
            Some(refused) => refused.into_answer(),
            None => self.route(request).await,
        };
        let took = self.front.store.clock().monotonic().saturating_sub(start);
        let answer = self.finish(answer, operation, request_id, took);
        Ok(answer.map(|body| TrackedBody { body, _answering: answering }))
    }

    async fn route(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        if request.uri().path().starts_with(KEY_PREFIX) {
            return native::answer_key(&self.front, request).await.unwrap_or_else(ApiError::into_answer);
        }
        let answered = self.router.clone().call(request.map(Body::new)).await;
        match answered {
            Ok(answer) => answer.map(AnswerBody::Boxed),
            Err(never) => match never {},
        }
    }

    fn finish(
        &self,
        mut answer: Response<AnswerBody>,
        operation: Operation,
        request_id: Option<HeaderValue>,
        took: Duration,
    ) -> Response<AnswerBody> {
        let status = answer.status();
        self.front.metrics.record(operation, status, took);
        let slow = took >= self.front.config.timeouts.slow_request;
        let failed = status.is_server_error();
        let request_id = match request_id {
            None if failed => Some(self.front.metrics.next_request_id()),
            given => given,
        };
        if failed || slow {
            log(&answer, operation, request_id.as_ref(), took);
        }
        if let Some(id) = request_id {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        answer
    }
}

fn log(answer: &Response<AnswerBody>, operation: Operation, id: Option<&HeaderValue>, took: Duration) {
    let request_id = id.and_then(|id| id.to_str().ok()).unwrap_or("-");
    let (operation, status) = (operation.as_str(), answer.status().as_u16());
    let took_ms = took.as_millis() as u64;
    match answer.extensions().get::<ErrorNote>() {
        Some(ErrorNote { code, message }) => {
            tracing::warn!(request_id, operation, status, took_ms, %code, message, "a request failed");
        }
        None => tracing::warn!(request_id, operation, status, took_ms, "a request was slow"),
    }
}

fn operation_of<B>(request: &Request<B>) -> Operation {
    use http::Method;
    let path = request.uri().path();
    if path.starts_with(KEY_PREFIX) {
        return match *request.method() {
            Method::GET | Method::HEAD => Operation::Get,
            Method::PUT => Operation::Put,
            Method::DELETE => Operation::Delete,
            _ => Operation::Other,
        };
    }
    match path {
        native::LIST_PATH => Operation::List,
        native::BATCH_PATH => Operation::Batch,
        _ => Operation::Other,
    }
}

/// What hyper's own limit on the whole head lets pass.
fn refuse_head<B>(request: &Request<B>, front: &Front) -> Option<ApiError> {
    let limits = &front.config.limits;
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.request_target_bytes {
        let limit = limits.request_target_bytes;
        let why = format!("the request's path and query have {target} bytes, the limit is {limit}");
        return Some(ApiError::new(ErrorCode::UriTooLong, why));
    }
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > limits.header_bytes {
        let limit = limits.header_bytes;
        let why = format!("the request's headers have {headers} bytes, the limit is {limit}");
        return Some(ApiError::new(ErrorCode::HeadersTooLarge, why));
    }
    None
}
