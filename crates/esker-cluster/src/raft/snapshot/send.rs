//! Sending a snapshot.

use std::{io, sync::Arc, time::Duration};

use esker_engine::{Committed, Error, RequestId, StoredScan, replica::Snapshot};
use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{CHUNK_BYTES, CHUNK_REQUESTS, WINDOW, checksum, head};
use crate::{
    peer::{Caller, PeerApi, PeerError, PeerResult, wire, wire::snapshot_reply::Outcome},
    raft::{
        Shared,
        state_machine::{LibrarySnapshot, SnapshotData},
        types::{Vote, vote_from_wire},
    },
};

type Replies = BoxStream<'static, PeerResult<wire::SnapshotReply>>;

/// Sends a snapshot and waits until it is installed. `Some`: the receiver knows of a higher vote.
pub(crate) async fn send(
    shared: &Arc<Shared>,
    peer: &dyn PeerApi,
    caller: Caller,
    vote: &Vote,
    snapshot: LibrarySnapshot,
) -> PeerResult<Option<Vote>> {
    let SnapshotData::Outgoing(outgoing) = snapshot.snapshot else {
        return Err(PeerError::Failed("this snapshot has no content to send".into()));
    };
    let sending = shared.outgoing.begin(&outgoing, caller.to.node);
    let head = head(&snapshot.meta, outgoing.stamp_ms, vote);
    let (chunks, queue) = mpsc::channel(WINDOW as usize);
    let mut replies = peer.snapshot(caller, ReceiverStream::new(queue).boxed());
    let first = wire::SnapshotChunk { head: Some(head), ..wire::SnapshotChunk::default() };
    // If the call is broken, the replies say so.
    let _broken = chunks.send(first).await.is_err();
    let resume_after = match next_reply(&mut replies).await? {
        Outcome::ResumeAfter(key) => key,
        Outcome::HigherVote(vote) => return higher(vote),
        _ => return Err(PeerError::Failed("the receiver did not say where to go on".into())),
    };
    let (taken, take) = watch::channel(0);
    let producer = Producer::new(outgoing, &resume_after, shared.blocking_threads);
    let unread = |error| cannot_be_read(shared, &error);
    let produce = produce(producer, chunks, take, shared.snapshot_bytes_per_second(), unread);
    // Both ends are needed: the chunks go out while their receipts come in.
    let mut produce = std::pin::pin!(produce);
    let mut receive = std::pin::pin!(receive(replies, taken));
    let mut producing = true;
    let received = loop {
        tokio::select! {
            biased;
            produced = &mut produce, if producing => {
                produced?;
                producing = false;
            }
            received = &mut receive => break received?,
        }
    };
    sending.done();
    Ok(received)
}

/// Who waits for the snapshot cannot mend what is damaged here: the operator has to know.
fn cannot_be_read(shared: &Shared, error: &Error) -> PeerError {
    if let Error::Damage(damage) = error {
        tracing::error!(%damage, "a snapshot for another node cannot be read");
        shared.replica.note_damage(damage);
    }
    PeerError::Failed(error.to_string())
}

/// Sends the chunks, as fast as they are taken in and the rate allows.
async fn produce(
    mut producer: Producer,
    chunks: mpsc::Sender<wire::SnapshotChunk>,
    mut taken: watch::Receiver<u64>,
    bytes_per_second: u64,
    unread: impl Fn(Error) -> PeerError,
) -> PeerResult<()> {
    loop {
        let (next, produced) = producer.next().await.map_err(&unread)?;
        producer = next;
        let (bytes, done) = (bytes_of(&produced), produced.done);
        let number = produced.number;
        if taken.wait_for(|taken| number <= taken + WINDOW).await.is_err() {
            return Ok(());
        }
        if chunks.send(produced).await.is_err() || done {
            return Ok(());
        }
        // A snapshot must not take the disk and the network from the writes: one after another, at a bounded rate.
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64)).await;
    }
}

/// Takes the receiver's replies, to the last.
async fn receive(mut replies: Replies, taken: watch::Sender<u64>) -> PeerResult<Option<Vote>> {
    loop {
        match next_reply(&mut replies).await? {
            Outcome::Taken(number) => {
                taken.send_replace(number);
            }
            Outcome::Installed(_) => return Ok(None),
            Outcome::HigherVote(vote) => return higher(vote),
            Outcome::ResumeAfter(_) => {
                return Err(PeerError::Failed("the receiver began anew".into()));
            }
        }
    }
}

fn higher(vote: wire::Vote) -> PeerResult<Option<Vote>> {
    vote_from_wire(Some(vote)).map(Some).map_err(|e| PeerError::Failed(e.into()))
}

async fn next_reply(replies: &mut Replies) -> PeerResult<Outcome> {
    let reply = replies.next().await.ok_or_else(|| PeerError::Unreachable("the call ended".into()))??;
    reply.outcome.ok_or_else(|| PeerError::Failed("a reply without an outcome".into()))
}

fn bytes_of(chunk: &wire::SnapshotChunk) -> usize {
    chunk.items.iter().map(|item| item.key.len() + item.value.len() + 32).sum::<usize>() + 64
}

/// Makes chunks of a snapshot.
pub(super) struct Producer {
    items: StoredScan,
    requests: std::vec::IntoIter<(RequestId, Committed)>,
    number: u64,
    items_total: u64,
    /// Whether reading may go to a thread of its own.
    blocking_threads: bool,
}

impl Producer {
    /// Begins behind the key `resume_after`; an empty one is before all others.
    pub(super) fn new(snapshot: Arc<Snapshot>, resume_after: &[u8], blocking_threads: bool) -> Self {
        let requests: Vec<_> = snapshot.requests().collect();
        Self {
            items: snapshot.items_behind(resume_after),
            requests: requests.into_iter(),
            number: 0,
            items_total: snapshot.keys(),
            blocking_threads,
        }
    }

    /// The next chunk. Reading it may wait for the disk, so it happens off the runtime.
    pub(super) async fn next(self) -> Result<(Self, wire::SnapshotChunk), Error> {
        if self.blocking_threads {
            let read = tokio::task::spawn_blocking(move || self.read()).await;
            read.map_err(|e| Error::io("reading a snapshot", io::Error::other(e)))?
        } else {
            self.read()
        }
    }

    fn read(mut self) -> Result<(Self, wire::SnapshotChunk), Error> {
        let mut chunk = wire::SnapshotChunk::default();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES {
            let Some(item) = self.items.next() else { break };
            let item = item?;
            let (flags, value) = (item.flags.into(), item.stored.into_bytes());
            bytes += item.key.len() + value.len();
            let key = item.key.into();
            chunk.items.push(wire::SnapshotItem { key, value, version: item.version, flags });
        }
        if chunk.items.is_empty() {
            let applied = |(id, done): (RequestId, Committed)| {
                let (outcome, detail) = done.outcome.to_parts();
                wire::AppliedRequest {
                    client: id.client,
                    sequence: id.sequence,
                    version: done.version,
                    existed: done.existed,
                    outcome: outcome.into(),
                    detail,
                }
            };
            chunk.requests = self.requests.by_ref().take(CHUNK_REQUESTS).map(applied).collect();
            chunk.done = self.requests.len() == 0;
        }
        self.number += 1;
        chunk.number = self.number;
        chunk.items_total = self.items_total;
        chunk.checksum = checksum(&chunk);
        Ok((self, chunk))
    }
}
