//! Entries are read back: from memory, or from where they lie in the log.

use std::{ops::Range, sync::Arc};

use esker_log::{Error, GroupEnd, Index, Position, Result, segment::segment_name};

use super::{Inner, LogEntry, Replica, entries::Held};

impl Replica {
    /// Reads entries from the front of `range`, at least one if there is one, up to about `bytes_max` of payload. Waits for
    /// the disk where they are not in memory.
    ///
    /// Errors: `Damage`, `Io`.
    pub fn read(&self, range: Range<Index>, bytes_max: usize) -> Result<Vec<LogEntry>> {
        self.inner.read(range, bytes_max)
    }

    /// Like [`Replica::read`], without ever waiting for the disk; `None` where that would be needed.
    pub fn read_cached(&self, range: Range<Index>, bytes_max: usize) -> Option<Vec<LogEntry>> {
        self.inner.shared.with_entries(|entries| {
            let range = range.start.max(entries.range().start)..range.end.min(entries.range().end);
            let (mut found, mut bytes) = (Vec::new(), 0);
            for index in range {
                let Some(held) = entries.get(index) else { break };
                bytes += held.payload_len as usize;
                if !found.is_empty() && bytes > bytes_max {
                    break;
                }
                let payload = Arc::clone(held.payload.as_ref()?);
                let id = GroupEnd { index, term: held.term };
                found.push(LogEntry { id, kind: held.kind, payload, records: held.records });
            }
            Some(found)
        })
    }
}

impl Inner {
    /// See [`Replica::read`].
    fn read(&self, range: Range<Index>, bytes_max: usize) -> Result<Vec<LogEntry>> {
        let mut found = Vec::new();
        // A snapshot that is put in place meanwhile retires segments.
        let _pin = self.log().pin();
        self.shared.with_entries(|entries| {
            let range = range.start.max(entries.range().start)..range.end.min(entries.range().end);
            let mut bytes = 0;
            for index in range {
                let Some(held) = entries.get(index) else { break };
                bytes += held.payload_len as usize;
                if !found.is_empty() && bytes > bytes_max {
                    break;
                }
                found.push((GroupEnd { index, term: held.term }, held.clone()));
            }
        });
        found.into_iter().map(|(id, held)| self.read_entry(id, held)).collect()
    }

    fn read_entry(&self, id: GroupEnd, held: Held) -> Result<LogEntry> {
        let Held { kind, records, payload_len, position, payload, .. } = held;
        let payload = match (payload, position) {
            (Some(payload), _) => payload,
            (None, Some(position)) => self.read_payload(id, position, payload_len)?,
            (None, None) => unreachable!("an entry that is not written keeps its payload"),
        };
        Ok(LogEntry { id, kind, payload, records })
    }

    fn read_payload(&self, id: GroupEnd, position: Position, payload_len: u32) -> Result<Arc<[u8]>> {
        let (header, payload) = self.log().read_frame(position, payload_len)?;
        if (GroupEnd { index: header.index, term: header.term }) == id {
            return Ok(payload.into());
        }
        let path = self.log().dir().join(segment_name(position.segment));
        Err(Error::damage(path, u64::from(position.offset), "the frame is another entry's"))
    }
}
