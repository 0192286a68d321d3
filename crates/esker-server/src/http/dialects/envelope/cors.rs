//! Pages of other sites: what browsers ask before they let them in, and what they are told (CORS, the Fetch standard).

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};

use super::methods_of;
use crate::{
    Origins,
    http::{Front, answer::AnswerBody},
};

/// What of an answer a page may see beside its body.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, esker-retry-after-ms, x-request-id");
/// For how long a browser may go by the answer.
const MAX_AGE_SECONDS: u32 = 600;
const EVERYBODY: HeaderValue = HeaderValue::from_static("*");

/// `OPTIONS`: which methods there are, and whether a page of another site may use them.
pub(super) fn options(front: &Front, parts: &Parts) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::try_from(methods_of(parts.uri.path())).expect("methods and commas");
    let headers = answer.headers_mut();
    let asked = &parts.headers;
    let is_preflight = asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight && allowed(&front.config.cors_origins, asked).is_some() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
        if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            vary(headers, header::ACCESS_CONTROL_REQUEST_HEADERS);
        }
    }
    headers.insert(header::ALLOW, methods);
    answer
}

/// Tells the browser whether it may hand an answer to the page that asked.
pub(super) fn mark(origins: &Origins, asked: &HeaderMap, answer: &mut Response<AnswerBody>) {
    let headers = answer.headers_mut();
    if *origins != Origins::All {
        vary(headers, header::ORIGIN);
    }
    if let Some(origin) = allowed(origins, asked) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Who is let in.
fn allowed(origins: &Origins, asked: &HeaderMap) -> Option<HeaderValue> {
    match origins {
        Origins::All => Some(EVERYBODY),
        Origins::These(_) => {
            asked.get(header::ORIGIN).filter(|origin| origins.allow(origin.as_bytes())).cloned()
        }
    }
}

/// A cache must not give the answer to whoever has another such header.
fn vary(headers: &mut HeaderMap, name: HeaderName) {
    headers.append(header::VARY, HeaderValue::from(name));
}
