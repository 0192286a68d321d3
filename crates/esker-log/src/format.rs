//! The bytes of store and segment headers and of frames; `docs/format.md` is the specification.

use crate::{
    GroupId, Index, SegmentId, Term,
    record::{self, array, binding},
};

/// The format version this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Identifies a store: drawn at random when it is created, part of every file.
pub type StoreId = [u8; 16];

const STORE_MAGIC: &[u8; 8] = b"ESKSTORE";
/// Length of the `STORE` file in bytes.
pub const STORE_FILE_LEN: usize = 32;

const SEGMENT_MAGIC: &[u8; 8] = b"ESKERLOG";
/// Where a segment's first frame begins.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// The longest segment: offsets are four bytes.
pub const SEGMENT_LEN_MAX: u64 = u32::MAX as u64;

const FRAME_MAGIC: &[u8; 4] = b"EKF1";
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_LEN: usize = 44;
/// The longest payload, in bytes: a batch limit's worth with room to spare, and a whole frame fits in a segment.
pub const PAYLOAD_LEN_MAX: usize = 2 << 30;

/// The only frame kind of today: a payload of records.
pub(crate) const FRAME_KIND_RECORDS: u8 = 1;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    /// Written by a newer version.
    Newer(u32),
    /// Damaged, with what is wrong.
    Bad(&'static str),
}

/// Encodes the `STORE` file.
pub fn encode_store(id: &StoreId) -> [u8; STORE_FILE_LEN] {
    let mut out = [0; STORE_FILE_LEN];
    out[..8].copy_from_slice(STORE_MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..28].copy_from_slice(id);
    let checksum = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Decodes the `STORE` file.
pub fn decode_store(bytes: &[u8]) -> Result<StoreId, Invalid> {
    if bytes.len() != STORE_FILE_LEN {
        return Err(Invalid::Bad("it is not 32 bytes long"));
    }
    check_head(bytes, STORE_MAGIC, 28)?;
    Ok(array(&bytes[12..28]))
}

/// Checks magic, checksum (at `checksum_at`, over all before it) and version of a header. The version is
/// looked at only once the checksum vouches for it, or where a newer version may have moved the checksum.
pub fn check_head(bytes: &[u8], magic: &[u8; 8], checksum_at: usize) -> Result<(), Invalid> {
    if bytes.len() < checksum_at + 4 {
        return Err(Invalid::Bad("the header is cut off"));
    }
    if &bytes[..8] != magic {
        return Err(Invalid::Bad("wrong magic bytes"));
    }
    let version = u32::from_le_bytes(array(&bytes[8..12]));
    let checksum = u32::from_le_bytes(array(&bytes[checksum_at..checksum_at + 4]));
    if checksum != crc32c::crc32c(&bytes[..checksum_at]) {
        return Err(Invalid::Bad("the header's checksum does not match"));
    }
    if version > FORMAT_VERSION {
        return Err(Invalid::Newer(version));
    }
    if version == 0 { Err(Invalid::Bad("format version 0")) } else { Ok(()) }
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number.
    pub segment: SegmentId,
    /// The store it belongs to.
    pub store: StoreId,
    /// Where the segment before it ended; 0 for the first.
    pub previous_end: u32,
}

impl SegmentHeader {
    /// Encodes the header.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..32].copy_from_slice(&self.store);
        out[32..36].copy_from_slice(&self.previous_end.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Decodes the header.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        check_head(bytes, SEGMENT_MAGIC, 60)?;
        Ok(Self {
            segment: u32::from_le_bytes(array(&bytes[12..16])),
            store: array(&bytes[16..32]),
            previous_end: u32::from_le_bytes(array(&bytes[32..36])),
        })
    }
}

/// The salt of a segment's bindings; see `docs/format.md`.
pub fn salt(store: &StoreId, segment: SegmentId) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), store)
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub payload_len: u32,
    /// Records in the payload.
    pub records: u32,
    /// The frame's number in its group.
    pub index: Index,
    /// The Raft term.
    pub term: Term,
    /// The group.
    pub group: GroupId,
    /// How many bytes of the segment were known to be durable when the frame was written.
    pub durable: u32,
}

impl FrameHeader {
    /// The whole frame's length in bytes.
    pub fn frame_len(&self) -> u64 {
        FRAME_HEADER_LEN as u64 + u64::from(self.payload_len)
    }

    fn encode_unchecked(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        out[..4].copy_from_slice(FRAME_MAGIC);
        out[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..24].copy_from_slice(&self.index.to_le_bytes());
        out[24..32].copy_from_slice(&self.term.to_le_bytes());
        out[32..36].copy_from_slice(&self.group.to_le_bytes());
        out[36] = FRAME_KIND_RECORDS;
        out[40..44].copy_from_slice(&self.durable.to_le_bytes());
        out
    }

    /// Decodes a header without its checksum, which needs the payload: see [`verify_frame`].
    pub fn decode(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<Self, &'static str> {
        if &bytes[..4] != FRAME_MAGIC {
            return Err("no frame begins here");
        }
        let header = Self {
            payload_len: u32::from_le_bytes(array(&bytes[8..12])),
            records: u32::from_le_bytes(array(&bytes[12..16])),
            index: u64::from_le_bytes(array(&bytes[16..24])),
            term: u64::from_le_bytes(array(&bytes[24..32])),
            group: u32::from_le_bytes(array(&bytes[32..36])),
            durable: u32::from_le_bytes(array(&bytes[40..44])),
        };
        if bytes[36] != FRAME_KIND_RECORDS || bytes[37..40] != [0; 3] {
            return Err("unknown frame kind or flags");
        }
        if header.payload_len as usize > PAYLOAD_LEN_MAX {
            return Err("impossible frame length");
        }
        Ok(header)
    }
}

/// Whether `bytes` may begin with a frame: its magic is there.
pub(crate) fn starts_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(FRAME_MAGIC)
}

/// Binds the records of `payload` to their place and gives the frame's finished header.
///
/// `offset` is where the frame will begin in the segment with `salt`. The payload must be a row of whole records
/// with unbound checksums, as [`record::encode_record`] writes them.
pub fn seal_frame(
    header: &FrameHeader,
    payload: &mut [u8],
    salt: u32,
    offset: u32,
) -> [u8; FRAME_HEADER_LEN] {
    let mut out = header.encode_unchecked();
    let mut checksum = crc32c::crc32c(&out[8..]);
    let mut at = 0;
    while at < payload.len() {
        let len = stored_record_len(&payload[at..]);
        let place = offset + (FRAME_HEADER_LEN + at) as u32;
        let bound = u32::from_le_bytes(array(&payload[at..at + 4])) ^ binding(salt, place, header.index);
        payload[at..at + 4].copy_from_slice(&bound.to_le_bytes());
        checksum = crc32c::crc32c_append(checksum, &bound.to_le_bytes());
        at += len;
    }
    debug_assert_eq!(at, payload.len(), "a payload is a row of whole records");
    out[4..8].copy_from_slice(&(checksum ^ binding(salt, offset, header.index)).to_le_bytes());
    out
}

fn stored_record_len(record: &[u8]) -> usize {
    let key_len = u16::from_le_bytes(array(&record[6..8]));
    let value_len = u32::from_le_bytes(array(&record[8..12]));
    record::record_len(usize::from(key_len), value_len as usize)
}

/// Checks a whole frame read from `offset` of the segment with `salt`: the frame's checksum and every record's.
pub fn verify_frame(frame: &[u8], salt: u32, offset: u32) -> Result<FrameHeader, &'static str> {
    let head: &[u8; FRAME_HEADER_LEN] = frame.first_chunk().ok_or("the frame's header is cut off")?;
    let header = FrameHeader::decode(head)?;
    let payload = frame.get(FRAME_HEADER_LEN..header.frame_len() as usize).ok_or("the frame is cut off")?;
    let mut checksum = crc32c::crc32c(&head[8..]);
    let mut records = 0;
    let mut at = 0;
    while at < payload.len() {
        let (_, record) = record::decode_record(&payload[at..])?;
        checksum = crc32c::crc32c_append(checksum, &payload[at..at + 4]);
        at += record.record_len();
        records += 1;
    }
    let stored = u32::from_le_bytes(array(&head[4..8]));
    if checksum ^ binding(salt, offset, header.index) != stored {
        return Err("the frame's checksum does not match");
    }
    if records != header.records {
        return Err("the frame has another number of records than it says");
    }
    verify_records(payload, salt, offset + FRAME_HEADER_LEN as u32, header.index)?;
    Ok(header)
}

fn verify_records(payload: &[u8], salt: u32, payload_offset: u32, index: Index) -> Result<(), &'static str> {
    let mut at = 0;
    while at < payload.len() {
        let len = stored_record_len(&payload[at..]);
        let bound = binding(salt, payload_offset + at as u32, index);
        if !record::checksum_matches(&payload[at..at + len], bound) {
            return Err("a record's checksum does not match");
        }
        at += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordKind, encode_record};

    fn frame(salt: u32, offset: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_record(&mut payload, RecordKind::Put, b"a", b"first").unwrap();
        encode_record(&mut payload, RecordKind::Delete, b"bb", b"").unwrap();
        let header = FrameHeader {
            payload_len: payload.len() as u32,
            records: 2,
            index: 9,
            term: 3,
            group: 1,
            durable: 64,
        };
        let head = seal_frame(&header, &mut payload, salt, offset);
        [head.as_slice(), &payload].concat()
    }

    #[test]
    fn a_sealed_frame_verifies_only_where_it_lies() {
        let bytes = frame(5, 64);
        let header = verify_frame(&bytes, 5, 64).unwrap();
        assert_eq!((header.index, header.term, header.group, header.records), (9, 3, 1, 2));
        assert!(verify_frame(&bytes, 6, 64).is_err(), "another segment");
        assert!(verify_frame(&bytes, 5, 65).is_err(), "another offset");
    }

    #[test]
    fn every_bit_flip_and_truncation_is_seen() {
        let good = frame(5, 64);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_frame(&bad, 5, 64).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(verify_frame(&good[..len], 5, 64).is_err(), "length {len}");
        }
    }

    #[test]
    fn headers_round_trip_and_tell_newer_from_damaged() {
        let header = SegmentHeader { segment: 7, store: [3; 16], previous_end: 99 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let checksum = crc32c::crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(Invalid::Newer(2)));
        assert_eq!(decode_store(&encode_store(&[8; 16])), Ok([8; 16]));
    }
}
