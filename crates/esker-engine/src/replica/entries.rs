//! The numbered entries of a replicated log: where each lies, and the newest ones in memory.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use esker_log::{GroupEnd, Index, Position, SegmentId, Term, format::FrameKind, scan::Frame};

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

/// An entry as it is held in memory: 48 bytes beside a cached payload.
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
    /// How many cuts were submitted before it.
    cuts: u32,
}

impl Held {
    /// An entry on its way to the log.
    pub(super) fn unwritten(entry: &LogEntry) -> Self {
        Self {
            term: entry.id.term,
            kind: entry.kind,
            records: entry.records,
            payload_len: entry.payload.len() as u32,
            position: None,
            payload: Some(Arc::clone(&entry.payload)),
            cuts: 0,
        }
    }

    /// An entry as it was found in the log.
    pub(super) fn found(frame: &Frame<'_>) -> Self {
        Self {
            term: frame.header.term,
            kind: frame.header.kind,
            records: frame.header.records,
            payload_len: frame.header.payload_len,
            position: Some(frame.position),
            payload: None,
            cuts: 0,
        }
    }
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
    /// Where entries lie that do not count: cut off, skipped by a snapshot, repeated requests. Reaches back to the
    /// beginning of the segment that the last checkpoint is in.
    void: BTreeSet<Position>,
    /// How often a suffix was cut off, in the order of submission and in that of writing. An entry and its twin behind a
    /// cut may be under way at once: this tells them apart.
    cuts: u32,
    cuts_written: u32,
}

impl Entries {
    pub(super) fn new(purged: GroupEnd, cached_bytes_max: usize) -> Self {
        Self {
            purged,
            held: VecDeque::new(),
            cached_bytes: 0,
            cached_bytes_max,
            evicted: 0,
            held_bytes: 0,
            void: BTreeSet::new(),
            cuts: 0,
            cuts_written: 0,
        }
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

    /// Where the first entry that is held lies; `None` if none is, or that one is not written yet.
    pub(super) fn first_position(&self) -> Option<Position> {
        self.held.front().and_then(|held| held.position)
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
    pub(super) fn push(&mut self, mut held: Held) {
        held.cuts = self.cuts;
        self.cached_bytes += held.payload.as_ref().map_or(0, |payload| payload.len());
        self.held_bytes += u64::from(held.payload_len);
        self.held.push_back(held);
    }

    /// Whether the log goes on behind just this entry.
    pub(super) fn contains(&self, id: GroupEnd) -> bool {
        id == self.purged || self.get(id.index).is_some_and(|held| held.term == id.term)
    }

    /// Notes where an entry was written; false if it was cut off meanwhile.
    pub(super) fn note_written(&mut self, id: GroupEnd, position: Position) -> bool {
        let cuts = self.cuts_written;
        let held = self.at(id.index).map(|at| &mut self.held[at]);
        let is_held = match held.filter(|held| held.term == id.term && held.cuts == cuts) {
            Some(held) => {
                held.position = Some(position);
                true
            }
            None => !self.void.insert(position),
        };
        self.evict();
        is_held
    }

    /// Notes that the mark of a cut was written, or of a new base.
    pub(super) fn note_cut_written(&mut self) {
        self.cuts_written += 1;
    }

    /// Notes where entries lie that do not count.
    pub(super) fn add_void(&mut self, positions: impl IntoIterator<Item = Position>) {
        self.void.extend(positions);
    }

    /// Where entries lie that do not count.
    pub(super) fn void(&self) -> &BTreeSet<Position> {
        &self.void
    }

    /// Forgets those in segments before `segment`.
    pub(super) fn forget_void_before(&mut self, segment: SegmentId) {
        self.void = self.void.split_off(&Position { segment, offset: 0 });
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

    /// Cuts off the entries behind `last`.
    pub(super) fn cut(&mut self, last: Index) {
        self.cuts += 1;
        let keep = last.saturating_sub(self.purged.index) as usize;
        let cut = self.held.split_off(keep.min(self.held.len()));
        self.drop_held(&cut, true);
        self.evicted = self.evicted.min(self.held.len());
    }

    /// The last entry that has to go if no more than so many bytes and entries are to be held; 0 if none has to. Entries
    /// behind `upto` stay.
    pub(super) fn surplus(&self, bytes_max: u64, entries_max: u64, upto: Index) -> Index {
        let (mut bytes, mut count) = (self.held_bytes, self.held.len() as u64);
        let may_go = upto.saturating_sub(self.purged.index) as usize;
        let over = self.held.iter().take(may_go).take_while(|held| {
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
        if upto.index > self.purged.index {
            self.drop_front(upto, false);
        }
    }

    /// A snapshot up to `last` takes the place of what is before. Says whether the entries behind it stay; if not, the
    /// mark of a new base is to be written.
    pub(super) fn install(&mut self, last: GroupEnd) -> bool {
        let stay = self.contains(last);
        if !stay {
            self.cut(self.purged.index);
        }
        self.drop_front(last, true);
        stay
    }

    fn drop_front(&mut self, upto: GroupEnd, are_void: bool) {
        let count = (upto.index.saturating_sub(self.purged.index) as usize).min(self.held.len());
        let rest = self.held.split_off(count);
        let dropped = std::mem::replace(&mut self.held, rest);
        self.drop_held(&dropped, are_void);
        self.evicted = self.evicted.saturating_sub(count);
        self.purged = upto;
    }

    fn drop_held(&mut self, dropped: &VecDeque<Held>, are_void: bool) {
        let bytes = dropped.iter().filter_map(|held| held.payload.as_ref()).map(|payload| payload.len());
        self.cached_bytes -= bytes.sum::<usize>();
        self.held_bytes -= dropped.iter().map(|held| u64::from(held.payload_len)).sum::<u64>();
        if are_void {
            self.void.extend(dropped.iter().filter_map(|held| held.position));
        }
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
            cuts: 0,
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
        entries.cut(11);
        assert_eq!(Vec::from_iter(entries.void().clone()), [position(12)]);
        assert_eq!(entries.last(), GroupEnd { index: 11, term: 1 });
        // An answer for an entry that was cut off is not taken for the one in its place.
        entries.push(held(3, 1));
        assert!(!entries.note_written(GroupEnd { index: 12, term: 2 }, position(13)));
        // Nor if it is its twin.
        assert!(!entries.note_written(GroupEnd { index: 12, term: 3 }, position(14)));
        assert_eq!(entries.get(12).and_then(|held| held.position), None);
        entries.note_cut_written();
        assert!(entries.note_written(GroupEnd { index: 12, term: 3 }, position(15)));
        assert_eq!(Vec::from_iter(entries.void().clone()), [position(12), position(13), position(14)]);
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

    #[test]
    fn a_snapshot_keeps_what_stands_behind_its_last_entry_and_nothing_else() {
        let end = |index, term| GroupEnd { index, term };
        let three = || {
            let mut entries = Entries::new(end(10, 1), 1000);
            (0..3).for_each(|_| entries.push(held(1, 1)));
            entries.note_written(end(11, 1), position(11));
            entries
        };
        let mut entries = three();
        assert!(entries.install(end(12, 1)));
        assert_eq!((entries.purged(), entries.last()), (end(12, 1), end(13, 1)));
        assert_eq!((entries.void().len(), entries.cached_bytes), (1, 1));
        for last in [end(12, 2), end(20, 2)] {
            let mut entries = three();
            assert!(!entries.install(last));
            assert_eq!((entries.purged(), entries.last()), (last, last));
            assert_eq!((entries.void().len(), entries.cached_bytes), (1, 0));
        }
    }
}
