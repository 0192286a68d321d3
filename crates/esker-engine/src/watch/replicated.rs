//! The changes of a replica: the committed entries that it still holds, each one version.

use std::sync::Arc;

use esker_log::{Error, GroupEnd, Log, Result, format::FrameKind, record::RecordKind};

use super::{
    ChangeCursor, FORGOTTEN, PURGED, Source, Stop,
    page::Page,
    settle::{Settled, Settler, any},
    window::{Payload, Window},
};
use crate::{
    RequestId, Version,
    replica::{self, Fate, HeldEntry},
};

/// So many entries are looked up at a time, and of about so many bytes.
const ENTRIES_MAX: u64 = 512;
const ENTRY_BYTES_MAX: u64 = 1 << 20;

/// See the module.
pub(crate) struct ReplicatedLog {
    replica: Arc<replica::Inner>,
}

impl ReplicatedLog {
    pub(crate) fn new(replica: Arc<replica::Inner>) -> Self {
        Self { replica }
    }
}

impl Source for ReplicatedLog {
    fn applied(&self) -> Version {
        self.replica.applied()
    }

    fn read(&self, cursor: &mut ChangeCursor, page: &mut Page<'_>) -> Result<Option<Stop>> {
        if self.replica.is_closing() {
            return Err(Error::Closed);
        }
        // Before anything is looked up: a snapshot that is put in place meanwhile retires segments.
        let _pin = self.replica.log().pin();
        let mut walk = Walk { replica: &self.replica, log: self.replica.log(), window: Window::default() };
        while !page.is_done() {
            // What is applied is committed, and what is committed is never cut off: so it may be read at leisure.
            let applied = self.replica.applied();
            if cursor.next > applied {
                return Ok(Some(Stop::CaughtUp));
            }
            let upto = applied.min(cursor.next + ENTRIES_MAX - 1);
            let entries = match self.replica.applied_entries(cursor.next..upto + 1, ENTRY_BYTES_MAX) {
                Ok(entries) => entries,
                Err(first) => return Ok(Some(Stop::Gone { from: first, why: PURGED })),
            };
            for entry in entries {
                if page.is_done() {
                    break;
                }
                if let Some(stop) = walk.take(entry, cursor, page)? {
                    return Ok(Some(stop));
                }
            }
        }
        Ok(None)
    }
}

/// A way through the entries.
struct Walk<'a> {
    replica: &'a replica::Inner,
    log: &'a Log,
    window: Window,
}

impl Walk<'_> {
    /// Takes the entry that the cursor stands before, or within.
    fn take(
        &mut self,
        entry: HeldEntry,
        cursor: &mut ChangeCursor,
        page: &mut Page<'_>,
    ) -> Result<Option<Stop>> {
        let version = entry.id.index;
        if entry.kind == FrameKind::Records {
            let replica = self.replica;
            let mut payload = self.payload(&entry)?;
            match settle(replica, version, &mut payload, page)? {
                None => return Ok(Some(Stop::Gone { from: version + 1, why: FORGOTTEN })),
                Some(Settled::Void) => {}
                Some(Settled::Applied(sums)) => {
                    if !page.add(&mut payload, version, &sums, &mut cursor.within)? {
                        return Ok(None);
                    }
                }
            }
        }
        page.look(u64::from(entry.payload_len));
        cursor.pass(version, None);
        Ok(None)
    }

    /// Where the entry's records are.
    fn payload<'a>(&'a mut self, entry: &'a HeldEntry) -> Result<Payload<'a>> {
        let position = match (&entry.payload, entry.position) {
            (Some(payload), _) => return Ok(Payload::Memory(payload)),
            (None, Some(position)) => position,
            (None, None) => unreachable!("an entry that is not written keeps its payload"),
        };
        // In this order: a segment that is not sealed yet is the one that was appended to.
        let appended = self.log.appended();
        let segment = self.log.segment(position.segment)?;
        let end = segment.sealed_end().map_or(u64::from(appended.offset), u64::from);
        let frame = self.window.frame(&segment, position.offset, end)?;
        if (GroupEnd { index: frame.header.index, term: frame.header.term }) != entry.id {
            let what = "the frame is another entry's";
            return Err(Error::damage(&segment.path, u64::from(position.offset), what));
        }
        Ok(Payload::Log(&mut self.window, segment, frame))
    }
}

/// What came of an entry, as far as its watcher cares; `None`: nobody knows any more, and it matters.
fn settle(
    replica: &replica::Inner,
    version: Version,
    payload: &mut Payload<'_>,
    page: &Page<'_>,
) -> Result<Option<Settled>> {
    let fate = replica.fate_of(version, || {
        let (record, _) = payload.record(0)?;
        let id = if record.kind == RecordKind::Request { RequestId::from_bytes(record.key) } else { None };
        Ok(id)
    })?;
    match fate {
        Fate::Counts(judgement) => {
            let settler = Settler { engine: replica.engine(), log: replica.log() };
            settler.settle(payload, version, judgement, page.filter)
        }
        Fate::Repeats => Ok(Some(Settled::Void)),
        Fate::Unknown => Ok((!any(payload, |record| page.filter.shows(record))?).then_some(Settled::Void)),
    }
}
