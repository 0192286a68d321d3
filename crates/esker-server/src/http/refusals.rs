//! What any route may answer, in the description: said here once, for all of them.

use std::collections::BTreeMap;

use esker_wire::options::RETRY_AFTER_MS_HEADER;
use http::header;
use utoipa::{
    PartialSchema,
    openapi::{Content, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, path::Operation},
};

/// Of these nobody is asked who they are.
pub(super) const PUBLIC: [&str; 4] = ["/api/v1/health", "/api/v1/openapi.json", "/health", "/ready"];

/// Status, what it is called in the envelope dialect, and when it is answered.
const REFUSALS: [(&str, &str, &str); 4] = [
    ("401", "UNAUTHORIZED", "The caller has to say who it is, or what it showed is wrong"),
    ("403", "FORBIDDEN", "The caller may not do this, or a page of another site may not"),
    ("429", "TOO_MANY_REQUESTS", "Too many wrong passwords, or bodies under way fill their budget"),
    ("503", "SERVICE_UNAVAILABLE", "Busy, or shutting down"),
];

/// The form of an error's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Native,
    Envelope,
    Text,
}

impl Form {
    fn of(operation: &Operation) -> Self {
        let tag = operation.tags.iter().flatten().next().map(String::as_str);
        match tag {
            Some("envelope dialect") => Self::Envelope,
            Some("verb dialect" | "query dialect") => Self::Text,
            _ => Self::Native,
        }
    }

    fn content(self) -> (&'static str, Content) {
        let named = |name| Content::new(Some(Ref::from_schema_name(name)));
        match self {
            Self::Native => ("application/json", named("ErrorAnswer")),
            Self::Envelope => ("application/json", named("ErrorEnvelope")),
            Self::Text => ("text/plain", Content::new(Some(String::schema()))),
        }
    }

    /// Errors for the description: status, and when it is answered.
    pub(super) fn describe(self, refusals: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
        let answer = |(status, why): &(&str, &str)| ((*status).to_owned(), self.response(why).into());
        refusals.iter().map(answer).collect()
    }

    fn response(self, why: &str) -> Response {
        let (content_type, content) = self.content();
        ResponseBuilder::new().description(why).content(content_type, content).build()
    }
}

/// Adds to each operation what the ways to it may answer, unless it says more itself, and to every answer its headers.
pub(super) fn add(description: &mut OpenApi) {
    for (path, item) in &mut description.paths.paths {
        let has_body = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in has_body.into_iter().flatten() {
            add_to(operation, path, true);
        }
        if let Some(operation) = &mut item.head {
            add_to(operation, path, false);
        }
    }
}

fn add_to(operation: &mut Operation, path: &str, has_body: bool) {
    let form = Form::of(operation);
    let responses = &mut operation.responses.responses;
    if !PUBLIC.contains(&path) {
        for (status, name, why) in REFUSALS {
            let why = if form == Form::Envelope { format!("{name}: {why}") } else { why.to_owned() };
            let response = || match has_body {
                true => form.response(&why),
                false => ResponseBuilder::new().description(&why).build(),
            };
            responses.entry(status.to_owned()).or_insert_with(|| response().into());
        }
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            add_headers(status, response);
        }
    }
}

fn add_headers(status: &str, response: &mut Response) {
    let headers: &[(&str, &str)] = match status {
        "401" => &[(header::WWW_AUTHENTICATE.as_str(), "`Bearer` and `Basic`, each with its realm")],
        "429" | "503" => &[
            (header::RETRY_AFTER.as_str(), "When to come back, in seconds"),
            (RETRY_AFTER_MS_HEADER, "The same in milliseconds"),
        ],
        _ => &[],
    };
    for (name, meaning) in headers {
        let header = HeaderBuilder::new().schema(Some(String::schema())).description(Some(*meaning)).build();
        response.headers.insert((*name).to_owned(), header.into());
    }
}
