//! What replicas compare: a checksum of the state at an entry that is the same for all.
//!
//! A hash over key and version of everything that is there, kept per range, so that a difference says where it is. Values
//! need not be hashed: they have checksums of their own, and one version of a key has one value.

use esker_log::{Index, Result};

use crate::{StoredScan, judge::is_expired};

/// The key space is compared in so many ranges: by the first byte of the key.
pub const RANGES: usize = 256;

/// A state that is to be summed up.
pub struct Comparison {
    /// The entry at which all compare.
    pub at: Index,
    pub(super) keys: StoredScan,
    /// What had expired when it was asked for does not count: merges may have dropped it here and not there.
    pub(super) now_ms: u64,
}

impl Comparison {
    /// Sums the state up; takes as long as a walk over all keys, without the disk.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn sum(self) -> Result<Summary> {
        let mut ranges = vec![0_u64; RANGES];
        for item in self.keys {
            let item = item?;
            if is_expired(item.expiry, self.now_ms) {
                continue;
            }
            let range = item.key.first().copied().map_or(0, usize::from);
            // The order is part of it: the scan ascends.
            ranges[range] = mix(ranges[range] ^ hash(&item.key) ^ mix(item.version));
        }
        Ok(Summary { at: self.at, ranges })
    }
}

/// A state, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The entry at which it was that.
    pub at: Index,
    /// A hash for each range.
    pub ranges: Vec<u64>,
}

impl Summary {
    /// The ranges in which the two differ, by the first byte of their keys.
    pub fn differences(&self, other: &Self) -> Vec<u8> {
        let pairs = self.ranges.iter().zip(&other.ranges).enumerate();
        pairs.filter(|(_, (a, b))| a != b).map(|(range, _)| range as u8).collect()
    }
}

/// FNV-1a (Fowler, Noll, Vo), eight bytes at a step: what is compared comes from the same log, not from an attacker.
fn hash(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ key.len() as u64;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
