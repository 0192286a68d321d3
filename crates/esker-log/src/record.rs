//! Records: one put or delete each, the unit that a point read fetches and verifies.
//!
//! A frame's payload is a row of records. A front encodes them once (with `esker_engine::WriteBatch`); the same
//! bytes are appended, replicated, recovered and read. `docs/format.md` has the byte table.
//!
//! A record's checksum covers its header, key and value. When a frame is appended the log *binds* the checksum to
//! the place by XOR with [`binding`], a hash of segment, offset and index. So a record that is intact but
//! lies where another should (a misdirected or stale block) fails its check, and binding costs no second pass
//! over the value, because XOR undoes itself when bytes leave for another node's log.

use crate::{Error, Index, Result, format::PLACED_VERSION_LEN};

/// Bytes before a record's key: checksum, kind, flags, key length, value length.
pub const RECORD_HEADER_LEN: usize = 12;
/// The longest key, in bytes. The shortest has one byte.
pub const KEY_LEN_MAX: usize = 65_535;
/// The longest value a record can carry, in bytes: what the frame's length field leaves room for.
/// Stores set a lower limit (`max_value_bytes`).
pub const VALUE_LEN_MAX: usize = 1 << 30;

const CHECKSUM: std::ops::Range<usize> = 0..4;
const KIND: usize = 4;
const FLAGS: usize = 5;
const KEY_LEN: std::ops::Range<usize> = 6..8;
const VALUE_LEN: std::ops::Range<usize> = 8..12;

/// What a record does. The values are on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// The key has this value from now on.
    Put = 1,
    /// The key is absent from now on. The value is empty.
    Delete = 2,
    /// The key is the id of the request that the records behind it belong to: of the batches with one id, only the
    /// first has an effect. Comes first or not at all; the value is empty.
    Request = 3,
    /// The integer that the key holds grows by this much: the value is eight bytes, signed, little-endian.
    Add = 4,
    /// All keys from this one to the end that the value says are absent from now on.
    DeleteRange = 5,
    /// The batch is void unless this holds of the key. The value says what.
    Condition = 6,
    /// The key is the proposer's time: eight bytes, big-endian, milliseconds since 1970. The value is empty.
    Stamp = 7,
}

/// Flags of a put: what comes before the value in what is stored. The bits are on disk.
pub mod flags {
    /// The time from which on the key is absent: eight bytes, little-endian, milliseconds since 1970.
    pub const EXPIRES: u8 = 1;
    /// How the value is compressed: two bits. If it is, its length before comes first, four bytes, little-endian, but
    /// behind the time.
    pub const COMPRESSION: u8 = 0b110;
    /// How far [`COMPRESSION`] is from the lowest bit.
    pub const COMPRESSION_SHIFT: u32 = 1;
    /// All that a put may carry.
    pub const PUT: u8 = EXPIRES | COMPRESSION;
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            3 => Some(Self::Request),
            4 => Some(Self::Add),
            5 => Some(Self::DeleteRange),
            6 => Some(Self::Condition),
            7 => Some(Self::Stamp),
            _ => None,
        }
    }

    /// The flags that a record of this kind may carry.
    fn allowed_flags(self) -> u8 {
        if self == Self::Put { flags::PUT } else { 0 }
    }

    /// The longest value that a record of this kind may have.
    fn value_len_max(self) -> usize {
        match self {
            Self::Put => VALUE_LEN_MAX,
            Self::Delete | Self::Request | Self::Stamp => 0,
            Self::Add => 8,
            Self::DeleteRange => 1 + KEY_LEN_MAX,
            Self::Condition => 9,
        }
    }
}

/// A decoded record that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it does.
    pub kind: RecordKind,
    /// See [`flags`]; 0 but for puts.
    pub flags: u8,
    /// The key, 1 to 65,535 bytes.
    pub key: &'a [u8],
    /// The value as stored; empty for a delete.
    pub value: &'a [u8],
}

/// How many bytes a record takes.
pub const fn record_len(key_len: usize, value_len: usize) -> usize {
    RECORD_HEADER_LEN + key_len + value_len
}

/// Appends a record without flags, with its unbound checksum, to `buf`.
///
/// Errors: [`Error::InvalidRequest`] for an empty or over-long key or an over-long value; `buf` is untouched.
pub fn encode_record(buf: &mut Vec<u8>, kind: RecordKind, key: &[u8], value: &[u8]) -> Result<()> {
    encode_record_of(buf, kind, 0, key, &[value])
}

/// Appends a record, with its unbound checksum, to `buf`. The value as stored comes in pieces.
///
/// Errors: as for [`encode_record`]; `InvalidRequest` too for flags that the kind does not have.
pub fn encode_record_of(
    buf: &mut Vec<u8>,
    kind: RecordKind,
    flags: u8,
    key: &[u8],
    value: &[&[u8]],
) -> Result<()> {
    let value_len = value.iter().map(|piece| piece.len()).sum();
    check_lengths(kind, key.len(), value_len)?;
    if flags & !kind.allowed_flags() != 0 {
        return Err(Error::InvalidRequest(format!("a record of kind {kind:?} with flags {flags:#x}")));
    }
    let start = buf.len();
    buf.reserve(record_len(key.len(), value_len));
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&[kind as u8, flags]);
    buf.extend_from_slice(&(key.len() as u16).to_le_bytes());
    buf.extend_from_slice(&(value_len as u32).to_le_bytes());
    buf.extend_from_slice(key);
    value.iter().for_each(|piece| buf.extend_from_slice(piece));
    let checksum = crc32c::crc32c(&buf[start + 4..]);
    buf[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

fn check_lengths(kind: RecordKind, key_len: usize, value_len: usize) -> Result<()> {
    if key_len == 0 || key_len > KEY_LEN_MAX {
        return Err(Error::InvalidRequest(format!("a key has 1 to {KEY_LEN_MAX} bytes, this one {key_len}")));
    }
    let most = kind.value_len_max();
    if value_len > most {
        return Err(Error::InvalidRequest(format!("a value has at most {most} bytes, this one {value_len}")));
    }
    Ok(())
}

/// The fixed part of a record, read before its length is trusted.
#[derive(Debug, Clone, Copy)]
pub struct RecordHeader {
    /// The checksum as stored (bound, if read from a log).
    pub checksum: u32,
    /// What the record does.
    pub kind: RecordKind,
    /// See [`flags`].
    pub flags: u8,
    /// The key's length, at least 1.
    pub key_len: usize,
    /// The value's length.
    pub value_len: usize,
}

impl RecordHeader {
    /// Decodes the first [`RECORD_HEADER_LEN`] bytes of `bytes`, or says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let header = bytes.get(..RECORD_HEADER_LEN).ok_or("the record's header is cut off")?;
        let kind = RecordKind::from_byte(header[KIND]).ok_or("unknown record kind")?;
        let flags = header[FLAGS];
        if flags & !kind.allowed_flags() != 0 {
            return Err("unknown record flags");
        }
        let key_len = usize::from(u16::from_le_bytes(array(&header[KEY_LEN])));
        let value_len = u32::from_le_bytes(array(&header[VALUE_LEN])) as usize;
        if key_len == 0 {
            return Err("a record without a key");
        }
        if value_len > kind.value_len_max() {
            return Err("impossible value length");
        }
        Ok(Self { checksum: u32::from_le_bytes(array(&header[CHECKSUM])), kind, flags, key_len, value_len })
    }

    /// The whole record's length in bytes.
    pub fn record_len(&self) -> usize {
        record_len(self.key_len, self.value_len)
    }
}

/// Decodes the record at the start of `bytes` without checking its checksum; says also how long it is.
pub fn decode_record(bytes: &[u8]) -> Result<(Record<'_>, RecordHeader), &'static str> {
    let header = RecordHeader::decode(bytes)?;
    let body = bytes.get(RECORD_HEADER_LEN..header.record_len()).ok_or("the record is cut off")?;
    let (key, value) = body.split_at(header.key_len);
    Ok((Record { kind: header.kind, flags: header.flags, key, value }, header))
}

/// Whether the record that fills `bytes` matches its checksum, given the `binding` of where it lies
/// (0 for a record that is not yet in a log).
pub fn checksum_matches(bytes: &[u8], binding: u32) -> bool {
    bytes.len() >= RECORD_HEADER_LEN
        && u32::from_le_bytes(array(&bytes[CHECKSUM])) ^ binding == crc32c::crc32c(&bytes[4..])
}

/// The mark of a place: what a record's checksum is XORed with when it is appended at `offset` of the segment
/// with `salt`, in the frame with `index`.
pub fn binding(salt: u32, offset: u32, index: Index) -> u32 {
    // The finalizer of splitmix64 (Steele, Lea, Flood 2014): neighbouring places get unrelated marks.
    let mut z = (u64::from(salt) << 32 | u64::from(offset)) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u32
}

/// The records of a payload, in order. Stops after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Walks `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }
}

impl<'a> Iterator for Records<'a> {
    /// Where in the payload the record begins, and the record.
    type Item = Result<(usize, Record<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.payload.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        match decode_record(rest) {
            Ok((record, header)) => {
                self.at += header.record_len();
                Some(Ok((start, record)))
            }
            Err(why) => {
                self.at = self.payload.len();
                Some(Err(why))
            }
        }
    }
}

/// The records of a placed frame's payload, each with its version. Stops after the first error.
#[derive(Debug, Clone)]
pub struct PlacedRecords<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> PlacedRecords<'a> {
    /// Walks `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    fn step(&self, start: usize) -> Result<(Index, Record<'a>, usize), &'static str> {
        let version = self.payload.get(self.at..start).ok_or("a version is cut off")?;
        let (record, header) = decode_record(&self.payload[start..])?;
        Ok((u64::from_le_bytes(array(version)), record, header.record_len()))
    }
}

impl<'a> Iterator for PlacedRecords<'a> {
    /// Where in the payload the record begins, its version, and the record.
    type Item = Result<(usize, Index, Record<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let start = self.at + PLACED_VERSION_LEN;
        Some(match self.step(start) {
            Ok((version, record, len)) => {
                self.at = start + len;
                Ok((start, version, record))
            }
            Err(why) => {
                self.at = self.payload.len();
                Err(why)
            }
        })
    }
}

/// Appends a placed record, with its unbound checksum, to `buf`. Errors as for [`encode_record_of`]; `buf` is untouched.
pub fn encode_placed(
    buf: &mut Vec<u8>,
    version: Index,
    kind: RecordKind,
    flags: u8,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let start = buf.len();
    buf.extend_from_slice(&version.to_le_bytes());
    encode_record_of(buf, kind, flags, key, &[value]).inspect_err(|_| buf.truncate(start))
}

pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller sliced exactly N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(kind: RecordKind, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut buf = Vec::new();
        encode_record(&mut buf, kind, key, value).unwrap();
        buf
    }

    #[test]
    fn round_trip() {
        let mut payload = encoded(RecordKind::Put, b"k", b"value");
        payload.extend(encoded(RecordKind::Delete, &[0xff; KEY_LEN_MAX], b""));
        let records: Vec<_> = Records::new(&payload).map(Result::unwrap).collect();
        assert_eq!(records[0], (0, Record { kind: RecordKind::Put, flags: 0, key: b"k", value: b"value" }));
        assert_eq!(records[1].0, record_len(1, 5));
        assert_eq!(records[1].1.key.len(), KEY_LEN_MAX);
    }

    #[test]
    fn every_bit_flip_is_seen() {
        let good = encoded(RecordKind::Put, b"key", b"value");
        assert!(checksum_matches(&good, 0));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!checksum_matches(&bad, 0), "bit {bit}");
        }
    }

    /// CHECKS 9: an intact record in the wrong place is not taken for the right one.
    #[test]
    fn the_place_is_part_of_the_checksum() {
        let mut record = encoded(RecordKind::Put, b"key", b"value");
        let here = binding(7, 4096, 12);
        let bound = u32::from_le_bytes(array(&record[..4])) ^ here;
        record[..4].copy_from_slice(&bound.to_le_bytes());
        assert!(checksum_matches(&record, here));
        for elsewhere in [binding(8, 4096, 12), binding(7, 4097, 12), binding(7, 4096, 13), 0] {
            assert!(!checksum_matches(&record, elsewhere));
        }
    }

    #[test]
    fn flags_and_values_are_of_their_kind() {
        let mut buf = Vec::new();
        let mut encode = |kind, flags, value: &[u8]| encode_record_of(&mut buf, kind, flags, b"k", &[value]);
        assert!(encode(RecordKind::Put, flags::EXPIRES, &[0; 9]).is_ok());
        assert!(encode(RecordKind::Put, 8, b"v").is_err());
        assert!(encode(RecordKind::Delete, flags::EXPIRES, b"").is_err());
        assert!(encode(RecordKind::Delete, 0, b"v").is_err());
        assert!(encode(RecordKind::Add, 0, &[0; 9]).is_err());
        let (record, _) = decode_record(&buf).unwrap();
        assert_eq!((record.flags, record.value.len()), (flags::EXPIRES, 9));
        buf[5] = 8;
        assert_eq!(decode_record(&buf).unwrap_err(), "unknown record flags");
    }

    #[test]
    fn refuses_bad_keys() {
        let mut buf = Vec::new();
        assert!(encode_record(&mut buf, RecordKind::Put, b"", b"v").is_err());
        assert!(encode_record(&mut buf, RecordKind::Put, &[0; KEY_LEN_MAX + 1], b"v").is_err());
        assert!(buf.is_empty());
    }
}
