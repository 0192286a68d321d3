//! A connection to Esker over gRPC, as the client library makes it, with one call at a time.

use std::sync::Arc;

use esker_client::{Batch, Client, Consistency, Query, Range, Sync, WriteOptions};
use esker_engine::SyncPolicy;

use super::{BenchArgs, servers::Servers};

/// A running Esker, and how it is asked.
#[derive(Debug)]
pub(super) struct GrpcTarget {
    pub(super) servers: Servers,
    write: WriteOptions,
    read: Consistency,
}

impl GrpcTarget {
    pub(super) fn new(servers: Servers, args: &BenchArgs) -> Self {
        let sync = args.sync.and_then(|policy| match policy {
            SyncPolicy::Always => Some(Sync::Always),
            SyncPolicy::Every(period) => Some(Sync::Every(period)),
            // No server takes that for more than it does.
            SyncPolicy::Never => None,
        });
        let write = WriteOptions { sync, ack: args.ack.unwrap_or_default() };
        let read = if args.stale { Consistency::Stale } else { Consistency::Linearizable };
        Self { servers, write, read }
    }
}

/// One connection.
pub(super) struct Grpc {
    client: Client,
    target: Arc<GrpcTarget>,
}

impl Grpc {
    /// A client of the node whose turn it is, or of the first after it that is there.
    pub(super) async fn connect(target: &Arc<GrpcTarget>, turn: usize) -> Result<Self, String> {
        let servers = &target.servers;
        // A client connects when it is first used: whether anybody is there is to be known now.
        drop(servers.connect(turn).await?);
        Ok(Self { client: servers.client(servers.in_turn(turn))?, target: Arc::clone(target) })
    }

    pub(super) async fn read(&mut self, key: &[u8]) -> Result<bool, String> {
        let found = self.client.get_with(key, self.target.read).await;
        Ok(found.map_err(|e| e.to_string())?.entry.is_some())
    }

    pub(super) async fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let put = self.client.put_with(key, value.to_vec(), self.target.write).await;
        put.map(|_| ()).map_err(|e| e.to_string())
    }

    pub(super) async fn write_batch(&mut self, pairs: &[(Vec<u8>, &[u8])]) -> Result<(), String> {
        let mut batch = Batch::new();
        pairs.iter().for_each(|(key, value)| batch.put(key, value));
        self.client.batch(batch, self.target.write).await.map(|_| ()).map_err(|e| e.to_string())
    }

    pub(super) async fn scan(&mut self, start: &[u8], limit: u64) -> Result<(), String> {
        let range = Range::Between(Some(start.to_vec()), None);
        let query = Query { range, limit: Some(limit), consistency: self.target.read, ..Query::default() };
        let mut items = self.client.scan(&query).await.map_err(|e| e.to_string())?;
        while let Some(item) = items.next().await {
            item.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}
