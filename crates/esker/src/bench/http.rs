//! A connection to Esker over HTTP: hyper's own connection, without a pool or retries.

use std::time::Duration;

use bytes::Bytes;
use esker_wire::{API_PREFIX, KEY_PREFIX, NDJSON, batch, percent};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;

use super::session::HttpTarget;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// One kept-alive connection with one request at a time.
pub(super) struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    /// What a write's path ends in.
    sync: String,
    timeout: Duration,
}

impl Http {
    pub(super) async fn connect(target: &HttpTarget) -> Result<Self, String> {
        let refused = |e: &dyn std::fmt::Display| {
            format!("cannot connect to {}: {e}; is `esker serve` running there?", target.address)
        };
        let stream = esker_client::connect(&target.address, CONNECT_TIMEOUT.min(target.timeout))
            .await
            .map_err(|e| refused(&e))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| refused(&e))?;
        // The connection's errors reach whoever waits for an answer on it.
        tokio::spawn(connection);
        let host = HeaderValue::from_str(&target.address).map_err(|e| refused(&e))?;
        let sync = target.sync.map(|policy| format!("?sync={policy}")).unwrap_or_default();
        Ok(Self { sender, host, sync, timeout: target.timeout })
    }

    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        let status = self.send(Method::GET, key_path(key), Bytes::new()).await?;
        expect(status, &[StatusCode::OK, StatusCode::NOT_FOUND])?;
        Ok(status == StatusCode::OK)
    }

    pub(super) async fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let path = key_path(key) + &self.sync;
        let status = self.send(Method::PUT, path, Bytes::copy_from_slice(value)).await?;
        expect(status, &[StatusCode::OK])
    }

    pub(super) async fn write_batch(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        let operations = pairs.iter().map(|(key, value)| batch::JsonOperation::put(key, value)).collect();
        let body = serde_json::to_vec(&batch::BatchRequest { operations }).map_err(|e| e.to_string())?;
        let path = format!("{API_PREFIX}/batch{}", self.sync);
        expect(self.send(Method::POST, path, body.into()).await?, &[StatusCode::OK])
    }

    pub(super) async fn scan(&mut self, start: &[u8], limit: u64) -> Result<(), String> {
        let path = format!("{API_PREFIX}/kv?start={}&limit={limit}", percent::encode_query(start));
        expect(self.send(Method::GET, path, Bytes::new()).await?, &[StatusCode::OK])
    }

    /// Sends a request and reads its answer to the end.
    async fn send(&mut self, method: Method, path: String, body: Bytes) -> Result<StatusCode, String> {
        let request = Request::builder().method(method).uri(path).header(HOST, self.host.clone());
        let request = request.header(ACCEPT, HeaderValue::from_static(NDJSON));
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok::<_, hyper::Error>(status)
        };
        in_time(self.timeout, exchange).await
    }
}

/// What comes of an exchange, unless it takes too long.
pub(super) async fn in_time<T, E: std::fmt::Display>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
    }
}

fn key_path(key: &[u8]) -> String {
    format!("{KEY_PREFIX}{}", percent::encode_path(key))
}

fn expect(status: StatusCode, expected: &[StatusCode]) -> Result<(), String> {
    match expected.contains(&status) {
        true => Ok(()),
        false => Err(format!("the server answered {status}")),
    }
}
