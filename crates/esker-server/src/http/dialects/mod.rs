//! The dialects: other HTTP interfaces to the same Store, beside the native API and on its port.
//!
//! Each has a table of what it answers, words errors its own way, and knows nothing of the others. A path may be in
//! more than one table, as long as the methods differ. What is in none of them is the native API's.
//!
//! ```text
//! request -> addressee (the tables) -> dialect: Asked -> plain reads and writes -> answer in its shapes
//! ```

pub(crate) mod envelope;
pub(crate) mod query;
mod reading;
mod text;
pub(crate) mod verb;

use axum::body::HttpBody;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;

use super::{Front, answer::AnswerBody, error::ApiError};
use crate::{access::Door, metrics::Operation};

/// What a dialect answers: method, path and what that asks for. GET stands for HEAD, too. A path that ends with [`KEY`]
/// stands for all that go on with something else in its place; the first line that fits counts.
pub(crate) type Routes<A> = &'static [(&'static str, &'static str, A)];

/// The end of a path that is a key.
pub(crate) const KEY: &str = "{key}";

/// Who answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// No dialect: the native API, also where there is nothing.
    Native,
    Envelope(envelope::Asked),
    Verb(verb::Asked),
    Query(query::Asked),
    /// A dialect has the path, or more than one, for these methods only. The first of them says so.
    WrongMethod {
        dialect: Dialect,
        allow: String,
    },
}

/// A dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Envelope,
    Verb,
    Query,
}

impl Dialect {
    /// All of them, as they are counted.
    pub(crate) const ALL: [Self; 3] = [Self::Envelope, Self::Verb, Self::Query];

    /// Its name in the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Verb => "verb",
            Self::Query => "query",
        }
    }
}

/// What a dialect's table says of a request.
pub(crate) enum Claim<A> {
    No,
    Yes(A),
    /// The path is there for these methods.
    Methods(Vec<&'static str>),
}

/// Looks a request up in a dialect's table.
fn claim<A: Copy>(routes: Routes<A>, method: &Method, path: &str) -> Claim<A> {
    let asked = if *method == Method::HEAD { Method::GET.as_str() } else { method.as_str() };
    let mut methods = Vec::new();
    for (takes, _, what) in routes.iter().filter(|(_, pattern, _)| matches(pattern, path)) {
        if *takes == asked {
            return Claim::Yes(*what);
        }
        let with_head = std::iter::once(*takes).chain((*takes == "GET").then_some("HEAD"));
        for method in with_head {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
    }
    if methods.is_empty() { Claim::No } else { Claim::Methods(methods) }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix(KEY) {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

impl Addressee {
    /// Who answers a request.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let mut wrong = None;
        let found = look(Dialect::Envelope, envelope::claim(method, uri.path()), &mut wrong)
            .map(Self::Envelope)
            .or_else(|| look(Dialect::Verb, verb::claim(method, uri, headers), &mut wrong).map(Self::Verb))
            .or_else(|| look(Dialect::Query, query::claim(method, uri.path()), &mut wrong).map(Self::Query));
        let wrong = wrong.map(|(dialect, methods)| Self::WrongMethod { dialect, allow: methods.join(", ") });
        found.or(wrong).unwrap_or(Self::Native)
    }

    /// What the request counts as; the native API knows of its own.
    pub(crate) fn operation(&self) -> Option<Operation> {
        match self {
            Self::Native => None,
            Self::Envelope(asked) => Some(asked.operation()),
            Self::Verb(asked) => Some(asked.operation()),
            Self::Query(asked) => Some(asked.operation()),
            Self::WrongMethod { .. } => Some(Operation::Other),
        }
    }

    /// Whose words the answer has; `None`: the native API's.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        match self {
            Self::Native => None,
            Self::Envelope(_) => Some(Dialect::Envelope),
            Self::Verb(_) => Some(Dialect::Verb),
            Self::Query(_) => Some(Dialect::Query),
            Self::WrongMethod { dialect, .. } => Some(*dialect),
        }
    }

    /// Whether pages of another site may write: the envelope dialect is made for browsers.
    pub(crate) fn welcomes(&self, front: &Front, origin: &HeaderValue) -> bool {
        self.dialect() == Some(Dialect::Envelope) && front.config.cors_origins.allow(origin.as_bytes())
    }

    /// An error in the words of who would have answered.
    pub(crate) fn refuse(&self, front: &Front, headers: &HeaderMap, error: ApiError) -> Response<AnswerBody> {
        match self.dialect() {
            None => error.into_answer(),
            Some(Dialect::Envelope) => envelope::refuse(front, headers, error),
            Some(Dialect::Verb | Dialect::Query) => text::refuse(error),
        }
    }

    /// Answers the request, which is not the native API's.
    pub(crate) async fn answer(self, door: &Door, request: Request<Incoming>) -> Response<AnswerBody> {
        let is_head = *request.method() == Method::HEAD;
        let answer = match self {
            Self::Native => unreachable!("the native API has routes of its own"),
            Self::Envelope(asked) => envelope::answer(door, asked, request).await,
            Self::Verb(asked) => verb::answer(door, asked, request).await.unwrap_or_else(text::refuse),
            Self::Query(asked) => query::answer(door, asked, request).await.unwrap_or_else(text::refuse),
            Self::WrongMethod { ref allow, .. } => {
                let error = ApiError::method_not_allowed(allow.clone());
                self.refuse(door, request.headers(), error)
            }
        };
        if is_head { head_of(answer) } else { answer }
    }
}

/// What a dialect answers, if it does; keeps the methods that it would answer beside those of others.
fn look<A>(dialect: Dialect, claim: Claim<A>, wrong: &mut Option<(Dialect, Vec<&'static str>)>) -> Option<A> {
    match claim {
        Claim::Yes(asked) => Some(asked),
        Claim::No => None,
        Claim::Methods(methods) => {
            wrong.get_or_insert((dialect, Vec::new())).1.extend(methods);
            None
        }
    }
}

/// The same without its body, whose length it tells if that is known.
fn head_of(mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
    if let Some(length) = answer.body().size_hint().exact() {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer.map(|_body| AnswerBody::empty())
}
