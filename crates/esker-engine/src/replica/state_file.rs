//! The file `REPLICA`: from where on a replica's log is replayed, and with what. `docs/format.md` has the byte table.
//!
//! It is replaced as a whole with each checkpoint, before the index files are written, and keeps two marks: whichever of
//! them the index files reach is the one to replay from.

use std::path::Path;

use esker_log::{
    Error, GroupEnd, Position, Result,
    disk::{Disk, OpenMode},
    format::{self, FORMAT_VERSION, Invalid, SEGMENT_HEADER_LEN},
    recovery::invalid_header,
    small_file::write_durably,
};

use super::requests::Requests;
use crate::{Committed, RequestId};

/// The file's name.
pub(crate) const STATE_NAME: &str = "REPLICA";
const MAGIC: &[u8; 8] = b"ESKREPLI";
const REQUEST_LEN: usize = 28;

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
    pub(super) requests: Requests,
}

impl Default for Mark {
    /// The beginning of an empty log.
    fn default() -> Self {
        Self {
            position: Position { segment: 1, offset: SEGMENT_HEADER_LEN as u32 },
            log_end: GroupEnd::default(),
            applied: GroupEnd::default(),
            membership: StoredMembership::default(),
            requests: Requests::default(),
        }
    }
}

/// The file's content.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Counts the snapshots that were installed; 0: none yet.
    pub(super) installation: u64,
    /// The last vote before the newer mark, in the consensus module's encoding; empty: none.
    pub(super) vote: Vec<u8>,
    /// Where the log that counts begins. With an installation, the first of its placed values lies there; what is said
    /// to be applied is what is once all of them are read.
    pub(super) base: Mark,
    /// The last two checkpoints since, older first.
    pub(super) marks: Vec<Mark>,
}

impl State {
    /// The newest mark at or before `covered`; `None`: replay from the base.
    pub(super) fn mark_within(&self, covered: Position) -> Option<&Mark> {
        self.marks.iter().rev().find(|mark| mark.position <= covered)
    }

    /// Adds a mark and forgets all but the one before it.
    pub(super) fn push_mark(&mut self, mark: Mark) {
        self.marks.push(mark);
        let surplus = self.marks.len().saturating_sub(2);
        self.marks.drain(..surplus);
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

    /// Replaces the file, durably.
    ///
    /// Errors: `DiskFull`, `Io`; the old content is then still there.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        write_durably(disk, dir, STATE_NAME, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        put_u64(&mut out, self.installation);
        put_bytes(&mut out, &self.vote);
        put_mark(&mut out, &self.base);
        out.push(self.marks.len() as u8);
        self.marks.iter().for_each(|mark| put_mark(&mut out, mark));
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let body = bytes.len().saturating_sub(4).max(12);
        format::check_head(bytes, MAGIC, body)?;
        let mut reader = Reader(&bytes[12..body]);
        let state = reader.state().ok_or(Invalid::Bad("a field is cut off"))?;
        if reader.0.is_empty() { Ok(state) } else { Err(Invalid::Bad("bytes behind the last field")) }
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

fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    put_u32(out, mark.position.segment);
    put_u32(out, mark.position.offset);
    put_end(out, mark.log_end);
    put_end(out, mark.applied);
    put_end(out, mark.membership.at);
    put_bytes(out, &mark.membership.bytes);
    put_u32(out, mark.requests.len() as u32);
    for (id, outcome) in mark.requests.iter() {
        out.extend_from_slice(&id.to_bytes());
        put_u64(out, outcome.version);
        put_u32(out, outcome.existed);
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
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

    fn mark(&mut self) -> Option<Mark> {
        let position = Position { segment: self.u32()?, offset: self.u32()? };
        let (log_end, applied) = (self.end()?, self.end()?);
        let membership = StoredMembership { at: self.end()?, bytes: self.bytes()? };
        let count = self.u32()? as usize;
        let requests = self.take(count.checked_mul(REQUEST_LEN)?)?;
        let requests = requests.chunks_exact(REQUEST_LEN).map(|bytes| Reader(bytes).request());
        let requests = requests.collect::<Option<Requests>>()?;
        Some(Mark { position, log_end, applied, membership, requests })
    }

    fn request(&mut self) -> Option<(RequestId, Committed)> {
        let id = RequestId::from_bytes(self.take(crate::REQUEST_ID_LEN)?)?;
        Some((id, Committed { version: self.u64()?, existed: self.u32()? }))
    }

    fn state(&mut self) -> Option<State> {
        let (installation, vote, base) = (self.u64()?, self.bytes()?, self.mark()?);
        let count = self.take(1)?[0];
        let marks = (0..count).map(|_| self.mark()).collect::<Option<Vec<_>>>()?;
        Some(State { installation, vote, base, marks })
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
            requests: (0..u64::from(n)).map(|s| (id(s), Committed { version: s, existed: 1 })).collect(),
        };
        State { installation: 3, vote: b"vote".to_vec(), base: mark(1), marks: vec![mark(2), mark(3)] }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let (state, bytes) = (state(), state().encode());
        let decoded = State::decode(&bytes).unwrap();
        assert_eq!(format!("{:?}", decoded.marks[1].membership), format!("{:?}", state.marks[1].membership));
        assert_eq!(decoded.encode(), bytes);
        assert_eq!((decoded.installation, decoded.vote.as_slice()), (3, b"vote".as_slice()));
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
    fn of_the_marks_the_newest_that_is_covered_counts() {
        let mut state = state();
        let at = |segment, offset| Position { segment, offset };
        assert!(state.mark_within(at(1, 4000)).is_none());
        assert_eq!(state.mark_within(at(3, 299)).map(|mark| mark.position), Some(at(2, 200)));
        assert_eq!(state.mark_within(at(3, 300)).map(|mark| mark.position), Some(at(3, 300)));
        state.push_mark(Mark { position: at(4, 64), ..Mark::default() });
        assert_eq!(state.marks.iter().map(|mark| mark.position.segment).collect::<Vec<_>>(), [3, 4]);
    }
}
