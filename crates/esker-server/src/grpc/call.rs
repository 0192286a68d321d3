//! One call: its request within a size, a budget and a time; its answer within the time that the client gives; counted.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use esker_wire::ErrorCode;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::{
    body::{AnswerBody, Room},
    connection::{COUNTED_STREAMS_MAX, ConnectionState, Seat},
    deadline::timeout_of,
    methods::{METHODS, Method, place_of},
    metrics::spelled,
    outstanding::Outstanding,
    service::Services,
    status::status_of,
};
use crate::{
    RequestSpan, SpanStatus, TraceParent,
    access::{Entrance, Trail},
    http::{ApiError, Front, Received, receive},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What stands before a message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;
const GRPC: &[u8] = b"application/grpc";

/// Answers a call. Never fails: whatever goes wrong is an answer.
pub(super) async fn answer(
    services: Services,
    connection: Arc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let place = place_of(request.uri().path());
    let mut call = Call::begin(&services, connection, place, request.headers());
    let answered = match refuse_head(&request).or_else(|| call.refuse_crowd()) {
        Some(refused) => refused,
        None => answer_in_time(&services, request, &mut call).await,
    };
    Ok(call.answered(answered))
}

/// What is no call at all.
fn refuse_head<B>(request: &Request<B>) -> Option<Response<tonic::body::Body>> {
    let content_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let status = match (request.method() == Verb::POST, content_type.starts_with(GRPC)) {
        (true, true) => return None,
        (true, false) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (false, _) => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut answer = Response::new(tonic::body::Body::empty());
    *answer.status_mut() = status;
    Some(answer)
}

/// Answers, or says that the client's time is over.
async fn answer_in_time(
    services: &Services,
    request: Request<Incoming>,
    call: &mut Call,
) -> Response<tonic::body::Body> {
    match timeout_of(request.headers()) {
        Err(_) => {
            Status::invalid_argument("grpc-timeout is at most eight digits and a unit: H, M, S, m, u or n")
                .into_http()
        }
        Ok(Some(Duration::ZERO)) => out_of_time().into_http(),
        Ok(None) => answer_call(services, request, call.method()).await,
        Ok(Some(time)) => {
            // Beyond what a timer can say there is no deadline.
            call.deadline = Instant::now().checked_add(time);
            let answered = answer_call(services, request, call.method());
            match tokio::time::timeout(time, answered).await {
                Ok(answer) => answer,
                Err(_) => out_of_time().into_http(),
            }
        }
    }
}

fn out_of_time() -> Status {
    Status::deadline_exceeded("the deadline of the call has passed: a write may or may not come to pass")
}

/// Receives the request as a whole, unless a stream of them comes, and hands it to the service that the path names.
async fn answer_call(
    services: &Services,
    request: Request<Incoming>,
    method: &Method,
) -> Response<tonic::body::Body> {
    let front = services.front();
    // Before anything of the body is received.
    let door = match services.admit(&request).await {
        Ok(door) => door,
        Err(refused) => return status_of(front, refused).into_http(),
    };
    let Some(limit) = method.request_bytes(&front.limits()) else {
        return services.call(door, request.map(tonic::body::Body::new)).await;
    };
    let (head, body) = request.into_parts();
    let received = receive(front, body, limit).await;
    let received =
        received.and_then(|received| check_fields(&received.bytes, method, front).map(|()| received));
    match received {
        Err(refused) => status_of(front, refused).into_http(),
        // The share is held until there is an answer; the bytes only until they are decoded.
        Ok(Received { bytes, share: _held }) => {
            let body = tonic::body::Body::new(Full::new(bytes));
            services.call(door, Request::from_parts(head, body)).await
        }
    }
}

/// Refuses what would decode to far more than it is.
fn check_fields(request: &[u8], method: &Method, front: &Front) -> Result<(), ApiError> {
    let Some(most) = method.fields_max(&front.limits()) else { return Ok(()) };
    let message = request.get(FRAME_HEAD..).unwrap_or_default();
    match esker_proto::fields::count(message) {
        None => Err(ApiError::bad_request("the request is no message of this method")),
        Some(fields) if fields > most => {
            let why = format!("the request has {fields} elements, the limit is {most}: split it");
            Err(ApiError::new(ErrorCode::PayloadTooLarge, why))
        }
        Some(_) => Ok(()),
    }
}

/// A call under way. Dropped before its end, it was given up.
pub(super) struct Call {
    front: Arc<Front>,
    connection: Arc<ConnectionState>,
    place: usize,
    start: Duration,
    deadline: Option<Instant>,
    request_id: Option<HeaderValue>,
    /// Its place among the streams of which a connection has few.
    seat: Option<Seat>,
    /// Looked for only where somebody wants spans.
    parent: Option<TraceParent>,
    trail: Arc<Trail>,
    /// Of the call on its connection.
    number: u64,
    /// There is a head of an answer.
    has_begun: bool,
    has_ended: bool,
}

impl Call {
    fn begin(
        services: &Services,
        connection: Arc<ConnectionState>,
        place: usize,
        headers: &HeaderMap,
    ) -> Self {
        connection.call_begins();
        let (front, trail) = (Arc::clone(services.front()), Arc::clone(&services.arrival().trail));
        let parent = front.config.spans.as_ref().and_then(|_| TraceParent::of(headers));
        let start = front.clock().monotonic();
        let request_id = headers.get(REQUEST_ID).cloned();
        Self {
            front,
            connection,
            place,
            start,
            deadline: None,
            request_id,
            seat: None,
            parent,
            number: trail.add(1),
            trail,
            has_begun: false,
            has_ended: false,
        }
    }

    pub(super) fn front(&self) -> &Front {
        &self.front
    }

    pub(super) fn outstanding(&self) -> &Arc<Outstanding> {
        &self.connection.outstanding
    }

    fn method(&self) -> &'static Method {
        &METHODS[self.place]
    }

    /// Takes its place, if it needs one; what it is told if there is none.
    fn refuse_crowd(&mut self) -> Option<Response<tonic::body::Body>> {
        if !self.method().is_counted {
            return None;
        }
        self.seat = self.connection.seat();
        let why = "this connection has as many streams of health and reflection as it may: end one of them";
        self.seat.is_none().then(|| {
            Status::resource_exhausted(format!("{why} (the limit is {COUNTED_STREAMS_MAX})")).into_http()
        })
    }

    /// The answer on its way.
    fn answered(mut self, mut answer: Response<tonic::body::Body>) -> Response<AnswerBody> {
        self.has_begun = true;
        self.front.grpc.metrics.began(self.place, self.took());
        if let Some(id) = self.request_id.clone() {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        // Where there is nothing but a head, it has the status.
        match (answer.status(), Status::from_header_map(answer.headers())) {
            (_, Some(status)) => self.end(status.code()),
            (StatusCode::OK, None) => {}
            (_, None) => self.end(Code::Unimplemented),
        }
        let room = answer.extensions_mut().remove::<Room>().and_then(|room| room.take());
        let ending = Ending::new(&self);
        answer.map(|body| AnswerBody::new(body, room, ending, self))
    }

    fn took(&self) -> Duration {
        self.front.clock().monotonic().saturating_sub(self.start)
    }

    /// The call ends with this code.
    pub(super) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.front.grpc.metrics.ended(self.place, code);
        let took = self.took();
        let is_slow = took >= self.front.config.timeouts.slow_request && !self.method().is_lasting;
        let is_failure = matches!(code, Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss);
        if let Some(spans) = &self.front.config.spans {
            spans.record(&self.span(code, took));
        }
        if is_slow || is_failure {
            self.log(code, is_failure, took);
        }
    }

    fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref().and_then(|id| id.to_str().ok())
    }

    fn span(&self, code: Code, took: Duration) -> RequestSpan<'_> {
        RequestSpan {
            front: Entrance::Grpc.as_str(),
            operation: self.method().name,
            parent: self.parent,
            began: self.front.clock().wall().saturating_sub(took),
            took,
            status: Some(SpanStatus::Grpc(code as i32)),
            connection: self.trail.connection(),
            request: self.number,
            request_id: self.request_id(),
            requests: 1,
        }
    }

    #[cold]
    fn log(&self, code: Code, is_failure: bool, took: Duration) {
        let (front, connection, request) = (Entrance::Grpc.as_str(), self.trail.connection(), self.number);
        let (request_id, code) = (self.request_id().unwrap_or("-"), spelled(code));
        let (operation, took_ms) = (self.method().name, took.as_millis() as u64);
        let what = if is_failure { "a call failed" } else { "a call was slow" };
        tracing::warn!(front, connection, request, request_id, operation, code, took_ms, "{what}");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
        self.connection.call_ends(!self.has_begun);
    }
}

/// What ends an answer early: the client's deadline; and of one that goes on for as long as nobody ends it, the drain.
pub(super) struct Ending {
    deadline: Option<Pin<Box<Sleep>>>,
    drain: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Ending {
    fn new(call: &Call) -> Self {
        let mut begun = call.front.drain.subscribe();
        let drain = call.method().is_lasting && !call.has_ended;
        Self {
            deadline: call.deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            drain: drain.then(|| Box::pin(async move { begun.begun().await }) as _),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(out_of_time());
        }
        if self.drain.as_mut().is_some_and(|drain| drain.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Status::unavailable(
                "the server is shutting down: go on with another one, or later",
            ));
        }
        Poll::Pending
    }
}
