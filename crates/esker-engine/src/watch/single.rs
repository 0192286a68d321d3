//! The changes of a store that commits for itself: every frame of its log counts, and each is one version.

use std::sync::Arc;

use esker_log::{
    Error, Log, Position, Result, SegmentId,
    format::{FrameKind, SEGMENT_HEADER_LEN},
    segment::Segment,
};

use super::{
    ChangeCursor, FORGOTTEN, MERGED, Source, Stop,
    page::Page,
    settle::{Settled, Settler},
    window::{Payload, Window, behind},
};
use crate::{Version, db};

/// See the module.
pub(crate) struct SingleLog {
    db: Arc<db::Inner>,
}

impl SingleLog {
    pub(crate) fn new(db: Arc<db::Inner>) -> Self {
        Self { db }
    }

    fn log(&self) -> &Arc<Log> {
        self.db.commit.log()
    }
}

impl Source for SingleLog {
    fn applied(&self) -> Version {
        self.db.applied().0
    }

    fn read(&self, cursor: &mut ChangeCursor, page: &mut Page<'_>) -> Result<Option<Stop>> {
        if self.db.is_closing() {
            return Err(Error::Closed);
        }
        // Before anything is looked up: what is found must still be there when it is read.
        let _pin = self.log().pin();
        let (applied, end) = self.db.applied();
        if cursor.next > applied {
            return Ok(Some(Stop::CaughtUp));
        }
        let mut walk = Walk {
            log: self.log(),
            settler: Settler { engine: self.db.engine.as_ref(), log: self.log() },
            applied,
            end,
            window: Window::default(),
        };
        while !page.is_done() {
            if let Some(stop) = walk.step(cursor, page)? {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }
}

/// A way through the log.
struct Walk<'a> {
    log: &'a Log,
    settler: Settler<'a>,
    /// The last version that was applied.
    applied: Version,
    /// Behind its frame.
    end: Position,
    window: Window,
}

impl Walk<'_> {
    /// Takes the frame at the cursor's place.
    fn step(&mut self, cursor: &mut ChangeCursor, page: &mut Page<'_>) -> Result<Option<Stop>> {
        let found = cursor.place.and_then(|place| Some((place, self.log.find_segment(place.segment)?)));
        let Some((place, segment)) = found else {
            // It comes from elsewhere, or its segment was merged away; what it wants may be in the next one.
            return self.locate(cursor);
        };
        if place >= self.end {
            return Ok(Some(Stop::CaughtUp));
        }
        let limit = self.limit(&segment);
        if u64::from(place.offset) >= limit {
            cursor.place = Some(first_of(place.segment + 1));
            return Ok(None);
        }
        let frame = self.window.frame(&segment, place.offset, limit)?;
        let (version, next) = (frame.header.index, behind(&segment, &frame));
        if frame.header.kind != FrameKind::Records || version < cursor.next {
            page.look(frame.header.frame_len());
            cursor.place = Some(next);
            return Ok(None);
        }
        if version > cursor.next {
            return Err(Error::damage(
                &segment.path,
                u64::from(place.offset),
                "a version is missing before this",
            ));
        }
        let mut payload = Payload::Log(&mut self.window, segment, frame);
        let judgement = self.settler.engine.judgement(version);
        match self.settler.settle(&mut payload, version, judgement, page.filter)? {
            None => return Ok(Some(Stop::Gone { from: version + 1, why: FORGOTTEN })),
            Some(Settled::Void) => {}
            Some(Settled::Applied(sums)) => {
                if !page.add(&mut payload, version, &sums, &mut cursor.within)? {
                    return Ok(None);
                }
            }
        }
        page.look(frame.header.frame_len());
        cursor.pass(version, Some(next));
        Ok(None)
    }

    /// How far the segment goes, as far as it was applied.
    fn limit(&self, segment: &Segment) -> u64 {
        match segment.id == self.end.segment {
            true => u64::from(self.end.offset),
            false => segment.sealed_end().map_or(0, u64::from),
        }
    }

    /// Moves the cursor to the beginning of the segment that has its version.
    fn locate(&mut self, cursor: &mut ChangeCursor) -> Result<Option<Stop>> {
        let segments = self.unbroken();
        let mut outcome = Ok(());
        // The first segment whose first version is behind the one that is wanted.
        let at = segments.partition_point(|segment| match self.first_version(segment) {
            Ok(first) => first.is_some_and(|first| first <= cursor.next),
            Err(error) => {
                outcome = Err(error);
                false
            }
        });
        outcome?;
        match at.checked_sub(1).and_then(|at| segments.get(at)) {
            Some(segment) => cursor.place = Some(first_of(segment.id)),
            None => {
                let first = segments.first().map_or(Ok(None), |segment| self.first_version(segment))?;
                // The segment that was written last has a frame, or there would be nothing to read.
                return Ok(Some(Stop::Gone { from: first.unwrap_or(self.applied + 1), why: MERGED }));
            }
        }
        Ok(None)
    }

    /// The log's last segments, between which none is missing.
    fn unbroken(&self) -> Vec<Arc<Segment>> {
        let mut segments = self.log.segments();
        segments.retain(|segment| segment.id <= self.end.segment);
        let whole = segments.windows(2).rposition(|pair| pair[0].id + 1 != pair[1].id);
        segments.split_off(whole.map_or(0, |gap| gap + 1))
    }

    /// The first version in a segment; `None` if nothing is in it yet.
    fn first_version(&mut self, segment: &Arc<Segment>) -> Result<Option<Version>> {
        let (offset, limit) = (first_of(segment.id).offset, self.limit(segment));
        if u64::from(offset) >= limit {
            return Ok(None);
        }
        let frame = self.window.frame(segment, offset, limit)?;
        let index = frame.header.index;
        if frame.header.kind != FrameKind::Records {
            // What a repair has made begins behind this one.
            return Ok(Some(index + 1));
        }
        // Of a long frame nothing is checked until a record is read.
        Payload::Log(&mut self.window, Arc::clone(segment), frame).record(0)?;
        Ok(Some(index))
    }
}

/// Where a segment's first frame begins.
fn first_of(segment: SegmentId) -> Position {
    Position { segment, offset: SEGMENT_HEADER_LEN as u32 }
}
