//! The library's own suite for storages, against ours on a simulated disk.
//!
//! The suite takes log and state machine for two things that need not agree, and their history for something that may have
//! holes: it applies entries that no log has, and begins a log at its third entry. Raft does neither, and a replica, whose
//! state points into its log, refuses both. So the state machine under test has a replica of its own, and what the suite
//! leaves out is filled in with blank entries. Three more things are done for the suite that the node does elsewhere:
//!
//! * what is applied is in the log first;
//! * a snapshot is built when a checkpoint is there ([`keep_house`](super::node));
//! * a snapshot that goes to another node goes in chunks, as on the wire.
//!
//! All else goes to [`LogStore`] and [`StateMachine`] as it comes.

use std::{fmt, io, ops::RangeBounds, sync::Arc};

use esker_engine::{Environment, Options, Replica, replica::Hooks};
use esker_log::{GroupEnd, Index, clock::ManualClock, disk::sim::SimDisk};
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, StorageError,
    storage::{
        EntryResponder, IOFlushed, LeaderBoundedStreamResult, RaftLogStorage, RaftLogStorageExt,
        RaftStateMachine,
    },
    testing::log::{StoreBuilder, Suite},
};

use super::{
    log_store::{LogStore, Progress},
    snapshot::through_chunks,
    state_machine::{LibrarySnapshot, SnapshotData, SnapshotMeta, StateMachine},
    types::{Entry, LeaderId, LogId, StoredMembership, TypeConfig, Vote, index_of, library_index, log_id},
};

/// CHECKS 3, 13, 16: every case of the suite, each on replicas of its own.
#[tokio::test(start_paused = true)]
async fn the_librarys_suite_holds() {
    Suite::test_all(Builder).await.unwrap();
}

struct Builder;

impl StoreBuilder<TypeConfig, TestLog, TestMachine> for Builder {
    async fn build(&self) -> Result<((), TestLog, TestMachine), StorageError<TypeConfig>> {
        Ok(((), TestLog::new(&replica()), TestMachine::new(replica())))
    }
}

fn replica() -> Replica {
    let environment = Environment {
        disk: Arc::new(SimDisk::new()),
        clock: Arc::<ManualClock>::default(),
        threads: false,
        ..Environment::default()
    };
    Replica::open(&environment, "/replica", Options::default(), Hooks::default()).unwrap()
}

/// A log that may be begun anywhere.
#[derive(Clone)]
struct TestLog {
    replica: Replica,
    store: LogStore,
}

impl TestLog {
    fn new(replica: &Replica) -> Self {
        let store = LogStore::new(replica.clone(), Arc::<Progress>::default(), false);
        Self { replica: replica.clone(), store }
    }

    /// Blank entries from the end of the log to before `next`.
    fn missing_before(&self, next: Index) -> Vec<Entry> {
        let end = self.replica.log_end();
        let blank = |index| {
            let id = log_id(GroupEnd { index, term: end.term }).expect("indexes begin at 1");
            Entry { log_id: id, payload: EntryPayload::Blank }
        };
        (end.index + 1..next).map(blank).collect()
    }
}

impl RaftLogReader<TypeConfig> for TestLog {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        self.store.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.store.limited_get_log_entries(start, end).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        self.store.entries_stream(range).await
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        self.store.leader_bounded_stream(leader, range).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.store.read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for TestLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        self.store.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.store.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.store.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.store.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let first = entries.first().map_or(0, |entry| index_of(entry.log_id.index()));
        let mut all = self.missing_before(first);
        all.extend(entries);
        self.store.append(all, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.store.truncate_after(last).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.store.purge(upto).await
    }
}

/// A state machine that appends to its log what it is to apply.
#[derive(Clone)]
struct TestMachine {
    log: TestLog,
    machine: StateMachine,
}

impl TestMachine {
    fn new(replica: Replica) -> Self {
        let log = TestLog::new(&replica);
        Self { log, machine: StateMachine::new(replica, Arc::<Progress>::default(), Arc::default(), false) }
    }
}

impl RaftStateMachine<TypeConfig> for TestMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.machine.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let items: Vec<_> = entries.collect().await;
        let items = items.into_iter().collect::<io::Result<Vec<_>>>()?;
        let Some((first, _)) = items.first() else { return Ok(()) };
        let before = self.log.replica.log_end().index;
        let missing = self.log.missing_before(index_of(first.log_id.index()));
        let entries = missing.into_iter().chain(items.into_iter().map(|(entry, _)| entry));
        self.log.store.blocking_append(entries).await.map_err(io::Error::other)?;
        let appended = self.log.store.try_get_log_entries(library_index(before + 1)..).await?;
        self.machine.apply(stream::iter(appended.into_iter().map(|entry| Ok((entry, None))))).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let sent = LibrarySnapshot { meta: meta.clone(), snapshot };
        let come = through_chunks(sent, &self.log.replica).await;
        self.machine.install_snapshot(&come.meta, come.snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<LibrarySnapshot>> {
        self.machine.get_current_snapshot().await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for TestMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<LibrarySnapshot> {
        self.log.replica.checkpoint().map_err(io::Error::other)?;
        self.machine.build_snapshot().await
    }
}
