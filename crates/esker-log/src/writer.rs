//! Appending to the log.
//!
//! A [`Writer`] has one owner and knows nothing of threads; [`GroupCommit`](crate::GroupCommit) shares it.
//! What it keeps true:
//!
//! * Frames go to the end of the active segment only, and an acknowledged frame is never written over.
//! * A segment is synced before its successor exists: only the last one can be torn.
//! * A new segment that cannot be opened for want of files is tried again with the next append: nothing is lost by that.
//! * After an append that failed for want of space, the segment ends where it did before, durably, so that nothing of a
//!   refused write can come back. Any other failure poisons the log.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    sync::{Arc, atomic::Ordering},
};

use crate::{
    Error, GroupId, Index, Result, Term,
    format::{
        FRAME_HEADER_LEN, FrameHeader, FrameKind, SEGMENT_HEADER_LEN, SEGMENT_LEN_MAX, SegmentHeader,
        seal_frame, unseal_payload,
    },
    log::Log,
    segment::{Position, Segment, is_merged},
    zeros::{Zeros, write_zeros},
};

/// Groups up to this many bytes are copied together and written by one call with one buffer; beyond it, the copy
/// would cost more than the longer list of buffers.
const COPY_BYTES_MAX: u64 = 256 << 10;

/// A frame to be appended.
#[derive(Debug)]
pub struct Draft {
    /// What it holds.
    pub kind: FrameKind,
    /// The group it belongs to.
    pub group: GroupId,
    /// The Raft term; 0 outside Raft.
    pub term: Term,
    /// The index, if another decides it (Raft); else the group's next. Frames that are no entries always say it.
    pub index: Option<Index>,
    /// Records with unbound checksums. Once appended, the checksums are bound.
    pub payload: Vec<u8>,
    /// How many records.
    pub records: u32,
    /// Filled in by the append: where the frame lies.
    pub position: Position,
    /// Filled in by the append: the frame's index.
    pub appended_index: Index,
}

impl Draft {
    /// A draft of the next frame of `group`.
    pub fn next(group: GroupId, payload: Vec<u8>, records: u32) -> Self {
        Self { index: None, ..Self::new(FrameKind::Records, group, GroupEnd::default(), payload, records) }
    }

    /// A draft of a frame whose index and term are decided.
    pub fn new(kind: FrameKind, group: GroupId, at: GroupEnd, payload: Vec<u8>, records: u32) -> Self {
        Self {
            kind,
            group,
            term: at.term,
            index: Some(at.index),
            payload,
            records,
            position: Position::default(),
            appended_index: 0,
        }
    }

    fn frame_len(&self) -> u64 {
        (FRAME_HEADER_LEN + self.payload.len()) as u64
    }
}

/// The last frame of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupEnd {
    /// Its index; 0 if the group has no frame.
    pub index: Index,
    /// Its term.
    pub term: Term,
}

impl GroupEnd {
    /// Where the group ends behind a frame of this index and term, if it ended at `last` before; `None` if such a frame
    /// cannot stand there.
    pub fn behind(self, last: Self, kind: FrameKind) -> Option<Self> {
        match kind {
            kind if kind.is_entry() => {
                (self.index == last.index + 1 && self.term >= last.term).then_some(self)
            }
            FrameKind::Truncate => (self.index <= last.index && self.term <= last.term).then_some(self),
            FrameKind::Base => Some(self),
            // They stand beside the numbered history.
            _ => Some(last),
        }
    }
}

/// The end of the log that is appended to.
pub struct Writer {
    log: Arc<Log>,
    active: Arc<Segment>,
    /// Where the next frame goes.
    end: u64,
    /// The active file's length: `end` plus what is reserved.
    allocated: u64,
    /// Set when sealing the active segment began. From then on nothing is appended to it, even if creating its
    /// successor failed, because a half-made successor may already name where it ends.
    sealing: bool,
    /// Where the active segment ended when it was last to be written out.
    write_back_from: u64,
    /// Where they make syncs quicker.
    zeros: Option<Zeros>,
    groups: HashMap<GroupId, GroupEnd>,
    /// Kept between appends, so that none of them allocates: the headers of the frames being written,
    heads: Vec<[u8; FRAME_HEADER_LEN]>,
    /// the groups' ends behind them,
    ends: Vec<(GroupId, GroupEnd)>,
    /// and headers and payloads in one piece.
    scratch: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(
        log: Arc<Log>,
        active: Arc<Segment>,
        end: u64,
        allocated: u64,
        groups: HashMap<GroupId, GroupEnd>,
    ) -> Self {
        log.advance_appended(Position { segment: active.id, offset: end as u32 });
        let syncs = log.counters.syncs.load(Ordering::Relaxed);
        let zeros = log.disk.writes_in_place(&log.dir).then(|| Zeros::new(syncs));
        Self {
            log,
            active,
            end,
            allocated,
            sealing: false,
            write_back_from: 0,
            zeros,
            groups,
            heads: Vec::new(),
            ends: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The log this appends to.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The last frame of `group`.
    pub fn group_end(&self, group: GroupId) -> GroupEnd {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// Appends as many of `drafts` as fit in one segment, at least one, with one write; says how many.
    /// They are with the operating system then, and durable after [`Log::sync`].
    ///
    /// Payloads have at most [`PAYLOAD_LEN_MAX`](crate::format::PAYLOAD_LEN_MAX) bytes. What was not appended can be again.
    ///
    /// Errors: `DiskFull` or `OutOfFiles` (nothing was appended, the next append may succeed), `Poisoned`.
    pub fn append(&mut self, drafts: &mut [Draft]) -> Result<usize> {
        if drafts.is_empty() {
            return Ok(0);
        }
        self.attempt(|writer| writer.append_healthy(drafts))
    }

    /// Sees whether there is space for more than is reserved, and reserves it.
    ///
    /// Errors: as for [`Writer::append`].
    pub(crate) fn probe_space(&mut self) -> Result<()> {
        self.attempt(|writer| match writer.sealing {
            true => writer.rotate(0),
            false => writer.reserve(writer.allocated - writer.end + 1),
        })
    }

    /// Does something that changes files, and draws the conclusions from its failure.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.log.check_healthy()?;
        let result = work(self);
        self.log.set_disk_full(matches!(result, Err(Error::DiskFull)));
        match result {
            Err(error @ (Error::DiskFull | Error::OutOfFiles | Error::Poisoned(_))) => Err(error),
            Err(error) => {
                self.log.poison_with(&error);
                Err(Error::Poisoned(error.to_string().into()))
            }
            Ok(done) => Ok(done),
        }
    }

    fn append_healthy(&mut self, drafts: &mut [Draft]) -> Result<usize> {
        let first_len = drafts[0].frame_len();
        if self.sealing || !self.fits(first_len) {
            self.rotate(first_len)?;
        }
        let (mut total, target) = (0, self.log.segment_target());
        let count = drafts
            .iter()
            .take_while(|draft| {
                let is_first = total == 0;
                total += draft.frame_len();
                is_first || self.end + total <= target
            })
            .count();
        let drafts = &mut drafts[..count];
        let total = drafts.iter().map(Draft::frame_len).sum();
        self.reserve(total)?;
        self.seal_frames(drafts);
        if let Err(error) = self.write_frames(drafts, total) {
            self.unseal_frames(drafts);
            return Err(self.undo_write(error));
        }
        self.groups.extend(self.ends.drain(..));
        self.end += total;
        self.log.advance_appended(Position { segment: self.active.id, offset: self.end as u32 });
        self.log.counters.bytes_written.fetch_add(total, Ordering::Relaxed);
        self.note_unsynced();
        self.write_zeros(total)?;
        Ok(count)
    }

    /// Has it written out what has gathered, each time it comes to enough.
    fn note_unsynced(&mut self) {
        let from = self.write_back_from.max(u64::from(self.durable_mark()));
        if self.log.is_write_back_due(self.end, self.end - from.min(self.end)) {
            self.write_back_from = self.end;
            self.log.write_back.raise();
        }
    }

    /// Whether `len` more bytes fit in the active segment. An empty segment takes any frame.
    fn fits(&self, len: u64) -> bool {
        self.end + len <= self.log.segment_target()
            || (self.end == SEGMENT_HEADER_LEN as u64 && self.end + len <= SEGMENT_LEN_MAX)
    }

    /// Whether `len` more bytes go where space is reserved.
    pub(crate) fn has_space(&self, len: u64) -> bool {
        !self.sealing && self.fits(len) && self.end + len < self.allocated
    }

    /// Gives the frames their indexes and places at the end of the active segment, and binds them.
    fn seal_frames(&mut self, drafts: &mut [Draft]) {
        let durable = self.durable_mark();
        let mut offset = self.end as u32;
        self.heads.clear();
        self.ends.clear();
        for draft in drafts {
            let last = match self.ends.iter().rev().find(|(group, _)| *group == draft.group) {
                Some((_, end)) => *end,
                None => self.group_end(draft.group),
            };
            let index = draft.index.unwrap_or(last.index + 1);
            let next = GroupEnd { index, term: draft.term }.behind(last, draft.kind);
            debug_assert!(next.is_some(), "{draft:?} does not follow {last:?}");
            let header = FrameHeader {
                kind: draft.kind,
                payload_len: draft.payload.len() as u32,
                records: draft.records,
                index,
                term: draft.term,
                group: draft.group,
                durable,
            };
            self.heads.push(seal_frame(&header, &mut draft.payload, self.active.salt, offset));
            draft.position = Position { segment: self.active.id, offset };
            draft.appended_index = index;
            offset += draft.frame_len() as u32;
            let end = next.unwrap_or(last);
            match self.ends.last_mut() {
                Some((group, last)) if *group == draft.group => *last = end,
                _ => self.ends.push((draft.group, end)),
            }
        }
    }

    /// Takes frames that were not written out of their places: they may be appended again.
    fn unseal_frames(&self, drafts: &mut [Draft]) {
        for (head, draft) in self.heads.iter().zip(drafts) {
            let header = FrameHeader::decode(head).expect("it was encoded here");
            unseal_payload(&header, &mut draft.payload, self.active.salt, draft.position.offset);
        }
    }

    /// How much of the active segment is on the disk for certain. Whatever comes before the segment is.
    fn durable_mark(&self) -> u32 {
        let durable = self.log.durable();
        if durable.segment == self.active.id { durable.offset } else { SEGMENT_HEADER_LEN as u32 }
    }

    /// Writes zeros behind what was just appended, so many bytes, if the syncs of what comes are to be quicker for it.
    fn write_zeros(&mut self, appended: u64) -> Result<()> {
        let Some(zeros) = &mut self.zeros else { return Ok(()) };
        let counters = &self.log.counters;
        let limit = self.allocated.min(self.log.segment_target());
        let syncs = counters.syncs.load(Ordering::Relaxed);
        let ahead = zeros.behind(self.end - appended..self.end, syncs, limit);
        let len = ahead.end - ahead.start;
        let doing = |e| Error::io(format_args!("writing ahead in {}", self.active.path.display()), e);
        match write_zeros(self.active.file.as_ref(), ahead).map_err(doing) {
            // It goes without: what was appended is there, and behind the end are zeros in any case.
            Err(Error::DiskFull) => return Ok(()),
            written => written?,
        }
        counters.bytes_written.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn write_frames(&mut self, drafts: &[Draft], total: u64) -> io::Result<()> {
        if total <= COPY_BYTES_MAX {
            self.scratch.clear();
            for (head, draft) in self.heads.iter().zip(drafts) {
                self.scratch.extend_from_slice(head);
                self.scratch.extend_from_slice(&draft.payload);
            }
            return self.active.file.write_all_at(&self.scratch, self.end);
        }
        let mut slices: Vec<_> = self
            .heads
            .iter()
            .zip(drafts)
            .flat_map(|(head, draft)| [IoSlice::new(head), IoSlice::new(&draft.payload)])
            .collect();
        self.active.file.write_pieces_at(&mut slices, self.end)
    }

    /// Takes back what a failed write may have left behind the end. Only a full disk is survived.
    fn undo_write(&mut self, cause: io::Error) -> Error {
        let cause = Error::io(format_args!("writing to {}", self.active.path.display()), cause);
        if !matches!(cause, Error::DiskFull) {
            return cause;
        }
        let cut = {
            let _turn = self.log.sync_turn.lock();
            self.active.file.set_len(self.end).and_then(|()| self.active.file.sync_data())
        };
        self.allocated = self.end;
        self.zeros.iter_mut().for_each(Zeros::forget);
        match cut {
            Ok(()) => Error::DiskFull,
            // Also where the reason is a full disk: what is behind the end may come back now, so nothing was refused.
            Err(e) => Error::Io {
                doing: format!("cutting {} after a full disk", self.active.path.display()).into(),
                source: Arc::new(e),
            },
        }
    }

    /// Reserves space for `len` more bytes, a good deal more if there is space. Some is left behind the end wherever
    /// that is possible: recovery takes a log without it for one that lost its end.
    fn reserve(&mut self, len: u64) -> Result<()> {
        let needed = self.end + len;
        if needed < self.allocated {
            return Ok(());
        }
        let chunk = self.log.options.allocate_bytes.max(1);
        let limit = self.log.options.segment_max_bytes.max(needed);
        let generous = (needed + 1).next_multiple_of(chunk).min(limit);
        let from = self.allocated;
        let file = &self.active.file;
        let reserved = match file.allocate(from, generous - from) {
            // Where there is no room for more than this append, this append is still taken.
            Err(e) if generous > needed && e.kind() == io::ErrorKind::StorageFull => {
                file.allocate(from, needed.saturating_sub(from)).map(|()| needed.max(from))
            }
            other => other.map(|()| generous),
        };
        self.allocated = reserved
            .map_err(|e| Error::io(format_args!("reserving space in {}", self.active.path.display()), e))?;
        Ok(())
    }

    /// Seals the active segment and begins the next, for a frame of `first_len` bytes.
    fn rotate(&mut self, first_len: u64) -> Result<()> {
        self.sealing = true;
        self.log.sync()?;
        let id = Some(self.active.id + 1).filter(|id| !is_merged(*id)).ok_or_else(|| {
            Error::InvalidRequest("the store has used up its segment numbers: export and import it".into())
        })?;
        let header = SegmentHeader { segment: id, store: self.log.store, previous_end: self.end as u32 };
        let needed = SEGMENT_HEADER_LEN as u64 + first_len;
        let allocate = (needed + 1)
            .next_multiple_of(self.log.options.allocate_bytes.max(1))
            .min(self.log.options.segment_max_bytes.max(needed));
        let next = Arc::new(Segment::create(&self.log.files, &self.log.dir, header, allocate)?);
        // The reserved space behind the end is given back. Losing this in a crash costs space, no data.
        let sealed = std::mem::replace(&mut self.active, Arc::clone(&next));
        sealed.seal(self.end as u32);
        let trimmed = sealed.file.set_len(self.end);
        sealed.release();
        self.end = SEGMENT_HEADER_LEN as u64;
        self.allocated = allocate;
        self.sealing = false;
        self.write_back_from = 0;
        self.zeros.iter_mut().for_each(Zeros::forget);
        self.log.registry.insert(next);
        let start = Position { segment: id, offset: self.end as u32 };
        self.log.advance_appended(start);
        self.log.advance_durable(start);
        self.log.counters.bytes_written.fetch_add(SEGMENT_HEADER_LEN as u64, Ordering::Relaxed);
        trimmed.map_err(|e| Error::io(format_args!("trimming {}", sealed.path.display()), e))
    }
}
