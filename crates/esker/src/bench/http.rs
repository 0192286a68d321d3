//! A connection to Esker over HTTP: hyper's own connection, without a pool or retries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker_client::{Client, Retry, Settings, cluster::Role};
use esker_wire::{API_PREFIX, KEY_PREFIX, NDJSON, batch, percent};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, HOST, HeaderValue, LOCATION},
};
use hyper_util::rt::TokioIo;

use super::session::HttpTarget;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Redirects followed for one request: nodes that send us around longer do not know who leads.
const REDIRECTS_MAX: usize = 4;

/// One kept-alive connection with one request at a time.
pub(super) struct Http {
    wire: Wire,
    target: Arc<HttpTarget>,
}

/// The connection itself.
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

/// What was answered, as far as it matters.
struct Reply {
    status: StatusCode,
    /// Of the leader, `host:port`, where it is another node.
    leader: Option<String>,
}

impl Http {
    /// Connects to the node that leads, unless connections are to be spread and where one is known; else to the node whose
    /// turn it is, or to the first after it that is there.
    pub(super) async fn connect(target: &Arc<HttpTarget>, turn: usize) -> Result<Self, String> {
        let count = target.addresses.len();
        let mut refusal = String::new();
        for address in (0..count).map(|at| &target.addresses[(turn + at) % count]) {
            let wire = match Wire::connect(address, target.timeout).await {
                Ok(wire) => wire,
                Err(why) => {
                    refusal = why;
                    continue;
                }
            };
            let leader = if target.spread { None } else { leader_known_to(address, target.timeout).await };
            let wire = match leader {
                // One that is gone by now is not known to be by all.
                Some(leader) if leader != *address => {
                    Wire::connect(&leader, target.timeout).await.unwrap_or(wire)
                }
                _ => wire,
            };
            return Ok(Self { wire, target: Arc::clone(target) });
        }
        Err(refusal)
    }

    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        let stale = if self.target.stale { "?consistency=stale" } else { "" };
        let status = self.send(Method::GET, key_path(key) + stale, Bytes::new()).await?;
        expect(status, &[StatusCode::OK, StatusCode::NOT_FOUND])?;
        Ok(status == StatusCode::OK)
    }

    pub(super) async fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let path = key_path(key) + &self.target.write_parameters;
        let status = self.send(Method::PUT, path, Bytes::copy_from_slice(value)).await?;
        expect(status, &[StatusCode::OK])
    }

    pub(super) async fn write_batch(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        let operations = pairs.iter().map(|(key, value)| batch::JsonOperation::put(key, value)).collect();
        let body = serde_json::to_vec(&batch::BatchRequest { operations, conditions: Vec::new() })
            .map_err(|e| e.to_string())?;
        let path = format!("{API_PREFIX}/batch{}", self.target.write_parameters);
        expect(self.send(Method::POST, path, body.into()).await?, &[StatusCode::OK])
    }

    pub(super) async fn scan(&mut self, start: &[u8], limit: u64) -> Result<(), String> {
        let stale = if self.target.stale { "&consistency=stale" } else { "" };
        let path = format!("{API_PREFIX}/kv?start={}&limit={limit}{stale}", percent::encode_query(start));
        expect(self.send(Method::GET, path, Bytes::new()).await?, &[StatusCode::OK])
    }

    /// Sends a request and reads its answer to the end. Where a node says that another one leads, the connection is to that
    /// one from then on.
    async fn send(&mut self, method: Method, path: String, body: Bytes) -> Result<StatusCode, String> {
        let timeout = self.target.timeout;
        for _ in 0..=REDIRECTS_MAX {
            let request = self.wire.request(&method, &path, body.clone())?;
            let reply = in_time(timeout, self.wire.exchange(request)).await?;
            match reply.leader {
                Some(leader) => self.wire = Wire::connect(&leader, timeout).await?,
                None => return Ok(reply.status),
            }
        }
        Err("the nodes sent the request around: they do not agree on who leads".into())
    }
}

impl Wire {
    async fn connect(address: &str, timeout: Duration) -> Result<Self, String> {
        let refused = |e: &dyn std::fmt::Display| {
            format!("cannot connect to {address}: {e}; is `esker serve` running there?")
        };
        let stream = esker_client::connect(address, CONNECT_TIMEOUT.min(timeout)).await;
        let (sender, connection) =
            handshake(TokioIo::new(stream.map_err(|e| refused(&e))?)).await.map_err(|e| refused(&e))?;
        // The connection's errors reach whoever waits for an answer on it.
        tokio::spawn(connection);
        let host = HeaderValue::from_str(address).map_err(|e| refused(&e))?;
        Ok(Self { sender, host })
    }

    fn request(&self, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder().method(method.clone()).uri(path).header(HOST, self.host.clone());
        let request = request.header(ACCEPT, HeaderValue::from_static(NDJSON));
        request.body(Full::new(body)).map_err(|e| e.to_string())
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let leader = (status == StatusCode::TEMPORARY_REDIRECT).then(|| leader_of(&response)).flatten();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(Reply { status, leader })
    }
}

/// Where the leader is, if the node at `address` knows.
async fn leader_known_to(address: &str, timeout: Duration) -> Option<String> {
    let mut settings = Settings::default();
    (settings.discover, settings.retry, settings.request_timeout) = (false, Retry::never(), timeout);
    let nodes = Client::with_settings(address, settings).ok()?.nodes().await.ok()?.nodes;
    let leader = nodes.into_iter().find(|node| node.role == Role::Leader && node.peer_address.is_some());
    leader.map(|node| node.http_address)
}

/// The host and port that the Location names.
fn leader_of<B>(response: &Response<B>) -> Option<String> {
    let location: Uri = response.headers().get(LOCATION)?.to_str().ok()?.parse().ok()?;
    Some(location.authority()?.to_string())
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
