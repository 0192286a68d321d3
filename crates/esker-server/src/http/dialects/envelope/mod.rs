//! The envelope dialect: every answer is `{"status","data","timestamp"}` or `{"status","error","timestamp"}`.
//!
//! It is made for browsers, too: pages of other sites may use it as far as the settings allow (CORS).

mod batch;
mod cors;
mod given;
mod health;
mod key;
mod openapi;
mod range;
mod shapes;
mod status;

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use super::{Claim, Routes};
use crate::{
    access::Door,
    http::{Front, answer::AnswerBody, error::ApiError},
    metrics::Operation,
};

pub(crate) use openapi::Description;
use shapes::Refusal;

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Range,
    Batch,
    Get,
    Put,
    Delete,
    Status,
    Health,
    /// What a browser asks before it lets a page of another site ask.
    Options,
}

/// `range` and `batch` are words before they are keys, each for the one method.
pub(crate) const ROUTES: Routes<Asked> = &[
    ("GET", "/kv/range", Asked::Range),
    ("POST", "/kv/batch", Asked::Batch),
    ("GET", "/kv/{key}", Asked::Get),
    ("PUT", "/kv/{key}", Asked::Put),
    ("DELETE", "/kv/{key}", Asked::Delete),
    ("GET", "/status", Asked::Status),
    ("GET", "/health", Asked::Health),
];

/// Where the path of a key begins: all that follows is the percent-coded key.
const KEY_PREFIX: &str = "/kv/";

pub(super) fn claim(method: &Method, path: &str) -> Claim<Asked> {
    match super::claim(ROUTES, method, path) {
        Claim::Methods(_) if *method == Method::OPTIONS => Claim::Yes(Asked::Options),
        Claim::Methods(mut methods) => {
            methods.push("OPTIONS");
            Claim::Methods(methods)
        }
        claim => claim,
    }
}

/// The methods of a path of this dialect, as `Allow` lists them.
fn methods_of(path: &str) -> String {
    match claim(&Method::TRACE, path) {
        Claim::Methods(methods) => methods.join(", "),
        Claim::No | Claim::Yes(_) => String::new(),
    }
}

impl Asked {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Range => Operation::List,
            Self::Batch => Operation::Batch,
            Self::Get => Operation::Get,
            Self::Put => Operation::Put,
            Self::Delete => Operation::Delete,
            Self::Status | Self::Health | Self::Options => Operation::Other,
        }
    }
}

type Answer = Result<Response<AnswerBody>, Refusal>;

pub(super) async fn answer(door: &Door, asked: Asked, request: Request<Incoming>) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let answered = match asked {
        Asked::Range => range::range(door, &parts).await,
        Asked::Batch => batch::batch(door, &parts, body).await,
        Asked::Get => key::get(door, &parts).await,
        Asked::Put => key::put(door, &parts, body).await,
        Asked::Delete => key::delete(door, &parts).await,
        Asked::Status => status::status(door),
        Asked::Health => health::health(door),
        Asked::Options => Ok(cors::options(door, &parts)),
    };
    let mut answer = answered.unwrap_or_else(|refusal| refusal.into_answer(door.now_ms()));
    cors::mark(&door.config.cors_origins, &parts.headers, &mut answer);
    answer
}

/// An error that was found before the request was looked at.
pub(super) fn refuse(front: &Front, headers: &HeaderMap, error: ApiError) -> Response<AnswerBody> {
    let mut answer = Refusal::from(error).into_answer(front.now_ms());
    cors::mark(&front.config.cors_origins, headers, &mut answer);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_taken_for_one_method_each() {
        let asked = |method, path| match claim(&method, path) {
            Claim::Yes(asked) => Some(asked),
            Claim::No | Claim::Methods(_) => None,
        };
        assert_eq!(asked(Method::GET, "/kv/range"), Some(Asked::Range));
        assert_eq!(asked(Method::HEAD, "/kv/range"), Some(Asked::Range));
        assert_eq!(asked(Method::PUT, "/kv/range"), Some(Asked::Put));
        assert_eq!(asked(Method::GET, "/kv/%72ange"), Some(Asked::Get));
        assert_eq!(asked(Method::GET, "/kv/range/"), Some(Asked::Get));
        assert_eq!(asked(Method::GET, "/kv/batch"), Some(Asked::Get));
        assert_eq!(asked(Method::POST, "/kv/batch"), Some(Asked::Batch));
        assert_eq!(asked(Method::POST, "/kv/k"), None);
        assert_eq!(asked(Method::OPTIONS, "/status"), Some(Asked::Options));
        assert_eq!(asked(Method::OPTIONS, "/kv"), None);
        assert_eq!(methods_of("/kv/batch"), "POST, GET, HEAD, PUT, DELETE, OPTIONS");
        assert_eq!(methods_of("/kv/a/b"), "GET, HEAD, PUT, DELETE, OPTIONS");
        assert_eq!(methods_of("/health"), "GET, HEAD, OPTIONS");
    }
}
