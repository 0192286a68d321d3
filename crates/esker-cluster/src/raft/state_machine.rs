//! The library's state machine, over a replica: applying in batches, and snapshots.

use std::{io, sync::Arc, time::Duration};

use esker_engine::{
    Committed, Error, Replica, RequestId, Version,
    replica::{Install, LogEntry, Snapshot},
};
use esker_log::GroupEnd;
use futures_util::{Stream, StreamExt};
use openraft::{
    OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{
    log_store::{Progress, io_error},
    snapshot::{Installing, Outgoing},
    types::{
        CommittedLeaderId, LogId, Node, StoredMembership, TypeConfig, entry_to_log, group_end,
        load_membership, log_id, store_membership,
    },
};

/// While the disk is full, a snapshot that waits for space tries again this often.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(100);
/// So many entries are applied at once.
const APPLY_BATCH_MAX: usize = 1024;
/// What has more records is applied by a thread of its own: it takes milliseconds, in which this one has others to serve.
const APPLY_HERE_MAX: u64 = 4096;

pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Node>;
pub(crate) type LibrarySnapshot = openraft::Snapshot<CommittedLeaderId, u64, Node, SnapshotData>;

/// The content of a snapshot.
pub(crate) enum SnapshotData {
    /// On its way to another node: the state at one instant.
    Outgoing(Arc<Snapshot>),
    /// On its way in: its values are placed, and become the state when it is installed.
    Incoming(Box<Incoming>),
    /// Nothing but the fact that the state up to here is saved: what a checkpoint gives.
    Saved,
}

/// A snapshot that has come in. No other is begun while this one is there.
pub(crate) struct Incoming {
    pub(crate) install: Install,
    pub(crate) requests: Arc<[(RequestId, Committed)]>,
    /// The latest time that an entry up to there said, in milliseconds since 1970.
    pub(crate) stamp_ms: u64,
    pub(crate) _turn: Installing,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct StateMachine {
    replica: Replica,
    progress: Arc<Progress>,
    outgoing: Arc<Outgoing>,
    /// The last entry applied.
    applied: watch::Sender<Version>,
    /// Whether work that may wait for the disk goes to a thread of its own.
    blocking_threads: bool,
}

impl StateMachine {
    pub(crate) fn new(
        replica: Replica,
        progress: Arc<Progress>,
        outgoing: Arc<Outgoing>,
        blocking_threads: bool,
    ) -> Self {
        let (applied, _) = watch::channel(replica.applied().index);
        Self { replica, progress, outgoing, applied, blocking_threads }
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> watch::Receiver<Version> {
        self.applied.subscribe()
    }

    /// An entry may be committed by the others before it is written here; where it lies is known only then.
    ///
    /// Errors: it never will be.
    async fn wait_until_written(&self, index: Version) -> io::Result<()> {
        loop {
            let written = self.progress.written.notified();
            if self.replica.is_written(index) {
                return Ok(());
            }
            self.replica.log().check_healthy().map_err(io_error)?;
            self.progress.await_unless_stopped(written).await?;
        }
    }

    async fn apply_batch(&self, entries: Vec<LogEntry>, responders: &mut Responders) -> io::Result<()> {
        let Some(last) = entries.last().map(|entry| entry.id.index) else { return Ok(()) };
        self.wait_until_written(last).await?;
        let records: u64 = entries.iter().map(|entry| u64::from(entry.records)).sum();
        let outcomes = if self.blocking_threads && records > APPLY_HERE_MAX {
            let replica = self.replica.clone();
            tokio::task::spawn_blocking(move || replica.apply(&entries)).await.map_err(io::Error::other)?
        } else {
            self.replica.apply(&entries)
        };
        let outcomes = outcomes.map_err(io_error)?;
        self.applied.send_replace(last);
        for (responder, outcome) in responders.drain(..).zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    /// Makes a snapshot the state. Gives it back if there is no space to note that down: the old state stands.
    async fn put_in_place(
        &self,
        mut incoming: Box<Incoming>,
        last: GroupEnd,
        membership: esker_engine::replica::StoredMembership,
    ) -> io::Result<Option<Box<Incoming>>> {
        let finish = move || {
            let requests = Arc::clone(&incoming.requests);
            let (requests, stamp_ms) = (requests.iter().copied(), incoming.stamp_ms);
            let finished = incoming.install.finish(last, membership, requests, stamp_ms);
            (incoming, finished)
        };
        let (incoming, finished) = if self.blocking_threads {
            tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
        } else {
            finish()
        };
        match finished {
            Ok(()) => Ok(None),
            Err(Error::DiskFull) => Ok(Some(incoming)),
            Err(e) => Err(io_error(e)),
        }
    }

    /// A snapshot of what is saved: where the log may be purged to.
    fn saved_meta(&self) -> io::Result<SnapshotMeta> {
        let (last, membership) = self.replica.saved();
        Ok(SnapshotMeta { last_log_id: log_id(last), last_membership: load_membership(&membership)? })
    }
}

type Responders = Vec<Option<ApplyResponder<TypeConfig>>>;

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((log_id(self.replica.applied()), load_membership(&self.replica.membership())?))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut pieces = entries.ready_chunks(APPLY_BATCH_MAX);
        let mut responders = Vec::new();
        while let Some(piece) = pieces.next().await {
            let mut batch = Vec::with_capacity(piece.len());
            for item in piece {
                let (entry, responder) = item?;
                batch.push(entry_to_log(&entry));
                responders.push(responder);
            }
            self.apply_batch(batch, &mut responders).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Incoming(incoming) = snapshot else {
            return Err(io::Error::other("only a snapshot that came in can be installed"));
        };
        let (last, membership) =
            (group_end(meta.last_log_id.as_ref()), store_membership(&meta.last_membership));
        let mut waiting = self.put_in_place(incoming, last, membership.clone()).await?;
        if waiting.is_some() {
            tracing::warn!("the disk is full: a snapshot waits to be put in place");
        }
        // To the library any error would be the end of this node, until somebody restarts it.
        while let Some(incoming) = waiting {
            self.progress.await_unless_stopped(tokio::time::sleep(FULL_DISK_PAUSE)).await?;
            waiting = self.put_in_place(incoming, last, membership.clone()).await?;
        }
        self.applied.send_replace(last.index);
        Ok(())
    }

    /// What a follower is sent whose entries are gone: the state as it is now, or as it was when a transfer began that broke.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<LibrarySnapshot>> {
        let snapshot = self.outgoing.current(&self.replica);
        if snapshot.last.index == 0 {
            return Ok(None);
        }
        let meta = SnapshotMeta {
            last_log_id: log_id(snapshot.last),
            last_membership: load_membership(&snapshot.membership)?,
        };
        Ok(Some(LibrarySnapshot { meta, snapshot: SnapshotData::Outgoing(snapshot) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<LibrarySnapshot> {
        Ok(LibrarySnapshot { meta: self.saved_meta()?, snapshot: SnapshotData::Saved })
    }
}
