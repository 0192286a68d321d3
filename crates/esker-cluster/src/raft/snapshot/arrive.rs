//! Taking in a snapshot.
//!
//! There is one at a time, and it may take several calls: one that breaks leaves what has come for the next, and one that
//! begins while an older one still thinks itself alive takes over from it. A full disk holds it up. Once it is handed to the
//! library, no other begins before it is put in place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_engine::{Committed, Error, Replica, RequestId, replica::Install};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::checksum;
use crate::{
    peer::{Caller, PeerError, PeerResult, wire, wire::snapshot_reply::Outcome},
    raft::{
        Handle, Shared,
        state_machine::{Incoming, LibrarySnapshot, SnapshotData, SnapshotMeta},
        types::{
            StoredMembership, log_id_from_wire, membership_from_wire, outcome_from_wire, vote_from_wire,
            vote_to_wire,
        },
    },
};

/// While the disk is full, it is looked at this often.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(100);

/// Where a call is answered.
pub(crate) type Replies = mpsc::Sender<PeerResult<wire::SnapshotReply>>;

/// Snapshots on their way in.
#[derive(Default)]
pub(crate) struct Arrivals {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    arriving: Option<Arc<Arriving>>,
    /// One is just being begun, which ends the one before.
    is_beginning: bool,
    /// One was handed to the library, which has not put it in place yet.
    is_installing: bool,
}

/// A snapshot on its way in, for as many calls as it takes.
pub(super) struct Arriving {
    from: u64,
    id: String,
    /// Locked while a chunk is taken in. `None` once it was handed on.
    arrival: Arc<tokio::sync::Mutex<Option<Arrival>>>,
    /// How many calls have brought it so far.
    calls: AtomicU64,
}

/// One call that brings a snapshot.
pub(super) struct Call {
    arriving: Arc<Arriving>,
    number: u64,
}

/// A snapshot of which a part has come.
pub(super) struct Arrival {
    meta: SnapshotMeta,
    stamp_ms: u64,
    install: Install,
    last_key: Vec<u8>,
    requests: Vec<(RequestId, Committed)>,
    items: u64,
}

/// Why a chunk was not taken in.
#[derive(Debug)]
pub(super) enum Hitch {
    /// Not yet: there is no space.
    DiskFull,
    /// Not this one; what has come before is good.
    Damaged(String),
    /// The snapshot has to begin anew.
    Over(String),
}

/// Held while a snapshot is in the library's hands.
pub(crate) struct Installing(Arc<Arrivals>);

impl Drop for Installing {
    fn drop(&mut self) {
        self.0.state.lock().is_installing = false;
    }
}

/// Takes over a snapshot, chunk by chunk.
pub(crate) async fn take(
    handle: &Arc<Handle>,
    caller: &Caller,
    mut chunks: BoxStream<'static, wire::SnapshotChunk>,
    replies: &Replies,
) -> PeerResult<()> {
    let head = chunks.next().await.and_then(|chunk| chunk.head).ok_or_else(|| malformed("no head"))?;
    if head.group != crate::raft::GROUP {
        return Err(malformed(format_args!("there is no group {}", head.group)));
    }
    let vote = vote_from_wire(head.vote).map_err(malformed)?;
    if head.last.is_some_and(|last| last.term > vote.leader_id.term) {
        // The library takes that for a defect of its own, and would stop.
        return Err(malformed("a snapshot from behind its leader's term"));
    }
    let (shared, from) = (&handle.shared, caller.from.node);
    // What cannot be placed shall not gather in memory either.
    while shared.replica.log().is_disk_full() {
        pause(shared, replies).await?;
    }
    let id = head.id.clone();
    let (arrivals, replica) = (Arc::clone(&handle.arrivals), shared.replica.clone());
    let call = shared.blocking(move || arrivals.begin(from, &head, &replica)).await??;
    let resume_after = call.resume().await?;
    tracing::info!(from, id, resumed = !resume_after.is_empty(), "a snapshot comes in");
    reply(replies, Outcome::ResumeAfter(resume_after.into())).await;
    loop {
        let Some(chunk) = chunks.next().await else {
            return Err(PeerError::Unreachable("the sender stopped".into()));
        };
        let number = chunk.number;
        if take_chunk(handle, &call, chunk, replies).await? {
            break;
        }
        reply(replies, Outcome::Taken(number)).await;
    }
    let snapshot = handle.arrivals.hand_over(&call).await?;
    let installed = handle.raft.install_full_snapshot(vote, snapshot).await;
    let installed = installed.map_err(|e| PeerError::Failed(e.to_string()))?;
    tracing::info!(from, id, "a snapshot is installed");
    let is_higher = installed.vote > vote;
    let last =
        if is_higher { Outcome::HigherVote(vote_to_wire(&installed.vote)) } else { Outcome::Installed(true) };
    reply(replies, last).await;
    Ok(())
}

async fn reply(replies: &Replies, outcome: Outcome) {
    // Who has gone away is noticed at its next chunk.
    let _gone = replies.send(Ok(wire::SnapshotReply { outcome: Some(outcome) })).await.is_err();
}

/// Takes in a chunk, as soon as there is space for it. True: it was the last.
async fn take_chunk(
    handle: &Arc<Handle>,
    call: &Call,
    chunk: wire::SnapshotChunk,
    replies: &Replies,
) -> PeerResult<bool> {
    let chunk = Arc::new(chunk);
    loop {
        let mut arrival = Arc::clone(&call.arriving.arrival).lock_owned().await;
        call.check_last()?;
        let taking = Arc::clone(&chunk);
        let take = move || arrival.as_mut().map(|arrival| arrival.take(&taking));
        // Placing values waits for the disk.
        match handle.shared.blocking(take).await?.ok_or_else(superseded)? {
            Ok(done) => return Ok(done),
            Err(Hitch::DiskFull) => pause(&handle.shared, replies).await?,
            Err(Hitch::Damaged(why)) => return Err(PeerError::Failed(why)),
            Err(Hitch::Over(why)) => {
                handle.arrivals.give_up(call);
                return Err(PeerError::Failed(why));
            }
        }
    }
}

/// Waits a while for space. Errors: the caller has gone away, or the node stops.
async fn pause(shared: &Shared, replies: &Replies) -> PeerResult<()> {
    tokio::select! {
        () = tokio::time::sleep(FULL_DISK_PAUSE) => Ok(()),
        () = replies.closed() => Err(PeerError::Unreachable("the sender has gone away".into())),
        () = shared.progress.stopped() => Err(PeerError::Unreachable("this node stops".into())),
    }
}

fn malformed(why: impl std::fmt::Display) -> PeerError {
    PeerError::Failed(format!("malformed: {why}"))
}

fn superseded() -> PeerError {
    PeerError::Unreachable("another call brings a snapshot now".into())
}

impl Arrivals {
    /// Goes on with what is there of this snapshot, or begins. May wait for the disk.
    pub(super) fn begin(&self, from: u64, head: &wire::SnapshotHead, replica: &Replica) -> PeerResult<Call> {
        let (known, ended) = {
            let mut state = self.state.lock();
            if state.is_installing || state.is_beginning {
                return Err(PeerError::Unreachable("another snapshot is being put in place".into()));
            }
            // One installation at a time: this one ends what was begun before.
            let ended = state.arriving.take_if(|known| known.from != from || known.id != head.id);
            state.is_beginning = state.arriving.is_none();
            (state.arriving.clone(), ended)
        };
        drop(ended);
        let arriving = match known {
            Some(known) => known,
            None => self.begin_anew(from, head, replica)?,
        };
        let number = arriving.calls.fetch_add(1, Ordering::AcqRel) + 1;
        Ok(Call { arriving, number })
    }

    /// Without the lock, which tasks of the runtime take: this may wait for a checkpoint, and so for the disk.
    fn begin_anew(
        &self,
        from: u64,
        head: &wire::SnapshotHead,
        replica: &Replica,
    ) -> PeerResult<Arc<Arriving>> {
        let begun = Arrival::begin(head, replica).map_err(malformed).map(|arrival| {
            Arc::new(Arriving {
                from,
                id: head.id.clone(),
                arrival: Arc::new(tokio::sync::Mutex::new(Some(arrival))),
                calls: AtomicU64::new(0),
            })
        });
        let mut state = self.state.lock();
        state.is_beginning = false;
        state.arriving = begun.as_ref().ok().cloned();
        begun
    }

    /// Whether one is in the library's hands.
    pub(crate) fn is_installing(&self) -> bool {
        self.state.lock().is_installing
    }

    /// All of it has come: as the library takes it.
    pub(super) async fn hand_over(self: &Arc<Self>, call: &Call) -> PeerResult<LibrarySnapshot> {
        let mut arrival = call.arriving.arrival.lock().await;
        let mut state = self.state.lock();
        let is_present = state.arriving.as_ref().is_some_and(|it| Arc::ptr_eq(it, &call.arriving));
        let whole = arrival.take().filter(|_| is_present && !state.is_installing).ok_or_else(superseded)?;
        *state = State { is_installing: true, ..State::default() };
        let Arrival { meta, stamp_ms, install, requests, .. } = whole;
        let requests = requests.into();
        let incoming = Incoming { install, requests, stamp_ms, _turn: Installing(Arc::clone(self)) };
        Ok(LibrarySnapshot { meta, snapshot: SnapshotData::Incoming(Box::new(incoming)) })
    }

    /// Forgets what has come of it.
    fn give_up(&self, call: &Call) {
        let mut state = self.state.lock();
        state.arriving = state.arriving.take().filter(|it| !Arc::ptr_eq(it, &call.arriving));
    }
}

impl Call {
    /// Behind which key the sender is to go on.
    async fn resume(&self) -> PeerResult<Vec<u8>> {
        let mut arrival = self.arriving.arrival.lock().await;
        let arrival = arrival.as_mut().ok_or_else(superseded)?;
        // They come after the items, from the first on.
        arrival.requests.clear();
        Ok(arrival.last_key.clone())
    }

    /// Takes in a chunk at once.
    #[cfg(test)]
    pub(super) async fn take(&self, chunk: &wire::SnapshotChunk) -> Result<bool, Hitch> {
        self.arriving.arrival.lock().await.as_mut().expect("it was not handed on").take(chunk)
    }

    /// Whether no newer call has taken over.
    fn check_last(&self) -> PeerResult<()> {
        let is_last = self.arriving.calls.load(Ordering::Acquire) == self.number;
        if is_last { Ok(()) } else { Err(superseded()) }
    }
}

impl Arrival {
    fn begin(head: &wire::SnapshotHead, replica: &Replica) -> Result<Self, String> {
        let membership = head.membership.clone().ok_or("a snapshot without a membership")?;
        let membership = membership_from_wire(membership)?;
        let last_membership = StoredMembership::new(log_id_from_wire(head.membership_at), membership);
        let meta = SnapshotMeta { last_log_id: log_id_from_wire(head.last), last_membership };
        if meta.last_log_id.is_none() {
            return Err("a snapshot of nothing".into());
        }
        let install = replica.begin_install();
        let (last_key, requests) = (Vec::new(), Vec::new());
        Ok(Self { meta, stamp_ms: head.stamp_ms, install, last_key, requests, items: 0 })
    }

    /// Takes in a chunk; after a hitch it can be given again. Waits for the disk. True: it was the last, and all is durable.
    pub(super) fn take(&mut self, chunk: &wire::SnapshotChunk) -> Result<bool, Hitch> {
        if checksum(chunk) != chunk.checksum {
            return Err(Hitch::Damaged(format!("chunk {} of the snapshot is damaged", chunk.number)));
        }
        for item in &chunk.items {
            if *item.key > *self.last_key {
                let flags = u8::try_from(item.flags)
                    .map_err(|_| Hitch::Over(format!("an item has flags {:#x}", item.flags)))?;
                self.install.push(&item.key, flags, &item.value, item.version)?;
                self.last_key = item.key.to_vec();
                self.items += 1;
            }
        }
        if chunk.done {
            if chunk.items_total != self.items {
                let why = format!("the snapshot has {} items, {} came", chunk.items_total, self.items);
                return Err(Hitch::Over(why));
            }
            self.install.seal()?;
        }
        for request in &chunk.requests {
            let id = RequestId { client: request.client, sequence: request.sequence };
            let outcome = outcome_from_wire(request.outcome, request.detail)
                .ok_or_else(|| Hitch::Over("a request came to something unknown here".into()))?;
            let (version, existed) = (request.version, request.existed);
            self.requests.push((id, Committed { version, existed, outcome }));
        }
        Ok(chunk.done)
    }
}

impl From<Error> for Hitch {
    fn from(error: Error) -> Self {
        match error {
            Error::DiskFull => Self::DiskFull,
            other => Self::Over(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_engine::{Environment, KeyRange, Options, replica::Hooks};
    use esker_log::{clock::ManualClock, disk::sim::SimDisk};

    use super::*;

    fn replica() -> Replica {
        let environment = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::<ManualClock>::default(),
            threads: false,
            ..Environment::default()
        };
        Replica::open(&environment, "/replica", Options::default(), Hooks::default()).unwrap()
    }

    fn head(index: u64) -> wire::SnapshotHead {
        let last = Some(wire::LogId { term: 1, index });
        let membership = Some(wire::Membership::default());
        wire::SnapshotHead { last, membership, id: format!("1-{index}"), ..wire::SnapshotHead::default() }
    }

    fn chunk(keys: &[&'static str], done: bool) -> wire::SnapshotChunk {
        let item = |key: &&'static str| wire::SnapshotItem {
            key: (*key).into(),
            value: "value".into(),
            version: 1,
            flags: 0,
        };
        let items = keys.iter().map(item).collect();
        let mut chunk = wire::SnapshotChunk { items, done, items_total: 4, ..wire::SnapshotChunk::default() };
        chunk.checksum = checksum(&chunk);
        chunk
    }

    /// CHECKS 13, 23: what has come stays through damage and through calls; the newest call goes on with it, alone.
    #[tokio::test]
    async fn what_has_come_is_kept_for_the_newest_call() {
        let (replica, arrivals) = (replica(), Arc::<Arrivals>::default());
        let first = arrivals.begin(2, &head(9), &replica).unwrap();
        assert_eq!(first.resume().await.unwrap(), b"");
        assert!(!first.take(&chunk(&["a", "b"], false)).await.unwrap());
        let mut damaged = chunk(&["c", "d"], false);
        damaged.items[1].value = "other".into();
        assert!(matches!(first.take(&damaged).await, Err(Hitch::Damaged(_))));

        let second = arrivals.begin(2, &head(9), &replica).unwrap();
        assert_eq!(second.resume().await.unwrap(), b"b");
        assert!(first.check_last().is_err(), "it was taken over from");
        second.check_last().unwrap();
        assert!(!second.take(&chunk(&["b", "c"], false)).await.unwrap(), "what is known is not taken again");
        assert!(second.take(&chunk(&["d"], true)).await.unwrap());

        let whole = arrivals.hand_over(&second).await.unwrap();
        assert!(arrivals.begin(3, &head(20), &replica).is_err(), "one at a time");
        assert!(arrivals.hand_over(&second).await.is_err());
        let SnapshotData::Incoming(mut incoming) = whole.snapshot else { panic!("it came in") };
        let last = esker_log::GroupEnd { index: 9, term: 1 };
        incoming.install.finish(last, Default::default(), [], 0).unwrap();
        drop(incoming);
        let keys = replica.reader().scan(&KeyRange::all(), true).map(|item| item.unwrap().key);
        assert_eq!(keys.collect::<Vec<_>>(), [b"a", b"b", b"c", b"d"]);
        arrivals.begin(3, &head(20), &replica).unwrap();
    }

    #[tokio::test]
    async fn another_snapshot_begins_anew_and_ends_the_first() {
        let (replica, arrivals) = (replica(), Arc::<Arrivals>::default());
        let first = arrivals.begin(2, &head(9), &replica).unwrap();
        first.take(&chunk(&["a"], false)).await.unwrap();
        let other = arrivals.begin(2, &head(10), &replica).unwrap();
        assert_eq!(other.resume().await.unwrap(), b"");
        assert!(matches!(first.take(&chunk(&["b", "c", "d"], true)).await, Err(Hitch::Over(_))));
        assert!(arrivals.hand_over(&first).await.is_err());
        let short = other.take(&chunk(&["a", "b"], true)).await;
        assert!(matches!(&short, Err(Hitch::Over(why)) if why.contains("4 items, 2 came")), "{short:?}");
    }
}
