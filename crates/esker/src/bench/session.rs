//! What is measured, and one connection to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{BenchArgs, embedded::Embedded, http::Http, redis::Redis};
use crate::exit::Failure;

/// What is measured.
#[derive(Clone)]
pub(super) enum Target {
    /// A running Esker.
    Http(Arc<HttpTarget>),
    /// A server of the Redis protocol, as `host:port`.
    Redis(Arc<str>, Duration),
    /// The engine in this process.
    Embedded(Embedded),
}

/// Where a running Esker is.
#[derive(Debug)]
pub(super) struct HttpTarget {
    /// Of one node or several, `host:port` each.
    pub(super) addresses: Vec<String>,
    /// What the path of a write ends in.
    pub(super) write_parameters: String,
    /// Whether reads are content with what the node has that answers.
    pub(super) stale: bool,
    /// Whether connections stay with the node whose turn it was, whoever leads.
    pub(super) spread: bool,
    pub(super) timeout: Duration,
}

impl Target {
    /// Reads `http://host:port` (one or several), `redis://host:port` or `dir:PATH`; opens the latter.
    pub(super) fn parse(text: &str, args: &BenchArgs, timeout: Duration) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("dir:") {
            return Ok(Self::Embedded(Embedded::open(PathBuf::from(path), args.sync.unwrap_or_default())?));
        }
        let address = |rest: &str| rest.trim_end_matches('/').to_owned();
        if let Some(rest) = text.strip_prefix("redis://") {
            return Ok(Self::Redis(address(rest).into(), timeout));
        }
        // As everywhere, a bare host:port is HTTP.
        let rest = |text: &str| {
            let rest = text.strip_prefix("http://").or((!text.contains("://")).then_some(text));
            rest.filter(|rest| !rest.is_empty()).map(address)
        };
        let addresses: Option<Vec<String>> = text.split(',').map(|text| rest(text.trim())).collect();
        match addresses {
            Some(addresses) => Ok(Self::Http(Arc::new(HttpTarget {
                spread: args.spread || args.stale || addresses.len() == 1,
                addresses,
                write_parameters: write_parameters(args),
                stale: args.stale,
                timeout,
            }))),
            None => Err(Failure::Usage(format!(
                "`{text}` is no target: give http://host:port (or several, with commas between), redis://host:port or \
                 dir:PATH"
            ))),
        }
    }

    /// Whether anybody is there at all: told before the work begins, with an exit code of its own.
    pub(super) fn probe(&self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let connected = runtime.map_err(Failure::doing("starting"))?.block_on(self.connect(0));
        connected.map(|_| ()).map_err(Failure::Unreachable)
    }

    /// Connects to the node that leads, or to the one whose turn it is, or else to the first after it that is there.
    pub(super) async fn connect(&self, turn: usize) -> Result<Session, String> {
        match self {
            Self::Http(target) => Ok(Session::Http(Http::connect(target, turn).await?)),
            Self::Redis(address, timeout) => Ok(Session::Redis(Redis::connect(address, *timeout).await?)),
            Self::Embedded(embedded) => Ok(Session::Embedded(embedded.clone())),
        }
    }

    /// Whether a call keeps its thread until it is done.
    pub(super) fn blocks(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Http(target) => {
                let urls: Vec<_> =
                    target.addresses.iter().map(|address| format!("http://{address}")).collect();
                urls.join(",")
            }
            Self::Redis(address, _) => format!("redis://{address}"),
            Self::Embedded(embedded) => format!("dir:{}", embedded.dir().display()),
        }
    }

    pub(super) fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Embedded(embedded) => embedded.close(),
            Self::Http(_) | Self::Redis(..) => Ok(()),
        }
    }
}

fn write_parameters(args: &BenchArgs) -> String {
    let sync = args.sync.map(|policy| format!("sync={policy}"));
    let asked: Vec<_> = sync.into_iter().chain(args.ack.map(|ack| format!("ack={ack}"))).collect();
    if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) }
}

/// One connection. After an error it is of no further use.
pub(super) enum Session {
    Http(Http),
    Redis(Redis),
    Embedded(Embedded),
}

impl Session {
    /// Whether the key was present.
    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        match self {
            Self::Http(http) => http.read(key).await,
            Self::Redis(redis) => redis.read(key).await,
            Self::Embedded(embedded) => embedded.read(key),
        }
    }

    pub(super) async fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match self {
            Self::Http(http) => http.write(key, value).await,
            Self::Redis(redis) => redis.write(&[(key.to_vec(), value)]).await,
            Self::Embedded(embedded) => embedded.write(key, value),
        }
    }

    pub(super) async fn write_batch(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        match self {
            Self::Http(http) => http.write_batch(pairs).await,
            Self::Redis(redis) => redis.write(pairs).await,
            Self::Embedded(embedded) => embedded.write_batch(pairs),
        }
    }

    /// Reads up to `limit` keys and values from `start` on.
    pub(super) async fn scan(&mut self, start: &[u8], limit: u64) -> Result<(), String> {
        match self {
            Self::Http(http) => http.scan(start, limit).await,
            Self::Redis(_) => Err("Redis has no ordered scans".into()),
            Self::Embedded(embedded) => embedded.scan(start, limit),
        }
    }
}
