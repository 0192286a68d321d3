//! The types the consensus library is used with, and what they are in the log and on the wire.
//!
//! This folder is the only place that knows the library. None of its structs is written or sent: entries are
//! [`LogEntry`], votes and memberships are the messages of the peers' protocol.
//!
//! The library numbers entries from 0; Esker, as the Raft paper, from 1. [`index_of`] and [`library_index`] convert.

use std::{collections::BTreeSet, fmt, io, sync::Arc};

use esker_engine::{Committed, Outcome, Version, replica::LogEntry};
use esker_log::{GroupEnd, Index, format::FrameKind};
use openraft::{
    EntryPayload, OptionalSend,
    impls::{BoxedErrorSource, InlineBatch, OneshotResponder, leader_id_std},
    vote::RaftLeaderId,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

use super::runtime::Runtime;
use crate::peer::{Id, wire};

/// What the library is instantiated with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Committed;
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = EntryPayload<Proposal, u64, Node>;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, EntryPayload<Proposal, u64, Node>>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Node>;

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Node {
    pub(crate) instance: Id,
    pub(crate) peer_address: String,
    pub(crate) http_address: String,
    /// Whether it is, or shall become, a voter.
    pub(crate) voter: bool,
    /// The highest number that this member remembers to have been given (`numbering.rs`).
    pub(crate) numbers_given: u64,
}

/// Told of a proposal once it is durable on the leader: its version.
pub(crate) type Appended = Arc<Mutex<Option<oneshot::Sender<Version>>>>;

/// A write on its way: encoded records, shared rather than copied.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) payload: Arc<[u8]>,
    pub(crate) records: u32,
    /// Set where the leader's own disk is enough for the acknowledgement.
    pub(crate) appended: Option<Appended>,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records in {} bytes", self.records, self.payload.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Esker's index of the entry that the library counts as `index`.
pub(crate) fn index_of(index: u64) -> Index {
    index + 1
}

/// The library's index of an entry; the entry exists, so its index is at least 1.
pub(crate) fn library_index(index: Index) -> u64 {
    index.saturating_sub(1)
}

/// An entry's index and term; zeros for "before the first".
pub(crate) fn group_end(id: Option<&LogId>) -> GroupEnd {
    id.map_or(GroupEnd::default(), |id| GroupEnd {
        index: index_of(id.index()),
        term: id.committed_leader_id().term,
    })
}

pub(crate) fn log_id(end: GroupEnd) -> Option<LogId> {
    let leader = CommittedLeaderId::new(end.term);
    (end.index > 0).then(|| LogId::new(leader, library_index(end.index)))
}

pub(crate) fn log_id_to_wire(id: Option<&LogId>) -> Option<wire::LogId> {
    let GroupEnd { index, term } = group_end(id);
    Some(wire::LogId { index, term })
}

pub(crate) fn log_id_from_wire(id: Option<wire::LogId>) -> Option<LogId> {
    id.and_then(|wire::LogId { index, term }| log_id(GroupEnd { index, term }))
}

/// What came of a batch, as its two numbers say; `None` if they make no sense here.
pub(crate) fn outcome_from_wire(kind: u32, detail: u64) -> Option<Outcome> {
    u8::try_from(kind).ok().and_then(|kind| Outcome::from_parts(kind, detail))
}

pub(crate) fn vote_to_wire(vote: &Vote) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

/// Errors: the message lacks its vote.
pub(crate) fn vote_from_wire(vote: Option<wire::Vote>) -> Result<Vote, &'static str> {
    let vote = vote.ok_or("the message has no vote")?;
    let leader_id = LeaderId { term: vote.term, voted_for: vote.node };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    vote_to_wire(vote).encode_to_vec()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let vote = wire::Vote::decode(bytes).map_err(|e| damaged("a vote", e))?;
    vote_from_wire(Some(vote)).map_err(|e| damaged("a vote", e))
}

pub(crate) fn member_to_wire(id: u64, node: &Node) -> wire::Member {
    wire::Member {
        node: id,
        instance: node.instance.to_vec().into(),
        peer_address: node.peer_address.clone(),
        http_address: node.http_address.clone(),
        voter: node.voter,
        numbers_given: node.numbers_given,
    }
}

pub(crate) fn member_from_wire(member: wire::Member) -> Result<(u64, Node), &'static str> {
    let instance = Id::try_from(&*member.instance).map_err(|_| "an instance has 16 bytes")?;
    let wire::Member { node, peer_address, http_address, voter, numbers_given, .. } = member;
    Ok((node, Node { instance, peer_address, http_address, voter, numbers_given }))
}

pub(crate) fn membership_to_wire(membership: &Membership) -> wire::Membership {
    let voters = |ids: &BTreeSet<u64>| wire::Voters { nodes: ids.iter().copied().collect() };
    wire::Membership {
        configurations: membership.get_joint_config().iter().map(voters).collect(),
        members: membership.nodes().map(|(id, node)| member_to_wire(*id, node)).collect(),
    }
}

pub(crate) fn membership_from_wire(membership: wire::Membership) -> Result<Membership, &'static str> {
    let configurations =
        membership.configurations.into_iter().map(|voters| voters.nodes.into_iter().collect()).collect();
    let members: Result<std::collections::BTreeMap<_, _>, _> =
        membership.members.into_iter().map(member_from_wire).collect();
    Membership::new(configurations, members?).map_err(|_| "a membership that cannot be")
}

pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    membership_to_wire(membership).encode_to_vec()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> io::Result<Membership> {
    let membership = wire::Membership::decode(bytes).map_err(|e| damaged("a membership", e))?;
    membership_from_wire(membership).map_err(|e| damaged("a membership", e))
}

/// As the replica keeps it.
pub(crate) fn store_membership(stored: &StoredMembership) -> esker_engine::replica::StoredMembership {
    let at = group_end(stored.log_id().as_ref());
    let bytes = if at.index > 0 { encode_membership(stored.membership()) } else { Vec::new() };
    esker_engine::replica::StoredMembership { at, bytes }
}

pub(crate) fn load_membership(
    stored: &esker_engine::replica::StoredMembership,
) -> io::Result<StoredMembership> {
    if stored.at.index == 0 {
        return Ok(StoredMembership::default());
    }
    Ok(StoredMembership::new(log_id(stored.at), decode_membership(&stored.bytes)?))
}

/// What the log holds of an entry.
pub(crate) fn entry_to_log(entry: &Entry) -> LogEntry {
    let id = group_end(Some(&entry.log_id));
    let (kind, payload, records) = match &entry.payload {
        EntryPayload::Blank => (FrameKind::Blank, Arc::default(), 0),
        EntryPayload::Normal(proposal) => {
            (FrameKind::Records, Arc::clone(&proposal.payload), proposal.records)
        }
        EntryPayload::Membership(membership) => {
            (FrameKind::Membership, encode_membership(membership).into(), 0)
        }
    };
    LogEntry { id, kind, payload, records }
}

/// Errors: the payload is no membership.
pub(crate) fn entry_from_log(entry: LogEntry) -> io::Result<Entry> {
    let payload = match entry.kind {
        FrameKind::Records => {
            let LogEntry { payload, records, .. } = entry;
            EntryPayload::Normal(Proposal { payload, records, appended: None })
        }
        FrameKind::Membership => EntryPayload::Membership(decode_membership(&entry.payload)?),
        _ => EntryPayload::Blank,
    };
    let leader = CommittedLeaderId::new(entry.id.term);
    Ok(Entry { log_id: LogId::new(leader, library_index(entry.id.index)), payload })
}

pub(crate) fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let log = entry_to_log(entry);
    let kind = match log.kind {
        FrameKind::Records => wire::EntryKind::Records,
        FrameKind::Membership => wire::EntryKind::Membership,
        _ => wire::EntryKind::Blank,
    };
    wire::Entry {
        id: Some(wire::LogId { term: log.id.term, index: log.id.index }),
        kind: kind.into(),
        payload: bytes::Bytes::from_owner(SharedBytes(log.payload)),
        records: log.records,
    }
}

/// Errors: an entry without an index, of an unknown kind, or whose records are not intact.
pub(crate) fn entry_from_wire(entry: wire::Entry) -> Result<Entry, String> {
    let id = entry.id.filter(|id| id.index > 0).ok_or("an entry without an index")?;
    let id = GroupEnd { index: id.index, term: id.term };
    let kind = match wire::EntryKind::try_from(entry.kind) {
        Ok(wire::EntryKind::Records) => {
            esker_log::format::verify_unbound(&entry.payload, entry.records)?;
            FrameKind::Records
        }
        Ok(wire::EntryKind::Membership) => FrameKind::Membership,
        Ok(wire::EntryKind::Blank) => FrameKind::Blank,
        _ => return Err("an entry of an unknown kind".into()),
    };
    let log = LogEntry { id, kind, payload: Arc::from(&*entry.payload), records: entry.records };
    entry_from_log(log).map_err(|e| e.to_string())
}

/// Lets a message hold a payload without a copy.
struct SharedBytes(Arc<[u8]>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn damaged(what: &str, why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} in the log does not decode: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let node = |n: u8| Node {
            instance: [n; 16],
            peer_address: format!("h{n}:7070"),
            http_address: format!("h{n}:8080"),
            voter: n < 3,
            numbers_given: u64::from(n) * 2,
        };
        let sets = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let nodes: std::collections::BTreeMap<_, _> = (1..=4).map(|n| (u64::from(n), node(n))).collect();
        Membership::new(sets, nodes).unwrap()
    }

    #[test]
    fn what_goes_to_the_log_and_the_wire_comes_back() {
        let id = LogId::new(CommittedLeaderId::new(7), 41);
        assert_eq!(group_end(Some(&id)), GroupEnd { index: 42, term: 7 });
        assert_eq!(log_id(group_end(Some(&id))), Some(id));
        assert_eq!(log_id_from_wire(log_id_to_wire(None)), None);
        let vote = Vote { leader_id: LeaderId { term: 9, voted_for: 3 }, committed: true };
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        let mut batch = esker_engine::WriteBatch::new();
        batch.put(b"k", b"v").unwrap();
        let (payload, records) = batch.into_payload();
        let proposal = Proposal { payload: payload.into(), records, appended: None };
        let payloads =
            [EntryPayload::Blank, EntryPayload::Membership(membership()), EntryPayload::Normal(proposal)];
        for payload in payloads {
            let entry = Entry { log_id: id, payload };
            let same = |other: &Entry| {
                assert_eq!(other.log_id, entry.log_id);
                assert_eq!(entry_to_log(other), entry_to_log(&entry));
            };
            same(&entry_from_log(entry_to_log(&entry)).unwrap());
            same(&entry_from_wire(entry_to_wire(&entry)).unwrap());
        }
    }

    #[test]
    fn a_damaged_entry_is_refused() {
        let mut batch = esker_engine::WriteBatch::new();
        batch.put(b"k", b"value").unwrap();
        let (payload, records) = batch.into_payload();
        let id = Some(wire::LogId { term: 1, index: 1 });
        for bit in 0..payload.len() * 8 {
            let mut bad = payload.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let kind = wire::EntryKind::Records.into();
            let entry = wire::Entry { id, kind, payload: bad.into(), records };
            assert!(entry_from_wire(entry).is_err(), "bit {bit}");
        }
    }
}
