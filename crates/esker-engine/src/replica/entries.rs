//! The numbered entries of a replicated log: where each lies, and the newest ones in memory.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use esker_log::{GroupEnd, Index, Position, Term, format::FrameKind};

/// An entry of a replicated log. Cloning shares the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index and term.
    pub id: GroupEnd,
    /// What it holds: one of the kinds that are entries.
    pub kind: FrameKind,
    /// Records with unbound checksums; or what the consensus module put there.
    pub payload: Arc<[u8]>,
    /// How many records.
    pub records: u32,
}

/// An entry as it is held in memory: 56 bytes beside a cached payload.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) term: Term,
    pub(super) kind: FrameKind,
    pub(super) records: u32,
    pub(super) payload_len: u32,
    /// Where its frame lies; `None` until it is written.
    pub(super) position: Option<Position>,
    /// Its payload; `None` if it has to be read back.
    pub(super) payload: Option<Arc<[u8]>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Entries {
    /// The entry before the first that is held.
    purged: GroupEnd,
    held: VecDeque<Held>,
    /// Payload bytes in memory, and how many there may be of those that can be read back.
    cached_bytes: usize,
    cached_bytes_max: usize,
    /// How many entries from the front have no cached payload.
    evicted: usize,
    /// Payload bytes of all entries, in memory or not.
    held_bytes: u64,
}

impl Entries {
    pub(super) fn new(purged: GroupEnd, cached_bytes_max: usize) -> Self {
        Self { purged, held: VecDeque::new(), cached_bytes: 0, cached_bytes_max, evicted: 0, held_bytes: 0 }
    }

    /// The entry before the first that is held.
    pub(super) fn purged(&self) -> GroupEnd {
        self.purged
    }

    /// The last entry; the purged one if none is held.
    pub(super) fn last(&self) -> GroupEnd {
        self.held
            .back()
            .map_or(self.purged, |last| GroupEnd { index: self.next_index() - 1, term: last.term })
    }

    /// The first index that is held, and the one behind the last.
    pub(super) fn range(&self) -> Range<Index> {
        self.purged.index + 1..self.next_index()
    }

    fn next_index(&self) -> Index {
        self.purged.index + 1 + self.held.len() as u64
    }

    fn at(&self, index: Index) -> Option<usize> {
        self.range().contains(&index).then(|| (index - self.purged.index - 1) as usize)
    }

    pub(super) fn get(&self, index: Index) -> Option<&Held> {
        self.at(index).map(|at| &self.held[at])
    }

    /// Adds the next entry. The caller has seen to it that it is the next.
    pub(super) fn push(&mut self, held: Held) {
        self.cached_bytes += held.payload.as_ref().map_or(0, |payload| payload.len());
        self.held_bytes += u64::from(held.payload_len);
        self.held.push_back(held);
    }

    /// Notes where an entry was written; false if it was cut off meanwhile.
    pub(super) fn note_written(&mut self, id: GroupEnd, position: Position) -> bool {
        let held = self.at(id.index).map(|at| &mut self.held[at]).filter(|held| held.term == id.term);
        let is_held = held.map(|held| held.position = Some(position)).is_some();
        self.evict();
        is_held
    }

    /// Drops the oldest payloads that can be read back, as far as there are too many bytes of them.
    fn evict(&mut self) {
        while self.cached_bytes > self.cached_bytes_max
            && let Some(held) = self.held.get_mut(self.evicted)
            && held.position.is_some()
        {
            self.cached_bytes -= held.payload.take().map_or(0, |payload| payload.len());
            self.evicted += 1;
        }
    }

    /// Cuts off the entries behind `last`; gives those that were written already, with their positions.
    pub(super) fn truncate(&mut self, last: Index) -> Vec<Position> {
        let keep = last.saturating_sub(self.purged.index) as usize;
        let cut = self.held.split_off(keep.min(self.held.len()));
        self.cached_bytes -=
            cut.iter().filter_map(|held| held.payload.as_ref()).map(|p| p.len()).sum::<usize>();
        self.evicted = self.evicted.min(self.held.len());
        self.held_bytes -= cut.iter().map(|held| u64::from(held.payload_len)).sum::<u64>();
        cut.into_iter().filter_map(|held| held.position).collect()
    }

    /// The last entry that has to go if no more than so many bytes and entries are to be held; 0 if none has to.
    pub(super) fn surplus(&self, bytes_max: u64, entries_max: u64) -> Index {
        let (mut bytes, mut count) = (self.held_bytes, self.held.len() as u64);
        let over = self.held.iter().take_while(|held| {
            let is_over = bytes > bytes_max || count > entries_max;
            bytes -= u64::from(held.payload_len);
            count -= 1;
            is_over
        });
        match over.count() as u64 {
            0 => 0,
            over => self.purged.index + over,
        }
    }

    /// Drops the entries up to `upto`, which may be behind the last one.
    pub(super) fn purge(&mut self, upto: GroupEnd) {
        if upto.index <= self.purged.index {
            return;
        }
        let count = ((upto.index - self.purged.index) as usize).min(self.held.len());
        for held in self.held.drain(..count) {
            self.cached_bytes -= held.payload.map_or(0, |payload| payload.len());
            self.held_bytes -= u64::from(held.payload_len);
        }
        self.evicted = self.evicted.saturating_sub(count);
        self.purged = upto;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(term: Term, len: usize) -> Held {
        Held {
            term,
            kind: FrameKind::Records,
            records: 1,
            payload_len: len as u32,
            position: None,
            payload: Some(vec![0; len].into()),
        }
    }

    fn position(offset: u32) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn only_what_can_be_read_back_leaves_the_cache() {
        let mut entries = Entries::new(GroupEnd::default(), 100);
        for _ in 0..4 {
            entries.push(held(1, 40));
        }
        entries.note_written(GroupEnd { index: 2, term: 1 }, position(2));
        assert!(entries.get(1).is_some_and(|held| held.payload.is_some()), "not written yet");
        entries.note_written(GroupEnd { index: 1, term: 1 }, position(1));
        assert!(entries.get(1).is_some_and(|held| held.payload.is_none()));
        assert!(entries.get(2).is_some_and(|held| held.payload.is_none()));
        assert!(entries.get(3).is_some_and(|held| held.payload.is_some()));
    }

    #[test]
    fn a_cut_suffix_gives_up_its_places() {
        let mut entries = Entries::new(GroupEnd { index: 10, term: 1 }, 1000);
        for term in [1, 2, 2] {
            entries.push(held(term, 1));
        }
        entries.note_written(GroupEnd { index: 12, term: 2 }, position(12));
        assert_eq!(entries.truncate(11), [position(12)]);
        assert_eq!(entries.last(), GroupEnd { index: 11, term: 1 });
        // An answer for an entry that was cut off is not taken for the one in its place.
        entries.push(held(3, 1));
        assert!(!entries.note_written(GroupEnd { index: 12, term: 2 }, position(12)));
        assert_eq!(entries.get(12).and_then(|held| held.position), None);
        assert_eq!(entries.cached_bytes, 2);
    }

    #[test]
    fn purging_may_go_beyond_the_last_entry() {
        let mut entries = Entries::new(GroupEnd::default(), 1000);
        entries.push(held(1, 1));
        entries.purge(GroupEnd { index: 7, term: 2 });
        assert_eq!((entries.range(), entries.last()), (8..8, GroupEnd { index: 7, term: 2 }));
        assert_eq!(entries.cached_bytes, 0);
    }
}
