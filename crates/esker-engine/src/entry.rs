//! What a read returns.

use std::ops::Deref;

use bytes::{Buf as _, Bytes};

use crate::bitcask::cache::Kept;

/// The number of the write that put a value: strictly increasing over the store, the same on every replica.
pub type Version = esker_log::Index;

/// A value as read: the buffer its record was read into, a part of one, or the cache's, so that no byte is copied twice.
///
/// A scan reads neighbours together, up to 128 KiB, and a value of it may hold what was read with it, if most of that came from the
/// scan as well: who keeps few of many for long makes them vectors.
#[derive(Debug, Clone)]
pub struct Value(Held);

#[derive(Debug, Clone)]
enum Held {
    /// What follows the first bytes of a buffer.
    Read {
        buffer: Vec<u8>,
        skipped: usize,
    },
    Kept(Kept),
    /// Of what was read together with its neighbours.
    Part(Bytes),
}

impl Value {
    /// What follows the first `skipped` bytes of `buffer`. Panics if there are not so many.
    pub(crate) fn behind(buffer: Vec<u8>, skipped: usize) -> Self {
        assert!(skipped <= buffer.len(), "a value lies inside its buffer");
        Self(Held::Read { buffer, skipped })
    }

    /// What the cache keeps.
    pub(crate) fn kept(kept: Kept) -> Self {
        Self(Held::Kept(kept))
    }

    /// The bytes, without copying them.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Held::Read { buffer, skipped } => {
                let mut bytes = Bytes::from(buffer);
                bytes.advance(skipped);
                bytes
            }
            Held::Kept(_) => Bytes::from_owner(self),
            Held::Part(bytes) => bytes,
        }
    }

    /// The value as a vector of its own.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Held::Read { mut buffer, skipped } => {
                buffer.drain(..skipped);
                buffer
            }
            Held::Kept(kept) => kept.slice.to_vec(),
            Held::Part(bytes) => bytes.to_vec(),
        }
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self(Held::Part(bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::behind(bytes, 0)
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Read { buffer, skipped } => &buffer[*skipped..],
            Held::Kept(kept) => &kept.slice,
            Held::Part(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

/// A key's present value and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// The write that put it.
    pub version: Version,
    /// From when on the key is absent, in milliseconds since 1970; `None`: it stays.
    pub expiry: Option<u64>,
}

/// What is known of a key without reading its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The write that put the present value.
    pub version: Version,
    /// The value's length in bytes; `None` where only reading it tells, for it is compressed.
    pub value_len: Option<u64>,
    /// From when on the key is absent, in milliseconds since 1970; `None`: it stays.
    pub expiry: Option<u64>,
}

/// One step of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` in a keys-only scan.
    pub value: Option<Value>,
    /// The write that put it.
    pub version: Version,
    /// From when on the key is absent, in milliseconds since 1970; `None`: it stays.
    pub expiry: Option<u64>,
}

impl Item {
    /// About how many bytes of memory it takes: small values take far more than they have.
    pub fn memory(&self) -> usize {
        /// What an allocation takes beyond what was asked for.
        const ALLOCATION: usize = 16;
        let value = self.value.as_ref().map_or(0, |value| value.len() + ALLOCATION);
        size_of::<Self>() + self.key.len() + ALLOCATION + value
    }
}

/// A value as it is stored, on its way to another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// The key.
    pub key: Vec<u8>,
    /// The write that put it.
    pub version: Version,
    /// From when on the key is absent, in milliseconds since 1970, as near as the index can tell; `None`: it stays.
    pub expiry: Option<u64>,
    /// The record's flags: what `stored` begins with ([`esker_log::record::flags`]).
    pub flags: u8,
    /// The value as stored; empty in a keys-only scan.
    pub stored: Value,
}
