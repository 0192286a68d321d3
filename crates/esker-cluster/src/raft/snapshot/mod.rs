//! Snapshots on their way between nodes: a head, items in key order in checksummed chunks, the applied requests, an end.
//!
//! ```text
//! kept.rs    the snapshot that is being sent, kept so that a broken transfer goes on where it stopped
//! send.rs    the sender
//! arrive.rs  the receiver
//! ```
//!
//! The receiver says with its first reply behind which key to go on, and then which chunks it has taken in, so that no more
//! than [`WINDOW`] are under way. Values are placed in its log as they come; nothing of its state changes before the last
//! one has.

mod arrive;
mod kept;
mod send;

pub(crate) use self::{
    arrive::{Arrivals, Installing, take},
    kept::Outgoing,
    send::send,
};
use super::{
    state_machine::SnapshotMeta,
    types::{Vote, log_id_to_wire, membership_to_wire, vote_to_wire},
};
use crate::peer::wire;

/// So many chunks are under way.
const WINDOW: u64 = 8;
/// A chunk has about so many bytes of keys and values.
const CHUNK_BYTES: usize = 256 << 10;
/// Requests in one chunk.
const CHUNK_REQUESTS: usize = 4096;

/// crc32c over a chunk's content: of each item the lengths, the key, the value, the version, the flags; then of each
/// request its six numbers; all numbers little-endian.
fn checksum(chunk: &wire::SnapshotChunk) -> u32 {
    let mut crc = 0;
    let mut add = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
    for item in &chunk.items {
        add(&(item.key.len() as u32).to_le_bytes());
        add(&(item.value.len() as u32).to_le_bytes());
        add(&item.key);
        add(&item.value);
        add(&item.version.to_le_bytes());
        add(&item.flags.to_le_bytes());
    }
    for request in &chunk.requests {
        add(&request.client.to_le_bytes());
        add(&request.sequence.to_le_bytes());
        add(&request.version.to_le_bytes());
        add(&request.existed.to_le_bytes());
        add(&request.outcome.to_le_bytes());
        add(&request.detail.to_le_bytes());
    }
    crc
}

/// What a transfer begins with. The id names the state, not the transfer: replicas are equal at the same entry.
fn head(meta: &SnapshotMeta, stamp_ms: u64, vote: &Vote) -> wire::SnapshotHead {
    let last = log_id_to_wire(meta.last_log_id.as_ref());
    let membership = &meta.last_membership;
    wire::SnapshotHead {
        group: super::GROUP,
        vote: Some(vote_to_wire(vote)),
        last,
        membership: Some(membership_to_wire(membership.membership())),
        membership_at: log_id_to_wire(membership.log_id().as_ref()),
        id: last.map_or(String::new(), |last| format!("{}-{}", last.term, last.index)),
        stamp_ms,
    }
}

/// What comes of a snapshot that is sent and taken in, chunk by chunk, by a replica.
#[cfg(test)]
pub(crate) async fn through_chunks(
    snapshot: super::state_machine::LibrarySnapshot,
    to: &esker_engine::Replica,
) -> super::state_machine::LibrarySnapshot {
    let super::state_machine::SnapshotData::Outgoing(outgoing) = snapshot.snapshot else {
        panic!("only what a state machine gives is sent");
    };
    let arrivals = std::sync::Arc::<Arrivals>::default();
    let call = arrivals.begin(1, &head(&snapshot.meta, outgoing.stamp_ms, &Vote::new(1, 1)), to).unwrap();
    let mut producer = send::Producer::new(outgoing, &[], false);
    loop {
        let (next, chunk) = producer.next().await.unwrap();
        producer = next;
        if call.take(&chunk).await.unwrap() {
            return arrivals.hand_over(&call).await.unwrap();
        }
    }
}
