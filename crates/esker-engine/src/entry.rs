//! What a read returns.

use std::ops::{Deref, Range};

/// The number of the write that put a value: strictly increasing over the store, the same on every replica.
pub type Version = esker_log::Index;

/// A value as read: a window into the buffer its record was read into, so that no byte is copied twice.
#[derive(Debug, Clone)]
pub struct Value {
    buffer: Vec<u8>,
    window: Range<usize>,
}

impl Value {
    /// The value that fills `window` of `buffer`. Panics if the window is not inside the buffer.
    pub fn new(buffer: Vec<u8>, window: Range<usize>) -> Self {
        assert!(window.start <= window.end && window.end <= buffer.len(), "a value lies inside its buffer");
        Self { buffer, window }
    }

    /// The buffer, and where in it the value lies.
    pub fn into_parts(self) -> (Vec<u8>, Range<usize>) {
        (self.buffer, self.window)
    }

    /// The value alone.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.buffer.truncate(self.window.end);
        self.buffer.drain(..self.window.start);
        self.buffer
    }
}

impl From<Vec<u8>> for Value {
    fn from(buffer: Vec<u8>) -> Self {
        let window = 0..buffer.len();
        Self { buffer, window }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.window.clone()]
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
