//! Sending requests: the pool, time-outs, and what an answer's status means.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker_wire::{
    API_PREFIX, ErrorAnswer, ErrorCode,
    cluster::{NodesAnswer, Role},
    kv::PreconditionDetails,
    options::{REQUEST_ID_HEADER, RETRY_AFTER_MS_HEADER},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::{
    client::legacy::Client as Pool,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Condition, Error, Result, Retry,
    attempts::{Attempts, Manner},
    connect::{Connector, Version, connector},
    endpoints::{Endpoint, Endpoints, base_of},
    error::{OTHER_PORT, root},
    request_id::RequestIds,
    secure::{Credentials, TlsSettings},
};

/// A client's settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// How long making a connection may take. Default 3 s.
    pub connect_timeout: Duration,
    /// How long a request may take, from sending it to the end of its answer; in a stream, from one part to the
    /// next. Default 30 s.
    pub request_timeout: Duration,
    /// How long a server may be silent before the next one is asked the same, where there is another one: doubled
    /// whenever all were asked, longer for large bodies, and not for what takes its time, such as a verification. A write
    /// is then sent again under its request id. Default 1 s.
    pub attempt_timeout: Duration,
    /// Whether to learn of the cluster's other members from those that are known. Default true; turn it off where the
    /// addresses that members tell are not theirs from here, as behind a tunnel.
    pub discover: bool,
    /// When requests are sent again.
    pub retry: Retry,
    /// What to show to servers. Default: nothing.
    pub credentials: Option<Credentials>,
    /// Whom to trust, and who to be, with endpoints that ask for TLS. Default: the system's authorities, and nobody.
    pub tls: TlsSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(1),
            discover: true,
            retry: Retry::default(),
            credentials: None,
            tls: TlsSettings::default(),
        }
    }
}

/// Connections idle for this long are closed, before most servers close them under our feet.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// The pause where a server turns us away without saying for how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_millis(100);
/// Where a stream of server-sent events says behind which event it goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// As much of an error's body as is read; the rest tells nobody anything.
const ERROR_BODY_MAX: usize = 1 << 16;

/// A request that can be sent again: its body is in memory.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and parameters.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    /// The same for every copy of a write.
    pub(crate) request_id: Option<HeaderValue>,
    /// It takes its time: silence says nothing about the server.
    pub(crate) patient: bool,
    /// It has no request id: not to be sent again when nobody knows whether it was done.
    pub(crate) once: bool,
    /// Of a watch: the version behind which it goes on.
    pub(crate) last_event_id: Option<u64>,
    /// What must hold for it to be done.
    pub(crate) condition: Option<(HeaderName, HeaderValue)>,
    pub(crate) is_write: bool,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: String) -> Self {
        let is_write = method != Method::GET && method != Method::HEAD;
        Self {
            method,
            path,
            accept: None,
            request_id: None,
            patient: false,
            once: false,
            last_event_id: None,
            condition: None,
            is_write,
            body: Bytes::new(),
        }
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// When it may be sent again.
    pub(crate) fn manner(&self) -> Manner {
        let Self { patient, once, is_write, .. } = *self;
        Manner { patient, once, is_write, body_len: self.body.len() }
    }

    /// The same, if the condition holds.
    pub(crate) fn on_condition(self, condition: Option<Condition>) -> Self {
        Self { condition: condition.map(Condition::header), ..self }
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
    pool: Pool<Connector, Full<Bytes>>,
    shared: Arc<Shared>,
    pub(crate) settings: Settings,
}

/// What all handles to one client have in common.
#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
    request_ids: RequestIds,
    /// What is shown with each request.
    authorization: Option<HeaderValue>,
}

impl Transport {
    pub(crate) fn new(endpoints: Endpoints, settings: Settings) -> Result<Self> {
        let tls = settings.tls.config(endpoints.uses_tls())?;
        let authorization = settings.credentials.as_ref().map(Credentials::header).transpose()?;
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector(settings.connect_timeout, tls, Version::Http1));
        let shared = Shared { endpoints, request_ids: RequestIds::new(), authorization };
        Ok(Self { pool, shared: Arc::new(shared), settings })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.shared.endpoints.preferred()
    }

    /// A stream of this server broke: others are asked first from now on.
    pub(crate) fn broke(&self, endpoint: &Endpoint) {
        self.shared.endpoints.after(endpoint);
    }

    /// The id of another write.
    pub(crate) fn request_id(&self) -> HeaderValue {
        self.shared.request_ids.next()
    }

    /// Sends a call, again where that is safe, and reads the whole answer. An absent key is an answer.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer> {
        let mut attempts = Attempts::new(&self.settings, &self.shared.endpoints, call.manner());
        loop {
            let outcome = self.attempt(attempts.endpoint(), &call, attempts.limit()).await;
            if let Some(answer) = attempts.settle(outcome).await? {
                self.refresh(attempts.endpoint());
                return Ok(answer);
            }
        }
    }

    /// Sends a call, again where that is safe, and gives the answer's body as it comes.
    pub(crate) async fn stream(&self, call: Call) -> Result<Response<Incoming>> {
        let mut attempts = Attempts::new(&self.settings, &self.shared.endpoints, call.manner());
        loop {
            let outcome = self.open(attempts.endpoint(), &call, attempts.limit()).await;
            if let Some(response) = attempts.settle(outcome).await? {
                self.refresh(attempts.endpoint());
                return Ok(response);
            }
        }
    }

    /// Asks a server that answers well for the cluster's members, if they may have changed. Nobody waits for it.
    fn refresh(&self, endpoint: &Endpoint) {
        if !self.settings.discover || !self.shared.endpoints.take_refresh(Instant::now()) {
            return;
        }
        let (transport, endpoint) = (self.clone(), endpoint.clone());
        tokio::spawn(async move {
            let call = Call::new(Method::GET, format!("{API_PREFIX}/cluster/nodes"));
            let limit = transport.settings.attempt_timeout;
            let asked = transport.attempt(&endpoint, &call, limit).await;
            let nodes = asked.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok());
            match nodes {
                Some(nodes) => transport.learn(&nodes),
                None => transport.shared.endpoints.refresh_failed(),
            }
        });
    }

    /// Only members of a cluster tell an address that is meant for others; a single node tells what it listens on.
    fn learn(&self, answer: &NodesAnswer) {
        let members = || answer.nodes.iter().filter(|node| node.peer_address.is_some());
        let endpoint = |address: &str| self.shared.endpoints.told(address);
        let leader = members().find(|node| node.role == Role::Leader);
        self.shared.endpoints.learn(
            members().filter_map(|node| endpoint(&node.http_address)).collect(),
            leader.and_then(|node| endpoint(&node.http_address)),
        );
    }

    async fn attempt(&self, endpoint: &Endpoint, call: &Call, limit: Duration) -> Result<Answer> {
        let end = Instant::now() + self.settings.request_timeout;
        let response = self.head(endpoint, call, limit).await?;
        let (head, body) = response.into_parts();
        let late = |_| Error::TimedOut { after: self.settings.request_timeout };
        let body = timeout_at(end, body.collect()).await.map_err(late)?.map_err(interrupted)?.to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        match answer.status {
            status if status.is_success() || is_absent_key(&answer) => Ok(answer),
            _ => Err(refusal(&answer)),
        }
    }

    async fn open(&self, endpoint: &Endpoint, call: &Call, limit: Duration) -> Result<Response<Incoming>> {
        let response = self.head(endpoint, call, limit).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let late = |_| Error::TimedOut { after: self.settings.request_timeout };
        let body = Limited::new(body, ERROR_BODY_MAX).collect();
        let body = timeout(self.settings.request_timeout, body).await.map_err(late)?;
        let body = body.map_err(|source| Error::Interrupted { source: source.into() })?.to_bytes();
        Err(refusal(&Answer { status: head.status, headers: head.headers, body }))
    }

    /// Sends a request and waits for the head of its answer.
    async fn head(&self, endpoint: &Endpoint, call: &Call, limit: Duration) -> Result<Response<Incoming>> {
        let mut request = request(endpoint, call)?;
        if let Some(authorization) = &self.shared.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let answered = timeout(limit, self.pool.request(request)).await;
        answered.map_err(|_| Error::TimedOut { after: limit })?.map_err(|e| match e.is_connect() {
            true => Error::Unreachable { endpoint: endpoint.clone(), source: Arc::new(e) },
            false if is_no_http(&e) => Error::Protocol(format!("{}; {OTHER_PORT}", root(&e))),
            false => Error::Interrupted { source: Arc::new(e) },
        })
    }
}

/// Whether something else than HTTP was answered.
fn is_no_http(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse))
}

fn request(endpoint: &Endpoint, call: &Call) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(call.method.clone()).uri(format!("{endpoint}{}", call.path));
    if let Some(accept) = call.accept {
        request = request.header(header::ACCEPT, accept);
    }
    if let Some(id) = &call.request_id {
        request = request.header(REQUEST_ID_HEADER, id);
    }
    if let Some(version) = call.last_event_id {
        request = request.header(LAST_EVENT_ID, version);
    }
    if let Some((name, value)) = &call.condition {
        request = request.header(name, value);
    }
    request.body(Full::new(call.body.clone())).map_err(|e| Error::invalid(e.to_string()))
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

/// The version that a key is at whose condition does not hold.
fn present_version(answer: &Answer) -> Option<u64> {
    let body: ErrorAnswer = serde_json::from_slice(&answer.body).ok()?;
    let details: PreconditionDetails = serde_json::from_value(body.error.details?).ok()?;
    details.version
}

/// What an answer that is no success asks of the caller.
fn refusal(answer: &Answer) -> Error {
    let status = answer.status;
    let said = code_and_message(answer).or_else(|| said_by_status(answer));
    let Some((code, message)) = said else {
        return Error::Protocol(format!("status {status} without an error body"));
    };
    match (status, code) {
        (StatusCode::TEMPORARY_REDIRECT, _) => Error::NotLeader { message, leader: leader_of(answer) },
        (_, ErrorCode::PreconditionFailed) => {
            Error::ConditionFailed { version: present_version(answer), message }
        }
        (_, ErrorCode::OutcomeUnknown) => Error::OutcomeUnknown { message, retry_after: retry_after(answer) },
        // Waiting does not help a store that refuses writes until somebody repairs it.
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, code)
            if code != ErrorCode::WritesRefused =>
        {
            Error::RetryLater { code, message, retry_after: retry_after(answer) }
        }
        (status, code) if status.is_client_error() => Error::InvalidRequest { code: Some(code), message },
        (status, code) => Error::Server { status: status.as_u16(), code, message },
    }
}

/// The answer to a HEAD has no body to say what is the matter.
fn said_by_status(answer: &Answer) -> Option<(ErrorCode, String)> {
    let code = match answer.status {
        StatusCode::TEMPORARY_REDIRECT => ErrorCode::NotLeader,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::TooManyRequests,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Busy,
        _ => return None,
    };
    answer.body.is_empty().then(|| (code, format!("the server answered {}", answer.status)))
}

/// The endpoint in the Location; the path there is the one that was asked for.
fn leader_of(answer: &Answer) -> Option<Endpoint> {
    let location: Uri = answer.headers.get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    base_of(&format!("{}://{}", location.scheme_str()?, location.authority()?)).ok()
}

fn retry_after(answer: &Answer) -> Duration {
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse().ok();
    let exact = number(RETRY_AFTER_MS_HEADER).map(Duration::from_millis);
    let seconds = || number(header::RETRY_AFTER.as_str()).map(Duration::from_secs);
    exact.or_else(seconds).unwrap_or(RETRY_AFTER_DEFAULT)
}
