//! Sending requests: the pool, time-outs, retries, and what an answer's status means.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker_wire::{ErrorAnswer, ErrorCode};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout};

use crate::{Error, Result, Retry, connect::connector};

/// A client's settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// How long making a connection may take. Default 3 s.
    pub connect_timeout: Duration,
    /// How long a request may take, from sending it to the end of its answer; in a stream, from one part to the
    /// next. Default 30 s.
    pub request_timeout: Duration,
    /// When requests are sent again.
    pub retry: Retry,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            retry: Retry::default(),
        }
    }
}

/// Connections idle for this long are closed, before most servers close them under our feet.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// The pause where a server turns us away without saying for how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_millis(100);
/// As much of an error's body as is read; the rest tells nobody anything.
const ERROR_BODY_MAX: usize = 1 << 16;

/// A request that can be sent again: its body is in memory.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and parameters.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, accept: None, body: Bytes::new() }
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pool: Pool<HttpConnector, Full<Bytes>>,
    endpoint: Arc<str>,
    pub(crate) settings: Settings,
}

impl Transport {
    pub(crate) fn new(endpoint: &str, settings: Settings) -> Result<Self> {
        let endpoint = base_of(endpoint)?.into();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector(settings.connect_timeout));
        Ok(Self { pool, endpoint, settings })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a call, again where that is safe, and reads the whole answer. An absent key is an answer.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer> {
        let mut attempts = Attempts::new(&self.settings.retry, call.is_write());
        loop {
            match timeout(self.settings.request_timeout, self.attempt(&call)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => attempts.pause(error).await?,
                Err(_) => attempts.pause(self.late()).await?,
            }
        }
    }

    /// Sends a call, again where that is safe, and gives the answer's body as it comes.
    pub(crate) async fn stream(&self, call: Call) -> Result<Response<Incoming>> {
        let mut attempts = Attempts::new(&self.settings.retry, call.is_write());
        loop {
            match timeout(self.settings.request_timeout, self.open(&call)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => attempts.pause(error).await?,
                Err(_) => attempts.pause(self.late()).await?,
            }
        }
    }

    fn late(&self) -> Error {
        Error::TimedOut { after: self.settings.request_timeout }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer> {
        let response = self.request(call).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(interrupted)?.to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        match answer.status {
            status if status.is_success() || is_absent_key(&answer) => Ok(answer),
            _ => Err(refusal(&answer)),
        }
    }

    async fn open(&self, call: &Call) -> Result<Response<Incoming>> {
        let response = self.request(call).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, ERROR_BODY_MAX).collect().await;
        let body = body.map_err(|source| Error::Interrupted { source: source.into() })?.to_bytes();
        Err(refusal(&Answer { status: head.status, headers: head.headers, body }))
    }

    async fn request(&self, call: &Call) -> Result<Response<Incoming>> {
        let mut request =
            Request::builder().method(call.method.clone()).uri(format!("{}{}", self.endpoint, call.path));
        if let Some(accept) = call.accept {
            request = request.header(header::ACCEPT, accept);
        }
        let request =
            request.body(Full::new(call.body.clone())).map_err(|e| Error::invalid(e.to_string()))?;
        self.pool.request(request).await.map_err(|e| match e.is_connect() {
            true => Error::Unreachable { endpoint: self.endpoint.clone(), source: Arc::new(e) },
            false => Error::Interrupted { source: Arc::new(e) },
        })
    }
}

/// The attempts of one request.
struct Attempts<'a> {
    retry: &'a Retry,
    is_write: bool,
    start: Instant,
    count: u32,
}

impl<'a> Attempts<'a> {
    fn new(retry: &'a Retry, is_write: bool) -> Self {
        Self { retry, is_write, start: Instant::now(), count: 0 }
    }

    /// Waits until the next attempt is due; gives the error back if there is to be none.
    async fn pause(&mut self, error: Error) -> Result<()> {
        self.count += 1;
        let elapsed = self.start.elapsed();
        match self.retry.pause(&error, self.is_write, elapsed, self.count, fastrand::f64()) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}

/// The endpoint without a slash at its end; `http://` is put before a bare `host:port`.
fn base_of(endpoint: &str) -> Result<String> {
    let full = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let refuse = |why: &str| {
        Error::invalid(format!("`{endpoint}` is no endpoint: {why}, such as http://127.0.0.1:8080"))
    };
    let uri: Uri = full.parse().map_err(|_| refuse("give an address"))?;
    match (uri.scheme_str(), uri.authority(), uri.path_and_query().map(|path| path.as_str())) {
        (Some("http"), Some(authority), None | Some("/" | "")) => Ok(format!("http://{authority}")),
        (Some("http"), Some(_), Some(_)) => Err(refuse("leave out what follows the port")),
        _ => Err(refuse("only http is supported")),
    }
}

fn interrupted(e: hyper::Error) -> Error {
    Error::Interrupted { source: Arc::new(e) }
}

fn is_absent_key(answer: &Answer) -> bool {
    // HEAD has no body to say which of the two it is that was not found.
    answer.status == StatusCode::NOT_FOUND
        && (answer.body.is_empty()
            || code_and_message(answer).is_some_and(|(code, _)| code == ErrorCode::KeyNotFound))
}

fn code_and_message(answer: &Answer) -> Option<(ErrorCode, String)> {
    let body: ErrorAnswer = serde_json::from_slice(&answer.body).ok()?;
    Some((body.error.code, body.error.message))
}

/// What an answer that is no success asks of the caller.
fn refusal(answer: &Answer) -> Error {
    let status = answer.status;
    let Some((code, message)) = code_and_message(answer) else {
        return Error::Protocol(format!("status {status} without an error body"));
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => RetryAfter::of(answer).error(code, message),
        // Waiting does not help a store that refuses writes until somebody repairs it.
        StatusCode::SERVICE_UNAVAILABLE if code != ErrorCode::WritesRefused => {
            RetryAfter::of(answer).error(code, message)
        }
        status if status.is_client_error() => Error::InvalidRequest { code: Some(code), message },
        status => Error::Server { status: status.as_u16(), code, message },
    }
}

struct RetryAfter(Duration);

impl RetryAfter {
    fn of(answer: &Answer) -> Self {
        let seconds =
            answer.headers.get(header::RETRY_AFTER).and_then(|text| text.to_str().ok()?.parse().ok());
        Self(seconds.map_or(RETRY_AFTER_DEFAULT, Duration::from_secs))
    }

    fn error(self, code: ErrorCode, message: String) -> Error {
        Error::RetryLater { code, message, retry_after: self.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked() {
        for (text, base) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://h:1/", "http://h:1"),
            ("localhost:8080", "http://localhost:8080"),
            ("[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(base_of(text).unwrap(), base);
        }
        for text in ["", "https://h:1", "http://h:1/kv", "redis://h:1", "http://"] {
            assert!(matches!(base_of(text), Err(Error::InvalidRequest { .. })), "{text}");
        }
    }
}
