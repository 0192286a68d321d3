//! The blocking client: each method waits for the one of the same name of [`crate::Client`].

use std::sync::Arc;

use bytes::Bytes;
use esker_wire::{
    Consistency,
    admin::{BackupAnswer, CheckpointAnswer, CompactAnswer, VerifyAnswer},
    cluster::{HealthAnswer, MembersRequest, NodesAnswer, StatusAnswer},
};

use super::{Backup, Scan, Watch, thread::Thread};
use crate::{
    Batch, BatchDone, Deleted, Entry, Found, FoundAll, Incremented, KeyOptions, Meta, Page, PutOptions,
    Query, Range, RangeDeleted, Result, Settings, WatchOptions, WriteOptions, Written,
};

/// A handle to an Esker server or cluster, whose methods wait. Cloning gives another handle to the same connections.
#[derive(Debug, Clone)]
pub struct Client {
    // Dropped before the thread that drives its connections.
    client: crate::Client,
    thread: Thread,
}

impl Client {
    /// A client of the server at `endpoints`, such as `http://127.0.0.1:8080`, or of the cluster whose nodes these are,
    /// with commas between. Connects when first used.
    ///
    /// Errors: `InvalidRequest` for what is no endpoint, and where no thread can be started.
    pub fn new(endpoints: &str) -> Result<Self> {
        Self::with_settings(endpoints, Settings::default())
    }

    /// The same with settings.
    pub fn with_settings(endpoints: &str, settings: Settings) -> Result<Self> {
        crate::Client::with_settings(endpoints, settings).and_then(Self::of)
    }

    /// A client of the cluster whose nodes these are: one suffices, the others are found out.
    pub fn with_endpoints<'a>(
        endpoints: impl IntoIterator<Item = &'a str>,
        settings: Settings,
    ) -> Result<Self> {
        crate::Client::with_endpoints(endpoints, settings).and_then(Self::of)
    }

    fn of(client: crate::Client) -> Result<Self> {
        Ok(Self { client, thread: Thread::start()? })
    }

    /// Which server is asked first now: the one that answered last, or the leader.
    pub fn endpoint(&self) -> Arc<str> {
        self.client.endpoint()
    }

    /// Sets a key to a value, with the server's sync policy.
    pub fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<Written> {
        self.thread.wait(self.client.put(key, value))
    }

    /// As [`crate::Client::put_with`].
    pub fn put_with(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        options: impl Into<PutOptions>,
    ) -> Result<Written> {
        self.thread.wait(self.client.put_with(key, value, options))
    }

    /// Reads a key; `None` if it is absent. Sees every write acknowledged before.
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.thread.wait(self.client.get(key))
    }

    /// Reads a key, and sees what `consistency` promises.
    pub fn get_with(&self, key: &[u8], consistency: Consistency) -> Result<Found> {
        self.thread.wait(self.client.get_with(key, consistency))
    }

    /// A key's version and its value's length; `None` if it is absent.
    pub fn head(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.thread.wait(self.client.head(key))
    }

    /// Deletes a key; says whether it was present.
    pub fn delete(&self, key: &[u8]) -> Result<Deleted> {
        self.thread.wait(self.client.delete(key))
    }

    /// As [`crate::Client::delete_with`].
    pub fn delete_with(&self, key: &[u8], options: impl Into<KeyOptions>) -> Result<Deleted> {
        self.thread.wait(self.client.delete_with(key, options))
    }

    /// As [`crate::Client::incr`].
    pub fn incr(&self, key: &[u8], by: i64) -> Result<Incremented> {
        self.thread.wait(self.client.incr(key, by))
    }

    /// As [`crate::Client::incr_with`].
    pub fn incr_with(&self, key: &[u8], by: i64, options: impl Into<KeyOptions>) -> Result<Incremented> {
        self.thread.wait(self.client.incr_with(key, by, options))
    }

    /// Reads many keys, up to 10,000, at one instant; gives for each, in order, what it held.
    pub fn mget(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Entry>>> {
        self.thread.wait(self.client.mget(keys))
    }

    /// The same, and sees what `consistency` promises.
    pub fn mget_with(&self, keys: &[impl AsRef<[u8]>], consistency: Consistency) -> Result<FoundAll> {
        self.thread.wait(self.client.mget_with(keys, consistency))
    }

    /// Deletes all keys of a range at once, as [`crate::Client::delete_range`].
    pub fn delete_range(&self, range: &Range, options: WriteOptions) -> Result<RangeDeleted> {
        self.thread.wait(self.client.delete_range(range, options))
    }

    /// Does all of a batch or nothing, committed as `options` say.
    pub fn batch(&self, batch: Batch, options: WriteOptions) -> Result<BatchDone> {
        self.thread.wait(self.client.batch(batch, options))
    }

    /// As [`crate::Client::batch_json`].
    pub fn batch_json(&self, json: impl Into<Bytes>, options: WriteOptions) -> Result<BatchDone> {
        self.thread.wait(self.client.batch_json(json, options))
    }

    /// One page of a range; `cursor` is [`Page::next`] of the page before.
    pub fn list(&self, query: &Query, cursor: Option<&str>) -> Result<Page> {
        self.thread.wait(self.client.list(query, cursor))
    }

    /// How the server and its store are.
    pub fn status(&self) -> Result<StatusAnswer> {
        self.thread.wait(self.client.status())
    }

    /// The members of the cluster, as the answering node knows them.
    pub fn nodes(&self) -> Result<NodesAnswer> {
        self.thread.wait(self.client.nodes())
    }

    /// As [`crate::Client::change_members`].
    pub fn change_members(&self, change: &MembersRequest) -> Result<u64> {
        self.thread.wait(self.client.change_members(change))
    }

    /// Whether the server takes requests; an error says why not.
    pub fn health(&self) -> Result<HealthAnswer> {
        self.thread.wait(self.client.health())
    }

    /// What the server counts and measures, as [`crate::Client::metrics`].
    pub fn metrics(&self) -> Result<String> {
        self.thread.wait(self.client.metrics())
    }

    /// Has the server write a checkpoint of its index.
    pub fn checkpoint(&self) -> Result<CheckpointAnswer> {
        self.thread.wait(self.client.checkpoint())
    }

    /// As [`crate::Client::compact`].
    pub fn compact(&self) -> Result<CompactAnswer> {
        self.thread.wait(self.client.compact())
    }

    /// Has the server merge what is worth it now.
    pub fn merge_now(&self) -> Result<CompactAnswer> {
        self.thread.wait(self.client.merge_now())
    }

    /// As [`crate::Client::verify`].
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyAnswer> {
        self.thread.wait(self.client.verify(progress))
    }

    /// As [`crate::Client::backup_in`].
    pub fn backup_in(&self, name: &str, progress: impl FnMut(u64, u64)) -> Result<BackupAnswer> {
        self.thread.wait(self.client.backup_in(name, progress))
    }

    /// A range as an iterator, at one instant, to its end.
    pub fn scan(&self, query: &Query) -> Result<Scan> {
        let stream = self.thread.wait(self.client.scan(query))?;
        Ok(Scan::new(self.thread.clone(), stream))
    }

    /// Watches changes, as [`crate::Client::watch`].
    pub fn watch(&self, options: WatchOptions) -> Result<Watch> {
        let stream = self.thread.wait(self.client.watch(options))?;
        Ok(Watch::new(self.thread.clone(), stream))
    }

    /// Has the server send a backup, as [`crate::Client::backup`].
    pub fn backup(&self) -> Result<Backup> {
        let stream = self.thread.wait(self.client.backup())?;
        Ok(Backup::new(self.thread.clone(), stream))
    }
}
