//! From hyper's request to a finished answer: routing, timing, request ids, the log.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use esker_wire::{ErrorCode, INCR_SUFFIX, KEY_PREFIX};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use tower_service::Service as _;

use super::{
    Front,
    answer::{AnswerBody, TrackedBody},
    dialects::{Addressee, Dialect, envelope},
    error::{ApiError, Elsewhere, ErrorNote},
    native,
};
use crate::{
    RequestSpan, SpanStatus, TraceParent,
    access::{Arrival, Door, Entrance, key_told},
    guard::Answering,
    metrics::Operation,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers requests. Each connection has one of its own, so that cores do not share its reference count.
#[derive(Clone)]
pub(crate) struct Service {
    /// Of whoever shows nothing.
    door: Door,
    router: Router,
}

impl Service {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        let door = Door::arrive(front, Arrival::new(Entrance::Http, None));
        Self { router: native::router(), door }
    }

    /// The same for whoever comes in so.
    pub(crate) fn of(&self, arrival: Arrival) -> Self {
        Self { door: Door::arrive(Arc::clone(self.front()), arrival), router: self.router.clone() }
    }

    pub(crate) fn front(&self) -> &Arc<Front> {
        self.door.front()
    }

    /// The door of whoever shows nothing.
    #[cfg(test)]
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Never fails: whatever goes wrong is an answer.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        answering: Answering,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let addressee = addressee_of(&request);
        let asked = self.ask(&request, &addressee);
        let refused = refuse_head(&request, &self.door)
            .or_else(|| refuse_other_sites(&request, &addressee, &self.door))
            .or_else(|| refuse_costly_embedding(&request));
        let admitted = match refused {
            Some(refused) => Err(refused),
            None => self.admit(&request, &addressee).await,
        };
        let answer = match admitted {
            Err(refused) => addressee.refuse(&self.door, request.headers(), refused),
            Ok(shown) => {
                let door = shown.as_ref().unwrap_or(&self.door);
                point_elsewhere(self.route(door, request, addressee).await, self.scheme(), &asked.uri)
            }
        };
        let answer = self.finish(answer, asked);
        Ok(answer.map(|body| TrackedBody { body, answering }))
    }

    /// What is kept of a request for when it is answered.
    fn ask<B>(&self, request: &Request<B>, addressee: &Addressee) -> Asked {
        self.door.arrival().trail.add(1);
        Asked {
            start: self.door.clock().monotonic(),
            operation: addressee.operation().unwrap_or_else(|| operation_of(request)),
            dialect: addressee.dialect(),
            uri: request.uri().clone(),
            request_id: request.headers().get(REQUEST_ID).cloned(),
            parent: self.door.config.spans.as_ref().and_then(|_| TraceParent::of(request.headers())),
        }
    }

    /// The door of whoever shows something; `None`: that of this connection. Whoever is not known is refused before its request
    /// costs more than its head.
    async fn admit<B>(&self, request: &Request<B>, addressee: &Addressee) -> Result<Option<Door>, ApiError> {
        if !self.door.access.is_locked() {
            return Ok(None);
        }
        let Some(shown) = self.door.shown(request.headers())? else {
            return match is_open(request, addressee) {
                true => Ok(None),
                false => Ok(self.door.may_know("request").map(|()| None)?),
            };
        };
        let arrival = self.door.arrival().clone();
        let caller =
            self.door.access.authenticate(arrival, shown.shown(), self.door.clock().monotonic()).await?;
        Ok(Some(self.door.with_caller(caller)))
    }

    async fn route(
        &self,
        door: &Door,
        mut request: Request<Incoming>,
        addressee: Addressee,
    ) -> Response<AnswerBody> {
        if addressee != Addressee::Native {
            return addressee.answer(door, request).await;
        }
        if request.uri().path().starts_with(KEY_PREFIX) {
            return native::answer_key(door, request).await.unwrap_or_else(ApiError::into_answer);
        }
        request.extensions_mut().insert(door.clone());
        let answered = self.router.clone().call(request.map(Body::new)).await;
        match answered {
            Ok(answer) => answer.map(AnswerBody::Boxed),
            Err(never) => match never {},
        }
    }

    /// What the other nodes speak, too.
    fn scheme(&self) -> &'static str {
        if self.door.config.tls.is_some() { "https" } else { "http" }
    }

    fn finish(&self, mut answer: Response<AnswerBody>, asked: Asked) -> Response<AnswerBody> {
        let status = answer.status();
        let took = self.door.clock().monotonic().saturating_sub(asked.start);
        self.door.metrics.record(asked.operation, status, took);
        if let Some(dialect) = asked.dialect {
            self.door.metrics.spoken(dialect, asked.operation);
        }
        if let Some(spans) = &self.door.config.spans {
            spans.record(&self.span(&asked, status, took));
        }
        let slow = took >= self.door.config.timeouts.slow_request;
        let failed = status.is_server_error();
        let request_id = match asked.request_id.clone() {
            None if failed => Some(self.door.metrics.next_request_id()),
            given => given,
        };
        if let Some(damage) = answer.extensions().get::<ErrorNote>().and_then(|note| note.damage.as_deref()) {
            self.door.damage_found(damage);
        }
        if failed || slow {
            self.log(&answer, &asked, request_id.as_ref(), took);
        }
        if let Some(id) = request_id {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        if self.door.drain.has_begun() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

impl Service {
    fn span<'a>(&self, asked: &'a Asked, status: StatusCode, took: Duration) -> RequestSpan<'a> {
        let (front, connection, request) = self.door.arrival().named();
        RequestSpan {
            front,
            operation: asked.operation.as_str(),
            parent: asked.parent,
            began: self.door.clock().wall().saturating_sub(took),
            took,
            status: Some(SpanStatus::Http(status.as_u16())),
            connection,
            request,
            request_id: asked.request_id.as_ref().and_then(|id| id.to_str().ok()),
            requests: 1,
        }
    }

    #[cold]
    fn log(&self, answer: &Response<AnswerBody>, asked: &Asked, id: Option<&HeaderValue>, took: Duration) {
        let (front, connection, request) = self.door.arrival().named();
        let request_id = id.and_then(|id| id.to_str().ok()).unwrap_or("-");
        let (operation, status) = (asked.operation.as_str(), answer.status().as_u16());
        let (key, took_ms) = (key_told(asked.key()), took.as_millis() as u64);
        match answer.extensions().get::<ErrorNote>() {
            Some(ErrorNote { code, message, .. }) => tracing::warn!(
                front, connection, request, request_id, operation, key, status, took_ms, %code, message,
                "a request failed"
            ),
            None => tracing::warn!(
                front,
                connection,
                request,
                request_id,
                operation,
                key,
                status,
                took_ms,
                "a request was slow"
            ),
        }
    }
}

/// What is kept of a request for when it is answered.
struct Asked {
    start: Duration,
    operation: Operation,
    /// `None`: the native API.
    dialect: Option<Dialect>,
    uri: Uri,
    request_id: Option<HeaderValue>,
    /// Looked for only where somebody wants spans.
    parent: Option<TraceParent>,
}

impl Asked {
    /// The key, as it stands in the path of the native API.
    fn key(&self) -> Option<&[u8]> {
        self.uri.path().strip_prefix(KEY_PREFIX).map(str::as_bytes)
    }
}

/// An answer that another node should give says where: there, with the same path and query.
fn point_elsewhere(mut answer: Response<AnswerBody>, scheme: &str, uri: &Uri) -> Response<AnswerBody> {
    let Some(Elsewhere(address)) = answer.extensions().get() else { return answer };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    match HeaderValue::try_from(format!("{scheme}://{address}{target}")) {
        Ok(location) => {
            answer.headers_mut().insert(header::LOCATION, location);
            answer
        }
        Err(_) => {
            let why = format!("the leader's address cannot be told: {}", address.escape_default());
            ApiError::new(ErrorCode::Internal, why).into_answer()
        }
    }
}

/// What anybody may ask for: whether the node is alive, what the API is, and what browsers ask before they show anything.
fn is_open<B>(request: &Request<B>, addressee: &Addressee) -> bool {
    *request.method() == Method::OPTIONS
        || matches!(addressee, Addressee::Envelope(envelope::Asked::Health))
        || native::OPEN_PATHS.contains(&request.uri().path())
}

/// Keys of the native API, nearly all there is, are looked up in no table.
fn addressee_of<B>(request: &Request<B>) -> Addressee {
    match request.uri().path().starts_with(KEY_PREFIX) {
        true => Addressee::Native,
        false => Addressee::of(request.method(), request.uri(), request.headers()),
    }
}

fn operation_of<B>(request: &Request<B>) -> Operation {
    let path = request.uri().path();
    if path.starts_with(KEY_PREFIX) {
        return match *request.method() {
            Method::GET | Method::HEAD => Operation::Get,
            Method::PUT => Operation::Put,
            Method::DELETE => Operation::Delete,
            Method::POST if path.ends_with(INCR_SUFFIX) => Operation::Incr,
            _ => Operation::Other,
        };
    }
    match path {
        native::LIST_PATH if request.method() == Method::DELETE => Operation::DeleteRange,
        native::LIST_PATH => Operation::List,
        native::MGET_PATH => Operation::MultiGet,
        native::BATCH_PATH => Operation::Batch,
        native::WATCH_PATH => Operation::Watch,
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

/// A browser lets any page send writes to any server and names the page's site in `Origin`: without this a page
/// could write to the store on its reader's machine. Programs send no such header.
fn refuse_other_sites<B>(request: &Request<B>, addressee: &Addressee, front: &Front) -> Option<ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let headers = request.headers();
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let is_foreign =
        |origin: &&HeaderValue| !same_site(origin.as_bytes(), host) && !addressee.welcomes(front, origin);
    let foreign = headers.get_all(header::ORIGIN).iter().find(is_foreign)?;
    let why = format!(
        "a page from {} may not write here: send writes without an Origin header, or from the server's own address",
        foreign.as_bytes().escape_ascii()
    );
    Some(ApiError::new(ErrorCode::Forbidden, why))
}

/// An image of any page can ask for a profile, which costs much, without an `Origin`. Browsers name who asks in another header.
fn refuse_costly_embedding<B>(request: &Request<B>) -> Option<ApiError> {
    let is_foreign = |site: &HeaderValue| matches!(site.as_bytes(), b"cross-site" | b"same-site");
    let asked_by = request.headers().get_all("sec-fetch-site");
    if !request.uri().path().starts_with("/debug/") || !asked_by.iter().any(is_foreign) {
        return None;
    }
    let why =
        "a page from elsewhere may not ask for this: ask from the server's own address, or without a browser";
    Some(ApiError::new(ErrorCode::Forbidden, why))
}

/// Whether an `Origin`, a scheme and an authority, names the host that the request went to. `null` names none.
fn same_site(origin: &[u8], host: Option<&[u8]>) -> bool {
    let (authority, port): (_, &[u8]) =
        match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
            (Some(authority), _) => (authority, b":80"),
            (_, Some(authority)) => (authority, b":443"),
            _ => return false,
        };
    let bare = |authority: &[u8]| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !authority.is_empty() && host.is_some_and(|host| bare(host) == bare(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes through the router keeps where to go, and the way there keeps every byte of the key.
    #[test]
    fn a_redirect_keeps_path_and_query() {
        use axum::response::IntoResponse;
        let not_leader = |address: &str| {
            let error = esker_cluster::Error::NotLeader { leader: 2, http_address: address.into() };
            ApiError::from(error).into_response().map(AnswerBody::Boxed)
        };
        let uri = Uri::from_static("/api/v1/kv/a%2F..//b?ack=all&sync=always");
        let answer = point_elsewhere(not_leader("h:8081"), "https", &uri);
        assert_eq!(answer.status(), 307);
        assert_eq!(answer.headers()[header::LOCATION], format!("https://h:8081{uri}"));
        assert_eq!(point_elsewhere(not_leader("h\n"), "http", &uri).status(), 500);
    }

    #[test]
    fn an_origin_is_the_same_site_only_with_the_same_host_and_port() {
        for (origin, host, same) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://LOCALHOST:8080", "localhost:8080", true),
            ("http://store.example", "store.example:80", true),
            ("https://store.example", "store.example", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://localhost:3000", "localhost:8080", false),
            ("http://localhost", "localhost:8080", false),
            ("http://127.0.0.1:8080.evil.example", "127.0.0.1:8080", false),
            ("https://store.example:80", "store.example", false),
            ("null", "null", false),
            ("http://", "", false),
            ("file://127.0.0.1:8080", "127.0.0.1:8080", false),
        ] {
            assert_eq!(same_site(origin.as_bytes(), Some(host.as_bytes())), same, "{origin} {host}");
        }
        assert!(!same_site(b"http://localhost", None));
    }
}
