//! A run of ascending keys on the way to becoming a node.

use super::{
    super::prefix::common_prefix,
    keys::{FANOUT, SUFFIX_BYTES_MAX},
};

/// Ascending keys, written out whole one after another.
///
/// The prefix of a node is known only when its last key is. So keys are gathered here first, and
/// the node is then built in one go, in exactly the memory it needs.
#[derive(Default)]
pub(super) struct Run {
    /// All keys, back to back.
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<usize>,
    /// What the keys have in common. As they ascend, it is what the first and the last share.
    prefix_len: usize,
}

impl Run {
    /// How many keys were pushed.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds `key`, unless the run would then be too large for a node.
    pub(super) fn push_if_fits(&mut self, key: &[u8]) -> bool {
        let shared = if self.ends.is_empty() { key.len() } else { common_prefix(self.prefix(), key) };
        let count = self.len() + 1;
        if count > FANOUT || self.bytes.len() + key.len() - count * shared > SUFFIX_BYTES_MAX {
            return false;
        }
        self.prefix_len = shared;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        true
    }

    /// What all keys have in common.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix_len]
    }

    /// How many bytes the keys have beyond the prefix.
    pub(super) fn suffix_bytes(&self) -> usize {
        self.bytes.len() - self.len() * self.prefix_len
    }

    /// The keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// The last key.
    pub(super) fn last(&self) -> Option<&[u8]> {
        let end = *self.ends.last()?;
        let start = self.ends.len().checked_sub(2).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// Forgets the keys, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.prefix_len = 0;
    }
}
