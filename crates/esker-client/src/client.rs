//! The client: one method for each thing that can be asked, over whichever protocol its endpoints are of.

use std::sync::Arc;

use bytes::Bytes;
use esker_wire::{
    Consistency,
    cluster::{HealthAnswer, MembersRequest, NodesAnswer, StatusAnswer},
};

use crate::{
    Batch, BatchDone, Deleted, Entry, Error, Found, FoundAll, Incremented, KeyOptions, Meta, Page,
    PutOptions, Query, Range, RangeDeleted, Result, ScanStream, Settings, WriteOptions, Written,
    binary::Binary,
    endpoints::{Endpoints, Scheme},
    grpc::Grpc,
    http::Http,
};

/// A handle to an Esker server or cluster. Cloning gives another handle to the same connections.
#[derive(Debug, Clone)]
pub struct Client {
    wire: Wire,
}

/// The protocols. All of them have the same methods.
#[derive(Debug, Clone)]
enum Wire {
    Http(Http),
    Binary(Binary),
    Grpc(Grpc),
}

/// Asks over the client's protocol.
macro_rules! ask {
    ($client:ident.$method:ident($($argument:expr),*)) => {
        match &$client.wire {
            Wire::Http(wire) => wire.$method($($argument),*).await,
            Wire::Binary(wire) => wire.$method($($argument),*).await,
            Wire::Grpc(wire) => wire.$method($($argument),*).await,
        }
    };
}

impl Client {
    /// A client of the server at `endpoints`, such as `http://127.0.0.1:8080`, `esker://127.0.0.1:9090` or `grpc://127.0.0.1:7070`,
    /// with TLS `https://`, `eskers://` or `grpcs://`, or of the cluster whose nodes these are, with commas between. Connects when
    /// first used.
    pub fn new(endpoints: &str) -> Result<Self> {
        Self::with_settings(endpoints, Settings::default())
    }

    /// The same with settings.
    pub fn with_settings(endpoints: &str, settings: Settings) -> Result<Self> {
        Self::with_endpoints(endpoints.split(',').map(str::trim), settings)
    }

    /// A client of the cluster whose nodes these are: over HTTP one suffices, the others are found out.
    pub fn with_endpoints<'a>(
        endpoints: impl IntoIterator<Item = &'a str>,
        settings: Settings,
    ) -> Result<Self> {
        let endpoints = Endpoints::new(endpoints)?;
        let wire = match Scheme::of(&endpoints.preferred()) {
            Scheme::Http => Wire::Http(Http::new(endpoints, settings)?),
            Scheme::Binary => Wire::Binary(Binary::new(endpoints, settings)?),
            Scheme::Grpc => Wire::Grpc(Grpc::new(endpoints, settings)?),
        };
        Ok(Self { wire })
    }

    /// For what is asked over HTTP alone. Errors: `NotSupported` if the endpoints are of another protocol.
    pub(crate) fn http(&self, what: &'static str) -> Result<&Http> {
        match &self.wire {
            Wire::Http(http) => Ok(http),
            Wire::Binary(_) | Wire::Grpc(_) => Err(Error::NotSupported { what }),
        }
    }

    /// Which server is asked first now: the one that answered last, or the leader.
    pub fn endpoint(&self) -> Arc<str> {
        match &self.wire {
            Wire::Http(wire) => wire.endpoint(),
            Wire::Binary(wire) => wire.endpoint(),
            Wire::Grpc(wire) => wire.endpoint(),
        }
    }

    /// Sets a key to a value, with the server's sync policy.
    pub async fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<Written> {
        self.put_with(key, value, WriteOptions::default()).await
    }

    /// Sets a key to a value, in the way and on the condition that `options` say.
    pub async fn put_with(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        options: impl Into<PutOptions>,
    ) -> Result<Written> {
        ask!(self.put_with(key, value.into(), options.into()))
    }

    /// Reads a key; `None` if it is absent. Sees every write acknowledged before.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        Ok(self.get_with(key, Consistency::default()).await?.entry)
    }

    /// Reads a key, and sees what `consistency` promises.
    pub async fn get_with(&self, key: &[u8], consistency: Consistency) -> Result<Found> {
        ask!(self.get_with(key, consistency))
    }

    /// A key's version and its value's length; `None` if it is absent.
    pub async fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        ask!(self.head(key))
    }

    /// Deletes a key; says whether it was present. Over HTTP, for a key too long for a path, it says whether it was a moment
    /// before.
    pub async fn delete(&self, key: &[u8]) -> Result<Deleted> {
        self.delete_with(key, WriteOptions::default()).await
    }

    /// The same, in the way and on the condition that `options` say.
    pub async fn delete_with(&self, key: &[u8], options: impl Into<KeyOptions>) -> Result<Deleted> {
        ask!(self.delete_with(key, options.into()))
    }

    /// Adds `by` to the decimal integer that a key holds, 0 if it is absent; keeps when it expires.
    ///
    /// Errors: `InvalidRequest` with the code `not_an_integer` or `overflow` where that cannot be done, and as for
    /// [`Client::put`].
    pub async fn incr(&self, key: &[u8], by: i64) -> Result<Incremented> {
        self.incr_with(key, by, KeyOptions::default()).await
    }

    /// The same, in the way and on the condition that `options` say.
    pub async fn incr_with(
        &self,
        key: &[u8],
        by: i64,
        options: impl Into<KeyOptions>,
    ) -> Result<Incremented> {
        ask!(self.incr_with(key, by, options.into()))
    }

    /// Reads many keys, up to 10,000, at one instant; gives for each, in order, what it held. Sees every write acknowledged
    /// before.
    pub async fn mget(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Entry>>> {
        Ok(self.mget_with(keys, Consistency::default()).await?.entries)
    }

    /// The same, and sees what `consistency` promises.
    pub async fn mget_with(&self, keys: &[impl AsRef<[u8]>], consistency: Consistency) -> Result<FoundAll> {
        ask!(self.mget_with(keys, consistency))
    }

    /// Deletes all keys of a range at once, however many there are. [`Range::All`] deletes everything.
    ///
    /// Errors: `InvalidRequest` for a range that is open on one side, and as for [`Client::put`].
    pub async fn delete_range(&self, range: &Range, options: WriteOptions) -> Result<RangeDeleted> {
        ask!(self.delete_range(range, options))
    }

    /// Does all of a batch or nothing, committed as `options` say.
    pub async fn batch(&self, batch: Batch, options: WriteOptions) -> Result<BatchDone> {
        ask!(self.batch(batch, options))
    }

    /// The same with the batch as JSON: `{"operations":[{"type":"put","key","value"},{"type":"delete","key"}]}`.
    pub async fn batch_json(&self, json: impl Into<Bytes>, options: WriteOptions) -> Result<BatchDone> {
        ask!(self.batch_json(json.into(), options))
    }

    /// One page of a range; `cursor` is [`Page::next`] of the page before.
    pub async fn list(&self, query: &Query, cursor: Option<&str>) -> Result<Page> {
        ask!(self.list(query, cursor))
    }

    /// A range as a stream, at one instant, to its end.
    pub async fn scan(&self, query: &Query) -> Result<ScanStream> {
        ask!(self.scan(query))
    }

    /// How the server and its store are.
    ///
    /// Errors: `NotSupported` over gRPC, whose answer has less.
    pub async fn status(&self) -> Result<StatusAnswer> {
        ask!(self.status())
    }

    /// The members of the cluster, as the answering node knows them.
    pub async fn nodes(&self) -> Result<NodesAnswer> {
        ask!(self.nodes())
    }

    /// Changes the membership; says which member it was about. A new voter has to catch up first: give the client a long
    /// [`Settings::request_timeout`]. Where the connection breaks, ask for the [nodes](Client::nodes) to see what was done.
    ///
    /// Errors: `NotSupported` over any protocol but HTTP.
    pub async fn change_members(&self, change: &MembersRequest) -> Result<u64> {
        self.http("a change of the membership")?.change_members(change).await
    }

    /// What the server counts and measures, as OpenMetrics text.
    ///
    /// Errors: `NotSupported` over any protocol but HTTP.
    pub async fn metrics(&self) -> Result<String> {
        self.http("what the server measures")?.metrics().await
    }

    /// Whether the server takes requests; an error says why not.
    ///
    /// Errors: `NotSupported` over any protocol but HTTP.
    pub async fn health(&self) -> Result<HealthAnswer> {
        self.http("the server's health")?.health().await
    }
}
