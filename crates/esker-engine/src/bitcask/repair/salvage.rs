//! Reading what is left of segments.
//!
//! Merged segments come first, then the log in its order; of each the frames, then what its index files say beyond them. Where a
//! frame is damaged, every place up to the next whole frame is tried for a record: its checksum is bound to the place and to its
//! batch's version, and which versions can be missing is known from the frames before and behind.

use std::{collections::BTreeMap, ops::Range};

use esker_log::{
    Result, SegmentId,
    format::{FRAME_HEADER_LEN, FrameHeader, FrameKind, PLACED_VERSION_LEN, SEGMENT_HEADER_LEN},
    is_merged,
    record::{PlacedRecords, Record, RecordKind, Records, binding, checksum_matches, decode_record},
    scan::{Frame, FrameScanner, Step},
};

use super::{
    RepairReport, as_loss,
    source::{Source, SourceSegment, lost},
    state::{Present, State},
};
use crate::{
    Progress, Version,
    bitcask::{
        index_file::{IndexCursor, IndexFile},
        location,
    },
    judge::{VERIFIED, Verdict, judge},
};

/// So many versions are tried at most for a record whose frame does not say.
const VERSIONS_TRIED_MAX: u64 = 4096;

/// See the module.
pub(super) struct Salvage<'a> {
    source: &'a Source,
    report: &'a mut RepairReport,
    progress: Progress<'a>,
    state: State,
    done: u64,
    total: u64,
    /// The last entry of the log that was found.
    last_index: Version,
}

/// A record that was found where a frame is damaged.
struct Found {
    /// Where it lies in the damaged stretch.
    bytes: Range<usize>,
    version: Version,
}

impl<'a> Salvage<'a> {
    pub(super) fn new(source: &'a Source, report: &'a mut RepairReport, progress: Progress<'a>) -> Self {
        let total = source.segments.values().map(|found| found.end).sum();
        Self { source, report, progress, state: State::default(), done: 0, total, last_index: 0 }
    }

    pub(super) fn run(mut self) -> Result<State> {
        let source = self.source;
        let merged = source.segments.range(1 << 31..);
        for (id, found) in merged.chain(source.segments.range(..1 << 31)) {
            self.read_segment(*id, found)?;
            self.done += found.end;
            (self.progress)(self.done, self.total)?;
        }
        for file in &source.orphans {
            self.read_index(None, file)?;
        }
        Ok(self.state)
    }

    /// Reads stretch by stretch, as index files cover them: what a later batch is judged against may be in an index alone.
    fn read_segment(&mut self, id: SegmentId, found: &SourceSegment) -> Result<()> {
        let mut at = (SEGMENT_HEADER_LEN as u64).min(found.end);
        for file in &found.index {
            let to = u64::from(file.stretch.to).min(found.end);
            if at < to {
                self.read_stretch(found, at..to, Some(file.stretch.last.index + 1), false)?;
                at = to;
            }
            self.read_index(Some(found), file)?;
        }
        let may_end_before = !self.is_sealed(id);
        self.read_stretch(found, at..found.end, None, may_end_before)
    }

    /// Reads a part of a segment that ends with a frame; `next` is the index of the entry behind it, if it is known.
    /// `may_end_before`: behind the last frame there may be reserved space.
    fn read_stretch(
        &mut self,
        found: &SourceSegment,
        bytes: Range<u64>,
        next: Option<Version>,
        may_end_before: bool,
    ) -> Result<()> {
        let mut at = bytes.start;
        while at < bytes.end {
            match self.read_piece(found, at..bytes.end, next, may_end_before) {
                Ok(behind) => at = behind,
                Err(error) => {
                    let why = as_loss(error)?;
                    self.report.lost_parts.push(lost(&found.segment.path, at, bytes.end, &why));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads up to the first whole frame behind a damaged stretch; gives where that is, or the end.
    fn read_piece(
        &mut self,
        found: &SourceSegment,
        bytes: Range<u64>,
        next: Option<Version>,
        may_end_before: bool,
    ) -> Result<u64> {
        let Some((bad, why)) = self.read_frames(found, &bytes)? else { return Ok(bytes.end) };
        let mut scanner = FrameScanner::new(&found.segment, bad, bytes.end);
        if may_end_before && scanner.rest_is_zero()? {
            return Ok(bytes.end);
        }
        let is_frame = scanner.skip_to_frame()?;
        let end = if is_frame { scanner.offset() } else { bytes.end };
        let next = if is_frame { entry_index(&mut scanner)? } else { next };
        self.read_damaged(found, bad..end, next, why)?;
        Ok(end)
    }

    /// Whether a segment ends where it says, and not somewhere before reserved space.
    fn is_sealed(&self, id: SegmentId) -> bool {
        is_merged(id) || self.source.segments.range(id + 1..1 << 31).next().is_some()
    }

    /// Takes in whole frames; gives the place of the first that is not, and why.
    fn read_frames(
        &mut self,
        found: &SourceSegment,
        bytes: &Range<u64>,
    ) -> Result<Option<(u64, &'static str)>> {
        let mut scanner = FrameScanner::new(&found.segment, bytes.start, bytes.end);
        while scanner.offset() < bytes.end {
            let at = scanner.offset();
            match scanner.step()? {
                Step::Frame(frame) => {
                    let end = u64::from(frame.end().offset);
                    self.take_frame(found, &frame)?;
                    (self.progress)(self.done + end, self.total)?;
                }
                Step::End => return Ok(Some((at, "zeros where a frame was"))),
                Step::Bad(why) => return Ok(Some((at, why))),
            }
        }
        Ok(None)
    }

    fn take_frame(&mut self, found: &SourceSegment, frame: &Frame<'_>) -> Result<()> {
        let segment = frame.position.segment;
        match frame.header.kind {
            FrameKind::Records => {
                self.last_index = frame.header.index;
                let records = Records::new(frame.payload).map(|record| record.expect(VERIFIED));
                let records: Vec<_> = records.map(|(at, record)| (frame.record_offset(at), record)).collect();
                self.take_batch(found, frame.header.index, frame.payload, &records)
            }
            FrameKind::Placed => {
                for (at, version, record) in PlacedRecords::new(frame.payload).map(|it| it.expect(VERIFIED)) {
                    self.state.take(&record, segment, frame.record_offset(at), version, None);
                }
                Ok(())
            }
            FrameKind::Base => {
                self.last_index = frame.header.index;
                self.state.version = self.state.version.max(frame.header.index);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes in records of one batch; `payload` has all of them that are left.
    fn take_batch(
        &mut self,
        found: &SourceSegment,
        version: Version,
        payload: &[u8],
        records: &[(u32, Record<'_>)],
    ) -> Result<()> {
        self.state.version = self.state.version.max(version);
        let is_judged = |record: &Record<'_>| matches!(record.kind, RecordKind::Condition | RecordKind::Add);
        let segment = found.segment.id;
        if !records.iter().any(|(_, record)| is_judged(record)) {
            records.iter().for_each(|(at, record)| self.state.take(record, segment, *at, version, None));
            return Ok(());
        }
        let first = records.first().map_or(0, |(at, _)| *at);
        if found.index.iter().any(|file| (file.stretch.from..file.stretch.to).contains(&first)) {
            // The index says what came of it.
            return Ok(());
        }
        self.report.judged_again += 1;
        let present = Present { state: &self.state, source: self.source };
        let is_doubtful = version <= self.source.manifest.judged
            || records.iter().any(|(_, record)| is_judged(record) && present.is_newer(record.key, version));
        if is_doubtful {
            self.report.notices.push(format!(
                "the conditional or counting write of version {version} was judged against a state that lacks what merges left out"
            ));
        }
        if let Verdict::Applies(sums) = judge(payload, 0, &present)? {
            let mut sums = sums.iter();
            for (at, record) in records {
                let sum = if record.kind == RecordKind::Add { sums.next() } else { None };
                self.state.take(record, segment, *at, version, sum);
            }
        }
        Ok(())
    }

    /// Takes in what is whole of a damaged stretch.
    fn read_damaged(
        &mut self,
        found: &SourceSegment,
        bytes: Range<u64>,
        next_index: Option<Version>,
        why: &str,
    ) -> Result<()> {
        let mut stretch = vec![0; (bytes.end - bytes.start) as usize];
        let mut part = lost(&found.segment.path, bytes.start, bytes.end, why);
        if let Err(error) = found.segment.file.read_exact_at(&mut stretch, bytes.start) {
            part.what = error.to_string();
            self.report.lost_parts.push(part);
            return Ok(());
        }
        let (salt, start) = (found.segment.salt, bytes.start as u32);
        let records = match is_merged(found.segment.id) {
            true => find_placed(&stretch, salt, start),
            false => {
                let last =
                    next_index.map_or(self.last_index + VERSIONS_TRIED_MAX, |next| next.saturating_sub(1));
                let versions = self.last_index + 1..=last.min(self.last_index + VERSIONS_TRIED_MAX);
                find_records(&stretch, salt, start, versions)
            }
        };
        part.saved = records.len() as u64;
        self.report.lost_parts.push(part);
        let mut batches: BTreeMap<Version, Vec<Range<usize>>> = BTreeMap::new();
        for Found { bytes, version } in records {
            batches.entry(version).or_default().push(bytes);
        }
        for (version, places) in batches {
            let pieces: Vec<_> = places.iter().map(|place| &stretch[place.clone()]).collect();
            let payload = pieces.concat();
            let records: Vec<_> = places
                .iter()
                .zip(&pieces)
                .map(|(place, piece)| (start + place.start as u32, decode_record(piece).expect(VERIFIED).0))
                .collect();
            if is_merged(found.segment.id) {
                records.iter().for_each(|(at, it)| self.state.take(it, found.segment.id, *at, version, None));
            } else {
                self.last_index = self.last_index.max(version);
                self.take_batch(found, version, &payload, &records)?;
            }
        }
        Ok(())
    }

    /// Takes in what index files say beyond the frames: what came of judged batches, deletes whose records are damaged, and what
    /// is lost.
    fn read_index(&mut self, found: Option<&SourceSegment>, file: &IndexFile) -> Result<()> {
        self.state.version = self.state.version.max(file.stretch.last.index);
        self.last_index = match is_merged(file.stretch.segment) {
            true => self.last_index,
            false => self.last_index.max(file.stretch.last.index),
        };
        for range in &file.ranges {
            self.state.delete_range_before(range.clone());
        }
        let mut cursor = IndexCursor::start(file)?;
        while let Some(place) = cursor.place() {
            let key = cursor.key();
            let known = self.state.version_of(key);
            let is_record = place.slot.is_some_and(|slot| slot.as_sum().is_none());
            if !is_record && known.is_none_or(|known| known <= place.version) {
                self.state.set(key, place);
            } else if known.is_none_or(|known| known < place.version)
                && let Some(slot) = place.slot
            {
                match found.map(|found| found.segment.read_record(&location(key, slot))) {
                    Some(Ok(_)) => self.state.set(key, place),
                    Some(Err(error)) => {
                        as_loss(error)?;
                        self.state.lose(key, place.version);
                    }
                    None => self.state.lose(key, place.version),
                }
            }
            cursor.advance()?;
        }
        Ok(())
    }
}

/// The index of the entry that the scanner stands before.
fn entry_index(scanner: &mut FrameScanner<'_>) -> Result<Option<Version>> {
    Ok(match scanner.step()? {
        Step::Frame(frame) => frame.header.kind.is_entry().then_some(frame.header.index),
        Step::End | Step::Bad(_) => None,
    })
}

/// The length of the record that may begin at `at`.
fn record_at(bytes: &[u8], at: usize) -> Option<usize> {
    decode_record(bytes.get(at..)?).ok().map(|(_, header)| header.record_len())
}

/// Finds records of log frames in a stretch that begins at `start` of its segment, in batches of these versions.
fn find_records(
    bytes: &[u8],
    salt: u32,
    start: u32,
    versions: std::ops::RangeInclusive<Version>,
) -> Vec<Found> {
    let (mut at, mut found) = (0, Vec::new());
    // What a damaged frame's header says is worth a try.
    let mut said = None;
    while at < bytes.len() {
        if let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<FRAME_HEADER_LEN>())
            && let Ok(header) = FrameHeader::decode(head)
        {
            said = Some(header.index);
        }
        let whole = record_at(bytes, at).and_then(|len| {
            let record = &bytes[at..at + len];
            let offset = start + at as u32;
            // The checksum without its binding: what is left is the binding, whose version is to be found.
            let stored = u32::from_le_bytes(*record.first_chunk()?);
            let bound = stored ^ crc32c::crc32c(&record[4..]);
            let version =
                said.into_iter().chain(versions.clone()).find(|it| binding(salt, offset, *it) == bound)?;
            Some(Found { bytes: at..at + len, version })
        });
        match whole {
            Some(record) => {
                at = record.bytes.end;
                found.push(record);
            }
            None => at += 1,
        }
    }
    found
}

/// Finds records of merged segments, each behind its version.
fn find_placed(bytes: &[u8], salt: u32, start: u32) -> Vec<Found> {
    let (mut at, mut found) = (PLACED_VERSION_LEN, Vec::new());
    while at < bytes.len() {
        let version: [u8; PLACED_VERSION_LEN] =
            bytes[at - PLACED_VERSION_LEN..at].try_into().expect("it is as long as that");
        let version = u64::from_le_bytes(version);
        let is_whole =
            |len: &usize| checksum_matches(&bytes[at..at + len], binding(salt, start + at as u32, version));
        match record_at(bytes, at).filter(is_whole) {
            Some(len) => {
                found.push(Found { bytes: at..at + len, version });
                at += len + PLACED_VERSION_LEN;
            }
            None => at += 1,
        }
    }
    found
}
