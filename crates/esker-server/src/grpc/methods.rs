//! Which calls there are: their paths, their names in metrics, and how large their requests may be.

use esker_cluster::Limits;
use esker_wire::{KEY_LEN_MAX, mget::KEYS_MAX};

/// What every message may have beside keys and values.
const OVERHEAD_BYTES: usize = 4 << 10;
/// What every operation of a batch may have beside its key and value.
const OPERATION_BYTES: usize = 64;
/// The keys of a [`Size::Keys`] together.
const KEYS_BYTES: usize = 8 << 20;

/// What bounds a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// A few keys, or a place in a range.
    Small,
    /// A key and a value.
    Pair,
    /// Many keys.
    Keys,
    /// A batch.
    Batch,
    /// A stream of small requests.
    Stream,
}

/// A call that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    /// As the `:path` names it.
    pub(super) path: &'static str,
    /// In the metrics.
    pub(super) name: &'static str,
    size: Size,
    /// Goes on until somebody ends it: a drain does.
    pub(super) is_lasting: bool,
    /// Needs no right to any key, so that a connection has few of them at a time.
    pub(super) is_counted: bool,
}

const fn method(path: &'static str, name: &'static str, size: Size) -> Method {
    Method { path, name, size, is_lasting: false, is_counted: false }
}

const fn lasting(path: &'static str, name: &'static str, size: Size) -> Method {
    Method { is_lasting: true, ..method(path, name, size) }
}

const fn counted(path: &'static str, name: &'static str, size: Size) -> Method {
    Method { is_counted: true, ..lasting(path, name, size) }
}

/// Every method, the frequent ones first; the last stands for all that are not there.
pub(super) const METHODS: [Method; 20] = [
    method("/esker.v1.Kv/Get", "get", Size::Small),
    method("/esker.v1.Kv/Put", "put", Size::Pair),
    method("/esker.v1.Kv/Delete", "delete", Size::Small),
    method("/esker.v1.Kv/MultiGet", "multi_get", Size::Keys),
    method("/esker.v1.Kv/Batch", "batch", Size::Batch),
    method("/esker.v1.Kv/Increment", "increment", Size::Small),
    method("/esker.v1.Kv/Scan", "scan", Size::Small),
    method("/esker.v1.Kv/DeleteRange", "delete_range", Size::Small),
    lasting("/esker.v1.Kv/Watch", "watch", Size::Small),
    method("/grpc.health.v1.Health/Check", "health_check", Size::Small),
    counted("/grpc.health.v1.Health/Watch", "health_watch", Size::Small),
    method("/esker.v1.Cluster/Status", "status", Size::Small),
    method("/esker.v1.Cluster/Nodes", "nodes", Size::Small),
    method("/esker.v1.Cluster/AddMember", "add_member", Size::Small),
    method("/esker.v1.Cluster/PromoteMember", "promote_member", Size::Small),
    method("/esker.v1.Cluster/RemoveMember", "remove_member", Size::Small),
    method("/esker.v1.Cluster/TransferLeadership", "transfer_leadership", Size::Small),
    counted("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "reflection", Size::Stream),
    counted(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "reflection_alpha",
        Size::Stream,
    ),
    method("", "other", Size::Small),
];

/// The place of a path's method.
pub(super) fn place_of(path: &str) -> usize {
    METHODS.iter().position(|method| method.path == path).unwrap_or(METHODS.len() - 1)
}

impl Method {
    /// The longest request, framing included; `None` where a stream of them comes.
    pub(super) fn request_bytes(&self, limits: &Limits) -> Option<usize> {
        let pair = limits.value_bytes.saturating_add(KEY_LEN_MAX);
        Some(OVERHEAD_BYTES.saturating_add(match self.size {
            Size::Stream => return None,
            // A range has two keys, and a cursor is a key in base64.
            Size::Small => 4 * KEY_LEN_MAX,
            Size::Pair => pair,
            Size::Keys => KEYS_BYTES,
            Size::Batch => {
                limits.batch_bytes.max(pair).saturating_add(limits.batch_ops.saturating_mul(OPERATION_BYTES))
            }
        }))
    }
}

impl Method {
    /// How many elements a request may have that is made of many; `None` where its length bounds it well enough.
    pub(super) fn fields_max(&self, limits: &Limits) -> Option<usize> {
        /// What there is beside the elements.
        const OTHER_FIELDS: usize = 8;
        match self.size {
            Size::Keys => Some(KEYS_MAX + OTHER_FIELDS),
            Size::Batch => Some(limits.batch_ops.saturating_add(OTHER_FIELDS)),
            Size::Small | Size::Pair | Size::Stream => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_and_named_once() {
        for (place, method) in METHODS.iter().enumerate() {
            assert_eq!(place_of(method.path), place);
            assert!(METHODS[..place].iter().all(|other| other.name != method.name), "{}", method.name);
        }
        assert_eq!(METHODS[place_of("/esker.v1.Kv/Nothing")].name, "other");
    }

    #[test]
    fn a_request_may_have_what_the_limits_allow() {
        let limits = Limits { value_bytes: 100, batch_ops: 10, batch_bytes: 1 << 20, ..Limits::default() };
        let bytes = |path| METHODS[place_of(path)].request_bytes(&limits);
        assert_eq!(bytes("/esker.v1.Kv/Put"), Some(4096 + 100 + 65_535));
        assert_eq!(bytes("/esker.v1.Kv/Batch"), Some(4096 + (1 << 20) + 640));
        assert_eq!(bytes("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), None);
    }
}
