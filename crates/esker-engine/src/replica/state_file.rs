//! The file `REPLICA`: from where on a replica's log is replayed, and with what. `docs/format.md` has the byte table.
//!
//! It is replaced as a whole with each checkpoint, before the index files are written, and keeps two marks: whichever of
//! them the index files reach is the one to replay from.

use std::{path::Path, sync::Arc};

use esker_log::{
    Error, GroupEnd, Position, Result, SegmentId,
    disk::{Disk, OpenMode},
    format::{self, FORMAT_VERSION, Invalid, SEGMENT_HEADER_LEN},
    recovery::invalid_header,
    small_file::write_durably,
};

use crate::{Committed, Outcome, RequestId, requests::RequestList};

/// The file's name.
pub(crate) const STATE_NAME: &str = "REPLICA";
const MAGIC: &[u8; 8] = b"ESKREPLI";
/// Bytes of a remembered request; version 1 had no outcome in it.
const REQUEST_LEN: usize = 37;
const REQUEST_LEN_1: usize = 28;
/// From this version on a mark says how late it was.
const STAMPED_VERSION: u32 = 3;
const POSITION_LEN: usize = 8;

/// A membership, and the entry that holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredMembership {
    /// The entry; index 0 if there is none yet.
    pub at: GroupEnd,
    /// The consensus module's encoding.
    pub bytes: Vec<u8>,
}

/// A place in the log, and the state when everything before it was applied.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// What comes before need not be read again.
    pub(super) position: Position,
    /// The last entry frame before the position, applied or not.
    pub(super) log_end: GroupEnd,
    /// The last entry applied.
    pub(super) applied: GroupEnd,
    pub(super) membership: StoredMembership,
    pub(super) requests: RequestList,
    /// The latest time that an applied entry said, in milliseconds since 1970.
    pub(super) stamp_ms: u64,
    /// Where entries lie that do not count, in the position's segment before it: the hint of that segment is yet to be
    /// written.
    pub(super) void: Arc<[Position]>,
}

/// Where the log begins.
const START: Position = Position { segment: 1, offset: SEGMENT_HEADER_LEN as u32 };

impl Default for Mark {
    /// The beginning of an empty log.
    fn default() -> Self {
        Self {
            position: START,
            log_end: GroupEnd::default(),
            applied: GroupEnd::default(),
            membership: StoredMembership::default(),
            requests: Arc::default(),
            stamp_ms: 0,
            void: Arc::default(),
        }
    }
}

/// Where the log that counts begins.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// Counts the snapshots that were installed; 0: none yet.
    pub(super) installation: u64,
    /// From here on the log is read if there are no index files. With an installation, what is said to be applied is what
    /// is once all the placed values are read.
    pub(super) mark: Mark,
    /// The snapshot's values: the first of their frames, and the byte behind the last.
    pub(super) placed: (Position, Position),
    /// Entries before this do not count: the snapshot holds what they did.
    pub(super) entries_from: Position,
}

impl Default for Base {
    fn default() -> Self {
        Self { installation: 0, mark: Mark::default(), placed: (START, START), entries_from: START }
    }
}

/// The file's content.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The last vote before the newer mark, in the consensus module's encoding; empty: none.
    pub(super) vote: Vec<u8>,
    pub(super) base: Base,
    /// The checkpoint that index files reach, if one was written since the base, and one that they may reach.
    pub(super) marks: Vec<Mark>,
}

impl State {
    /// The mark at which index files end; `None`: replay from the base.
    pub(super) fn mark_at(&self, reached: Position) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.position == reached)
    }

    /// The positions of the marks, ascending.
    pub(super) fn mark_positions(&self) -> Vec<Position> {
        self.marks.iter().map(|mark| mark.position).collect()
    }

    /// Adds a mark for index files yet to be written, and forgets all but the one that they reach now.
    pub(super) fn push_mark(&mut self, mark: Mark, reached: Position) {
        self.marks.retain(|mark| mark.position == reached);
        self.marks.push(mark);
    }

    /// Reads the file; `None` if there is none.
    ///
    /// Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(STATE_NAME);
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format_args!("opening {}", path.display()), e)),
        };
        let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
        let mut bytes = vec![0; file.len().map_err(doing)? as usize];
        file.read_exact_at(&mut bytes, 0).map_err(doing)?;
        Self::decode(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
    }

    /// Up to where the log must reach: what comes before was synced before it was named here.
    pub(super) fn reach(&self) -> Position {
        self.marks.last().map_or(self.base.placed.1, |mark| mark.position)
    }

    /// Replaces the file, durably.
    ///
    /// Errors: `DiskFull`, `Io`; the old content is then still there.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        write_durably(disk, dir, STATE_NAME, &self.encode())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_bytes(&mut body, &self.vote);
        put_base(&mut body, &self.base);
        body.push(self.marks.len() as u8);
        self.marks.iter().for_each(|mark| put_mark(&mut body, mark));
        Self::enclose(&body)
    }

    /// A whole file with these fields.
    pub(super) fn enclose(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len() + 16);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(body);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let body = bytes.len().saturating_sub(4).max(12);
        let version = format::check_head(bytes, MAGIC, body)?;
        let mut reader = Reader { rest: &bytes[12..body], version };
        let state = reader.state().ok_or(Invalid::Bad("a field is cut off or makes no sense"))?;
        if reader.rest.is_empty() { Ok(state) } else { Err(Invalid::Bad("bytes behind the last field")) }
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put_end(out: &mut Vec<u8>, end: GroupEnd) {
    put_u64(out, end.index);
    put_u64(out, end.term);
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    put_u32(out, position.segment);
    put_u32(out, position.offset);
}

fn put_base(out: &mut Vec<u8>, base: &Base) {
    put_u64(out, base.installation);
    for position in [base.placed.0, base.placed.1, base.entries_from] {
        put_position(out, position);
    }
    put_mark(out, &base.mark);
}

fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    put_position(out, mark.position);
    put_end(out, mark.log_end);
    put_end(out, mark.applied);
    put_end(out, mark.membership.at);
    put_bytes(out, &mark.membership.bytes);
    put_u32(out, mark.requests.len() as u32);
    for (id, outcome) in mark.requests.iter() {
        out.extend_from_slice(&id.to_bytes());
        put_u64(out, outcome.version);
        put_u32(out, outcome.existed);
        let (kind, detail) = outcome.outcome.to_parts();
        out.push(kind);
        put_u64(out, detail);
    }
    put_u64(out, mark.stamp_ms);
    put_u32(out, mark.void.len() as u32);
    mark.void.iter().for_each(|position| put_position(out, *position));
}

/// What the file says of the log, for who verifies a closed store.
pub(crate) struct LogBounds {
    /// The first segment that counts.
    pub(crate) first: SegmentId,
    /// Up to where the log must reach.
    pub(crate) reach: Position,
    /// The generation of merged segments that counts.
    pub(crate) generation: u64,
}

/// Reads the file of a closed store; `None` if there is none: it is no replica's.
///
/// Errors: as for [`State::read`].
pub(crate) fn read_log_bounds(disk: &dyn Disk, dir: &Path) -> Result<Option<LogBounds>> {
    let state = State::read(disk, dir)?;
    Ok(state.map(|state| LogBounds {
        first: state.base.mark.position.segment,
        reach: state.reach(),
        generation: state.base.installation,
    }))
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a [u8],
    /// The file's.
    version: u32,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    /// A part of the same file.
    fn within<'b>(&self, rest: &'b [u8]) -> Reader<'b> {
        Reader { rest, version: self.version }
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = self.u32()? as usize;
        self.take(len).map(<[u8]>::to_vec)
    }

    fn end(&mut self) -> Option<GroupEnd> {
        Some(GroupEnd { index: self.u64()?, term: self.u64()? })
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { segment: self.u32()?, offset: self.u32()? })
    }

    fn base(&mut self) -> Option<Base> {
        let installation = self.u64()?;
        let (placed, entries_from) = ((self.position()?, self.position()?), self.position()?);
        Some(Base { installation, mark: self.mark()?, placed, entries_from })
    }

    fn mark(&mut self) -> Option<Mark> {
        let position = self.position()?;
        let (log_end, applied) = (self.end()?, self.end()?);
        let membership = StoredMembership { at: self.end()?, bytes: self.bytes()? };
        let count = self.u32()? as usize;
        let request_len = if self.version == 1 { REQUEST_LEN_1 } else { REQUEST_LEN };
        let requests = self.take(count.checked_mul(request_len)?)?;
        let requests = requests.chunks_exact(request_len).map(|bytes| self.within(bytes).request());
        let requests = requests.collect::<Option<RequestList>>()?;
        let stamp_ms = if self.version < STAMPED_VERSION { 0 } else { self.u64()? };
        let count = self.u32()? as usize;
        let void = self.take(count.checked_mul(POSITION_LEN)?)?;
        let void = void.chunks_exact(POSITION_LEN).map(|bytes| self.within(bytes).position());
        let void = void.collect::<Option<Arc<[_]>>>()?;
        Some(Mark { position, log_end, applied, membership, requests, stamp_ms, void })
    }

    fn request(&mut self) -> Option<(RequestId, Committed)> {
        let id = RequestId::from_bytes(self.take(crate::REQUEST_ID_LEN)?)?;
        let (version, existed) = (self.u64()?, self.u32()?);
        let outcome = match self.version {
            1 => Outcome::Applied,
            _ => Outcome::from_parts(self.take(1)?[0], self.u64()?)?,
        };
        Some((id, Committed { version, existed, outcome }))
    }

    fn state(&mut self) -> Option<State> {
        let (vote, base) = (self.bytes()?, self.base()?);
        let count = self.take(1)?[0];
        let marks = (0..count).map(|_| self.mark()).collect::<Option<Vec<_>>>()?;
        Some(State { vote, base, marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let id = |sequence| RequestId { client: 7, sequence };
        let mark = |n: u32| Mark {
            position: Position { segment: n, offset: 100 * n },
            log_end: GroupEnd { index: 9, term: 2 },
            applied: GroupEnd { index: 8, term: 2 },
            membership: StoredMembership { at: GroupEnd { index: 1, term: 1 }, bytes: b"members".to_vec() },
            requests: (0..u64::from(n)).map(|s| (id(s), Committed::applied(s, 1))).collect(),
            stamp_ms: 1000 * u64::from(n),
            void: [Position { segment: n, offset: 64 }].into(),
        };
        let at = |offset| Position { segment: 1, offset };
        let base = Base { installation: 3, mark: mark(1), placed: (at(100), at(200)), entries_from: at(150) };
        State { vote: b"vote".to_vec(), base, marks: vec![mark(2), mark(3)] }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let (state, bytes) = (state(), state().encode());
        let decoded = State::decode(&bytes).unwrap();
        assert_eq!(format!("{:?}", decoded.marks[1].membership), format!("{:?}", state.marks[1].membership));
        assert_eq!(decoded.encode(), bytes);
        assert_eq!((decoded.base.installation, decoded.vote.as_slice()), (3, b"vote".as_slice()));
        assert_eq!(decoded.marks[1].requests.len(), 3);
    }

    /// CHECKS 8: damage is seen, whichever bit or byte it costs.
    #[test]
    fn every_bit_flip_and_truncation_is_seen() {
        let good = state().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(State::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(State::decode(&good[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn the_mark_that_index_files_reach_stays_until_they_reach_another() {
        let mut state = state();
        let at = |segment| Position { segment, offset: 100 * segment };
        assert!(state.mark_at(at(1)).is_none());
        assert_eq!(state.mark_at(at(3)).map(|mark| mark.position), Some(at(3)));
        state.push_mark(Mark { position: at(4), ..Mark::default() }, at(2));
        assert_eq!(state.mark_positions(), [at(2), at(4)]);
        state.push_mark(Mark { position: at(5), ..Mark::default() }, at(4));
        assert_eq!(state.mark_positions(), [at(4), at(5)]);
    }
}
