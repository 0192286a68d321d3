//! What a batch asks for, however it came.

use std::borrow::Cow;

use crate::Ttl;

/// What a condition demands of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// That it is absent.
    Absent,
    /// That it is present.
    Present,
    /// That its value was put by this version.
    Version(u64),
}

/// A decoded operation, or a condition on all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets the key to the value.
    Put {
        /// The key.
        key: Cow<'a, [u8]>,
        /// The value.
        value: Cow<'a, [u8]>,
        /// When it expires; `None`: it stays.
        expiry: Option<Expiry>,
    },
    /// Removes the key.
    Delete {
        /// The key.
        key: Cow<'a, [u8]>,
    },
    /// Adds to the integer that the key holds, 0 if it is absent.
    Incr {
        /// The key.
        key: Cow<'a, [u8]>,
        /// What is added.
        by: i64,
    },
    /// Removes all keys of a range.
    DeleteRange(Range<'a>),
    /// A condition: looked at before all operations, wherever it is written.
    Require {
        /// The key.
        key: Cow<'a, [u8]>,
        /// What must hold of it.
        demand: Demand,
    },
}

/// When a put expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So long after it is taken on.
    After(Ttl),
    /// Then, in milliseconds since 1970.
    At(u64),
}

impl Expiry {
    /// In milliseconds since 1970, of a put that is taken on at `now_ms`.
    pub const fn at(self, now_ms: u64) -> u64 {
        match self {
            Self::After(ttl) => ttl.after(now_ms),
            Self::At(expires_at) => expires_at,
        }
    }
}

/// A range of keys to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range<'a> {
    /// All that begin so.
    Prefix(Cow<'a, [u8]>),
    /// From a key to a key, both of them in the range.
    Between(Cow<'a, [u8]>, Cow<'a, [u8]>),
}

impl Operation<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } | Self::Incr { key, .. } | Self::Require { key, .. } => key.len(),
            Self::DeleteRange(Range::Prefix(prefix)) => prefix.len(),
            Self::DeleteRange(Range::Between(start, end)) => start.len() + end.len(),
        }
    }
}
