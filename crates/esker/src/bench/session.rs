//! What is measured, and one connection to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    BenchArgs,
    binary::{Binary, BinaryTarget},
    embedded::Embedded,
    grpc::{Grpc, GrpcTarget},
    http::{Http, HttpTarget},
    redis::Redis,
    servers::{Protocol, Secrets, Servers},
};
use crate::exit::Failure;

/// What is measured.
#[derive(Clone)]
pub(super) enum Target {
    /// A running Esker.
    Http(Arc<HttpTarget>),
    /// The same over the binary protocol.
    Binary(Arc<BinaryTarget>),
    /// The same over gRPC.
    Grpc(Arc<GrpcTarget>),
    /// A server of the Redis protocol.
    Redis(Arc<Servers>),
    /// The engine in this process.
    Embedded(Embedded),
}

impl Target {
    /// The engine in this process, on the store in `dir`, which is opened.
    pub(super) fn embedded(dir: &str, args: &BenchArgs) -> Result<Self, Failure> {
        Ok(Self::Embedded(Embedded::open(PathBuf::from(dir), args.sync.unwrap_or_default())?))
    }

    /// Servers.
    pub(super) fn servers(
        text: &str,
        args: &BenchArgs,
        secrets: Secrets,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let servers = Servers::parse(text, secrets, timeout)?;
        Ok(match servers.protocol {
            Protocol::Http => Self::Http(Arc::new(HttpTarget::new(servers, args).map_err(Failure::Usage)?)),
            Protocol::Binary => Self::Binary(Arc::new(BinaryTarget::new(servers, args))),
            Protocol::Grpc => Self::Grpc(Arc::new(GrpcTarget::new(servers, args))),
            Protocol::Redis => Self::Redis(Arc::new(servers)),
        })
    }

    /// Whether it is an Esker that runs.
    pub(super) fn is_esker(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Binary(_) | Self::Grpc(_))
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
            Self::Binary(target) => Ok(Session::Binary(Binary::connect(target, turn).await?)),
            Self::Grpc(target) => Ok(Session::Grpc(Box::new(Grpc::connect(target, turn).await?))),
            Self::Redis(servers) => Ok(Session::Redis(Redis::connect(servers, turn).await?)),
            Self::Embedded(embedded) => Ok(Session::Embedded(embedded.clone())),
        }
    }

    /// Whether a call keeps its thread until it is done.
    pub(super) fn blocks(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Http(target) => target.servers.name(),
            Self::Binary(target) => target.servers.name(),
            Self::Grpc(target) => target.servers.name(),
            Self::Redis(servers) => servers.name(),
            Self::Embedded(embedded) => format!("dir:{}", embedded.dir().display()),
        }
    }

    pub(super) fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Embedded(embedded) => embedded.close(),
            Self::Http(_) | Self::Binary(_) | Self::Grpc(_) | Self::Redis(_) => Ok(()),
        }
    }
}

/// One connection. After an error it is of no further use.
pub(super) enum Session {
    Http(Http),
    Binary(Binary),
    Grpc(Box<Grpc>),
    Redis(Redis),
    Embedded(Embedded),
}

impl Session {
    /// Whether the key was present.
    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        match self {
            Self::Http(http) => http.read(key).await,
            Self::Binary(binary) => binary.read(key).await,
            Self::Grpc(grpc) => grpc.read(key).await,
            Self::Redis(redis) => redis.read(key).await,
            Self::Embedded(embedded) => embedded.read(key),
        }
    }

    pub(super) async fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match self {
            Self::Http(http) => http.write(key, value).await,
            Self::Binary(binary) => binary.write(key, value).await,
            Self::Grpc(grpc) => grpc.write(key, value).await,
            Self::Redis(redis) => redis.write(&[(key.to_vec(), value)]).await,
            Self::Embedded(embedded) => embedded.write(key, value),
        }
    }

    pub(super) async fn write_batch(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        match self {
            Self::Http(http) => http.write_batch(pairs).await,
            Self::Binary(binary) => binary.write_batch(pairs).await,
            Self::Grpc(grpc) => grpc.write_batch(pairs).await,
            Self::Redis(redis) => redis.write(pairs).await,
            Self::Embedded(embedded) => embedded.write_batch(pairs),
        }
    }

    /// Reads up to `limit` keys and values from `start` on.
    pub(super) async fn scan(&mut self, start: &[u8], limit: u64) -> Result<(), String> {
        match self {
            Self::Http(http) => http.scan(start, limit).await,
            Self::Binary(binary) => binary.scan(start, limit).await,
            Self::Grpc(grpc) => grpc.scan(start, limit).await,
            Self::Redis(_) => Err("Redis has no ordered scans".into()),
            Self::Embedded(embedded) => embedded.scan(start, limit),
        }
    }
}
