//! Snapshots on their way between nodes: a head, items in key order in checksummed chunks, the applied requests, an end.
//!
//! The receiver says with its first reply behind which key to go on, so that a broken transfer of the same snapshot is
//! resumed; and then which chunks it has taken in, so that no more than [`WINDOW`] are under way. Values are placed in its
//! log as they come; nothing of its state changes before the last one has.

use std::{collections::HashMap, sync::Arc, time::Duration};

use esker_engine::{
    Committed, RequestId,
    replica::{Install, Snapshot},
};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Shared,
    state_machine::{Incoming, LibrarySnapshot, SnapshotData, SnapshotMeta},
    types::{
        StoredMembership, Vote, log_id_from_wire, log_id_to_wire, membership_from_wire, membership_to_wire,
        vote_from_wire, vote_to_wire,
    },
};
use crate::peer::{Caller, PeerApi, PeerError, PeerResult, wire};

/// So many chunks are under way.
const WINDOW: u64 = 8;
/// A chunk has about so many bytes of keys and values.
const CHUNK_BYTES: usize = 256 << 10;
/// Requests in one chunk.
const CHUNK_REQUESTS: usize = 4096;

/// crc32c over a chunk's content: of each item the lengths, the key, the value, the version; then of each request
/// its four numbers; all numbers little-endian.
pub(crate) fn checksum(chunk: &wire::SnapshotChunk) -> u32 {
    let mut crc = 0;
    let mut add = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
    for item in &chunk.items {
        add(&(item.key.len() as u32).to_le_bytes());
        add(&(item.value.len() as u32).to_le_bytes());
        add(&item.key);
        add(&item.value);
        add(&item.version.to_le_bytes());
    }
    for request in &chunk.requests {
        add(&request.client.to_le_bytes());
        add(&request.sequence.to_le_bytes());
        add(&request.version.to_le_bytes());
        add(&request.existed.to_le_bytes());
    }
    crc
}

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
    let head = head(&snapshot.meta, vote);
    let (chunks, queue) = mpsc::channel(WINDOW as usize);
    let mut replies = peer.snapshot(caller, ReceiverStream::new(queue).boxed());
    let first = wire::SnapshotChunk { head: Some(head), ..wire::SnapshotChunk::default() };
    let _broken = chunks.send(first).await.is_err();
    let resume_after = match next_reply(&mut replies).await? {
        wire::snapshot_reply::Outcome::ResumeAfter(key) => key,
        wire::snapshot_reply::Outcome::HigherVote(vote) => return higher(vote),
        _ => return Err(PeerError::Failed("the receiver did not say where to go on".into())),
    };
    let (taken, mut take) = tokio::sync::watch::channel(0_u64);
    let rate = shared.snapshot_bytes_per_second();
    let mut producer = Producer::new(*outgoing, shared.blocking_threads);
    let produce = async move {
        loop {
            let (next, produced) = producer.next(&resume_after).await?;
            producer = next;
            let (bytes, done) = (bytes_of(&produced), produced.done);
            let number = produced.number;
            if take.wait_for(|taken| number <= taken + WINDOW).await.is_err() {
                return Ok(());
            }
            if chunks.send(produced).await.is_err() || done {
                return Ok::<_, PeerError>(());
            }
            // A snapshot must not take the disk and the network from the writes: one after another, at a bounded rate.
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    };
    let receive = async move {
        loop {
            match next_reply(&mut replies).await? {
                wire::snapshot_reply::Outcome::Taken(number) => {
                    taken.send_replace(number);
                }
                wire::snapshot_reply::Outcome::Installed(_) => return Ok(None),
                wire::snapshot_reply::Outcome::HigherVote(vote) => return higher(vote),
                wire::snapshot_reply::Outcome::ResumeAfter(_) => {
                    return Err(PeerError::Failed("the receiver began anew".into()));
                }
            }
        }
    };
    // Both ends are needed: the chunks go out while their receipts come in.
    let mut produce = std::pin::pin!(produce);
    let mut receive = std::pin::pin!(receive);
    let mut producing = true;
    loop {
        tokio::select! {
            biased;
            produced = &mut produce, if producing => {
                produced?;
                producing = false;
            }
            received = &mut receive => return received,
        }
    }
}

fn head(meta: &SnapshotMeta, vote: &Vote) -> wire::SnapshotHead {
    let last = log_id_to_wire(meta.last_log_id.as_ref());
    let membership = &meta.last_membership;
    wire::SnapshotHead {
        group: super::GROUP,
        vote: Some(vote_to_wire(vote)),
        last,
        membership: Some(membership_to_wire(membership.membership())),
        membership_at: log_id_to_wire(membership.log_id().as_ref()),
        id: last.map_or(String::new(), |last| format!("{}-{}", last.term, last.index)),
    }
}

fn higher(vote: wire::Vote) -> PeerResult<Option<Vote>> {
    vote_from_wire(Some(vote)).map(Some).map_err(|e| PeerError::Failed(e.into()))
}

async fn next_reply(
    replies: &mut BoxStream<'static, PeerResult<wire::SnapshotReply>>,
) -> PeerResult<wire::snapshot_reply::Outcome> {
    let reply = replies.next().await.ok_or_else(|| PeerError::Unreachable("the call ended".into()))??;
    reply.outcome.ok_or_else(|| PeerError::Failed("a reply without an outcome".into()))
}

fn bytes_of(chunk: &wire::SnapshotChunk) -> usize {
    chunk.items.iter().map(|item| item.key.len() + item.value.len() + 32).sum::<usize>() + 64
}

/// Makes chunks of a snapshot.
struct Producer {
    items: SnapshotItems,
    requests: std::vec::IntoIter<(RequestId, Committed)>,
    number: u64,
    items_total: u64,
}

/// The items still to be sent, and whether reading them may go to a thread of its own.
pub(crate) struct SnapshotItems {
    pub(crate) scan: esker_engine::Scan,
    pub(crate) blocking_threads: bool,
}

impl Producer {
    fn new(snapshot: Snapshot, blocking_threads: bool) -> Self {
        let requests: Vec<_> = snapshot.requests().collect();
        let items = SnapshotItems { scan: snapshot.items, blocking_threads };
        Self { items, requests: requests.into_iter(), number: 0, items_total: 0 }
    }

    /// The next chunk. Reading it may wait for the disk, so it happens off the runtime.
    async fn next(self, resume_after: &[u8]) -> PeerResult<(Self, wire::SnapshotChunk)> {
        let resume_after = resume_after.to_vec();
        if self.items.blocking_threads {
            let read = tokio::task::spawn_blocking(move || self.read(&resume_after)).await;
            read.map_err(|e| PeerError::Failed(e.to_string()))?
        } else {
            self.read(&resume_after)
        }
    }

    fn read(mut self, resume_after: &[u8]) -> PeerResult<(Self, wire::SnapshotChunk)> {
        let mut chunk = wire::SnapshotChunk::default();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES {
            let Some(item) = self.items.scan.next() else { break };
            let item = item.map_err(|e| PeerError::Failed(e.to_string()))?;
            self.items_total += 1;
            if !resume_after.is_empty() && item.key.as_slice() <= resume_after {
                continue;
            }
            let value = item.value.map(|value| value.into_vec()).unwrap_or_default();
            bytes += item.key.len() + value.len();
            let (key, value) = (item.key.into(), value.into());
            chunk.items.push(wire::SnapshotItem { key, value, version: item.version });
        }
        if chunk.items.is_empty() {
            let applied = |(id, outcome): (RequestId, Committed)| wire::AppliedRequest {
                client: id.client,
                sequence: id.sequence,
                version: outcome.version,
                existed: outcome.existed,
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

/// Snapshots on their way in, by sender: kept for a while when the call breaks, to go on where it broke.
#[derive(Default)]
pub(crate) struct Arrivals {
    partial: Mutex<HashMap<u64, Arrival>>,
}

/// A snapshot of which a part has come.
pub(crate) struct Arrival {
    id: String,
    pub(crate) meta: SnapshotMeta,
    install: Install,
    last_key: Vec<u8>,
    requests: Vec<(RequestId, Committed)>,
    items: u64,
}

impl Arrivals {
    /// What is there of this snapshot, or a new beginning.
    pub(crate) fn begin(
        &self,
        from: u64,
        head: &wire::SnapshotHead,
        begin_install: impl FnOnce() -> Install,
    ) -> Result<Arrival, String> {
        let mut partial = self.partial.lock();
        if let Some(mut arrival) = partial.remove(&from).filter(|arrival| arrival.id == head.id) {
            // They come after the items, from the first on.
            arrival.requests.clear();
            return Ok(arrival);
        }
        // One installation at a time: a new one ends what was begun.
        partial.clear();
        let membership = head.membership.clone().ok_or("a snapshot without a membership")?;
        let membership = membership_from_wire(membership)?;
        let last_membership = StoredMembership::new(log_id_from_wire(head.membership_at), membership);
        let meta = SnapshotMeta { last_log_id: log_id_from_wire(head.last), last_membership };
        if meta.last_log_id.is_none() {
            return Err("a snapshot of nothing".into());
        }
        Ok(Arrival {
            id: head.id.clone(),
            meta,
            install: begin_install(),
            last_key: Vec::new(),
            requests: Vec::new(),
            items: 0,
        })
    }

    /// Keeps what has come for the next attempt.
    pub(crate) fn keep(&self, from: u64, arrival: Arrival) {
        self.partial.lock().insert(from, arrival);
    }
}

impl Arrival {
    /// The last key that is here.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Takes in a chunk. Waits for the disk. True: it was the last.
    pub(crate) fn take(&mut self, chunk: wire::SnapshotChunk) -> Result<bool, String> {
        if checksum(&chunk) != chunk.checksum {
            return Err(format!("chunk {} of the snapshot is damaged", chunk.number));
        }
        for item in &chunk.items {
            self.install.push(&item.key, &item.value, item.version).map_err(|e| e.to_string())?;
            self.items += 1;
        }
        if let Some(last) = chunk.items.last() {
            self.last_key = last.key.to_vec();
        }
        self.requests.extend(chunk.requests.iter().map(|request| {
            let id = RequestId { client: request.client, sequence: request.sequence };
            (id, Committed { version: request.version, existed: request.existed })
        }));
        if chunk.done && chunk.items_total != self.items {
            return Err(format!("the snapshot has {} items, {} came", chunk.items_total, self.items));
        }
        Ok(chunk.done)
    }

    /// As the library takes it.
    pub(crate) fn into_snapshot(self) -> LibrarySnapshot {
        let incoming = Incoming { install: self.install, requests: self.requests };
        LibrarySnapshot { meta: self.meta, snapshot: SnapshotData::Incoming(Box::new(incoming)) }
    }
}

/// What comes of a snapshot that is sent and taken in, chunk by chunk, by a replica.
#[cfg(test)]
pub(crate) async fn through_chunks(snapshot: LibrarySnapshot, to: &esker_engine::Replica) -> LibrarySnapshot {
    let LibrarySnapshot { meta, snapshot: SnapshotData::Outgoing(outgoing) } = snapshot else {
        panic!("only what a state machine gives is sent");
    };
    let mut arrival =
        Arrivals::default().begin(1, &head(&meta, &Vote::new(1, 1)), || to.begin_install()).unwrap();
    let mut producer = Producer::new(*outgoing, false);
    loop {
        let (next, chunk) = producer.next(&[]).await.unwrap();
        producer = next;
        if arrival.take(chunk).unwrap() {
            return arrival.into_snapshot();
        }
    }
}
