//! A connection to Esker over HTTP: hyper's own connection, without a pool or retries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker_client::{Credentials, cluster::Role};
use esker_wire::{API_PREFIX, KEY_PREFIX, NDJSON, batch, percent};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, LOCATION},
};
use hyper_util::rt::TokioIo;

use super::{BenchArgs, servers::Servers};

/// Redirects followed for one request: nodes that send us around longer do not know who leads.
const REDIRECTS_MAX: usize = 4;

/// A running Esker, and how it is asked.
#[derive(Debug)]
pub(super) struct HttpTarget {
    pub(super) servers: Servers,
    /// What the path of a write ends in.
    write_parameters: String,
    /// Whether reads are content with what the node has that answers.
    stale: bool,
    /// Whether connections stay with the node whose turn it was, whoever leads.
    spread: bool,
    /// Shown with every request.
    authorization: Option<HeaderValue>,
}

impl HttpTarget {
    /// An error says why the credentials cannot be shown.
    pub(super) fn new(servers: Servers, args: &BenchArgs) -> Result<Self, String> {
        let authorization = servers.credentials().map(authorization).transpose()?;
        let spread = args.spread || args.stale || servers.addresses.len() == 1;
        let write_parameters = write_parameters(args);
        Ok(Self { servers, write_parameters, stale: args.stale, spread, authorization })
    }
}

fn authorization(credentials: &Credentials) -> Result<HeaderValue, String> {
    let header = HeaderValue::try_from(credentials.authorization());
    let mut header = header.map_err(|_| "the token has characters that no header can carry".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

fn write_parameters(args: &BenchArgs) -> String {
    let sync = args.sync.map(|policy| format!("sync={policy}"));
    let asked: Vec<_> = sync.into_iter().chain(args.ack.map(|ack| format!("ack={ack}"))).collect();
    if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) }
}

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
        let servers = &target.servers;
        let mut refusal = String::new();
        for address in servers.in_turn(turn) {
            let wire = match Wire::connect(address, servers).await {
                Ok(wire) => wire,
                Err(why) => {
                    refusal = why;
                    continue;
                }
            };
            let leader = if target.spread { None } else { leader_known_to(address, servers).await };
            let wire = match leader {
                // One that is gone by now is not known to be by all.
                Some(leader) if leader != *address => Wire::connect(&leader, servers).await.unwrap_or(wire),
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
        let servers = &self.target.servers;
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.wire.request(&method, &path, body.clone())?;
            if let Some(authorization) = &self.target.authorization {
                request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            let reply = in_time(servers.timeout, self.wire.exchange(request)).await?;
            match reply.leader {
                Some(leader) => self.wire = Wire::connect(&leader, servers).await?,
                None => return Ok(reply.status),
            }
        }
        Err("the nodes sent the request around: they do not agree on who leads".into())
    }
}

impl Wire {
    async fn connect(address: &str, servers: &Servers) -> Result<Self, String> {
        let refused = |e: &dyn std::fmt::Display| format!("cannot connect to {address}: {e}");
        let stream = TokioIo::new(servers.dial(address).await?);
        let (sender, connection) = handshake(stream).await.map_err(|e| refused(&e))?;
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
async fn leader_known_to(address: &str, servers: &Servers) -> Option<String> {
    let nodes = servers.client(std::iter::once(address)).ok()?.nodes().await.ok()?.nodes;
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
