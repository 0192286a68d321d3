//! From hyper's request to a finished answer: routing, timing, request ids, the log.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use esker_wire::{ErrorCode, INCR_SUFFIX, KEY_PREFIX};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use tower_service::Service as _;

use super::{
    Front,
    answer::{AnswerBody, TrackedBody},
    dialects::Addressee,
    error::{ApiError, Elsewhere, ErrorNote},
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
        let addressee = addressee_of(&request);
        let operation = addressee.operation().unwrap_or_else(|| operation_of(&request));
        let uri = request.uri().clone();
        let refused = refuse_head(&request, &self.front)
            .or_else(|| refuse_other_sites(&request, &addressee, &self.front));
        let answer = match refused {
            Some(refused) => addressee.refuse(&self.front, request.headers(), refused),
            None => point_elsewhere(self.route(request, addressee).await, &uri),
        };
        let took = self.front.store.clock().monotonic().saturating_sub(start);
        let answer = self.finish(answer, operation, request_id, took);
        Ok(answer.map(|body| TrackedBody { body, _answering: answering }))
    }

    async fn route(&self, request: Request<Incoming>, addressee: Addressee) -> Response<AnswerBody> {
        if addressee != Addressee::Native {
            return addressee.answer(&self.front, request).await;
        }
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
        if let Some(damage) = answer.extensions().get::<ErrorNote>().and_then(|note| note.damage.as_deref()) {
            self.front.damage_found(damage);
        }
        if failed || slow {
            log(&answer, operation, request_id.as_ref(), took);
        }
        if let Some(id) = request_id {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        if self.front.drain.has_begun() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// An answer that another node should give says where: there, with the same path and query.
fn point_elsewhere(mut answer: Response<AnswerBody>, uri: &Uri) -> Response<AnswerBody> {
    let Some(Elsewhere(address)) = answer.extensions().get() else { return answer };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    match HeaderValue::try_from(format!("http://{address}{target}")) {
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

fn log(answer: &Response<AnswerBody>, operation: Operation, id: Option<&HeaderValue>, took: Duration) {
    let request_id = id.and_then(|id| id.to_str().ok()).unwrap_or("-");
    let (operation, status) = (operation.as_str(), answer.status().as_u16());
    let took_ms = took.as_millis() as u64;
    match answer.extensions().get::<ErrorNote>() {
        Some(ErrorNote { code, message, .. }) => {
            tracing::warn!(request_id, operation, status, took_ms, %code, message, "a request failed");
        }
        None => tracing::warn!(request_id, operation, status, took_ms, "a request was slow"),
    }
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
        let answer = point_elsewhere(not_leader("h:8081"), &uri);
        assert_eq!(answer.status(), 307);
        assert_eq!(answer.headers()[header::LOCATION], format!("http://h:8081{uri}"));
        assert_eq!(point_elsewhere(not_leader("h\n"), &uri).status(), 500);
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
