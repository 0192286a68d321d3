//! What the index knows of a key.

/// Where the newest record of a key lies, and its version.
///
/// There is one for every key in memory, so it is packed: twenty bytes, and aligned to four so that
/// an array of them has no holes. That is why the version is kept in halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    segment: u32,
    offset: u32,
    value_len: u32,
    version_high: u32,
    version_low: u32,
}

const _: () = assert!(size_of::<Slot>() == 20 && align_of::<Slot>() == 4);

impl Slot {
    /// A slot for the record at `offset` of `segment`.
    pub fn new(segment: u32, offset: u32, value_len: u32, version: u64) -> Self {
        let [version_high, version_low] = [(version >> 32) as u32, version as u32];
        Self { segment, offset, value_len, version_high, version_low }
    }

    /// The segment that holds the record.
    pub fn segment(self) -> u32 {
        self.segment
    }

    /// Where in the segment the record starts, in bytes.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// The length of the value as stored, in bytes.
    pub fn value_len(self) -> u32 {
        self.value_len
    }

    /// The version of the key: the index of the log entry that wrote it.
    pub fn version(self) -> u64 {
        u64::from(self.version_high) << 32 | u64::from(self.version_low)
    }
}
