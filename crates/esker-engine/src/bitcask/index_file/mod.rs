//! Index files: hints and checkpoints. `docs/format.md` has the byte tables.
//!
//! An index file is a sorted table of keys, each with the place of its newest record in one stretch of one segment, or a
//! tombstone, and the ranges that were deleted. It is written whole from sorted entries and read block by block, from any key on.
//!
//! ```text
//! mod.rs     what both sides speak of: stretches, names, places
//! writer.rs  from sorted entries to bytes
//! reader.rs  from bytes to entries, any damage an error
//! varint.rs  small numbers in few bytes
//! ```

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use esker_log::{
    GroupEnd, GroupId, SegmentId, is_merged,
    record::binding,
    segment::{parse_segment_name, segment_name},
};

use super::keydir::Slot;
use crate::Version;

pub(crate) use self::{
    reader::{IndexCursor, IndexFile},
    writer::IndexWriter,
};

const MAGIC: &[u8; 8] = b"ESKINDEX";
/// Older index files are made anew.
const VERSION: u32 = 2;
const HEADER_LEN: usize = 96;
const HEADER_CHECKSUM: usize = 92;
const BLOCK_HEADER_LEN: usize = 12;

/// Which stretch of the log an index file covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) segment: SegmentId,
    pub(crate) group: GroupId,
    /// The first byte covered.
    pub(crate) from: u32,
    /// The first byte not covered.
    pub(crate) to: u32,
    /// The last frame in the stretch.
    pub(crate) last: GroupEnd,
}

/// An index file's name.
pub(crate) enum IndexName {
    /// Covers a whole sealed segment.
    Hint(SegmentId),
    /// Covers a part of the active segment, from a byte on.
    Checkpoint(SegmentId, u32),
}

impl IndexName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let number = |digits: &str| {
            let valid = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
            if valid { digits.parse().ok() } else { None }
        };
        if let Some(segment) = name.strip_suffix(".hint") {
            // Of a merged segment, its whole name comes before.
            let named = segment.ends_with(".merged").then(|| parse_segment_name(segment)).flatten();
            return named.or_else(|| number(segment)).map(Self::Hint);
        }
        let (segment, from) = name.strip_suffix(".ckpt")?.split_once('-')?;
        Some(Self::Checkpoint(number(segment)?, number(from)?))
    }

    /// The first byte that the file covers, as far as the name says; 0 for a hint.
    pub(crate) fn from(&self) -> u32 {
        match self {
            Self::Hint(_) => 0,
            Self::Checkpoint(_, from) => *from,
        }
    }

    /// The segment that the file is of.
    pub(crate) fn segment(&self) -> SegmentId {
        match self {
            Self::Hint(segment) | Self::Checkpoint(segment, _) => *segment,
        }
    }
}

impl std::fmt::Display for IndexName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Hint(segment) if is_merged(segment) => write!(f, "{}.hint", segment_name(segment)),
            Self::Hint(segment) => write!(f, "{segment:010}.hint"),
            Self::Checkpoint(segment, from) => write!(f, "{segment:010}-{from:010}.ckpt"),
        }
    }
}

/// What an index file says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The version of what happened to it last.
    pub(crate) version: Version,
    /// Where its record lies, or the sum of its adds; `None`: it was deleted.
    pub(crate) slot: Option<Slot>,
}

impl Place {
    pub(crate) fn of(slot: Slot) -> Self {
        Self { version: slot.version(), slot: Some(slot) }
    }

    pub(crate) fn tombstone(version: Version) -> Self {
        Self { version, slot: None }
    }
}

/// What an entry's tag says. On disk: never reuse one.
mod tag {
    pub(super) const TOMBSTONE: u64 = 0;
    pub(super) const PUT: u64 = 1;
    pub(super) const SUM: u64 = 2;
    pub(super) const KIND: u64 = 0b11;
    pub(super) const EXPIRES: u64 = 1 << 2;
    pub(super) const COMPRESSED: u64 = 1 << 3;
    /// A put's length begins at this bit.
    pub(super) const LENGTH_SHIFT: u32 = 4;
}

fn block_binding(salt: u32, offset: u64) -> u32 {
    binding(salt, offset as u32, offset >> 32)
}
