//! What callers say and hear, as messages.

use bytes::Bytes;
use esker_proto::v1::{self, condition::Demand as Demanded, operation::Operation as Write};
use esker_wire::{
    Ack, Consistency,
    batch::{Demand, Expiry, Operation, Range as DeletedRange},
    cluster::{Node, Role},
};

use crate::{Entry, Item, Range};

pub(super) fn condition(demand: Demand) -> v1::Condition {
    let demand = match demand {
        Demand::Absent => Demanded::Presence(v1::Presence::Absent.into()),
        Demand::Present => Demanded::Presence(v1::Presence::Present.into()),
        Demand::Version(version) => Demanded::Version(version),
    };
    v1::Condition { demand: Some(demand) }
}

pub(super) fn ack(ack: Ack) -> i32 {
    match ack {
        Ack::Majority => v1::Ack::Majority,
        Ack::Local => v1::Ack::Local,
        Ack::All => v1::Ack::All,
    }
    .into()
}

pub(super) fn consistency(consistency: Consistency) -> i32 {
    match consistency {
        Consistency::Linearizable => v1::Consistency::Linearizable,
        Consistency::Stale => v1::Consistency::Stale,
    }
    .into()
}

pub(super) fn range(range: &Range) -> v1::Range {
    let bytes = |key: &Option<Vec<u8>>| key.clone().map(Bytes::from);
    match range {
        Range::All => v1::Range { prefix: Some(Bytes::new()), ..Default::default() },
        Range::Prefix(prefix) => v1::Range { prefix: Some(prefix.clone().into()), ..Default::default() },
        Range::Between(start, end) => v1::Range { start: bytes(start), end: bytes(end), prefix: None },
    }
}

/// An operation of a batch, or a condition.
pub(super) enum Part {
    Operation(v1::Operation),
    Condition(v1::KeyCondition),
}

pub(super) fn part(operation: Operation<'_>) -> Part {
    let bytes = |key: std::borrow::Cow<'_, [u8]>| Bytes::from(key.into_owned());
    let operation = match operation {
        Operation::Put { key, value, expiry } => {
            let (ttl_ms, expires_at_ms) = match expiry {
                None => (None, None),
                Some(Expiry::After(ttl)) => (Some(ttl.as_millis()), None),
                Some(Expiry::At(at)) => (None, Some(at)),
            };
            Write::Put(v1::PutOperation { key: bytes(key), value: bytes(value), ttl_ms, expires_at_ms })
        }
        Operation::Delete { key } => Write::Delete(v1::DeleteOperation { key: bytes(key) }),
        Operation::Incr { key, by } => {
            Write::Increment(v1::IncrementOperation { key: bytes(key), by: Some(by) })
        }
        Operation::DeleteRange(DeletedRange::Prefix(prefix)) => {
            Write::DeleteRange(v1::Range { prefix: Some(bytes(prefix)), ..Default::default() })
        }
        Operation::DeleteRange(DeletedRange::Between(start, end)) => {
            Write::DeleteRange(v1::Range { start: Some(bytes(start)), end: Some(bytes(end)), prefix: None })
        }
        Operation::Require { key, demand } => {
            let condition = Some(condition(demand));
            return Part::Condition(v1::KeyCondition { key: bytes(key), condition });
        }
    };
    Part::Operation(v1::Operation { operation: Some(operation) })
}

pub(super) fn entry(entry: v1::Entry) -> Entry {
    Entry { value: entry.value, version: entry.version, expires_at: entry.expires_at_ms }
}

pub(super) fn item(item: v1::Item, has_value: bool) -> Item {
    let v1::Entry { value, version, expires_at_ms } = item.entry.unwrap_or_default();
    let value = has_value.then(|| value.into());
    Item { key: item.key.into(), value, version, expires_at: expires_at_ms }
}

pub(super) fn node(node: v1::Node) -> Node {
    let role = match node.role() {
        v1::Role::Leader => Role::Leader,
        v1::Role::Candidate => Role::Candidate,
        v1::Role::Learner => Role::Learner,
        v1::Role::Outside => Role::Outside,
        v1::Role::Removed => Role::Removed,
        v1::Role::Follower | v1::Role::Unspecified => Role::Follower,
    };
    Node {
        id: node.id,
        http_address: node.http_address,
        peer_address: Some(node.peer_address).filter(|address| !address.is_empty()),
        role,
        voter: node.voter,
        lag: node.lag,
        silent_ms: node.silent_ms,
        healthy: node.healthy,
    }
}
