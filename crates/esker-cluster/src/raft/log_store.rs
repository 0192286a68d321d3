//! The library's log storage, over a replica.

use std::{fmt, io, ops::RangeBounds, sync::Arc};

use esker_engine::{Error, Replica, Result, replica::LogEntry};
use esker_log::{Index, OnAppended};
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, LeaderBoundedStreamResult, RaftLogStorage},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    disk_watch::DiskWatch,
    planted::{Bug, is_planted},
    types::{
        Appended, Entry, LeaderId, LogId, TypeConfig, Vote, decode_vote, encode_vote, entry_from_log,
        entry_to_log, group_end, index_of, log_id,
    },
};

/// One request to a follower, and one step of applying, has about so many bytes of payload.
const READ_BYTES_MAX: usize = 256 << 10;

/// Where a replica's progress is awaited. Nobody who does may keep the node from stopping: a full disk holds progress up for
/// as long as it is full.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Something was written, or a snapshot was installed.
    pub(crate) written: Notify,
    /// What waits for the disk.
    pub(crate) disk: Arc<DiskWatch>,
    stopping: watch::Sender<bool>,
}

impl Progress {
    /// The node stops: nobody shall wait any more.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns when the node stops.
    pub(crate) async fn stopped(&self) {
        let stopping = self.stopping.subscribe().wait_for(|stopping| *stopping).await.is_ok();
        debug_assert!(stopping, "the sender is here");
    }

    /// Waits for something, as long as the node does not stop.
    ///
    /// Errors: it does.
    pub(crate) async fn await_unless_stopped<T>(&self, event: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            event = event => Ok(event),
            () = self.stopped() => Err(io::Error::other("the node stops")),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct LogStore {
    replica: Replica,
    progress: Arc<Progress>,
    committed: Arc<Mutex<Option<LogId>>>,
    /// Whether reads that may wait for the disk go to a thread of their own.
    blocking_threads: bool,
}

impl LogStore {
    pub(crate) fn new(replica: Replica, progress: Arc<Progress>, blocking_threads: bool) -> Self {
        let committed = log_id(replica.applied());
        Self { replica, progress, committed: Arc::new(Mutex::new(committed)), blocking_threads }
    }

    async fn read(&self, start: Index, end: Index, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = match self.replica.read_cached(start..end, bytes_max) {
            Some(entries) => entries,
            None => self.read_from_disk(start, end, bytes_max).await?,
        };
        entries.into_iter().map(entry_from_log).collect()
    }

    async fn read_from_disk(&self, start: Index, end: Index, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let replica = self.replica.clone();
        let read = move || replica.read(start..end, bytes_max);
        let entries = if self.blocking_threads {
            tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
        } else {
            read()
        };
        entries.map_err(io_error)
    }

    /// The indexes of a range, Esker's way.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (Index, Index) {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let start = match range.start_bound() {
            Included(start) => index_of(*start),
            Excluded(start) => index_of(*start) + 1,
            Unbounded => 1,
        };
        let end = match range.end_bound() {
            Included(end) => index_of(*end) + 1,
            Excluded(end) => index_of(*end),
            Unbounded => self.replica.last().index + 1,
        };
        (start, end)
    }

    /// Entries of a range, read a piece at a time.
    fn pieces(&self, start: Index, end: Index) -> impl Stream<Item = io::Result<Entry>> + Send + 'static {
        let store = self.clone();
        let pieces = stream::try_unfold(start, move |at| {
            let store = store.clone();
            async move {
                if at >= end {
                    return Ok(None);
                }
                let entries = store.read(at, end, READ_BYTES_MAX).await?;
                let Some(last) = entries.last() else { return Ok(None) };
                let next = index_of(last.log_id.index()) + 1;
                Ok::<_, io::Error>(Some((entries, next)))
            }
        });
        pieces.flat_map(|piece| match piece {
            Ok(entries) => stream::iter(entries.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(e) => stream::iter(vec![Err(e)]),
        })
    }

    /// Waits until the log ends where `first` follows. It does, unless a snapshot is just being installed.
    async fn wait_for_place(&self, first: &LogEntry) -> io::Result<()> {
        loop {
            let written = self.progress.written.notified();
            let log_end = self.replica.log_end();
            if first.id.behind(log_end, first.kind).is_some() {
                return Ok(());
            }
            if first.id.index <= log_end.index {
                return Err(io::Error::other(format!("entry {:?} does not follow {log_end:?}", first.id)));
            }
            self.replica.log().check_healthy().map_err(io_error)?;
            self.progress.await_unless_stopped(written).await?;
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(index_of(start), index_of(end), READ_BYTES_MAX).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        self.pieces(start, end)
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        use openraft::{errors::LeaderChanged, storage::LeaderBoundedStreamError};
        let (start, end) = self.bounds(&range);
        let mut store = self.clone();
        // An entry read while the vote still is this leader's is this leader's.
        let entries = self.pieces(start, end).then(move |entry| {
            let vote = store.vote_now();
            async move {
                match (entry, vote) {
                    (Err(e), _) | (_, Err(e)) => Err(LeaderBoundedStreamError::IoError(e)),
                    (Ok(entry), Ok(Some(vote))) if vote.leader_id == leader && vote.committed => Ok(entry),
                    (Ok(_), Ok(vote)) => Err(LeaderChanged::new(leader, vote).into()),
                }
            }
        });
        up_to_first_error(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        if is_planted(Bug::ForgetVote) {
            return Ok(None);
        }
        self.vote_now()
    }
}

impl LogStore {
    fn vote_now(&mut self) -> io::Result<Option<Vote>> {
        self.replica.vote().map(|bytes| decode_vote(&bytes)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: log_id(self.replica.purged()),
            last_log_id: log_id(self.replica.last()),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// CHECKS 3: the vote is durable when this returns.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        let submitted = self.progress.disk.submit();
        let done = Box::new(move |outcome: Result<()>| {
            drop(submitted);
            drop(tell.send(outcome));
        });
        self.replica.save_vote(encode_vote(vote), done);
        let told = self.progress.await_unless_stopped(told).await?;
        told.map_err(io::Error::other)?.map_err(io_error)
    }

    /// Lazily: it goes out with the next sync of something else.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        *self.committed.lock() = committed;
        if let Some(id) = &committed {
            self.replica.note_committed(group_end(Some(id)));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(*self.committed.lock())
    }

    /// CHECKS 3: `callback` is told once the entries are durable; they can be read at once.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut appended = Vec::new();
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                if let EntryPayload::Normal(proposal) = &entry.payload
                    && let Some(told) = &proposal.appended
                {
                    appended.push((index_of(entry.log_id.index()), Arc::clone(told)));
                }
                entry_to_log(&entry)
            })
            .collect();
        let Some(first) = entries.first() else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        self.wait_for_place(first).await?;
        let progress = Arc::clone(&self.progress);
        let submitted = self.progress.disk.submit();
        let mut done: OnAppended = Box::new(move |outcome: Result<()>| {
            drop(submitted);
            if outcome.is_ok() {
                tell_all(appended);
            } else {
                // Who waits for it to be written must learn that it never will be.
                progress.written.notify_waiters();
            }
            callback.io_completed(outcome.map_err(io_error));
        });
        if is_planted(Bug::AckBeforeSync) {
            std::mem::replace(&mut done, Box::new(|_told_already| ()))(Ok(()));
        }
        self.replica.append(&entries, done).map_err(io_error)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.replica.truncate_after(group_end(last.as_ref()));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.replica.purge(group_end(Some(&upto)));
        Ok(())
    }
}

/// What comes behind an error has no meaning: it may be another leader's.
fn up_to_first_error<T, E>(
    items: impl Stream<Item = std::result::Result<T, E>>,
) -> impl Stream<Item = std::result::Result<T, E>> {
    let mut failed = false;
    items.take_while(move |item| {
        let goes_on = !std::mem::replace(&mut failed, item.is_err());
        std::future::ready(goes_on)
    })
}

fn tell_all(appended: Vec<(Index, Appended)>) {
    for (index, told) in appended {
        if let Some(tell) = told.lock().take() {
            // Whoever asked may have gone away.
            let _gone = tell.send(index).is_err();
        }
    }
}

/// What the library is told of a failure. It stops the node: a log that failed must not go on.
pub(crate) fn io_error(error: Error) -> io::Error {
    io::Error::other(error)
}
