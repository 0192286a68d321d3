//! Clients that are not served: each of their calls is answered, so that they know that nothing of it was done, and why.

use std::{convert::Infallible, pin::pin, time::Duration};

use esker_wire::ErrorCode;
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;

use super::status::told;
use crate::{http::ApiError, stream::Stream};

/// Calls that are answered at a time.
const STREAMS_MAX: u32 = 16;

/// What every call is answered with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unavailable {
    code: ErrorCode,
    why: &'static str,
}

impl Unavailable {
    pub(crate) fn new(code: ErrorCode, why: &'static str) -> Self {
        Self { code, why }
    }

    /// Answers the calls of a connection for so long, and for as long again those that it still sends while it is told to go.
    pub(crate) async fn answer(self, stream: Stream, time: Duration) {
        let service = service_fn(|_call: http::Request<Incoming>| async move {
            Ok::<_, Infallible>(told(ApiError::new(self.code, self.why)).into_http::<Body>())
        });
        let mut http = Builder::new(TokioExecutor::new());
        http.max_concurrent_streams(STREAMS_MAX).auto_date_header(false);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        // However it ends, the client was not served.
        if tokio::time::timeout(time, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ended = tokio::time::timeout(time, connection).await.is_ok();
        }
    }
}
