//! Index files: hints and checkpoints. `docs/format.md` has the byte tables.
//!
//! An index file is a sorted table of keys, each with the place of its newest record in one stretch of one segment, or a
//! tombstone. It is written whole from sorted entries and read block by block, from any key on.
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
mod varint;
mod writer;

use esker_log::{GroupEnd, GroupId, SegmentId, record::binding};

pub(crate) use self::{
    reader::{IndexCursor, IndexFile},
    writer::IndexWriter,
};

const MAGIC: &[u8; 8] = b"ESKINDEX";
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
        if let Some(stem) = name.strip_suffix(".hint") {
            return number(stem).map(Self::Hint);
        }
        let (segment, from) = name.strip_suffix(".ckpt")?.split_once('-')?;
        Some(Self::Checkpoint(number(segment)?, number(from)?))
    }
}

impl std::fmt::Display for IndexName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hint(segment) => write!(f, "{segment:010}.hint"),
            Self::Checkpoint(segment, from) => write!(f, "{segment:010}-{from:010}.ckpt"),
        }
    }
}

/// What an index file says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the record begins.
    pub(crate) offset: u32,
    /// The value's length; `None` for a tombstone.
    pub(crate) value_len: Option<u32>,
    /// The record's version.
    pub(crate) version: u64,
}

fn block_binding(salt: u32, offset: u64) -> u32 {
    binding(salt, offset as u32, offset >> 32)
}
