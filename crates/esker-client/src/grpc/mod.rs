//! gRPC: calls side by side on one connection a server.
//!
//! ```text
//! api: one method a request -> Grpc::send: attempts, as over HTTP -> esker.v1 -> hyper's pool, which speaks HTTP/2
//! ```

mod api;
mod chunks;
mod failure;
mod messages;

use std::sync::Arc;

use esker_proto::v1::{cluster_client::ClusterClient, kv_client::KvClient};
use hyper::Uri;
use hyper_util::{
    client::legacy::Client as Pool,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Duration, timeout};
use tonic::{
    Request, Response, Status,
    body::Body,
    metadata::{Ascii, MetadataValue},
    service::interceptor::{InterceptedService, Interceptor},
};

pub(crate) use self::chunks::Chunks;
use self::failure::error_of;
use crate::{
    Error, Result, Settings,
    attempts::{Attempts, Manner},
    connect::{Connector, Version, connector},
    endpoints::{Endpoint, Endpoints, GRPC, GRPC_TLS},
    request_id::RequestIds,
};

/// A connection on which nothing arrived for so long is tried with a ping,
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// and given up if that stays unanswered for so long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of one answer, and of all answers of a connection, may be on its way.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

type Channel = InterceptedService<Pool<Connector, Body>, Introduction>;

/// Shows with every call who the client is.
#[derive(Debug, Clone)]
pub(crate) struct Introduction(Option<MetadataValue<Ascii>>);

impl Introduction {
    fn new(settings: &Settings) -> Result<Self> {
        let Some(credentials) = &settings.credentials else { return Ok(Self(None)) };
        let header = credentials.header()?;
        let value = MetadataValue::try_from(header.as_bytes());
        let mut value =
            value.map_err(|e| Error::invalid(format!("the token cannot be shown over gRPC: {e}")))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Introduction {
    fn call(&mut self, mut call: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            call.metadata_mut().insert("authorization", value.clone());
        }
        Ok(call)
    }
}

/// A client's calls over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    channel: Channel,
    shared: Arc<Shared>,
    settings: Settings,
}

/// What all handles to one client have in common.
#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
    request_ids: RequestIds,
}

impl Grpc {
    pub(crate) fn new(endpoints: Endpoints, settings: Settings) -> Result<Self> {
        let tls = settings.tls.config(endpoints.uses_tls())?;
        let pool = Pool::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .build(connector(settings.connect_timeout, tls, Version::Http2));
        let channel = InterceptedService::new(pool, Introduction::new(&settings)?);
        let shared = Arc::new(Shared { endpoints, request_ids: RequestIds::new() });
        Ok(Self { channel, shared, settings })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.shared.endpoints.preferred()
    }

    /// Makes a call, again where that is safe. Answers are as large as the server has them.
    async fn send<A, T, F>(
        &self,
        manner: Manner,
        asked: A,
        call: impl Fn(KvClient<Channel>, A) -> F + Send,
    ) -> Result<T>
    where
        A: Clone + Send,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let mut attempts = Attempts::new(&self.settings, &self.shared.endpoints, manner);
        loop {
            let endpoint = attempts.endpoint().clone();
            let limit = attempts.limit();
            let outcome = match origin(&endpoint) {
                Err(e) => Err(e),
                Ok(origin) => {
                    let kv = KvClient::with_origin(self.channel.clone(), origin);
                    let answered =
                        timeout(limit, call(kv.max_decoding_message_size(usize::MAX), asked.clone())).await;
                    let answered = answered.map_err(|_| Error::TimedOut { after: limit });
                    answered.and_then(|answer| answer.map_err(|status| error_of(&status, &endpoint)))
                }
            };
            if let Some(answer) = attempts.settle(outcome).await? {
                return Ok(answer.into_inner());
            }
        }
    }

    fn cluster(&self, endpoint: &Endpoint) -> Result<ClusterClient<Channel>> {
        Ok(ClusterClient::with_origin(self.channel.clone(), origin(endpoint)?))
    }
}

/// Where HTTP/2 is spoken to a server.
fn origin(endpoint: &Endpoint) -> Result<Uri> {
    let origin = match (endpoint.strip_prefix(GRPC_TLS), endpoint.strip_prefix(GRPC)) {
        (Some(address), _) => format!("https://{address}"),
        (None, address) => format!("http://{}", address.unwrap_or(endpoint)),
    };
    origin.parse().map_err(|e| Error::invalid(format!("`{endpoint}` is no endpoint: {e}")))
}
