//! What the index knows of a key.

/// Where the newest record of a key lies, its version, and when it expires. Of a counter the sum itself.
///
/// There is one for every key in memory, so it is packed: 24 bytes, aligned to four so that an array of
/// them has no holes.
///
/// ```text
/// word  of a record                         of a sum
/// 0     segment                             0, which no segment has for a number
/// 1     offset                              sum, high half
/// 2     compressed (1 bit), length (31)     sum, low half
/// 3     version, low 32 bits
/// 4     version, high 24 bits; expiry, high 8 bits
/// 5     expiry, low 32 bits
/// ```
///
/// # Expiry
/// It is kept as milliseconds since 2020, in 40 bits, of which 0 says that there is none. A time that these
/// cannot tell is moved to the nearest they can: one before 2020, which has long passed, to the first
/// millisecond of that year, and one after [`Slot::EXPIRY_MS_MAX`], in 2054, to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    segment: u32,
    offset: u32,
    length: u32,
    version_low: u32,
    version_high_expiry_high: u32,
    expiry_low: u32,
}

const _: () = assert!(size_of::<Slot>() == 24 && align_of::<Slot>() == 4);

/// The bit of the length word that says the value is compressed.
const COMPRESSED: u32 = 1 << 31;

/// The segment of a slot that is a sum.
const NO_SEGMENT: u32 = 0;

/// Bits of a version: at a million writes a second enough for two thousand years.
const VERSION_BITS: u32 = 56;

/// Bits of an expiry.
const EXPIRY_BITS: u32 = 40;

/// Expiries count from 2020-01-01T00:00:00Z.
const EXPIRY_EPOCH_MS: u64 = 1_577_836_800_000;

impl Slot {
    /// The latest expiry that a slot can tell, in milliseconds since 1970: in November 2054.
    pub const EXPIRY_MS_MAX: u64 = EXPIRY_EPOCH_MS + (1 << EXPIRY_BITS) - 1;

    /// A slot for the record at `offset` of `segment`, whose value as stored is below 2 GiB. It does not
    /// expire.
    pub fn new(segment: u32, offset: u32, value_len: u32, version: u64) -> Self {
        debug_assert!(segment != NO_SEGMENT, "segment numbers begin at 1");
        debug_assert!(value_len < COMPRESSED, "a value of {value_len} bytes");
        Self::unexpiring([segment, offset, value_len & !COMPRESSED], version)
    }

    /// A slot that holds the sum of a counter, which no record has. It does not expire.
    pub fn sum(value: i64, version: u64) -> Self {
        Self::unexpiring([NO_SEGMENT, (value >> 32) as u32, value as u32], version)
    }

    fn unexpiring([segment, offset, length]: [u32; 3], version: u64) -> Self {
        debug_assert!(version < 1 << VERSION_BITS, "version {version}");
        let [version_low, version_high] = [version as u32, (version >> 32) as u32];
        Self {
            segment,
            offset,
            length,
            version_low,
            version_high_expiry_high: version_high << 8,
            expiry_low: 0,
        }
    }

    /// The same, of a value that is stored compressed or is not. A sum never is.
    #[must_use]
    pub fn compressed(self, compressed: bool) -> Self {
        debug_assert!(!(compressed && self.is_sum()), "a sum is not compressed");
        let flag = if compressed { COMPRESSED } else { 0 };
        if self.is_sum() { self } else { Self { length: self.length & !COMPRESSED | flag, ..self } }
    }

    /// The same, expiring at a time in milliseconds since 1970, or never.
    #[must_use]
    pub fn expiring(self, at_ms: Option<u64>) -> Self {
        let stored =
            at_ms.map_or(0, |at| at.clamp(EXPIRY_EPOCH_MS + 1, Self::EXPIRY_MS_MAX) - EXPIRY_EPOCH_MS);
        let version_high_expiry_high = self.version_high_expiry_high & !0xff | (stored >> 32) as u32;
        Self { version_high_expiry_high, expiry_low: stored as u32, ..self }
    }

    /// The segment that holds the record. Of a sum, 0.
    pub fn segment(self) -> u32 {
        self.segment
    }

    /// Where in the segment the record starts, in bytes. Of no meaning for a sum.
    pub fn offset(self) -> u32 {
        debug_assert!(!self.is_sum(), "a sum has no offset");
        self.offset
    }

    /// The length of the value as stored, in bytes. Of no meaning for a sum.
    pub fn value_len(self) -> u32 {
        debug_assert!(!self.is_sum(), "a sum has no length");
        self.length & !COMPRESSED
    }

    /// Whether the value is stored compressed.
    pub fn is_compressed(self) -> bool {
        !self.is_sum() && self.length & COMPRESSED != 0
    }

    /// The version of the key: the index of the log entry that wrote it.
    pub fn version(self) -> u64 {
        u64::from(self.version_high_expiry_high >> 8) << 32 | u64::from(self.version_low)
    }

    /// From when on the key is absent, in milliseconds since 1970, as near as a slot can tell.
    pub fn expiry(self) -> Option<u64> {
        let stored = u64::from(self.version_high_expiry_high & 0xff) << 32 | u64::from(self.expiry_low);
        (stored != 0).then_some(EXPIRY_EPOCH_MS + stored)
    }

    /// Whether the key is absent at `now_ms`, milliseconds since 1970.
    pub fn is_expired(self, now_ms: u64) -> bool {
        self.expiry().is_some_and(|at| at <= now_ms)
    }

    /// The sum, if the slot is that of a counter.
    pub fn as_sum(self) -> Option<i64> {
        let sum = i64::from(self.offset.cast_signed()) << 32 | i64::from(self.length);
        self.is_sum().then_some(sum)
    }

    /// Whether both say the same record, whatever else they say of it. A sum, which has no place, is the
    /// same by its version.
    pub fn same_place(self, other: Self) -> bool {
        let place = |slot: Self| (slot.segment, slot.offset);
        if self.is_sum() {
            return other.is_sum() && self.version() == other.version();
        }
        place(self) == place(other)
    }

    fn is_sum(self) -> bool {
        self.segment == NO_SEGMENT
    }
}
