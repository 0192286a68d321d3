//! The Store as one caller may use it.
//!
//! A door has the Store's methods under the Store's names. Each asks first whether its caller may; nothing is read or written
//! for one who may not. Where no users are configured that is one branch.

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRequestParts;
use esker_cluster::{
    BackupStream, Batch, ClusterView, Compacted, Consistency, Error, Limits, MemberChange, Result,
    ScanOptions, Status, Store, WatchOptions, WorkProgress, WriteOptions, metrics::StoreMetrics,
};
use esker_engine::{BackupReport, Committed, Damage, Entry, KeyRange, Meta, Touch, VerifyReport, Version};
use esker_log::clock::Clock;
use http::{HeaderMap, request::Parts};

use super::{
    audit::{Attempt, Reason},
    authenticate::Refused,
    caller::{Arrival, Caller, Identity},
    credentials::{Owned, of_headers},
    rights::Right,
    scan::GuardedScan,
    users::User,
    walk::Walk,
    watch::GuardedWatch,
};
use crate::http::{ApiError, Front};

/// The Store, behind lock and key: whoever is no door gets at nothing that it holds.
pub(crate) struct Guarded(Store);

impl Guarded {
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.0.clock()
    }

    /// How large requests may be.
    pub(crate) fn limits(&self) -> Limits {
        self.0.limits()
    }

    /// Whether the Store is one of a cluster.
    pub(crate) fn is_replicated(&self) -> bool {
        self.0.cluster().is_some()
    }

    pub(crate) fn note_damage(&self, damage: &Damage) {
        self.0.note_damage(damage);
    }

    /// See [`Store::has_gathered_writes`].
    pub(crate) fn has_gathered_writes(&self) -> bool {
        self.0.has_gathered_writes()
    }

    /// See [`Store::home`].
    pub(crate) async fn home(&self) {
        self.0.home().await;
    }

    /// See [`Store::close`].
    pub(crate) async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// The Store as one caller may use it, and what all requests share.
#[derive(Clone)]
pub(crate) struct Door {
    front: Arc<Front>,
    caller: Caller,
}

impl Deref for Door {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

/// What a caller wants.
#[derive(Clone, Copy)]
enum Wish<'a> {
    /// Something of a key.
    Key(Right, &'a [u8]),
    /// Something of all keys of a range.
    Range(Right, &'a KeyRange),
    /// To know what everybody may who is known at all.
    ToKnow,
    /// To read what is counted.
    ToCount,
    /// To look after the node or the cluster.
    ToAdminister,
}

impl<'a> Wish<'a> {
    fn is_granted(self, user: &User) -> bool {
        match self {
            Self::Key(right, key) => user.rights.cover_key(right, key),
            Self::Range(right, range) => user.rights.cover(right, range),
            Self::ToKnow => true,
            Self::ToCount => user.rights.metrics(),
            Self::ToAdminister => user.rights.admin(),
        }
    }

    /// The key, or how the range begins.
    fn key(self) -> Option<&'a [u8]> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        match self {
            Self::Key(_, key) => Some(key),
            Self::Range(_, KeyRange { start: Included(key) | Excluded(key), .. }) => Some(key),
            Self::Range(_, KeyRange { start: Unbounded, .. }) => Some(b""),
            Self::ToKnow | Self::ToCount | Self::ToAdminister => None,
        }
    }

    fn refusal(self) -> String {
        match self {
            Self::Key(right, _) => format!("this user has no right to {} this key", right.verb()),
            Self::Range(right, _) => {
                format!(
                    "this user has no right to {} all of this range: one of its prefixes has to cover it",
                    right.verb()
                )
            }
            Self::ToKnow => "this user may not do this".into(),
            Self::ToCount => "this user has no right to the metrics".into(),
            Self::ToAdminister => "this user is no admin".into(),
        }
    }
}

impl Door {
    /// The door of whoever comes in so and has shown nothing yet.
    pub(crate) fn arrive(front: Arc<Front>, arrival: Arrival) -> Self {
        let caller = front.access.arrive(arrival);
        Self { front, caller }
    }

    /// The door of another caller.
    pub(crate) fn with_caller(&self, caller: Caller) -> Self {
        Self { front: Arc::clone(&self.front), caller }
    }

    /// The same for whoever shows nothing.
    pub(crate) fn anonymous(&self) -> Self {
        self.with_caller(self.front.access.arrive(self.caller.arrival.clone()))
    }

    /// The same, looked up anew if the list of users was replaced.
    pub(crate) fn refresh(&mut self) {
        if let Some(renewed) = self.front.access.renewed(&self.caller) {
            self.caller = renewed;
        }
    }

    pub(crate) fn front(&self) -> &Arc<Front> {
        &self.front
    }

    pub(crate) fn arrival(&self) -> &Arrival {
        &self.caller.arrival
    }

    /// The user; `None`: a stranger, or nobody is asked.
    pub(crate) fn user(&self) -> Option<Arc<User>> {
        self.with_user(|user| user.cloned())
    }

    fn with_user<T>(&self, look: impl FnOnce(Option<&Arc<User>>) -> T) -> T {
        self.front.access.with_user(&self.caller.identity, look)
    }

    /// Whether the caller is somebody whom the list of users has, or nobody is asked.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.caller.identity, Identity::Anybody) || self.with_user(|user| user.is_some())
    }

    fn ask(&self, operation: &'static str, wish: Wish<'_>) -> Result<()> {
        match self.caller.identity {
            Identity::Anybody => Ok(()),
            _ => self.judge(operation, wish),
        }
    }

    #[cold]
    fn deny(&self, user: Option<&User>, operation: &'static str, wish: Wish<'_>) -> Error {
        let (reason, error) = match user {
            None => (Reason::NoCredentials, Error::Unauthenticated),
            Some(_) => (Reason::NotAllowed, Error::Denied(wish.refusal())),
        };
        let attempt = Attempt { user: user.map(|user| user.name.as_str()), operation, key: wish.key() };
        self.front.access.audit.denied(&self.caller.arrival, reason, attempt, self.clock().monotonic());
        error
    }

    fn judge(&self, operation: &'static str, wish: Wish<'_>) -> Result<()> {
        self.with_user(|user| match user {
            Some(user) if wish.is_granted(user) => Ok(()),
            user => Err(self.deny(user.map(Arc::as_ref), operation, wish)),
        })
    }

    /// Asks for something beforehand that would be refused later.
    pub(crate) fn may(&self, right: Right, key: &[u8]) -> Result<()> {
        self.ask(right.verb(), Wish::Key(right, key))
    }

    /// Whether the right covers a range; nobody is turned away.
    pub(crate) fn covers(&self, right: Right, range: &KeyRange) -> bool {
        matches!(self.caller.identity, Identity::Anybody)
            || self.with_user(|user| user.is_some_and(|user| user.rights.cover(right, range)))
    }

    /// The same of a range.
    pub(crate) fn may_over(&self, operation: &'static str, right: Right, range: &KeyRange) -> Result<()> {
        self.ask(operation, Wish::Range(right, range))
    }

    /// Asks whether the caller is known at all.
    pub(crate) fn may_know(&self, operation: &'static str) -> Result<()> {
        self.ask(operation, Wish::ToKnow)
    }

    /// What the head of a request shows, if anything. Errors: it cannot be read.
    pub(crate) fn shown(&self, headers: &HeaderMap) -> std::result::Result<Option<Owned>, Refused> {
        of_headers(headers).map_err(|_| self.access.unreadable(self.arrival(), self.clock().monotonic()))
    }

    /// See [`Front::damage_found`]; its line in the log has the connection, too.
    pub(crate) fn damage_found(&self, damage: &Damage) {
        let (front, connection, request) = self.arrival().named();
        let found_by = tracing::error_span!("connection", front, connection, request);
        found_by.in_scope(|| self.front.damage_found(damage));
    }

    /// Asks whether the caller may look after the node.
    pub(crate) fn may_administer(&self, operation: &'static str) -> Result<()> {
        self.ask(operation, Wish::ToAdminister)
    }

    fn store(&self) -> &Store {
        &self.front.guarded.0
    }

    /// See [`Store::prefetch`]. Nothing is looked for if the caller may not read one of the keys.
    pub(crate) fn prefetch(&self, keys: &[&[u8]]) {
        let covers_all = |user: &Arc<User>| keys.iter().all(|key| user.rights.cover_key(Right::Read, key));
        if matches!(self.caller.identity, Identity::Anybody)
            || self.with_user(|user| user.is_some_and(covers_all))
        {
            self.store().prefetch(keys);
        }
    }

    /// See [`Store::get`].
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.ask("get", Wish::Key(Right::Read, key))?;
        self.store().get(key).await
    }

    /// See [`Store::meta`].
    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.ask("get", Wish::Key(Right::Read, key))?;
        Ok(self.store().meta(key))
    }

    /// See [`Store::multi_get`].
    pub(crate) async fn multi_get(
        &self,
        keys: Vec<Vec<u8>>,
        admit: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Result<Vec<Option<Entry>>> {
        keys.iter().try_for_each(|key| self.ask("multi_get", Wish::Key(Right::Read, key)))?;
        self.store().multi_get(keys, admit).await
    }

    /// See [`Store::scan`]. The caller needs the right to the whole range, and keeps it.
    pub(crate) fn scan(&self, range: &KeyRange, options: ScanOptions) -> Result<GuardedScan> {
        self.may_scan(range)?;
        Ok(GuardedScan::new(self, range, self.store().scan(range, options)))
    }

    pub(super) fn may_scan(&self, range: &KeyRange) -> Result<()> {
        self.ask("scan", Wish::Range(Right::Read, range))
    }

    /// A scan over what the caller may read of a range, be it nothing.
    pub(crate) fn walk(&self, range: &KeyRange, options: ScanOptions) -> Result<Walk<'_>> {
        self.ask("walk", Wish::ToKnow)?;
        let parts = match self.caller.identity {
            Identity::Anybody => vec![range.clone()],
            _ => self
                .with_user(|user| user.map_or_else(Vec::new, |user| user.rights.parts(Right::Read, range))),
        };
        Ok(Walk::new(self, parts, options))
    }

    /// See [`Store::watch`]. The caller needs the right to read all keys of the prefix, and keeps it.
    pub(crate) async fn watch(&self, options: WatchOptions) -> Result<GuardedWatch> {
        let range = KeyRange::prefix(options.prefix.clone());
        self.may_watch(&range)?;
        let watch = self.store().watch(options).await?;
        Ok(GuardedWatch::new(self.clone(), range, watch))
    }

    pub(super) fn may_watch(&self, range: &KeyRange) -> Result<()> {
        self.ask("watch", Wish::Range(Right::Read, range))
    }

    /// See [`Store::write`]. The caller needs the right to write all that it writes, and to read what it depends on.
    pub(crate) fn write(
        &self,
        batch: Batch,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Committed>> + Send + use<> {
        let submitted = self.ask_for(&batch).map(|()| self.store().write(batch, options));
        async move { submitted?.await }
    }

    fn ask_for(&self, batch: &Batch) -> Result<()> {
        if matches!(self.caller.identity, Identity::Anybody) {
            return Ok(());
        }
        batch.touches().try_for_each(|touch| match touch {
            // Whether it holds tells something of the key.
            Touch::Demands(key) => self.judge("condition", Wish::Key(Right::Read, key)),
            Touch::Writes(key) => self.judge("write", Wish::Key(Right::Write, key)),
            Touch::Adds(key) => {
                self.judge("incr", Wish::Key(Right::Write, key))?;
                self.judge("incr", Wish::Key(Right::Read, key))
            }
            Touch::DeletesRange(range) => self.judge("delete_range", Wish::Range(Right::Write, &range)),
        })
    }

    /// See [`Store::read_point`].
    pub(crate) async fn read_point(&self, consistency: Consistency) -> Result<Version> {
        self.ask("read", Wish::ToKnow)?;
        self.store().read_point(consistency).await
    }

    /// See [`Store::status`].
    pub(crate) fn status(&self) -> Result<Status> {
        self.ask("status", Wish::ToKnow)?;
        Ok(self.store().status())
    }

    /// How many keys there are. The caller needs the right to read all of them.
    pub(crate) fn count_keys(&self) -> Result<u64> {
        self.may_over("count", Right::Read, &KeyRange::all())?;
        Ok(self.store().status().stats.keys)
    }

    /// See [`Store::cluster`].
    pub(crate) fn cluster(&self) -> Result<Option<ClusterView>> {
        self.ask("status", Wish::ToKnow)?;
        Ok(self.store().cluster())
    }

    /// What anybody may know of the node's health: load balancers show nothing.
    pub(crate) fn health(&self) -> (Status, Option<ClusterView>) {
        (self.store().status(), self.store().cluster())
    }

    /// See [`Store::metrics`]; with the status and the cluster that belong to it.
    pub(crate) fn store_metrics(&self) -> Result<(&StoreMetrics, Status, Option<ClusterView>)> {
        self.ask("metrics", Wish::ToCount)?;
        Ok((self.store().metrics(), self.store().status(), self.store().cluster()))
    }

    /// How many watch.
    pub(crate) fn watchers(&self) -> Result<usize> {
        self.ask("metrics", Wish::ToCount)?;
        Ok(self.store().watchers())
    }

    /// See [`Store::change_members`].
    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<u64> {
        self.ask("change_members", Wish::ToAdminister)?;
        self.store().change_members(change).await
    }

    /// See [`Store::checkpoint`].
    pub(crate) async fn checkpoint(&self) -> Result<Version> {
        self.ask("checkpoint", Wish::ToAdminister)?;
        self.store().checkpoint().await
    }

    /// See [`Store::merge`].
    pub(crate) async fn merge(&self, all: bool) -> Result<Compacted> {
        self.ask("merge", Wish::ToAdminister)?;
        self.store().merge(all).await
    }

    /// See [`Store::verify`].
    pub(crate) async fn verify(&self, progress: &WorkProgress) -> Result<VerifyReport> {
        self.ask("verify", Wish::ToAdminister)?;
        self.store().verify(progress).await
    }

    /// See [`Store::backup`].
    pub(crate) async fn backup(&self, name: &str, progress: &WorkProgress) -> Result<BackupReport> {
        self.ask("backup", Wish::ToAdminister)?;
        self.store().backup(name, progress).await
    }

    /// See [`Store::backup_stream`].
    pub(crate) async fn backup_stream(&self) -> Result<BackupStream> {
        self.ask("backup", Wish::ToAdminister)?;
        self.store().backup_stream().await
    }
}

/// Handlers of HTTP are given the door that the request was taken through.
impl<S: Sync> FromRequestParts<S> for Door {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> std::result::Result<Self, ApiError> {
        let without =
            || ApiError::new(esker_wire::ErrorCode::Internal, "a request without a door: report this defect");
        parts.extensions.remove().ok_or_else(without)
    }
}
