//! The bytes of store and segment headers and of frames; `docs/format.md` is the specification.

use crate::{
    GroupId, Index, SegmentId, Term,
    record::{self, array, binding},
};

/// The format version this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 3;

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

/// What a frame holds, and what its index and term mean. The values are on disk: never reuse one.
///
/// *Entries* number a group's history: each has the index behind the last one's. The others stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum FrameKind {
    /// An entry: a row of records.
    #[default]
    Records = 1,
    /// An entry without content: a new Raft leader's first.
    Blank = 2,
    /// An entry that holds the group's membership, in the consensus module's encoding.
    Membership = 3,
    /// Whom this node voted for, in the consensus module's encoding. Index and term are 0.
    Vote = 4,
    /// Everything up to and including this index is committed. No payload.
    Commit = 5,
    /// The entries behind this index, which has this term, are void. No payload.
    Truncate = 6,
    /// Values of a snapshot, or what lived of merged segments: records, each behind the version (8 bytes) it is bound to. The
    /// index is the number of the installation, in a merged segment 0; the term is 0.
    Placed = 7,
    /// A snapshot was put in place of all before: the group's next entry follows this index and term. No payload.
    Base = 8,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Records,
            2 => Self::Blank,
            3 => Self::Membership,
            4 => Self::Vote,
            5 => Self::Commit,
            6 => Self::Truncate,
            7 => Self::Placed,
            8 => Self::Base,
            _ => return None,
        })
    }

    /// Whether the frame is part of its group's numbered history.
    pub fn is_entry(self) -> bool {
        matches!(self, Self::Records | Self::Blank | Self::Membership)
    }

    /// How its payload is laid out.
    fn layout(self) -> Layout {
        match self {
            Self::Records => Layout::Records,
            Self::Placed => Layout::Placed,
            _ => Layout::Opaque,
        }
    }
}

/// How a payload is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Records, bound to the frame's index.
    Records,
    /// Each a version and a record bound to it.
    Placed,
    /// Bytes that mean nothing to the log.
    Opaque,
}

/// Bytes before each record of a [`FrameKind::Placed`] frame: its version.
pub const PLACED_VERSION_LEN: usize = 8;

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

/// Decodes the `STORE` file; gives also the newest format version that has written to the store.
pub fn decode_store(bytes: &[u8]) -> Result<(StoreId, u32), Invalid> {
    if bytes.len() != STORE_FILE_LEN {
        return Err(Invalid::Bad("it is not 32 bytes long"));
    }
    let version = check_head(bytes, STORE_MAGIC, 28)?;
    Ok((array(&bytes[12..28]), version))
}

/// Checks magic, checksum (at `checksum_at`, over all before it) and version of a header. The version is
/// looked at only once the checksum vouches for it, or where a newer version may have moved the checksum. Gives the
/// version, which is this build's or an older one.
pub fn check_head(bytes: &[u8], magic: &[u8; 8], checksum_at: usize) -> Result<u32, Invalid> {
    if checksum_at < 12 || bytes.len() < checksum_at + 4 {
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
    if version == 0 { Err(Invalid::Bad("format version 0")) } else { Ok(version) }
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number.
    pub segment: SegmentId,
    /// The store it belongs to.
    pub store: StoreId,
    /// Where the segment before it ended; 0 for the first, and for a merged one.
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
    /// What it holds.
    pub kind: FrameKind,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Records in the payload.
    pub records: u32,
    /// The frame's number in its group; see [`FrameKind`].
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
        out[36] = self.kind as u8;
        out[40..44].copy_from_slice(&self.durable.to_le_bytes());
        out
    }

    /// Decodes a header without its checksum, which needs the payload: see [`verify_frame`].
    pub fn decode(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<Self, &'static str> {
        if &bytes[..4] != FRAME_MAGIC {
            return Err("no frame begins here");
        }
        let kind = FrameKind::from_byte(bytes[36]).filter(|_| bytes[37..40] == [0; 3]);
        let header = Self {
            kind: kind.ok_or("unknown frame kind or flags")?,
            payload_len: u32::from_le_bytes(array(&bytes[8..12])),
            records: u32::from_le_bytes(array(&bytes[12..16])),
            index: u64::from_le_bytes(array(&bytes[16..24])),
            term: u64::from_le_bytes(array(&bytes[24..32])),
            group: u32::from_le_bytes(array(&bytes[32..36])),
            durable: u32::from_le_bytes(array(&bytes[40..44])),
        };
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

/// Binds the records of `payload`, if it has any, to their place and gives the frame's finished header.
///
/// `offset` is where the frame will begin in the segment with `salt`. Records come with unbound checksums, as
/// [`record::encode_record`] writes them.
pub fn seal_frame(
    header: &FrameHeader,
    payload: &mut [u8],
    salt: u32,
    offset: u32,
) -> [u8; FRAME_HEADER_LEN] {
    let mut out = header.encode_unchecked();
    let mut checksum = crc32c::crc32c(&out[8..]);
    match header.kind.layout() {
        Layout::Opaque => checksum = crc32c::crc32c_append(checksum, payload),
        layout => {
            let mut at = 0;
            while at < payload.len() {
                let (index, start) = bound_to(layout, header.index, payload, at);
                checksum = crc32c::crc32c_append(checksum, &payload[at..start]);
                bind(payload, start, binding(salt, place(offset, start), index));
                checksum = crc32c::crc32c_append(checksum, &payload[start..start + 4]);
                at = start + stored_record_len(&payload[start..]);
            }
            debug_assert_eq!(at, payload.len(), "a payload is a row of whole records");
        }
    }
    out[4..8].copy_from_slice(&(checksum ^ binding(salt, offset, header.index)).to_le_bytes());
    out
}

/// Takes a verified payload's records out of their place again: their checksums are unbound as before
/// [`seal_frame`]. What leaves for another node's log must be.
pub fn unseal_payload(header: &FrameHeader, payload: &mut [u8], salt: u32, offset: u32) {
    let layout = header.kind.layout();
    if layout == Layout::Opaque {
        return;
    }
    let mut at = 0;
    while at < payload.len() {
        let (index, start) = bound_to(layout, header.index, payload, at);
        // XOR undoes itself.
        bind(payload, start, binding(salt, place(offset, start), index));
        at = start + stored_record_len(&payload[start..]);
    }
}

/// Whether `payload` is a row of `records` whole records with intact, unbound checksums: what another node or a
/// caller hands in before it is sealed.
pub fn verify_unbound(payload: &[u8], records: u32) -> Result<(), &'static str> {
    let (mut at, mut found) = (0, 0);
    while at < payload.len() {
        let (_, record) = record::decode_record(&payload[at..])?;
        let end = at + record.record_len();
        if !record::checksum_matches(&payload[at..end], 0) {
            return Err("a record's checksum does not match");
        }
        (at, found) = (end, found + 1);
    }
    if found == records { Ok(()) } else { Err("another number of records than it says") }
}

/// The index that the next record is bound to, and where it begins, for the element at `at`.
fn bound_to(layout: Layout, frame_index: Index, payload: &[u8], at: usize) -> (Index, usize) {
    if layout == Layout::Placed {
        let start = at + PLACED_VERSION_LEN;
        (u64::from_le_bytes(array(&payload[at..start])), start)
    } else {
        (frame_index, at)
    }
}

/// Where the payload's byte `at` lies in the segment, for a frame at `offset`.
fn place(offset: u32, at: usize) -> u32 {
    offset + (FRAME_HEADER_LEN + at) as u32
}

/// Binds the record at `start`, or unbinds it.
fn bind(payload: &mut [u8], start: usize, mark: u32) {
    let bound = u32::from_le_bytes(array(&payload[start..start + 4])) ^ mark;
    payload[start..start + 4].copy_from_slice(&bound.to_le_bytes());
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
    let checksum = crc32c::crc32c(&head[8..]);
    let layout = header.kind.layout();
    let (checksum, records) = if layout == Layout::Opaque {
        (crc32c::crc32c_append(checksum, payload), header.records)
    } else {
        checksum_of_records(layout, checksum, payload)?
    };
    let stored = u32::from_le_bytes(array(&head[4..8]));
    if checksum ^ binding(salt, offset, header.index) != stored {
        return Err("the frame's checksum does not match");
    }
    if records != header.records {
        return Err("the frame has another number of records than it says");
    }
    if layout != Layout::Opaque {
        verify_records(layout, payload, salt, offset, header.index)?;
    }
    Ok(header)
}

/// Goes on with a frame's checksum over what it covers of its records; says also how many there are.
fn checksum_of_records(
    layout: Layout,
    mut checksum: u32,
    payload: &[u8],
) -> Result<(u32, u32), &'static str> {
    let (mut at, mut records) = (0, 0);
    while at < payload.len() {
        let start = if layout == Layout::Placed { at + PLACED_VERSION_LEN } else { at };
        let (_, record) = record::decode_record(payload.get(start..).ok_or("a version is cut off")?)?;
        checksum = crc32c::crc32c_append(checksum, &payload[at..start + 4]);
        at = start + record.record_len();
        records += 1;
    }
    Ok((checksum, records))
}

fn verify_records(
    layout: Layout,
    payload: &[u8],
    salt: u32,
    offset: u32,
    index: Index,
) -> Result<(), &'static str> {
    let mut at = 0;
    while at < payload.len() {
        let (index, start) = bound_to(layout, index, payload, at);
        let end = start + stored_record_len(&payload[start..]);
        if !record::checksum_matches(&payload[start..end], binding(salt, place(offset, start), index)) {
            return Err("a record's checksum does not match");
        }
        at = end;
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
            kind: FrameKind::Records,
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

    /// One frame of every layout.
    fn frames(salt: u32, offset: u32) -> Vec<Vec<u8>> {
        let mut placed = 77_u64.to_le_bytes().to_vec();
        encode_record(&mut placed, RecordKind::Put, b"a", b"first").unwrap();
        placed.extend_from_slice(&5_u64.to_le_bytes());
        encode_record(&mut placed, RecordKind::Put, b"b", b"").unwrap();
        let others = [(FrameKind::Placed, placed, 2), (FrameKind::Vote, b"opaque".to_vec(), 0)];
        let others = others.into_iter().chain([(FrameKind::Commit, Vec::new(), 0)]);
        let others = others.map(|(kind, mut payload, records)| {
            let (payload_len, index) = (payload.len() as u32, 9);
            let header = FrameHeader { kind, payload_len, records, index, term: 3, group: 1, durable: 64 };
            let head = seal_frame(&header, &mut payload, salt, offset);
            [head.as_slice(), &payload].concat()
        });
        [frame(salt, offset)].into_iter().chain(others).collect()
    }

    #[test]
    fn a_payload_can_be_taken_out_of_its_place_and_put_into_another() {
        for bytes in frames(5, 64) {
            let header = verify_frame(&bytes, 5, 64).unwrap();
            let mut payload = bytes[FRAME_HEADER_LEN..].to_vec();
            unseal_payload(&header, &mut payload, 5, 64);
            if header.kind == FrameKind::Records {
                verify_unbound(&payload, header.records).unwrap();
                assert!(verify_unbound(&payload, header.records + 1).is_err());
                payload[20] ^= 1;
                assert!(verify_unbound(&payload, header.records).is_err());
                payload[20] ^= 1;
            }
            let head = seal_frame(&header, &mut payload, 6, 128);
            let moved = [head.as_slice(), &payload].concat();
            assert_eq!(verify_frame(&moved, 6, 128), Ok(header));
        }
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
        for good in frames(5, 64) {
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(verify_frame(&bad, 5, 64).is_err(), "bit {bit}");
            }
            for len in 0..good.len() {
                assert!(verify_frame(&good[..len], 5, 64).is_err(), "length {len}");
            }
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
        newer[8] = FORMAT_VERSION as u8 + 1;
        assert_eq!(SegmentHeader::decode(&checksummed(newer)), Err(Invalid::Newer(FORMAT_VERSION + 1)));
        assert_eq!(decode_store(&encode_store(&[8; 16])), Ok(([8; 16], FORMAT_VERSION)));
    }

    #[test]
    fn headers_of_the_first_version_are_read() {
        let header = SegmentHeader { segment: 7, store: [3; 16], previous_end: 99 };
        let mut older = header.encode();
        older[8] = 1;
        assert_eq!(SegmentHeader::decode(&checksummed(older)), Ok(header));
    }

    fn checksummed(mut header: [u8; SEGMENT_HEADER_LEN]) -> [u8; SEGMENT_HEADER_LEN] {
        let checksum = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}
