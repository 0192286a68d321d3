//! Applying committed batches to the keydir.
//!
//! Most batches are plain: many of them are applied under one turn of the keydir's lock. A batch that is judged (see
//! [`crate::judge`]) is looked at first, with the lock free, for an add may have to read a value from the disk. Nothing else is
//! applied meanwhile, so it sees what all before it made.

use std::{ops::Bound, sync::atomic::Ordering};

use arrayvec::ArrayVec;
use esker_log::{
    Error, Position, Result,
    format::FRAME_HEADER_LEN,
    record::{RecordKind, Records},
    segment::segment_name,
    segments::Segments,
};

use super::{
    Bitcask,
    collect::slot_of,
    keydir::{IN_PLACE_OPERATIONS_MAX, Keydir, LANES, Slot, Tree},
    liveness::Liveness,
    read,
};
use crate::{
    Applied, Committed, Engine as _, Outcome, Version,
    judge::{self, State, Sum, VERIFIED, Verdict, deleted_range, judge, parse_integer, stamp_of},
};

impl Bitcask {
    /// See [`Engine::apply`](crate::Engine::apply).
    pub(super) fn apply_all(
        &self,
        segments: &dyn Segments,
        batches: &[Applied<'_>],
        outcomes: &mut Vec<Committed>,
    ) -> Result<()> {
        let mut rest = batches;
        while let Some(first) = rest.first() {
            let count = plain_turn(rest);
            if count == 0 {
                outcomes.push(self.apply_judged(segments, first)?);
                rest = &rest[1..];
            } else {
                let (turn, behind) = rest.split_at(count);
                self.apply_plain(turn, outcomes);
                rest = behind;
            }
        }
        self.note_progress(batches);
        Ok(())
    }

    fn apply_plain(&self, batches: &[Applied<'_>], outcomes: &mut Vec<Committed>) {
        let operations = batches.iter().map(|batch| batch.records as usize).sum();
        let (mut cut, first) = (Vec::new(), outcomes.len());
        let mut live = self.live.lock();
        self.keydir.apply(operations, |tree| {
            let mut turn =
                Turn { tree, live: &mut live, cut: &mut cut, stamp: 0, coming: Coming::of(batches) };
            outcomes.extend(batches.iter().map(|batch| turn.apply(batch, &[])));
            self.note_stamp(turn.stamp);
        });
        leave_out_expired(batches, &mut outcomes[first..], &cut);
        self.note_applied(batches);
        self.count_later(cut);
    }

    fn apply_judged(&self, segments: &dyn Segments, batch: &Applied<'_>) -> Result<Committed> {
        self.check_floor(batch)?;
        let state = Present { keydir: &self.keydir, segments };
        let verdict = judge(batch.payload, batch.floor_ms, &state)?;
        let mut committed = Committed::applied(batch.version, 0);
        let mut live = self.live.lock();
        match &verdict {
            Verdict::Void(refusal) => committed.outcome = Outcome::Refused(*refusal),
            Verdict::Applies(sums) => {
                let mut cut = Vec::new();
                committed = self.keydir.apply(batch.records as usize, |tree| {
                    let coming = Coming::of(std::slice::from_ref(batch));
                    let mut turn = Turn { tree, live: &mut live, cut: &mut cut, stamp: 0, coming };
                    let committed = turn.apply(batch, sums);
                    self.note_stamp(turn.stamp);
                    committed
                });
                leave_out_expired(std::slice::from_ref(batch), std::slice::from_mut(&mut committed), &cut);
                self.count_later(cut);
            }
        }
        self.verdicts.lock().note(batch.version, verdict.clone());
        self.judged.lock().insert(batch.position, verdict);
        self.note_applied(std::slice::from_ref(batch));
        Ok(committed)
    }

    /// Notes how far it got. With the lock of what lives held, so that whoever holds it finds the keydir, what came of judged
    /// batches and this in agreement: a merge has to know up to where the keydir it looked at went.
    fn note_applied(&self, batches: &[Applied<'_>]) {
        let Some(last) = batches.last() else { return };
        let Position { segment, offset } = last.position;
        let end = Position { segment, offset: offset + (FRAME_HEADER_LEN + last.payload.len()) as u32 };
        *self.applied_to.lock() = end;
        self.applied_version.store(last.version, Ordering::Release);
    }

    /// A batch that was judged before a merge cannot be judged again after it: what it was held against may be gone.
    fn check_floor(&self, batch: &Applied<'_>) -> Result<()> {
        let floor = self.judged_floor.load(Ordering::Acquire);
        if batch.version > floor {
            return Ok(());
        }
        let path = segment_name(batch.position.segment);
        let why = "an index file with what this conditional write came to is lost: repair the store, or wipe the replica";
        Err(Error::damage(path, u64::from(batch.position.offset), why))
    }

    /// Keeps what was cut out of the keydir until somebody has the time to count and drop it. With the lock of what lives held: a
    /// merge that finds nothing here may forget the segments it led to.
    fn count_later(&self, cut: Vec<CutOut>) {
        if !cut.is_empty() {
            self.cut.lock().extend(cut.into_iter().map(|it| it.tree));
            self.maintenance.raise();
        }
    }

    /// Counts what was cut out of the keydir.
    pub(super) fn count_cut(&self) {
        // Until what was taken is counted, nobody may take it for counted.
        let _turn = self.counting.lock();
        loop {
            // One at a time: a tree is held by this thread alone while it is counted, and dropped with no lock held.
            let Some(tree) = self.cut.lock().pop() else { return };
            let gone = Liveness::of(&tree);
            self.live.lock().subtract(&gone);
        }
    }

    fn note_progress(&self, batches: &[Applied<'_>]) {
        let Some(last) = batches.last() else { return };
        let Position { segment, offset } = last.position;
        let end = Position { segment, offset: offset + (FRAME_HEADER_LEN + last.payload.len()) as u32 };
        *self.applied_to.lock() = end;
        self.budget.note_index(self.keydir.memory_bytes() as u64);
        self.applied_version.store(last.version, Ordering::Release);
        let operations: u64 = batches.iter().map(|batch| u64::from(batch.records)).sum();
        let before = self.uncovered_ops.fetch_add(operations, Ordering::Relaxed);
        let crossed = before < self.checkpoint_ops && before + operations >= self.checkpoint_ops;
        let segment = u64::from(segment);
        if self.segment.swap(segment, Ordering::Relaxed) != segment || crossed {
            self.maintenance.raise();
        }
    }
}

/// How many plain batches can be applied under one turn of the lock: small ones share it; a large one is applied alone, beside
/// the readers.
fn plain_turn(batches: &[Applied<'_>]) -> usize {
    let mut operations = 0;
    let plain = batches.iter().enumerate().take_while(|(at, batch)| {
        operations += batch.records as usize;
        (*at == 0 || operations <= IN_PLACE_OPERATIONS_MAX) && !judge::is_judged(batch.payload)
    });
    plain.count()
}

/// What a range delete cut out of the keydir.
struct CutOut {
    tree: Tree<Slot>,
    version: Version,
    /// What had expired by then was not there, whether or not a merge has dropped it yet; 0: nothing that can be known.
    expired_by: u64,
}

/// Counts keys that had expired out of what range deletes came to. With no lock of the keydir held: all of them are looked at.
fn leave_out_expired(batches: &[Applied<'_>], outcomes: &mut [Committed], cut: &[CutOut]) {
    for cut in cut.iter().filter(|cut| cut.expired_by > 0) {
        let at = batches.partition_point(|batch| batch.version < cut.version);
        let expired = cut.tree.iter().filter(|(_, slot)| slot.is_expired(cut.expired_by)).count();
        let existed = &mut outcomes[at].existed;
        *existed = existed.saturating_sub(u32::try_from(expired).unwrap_or(u32::MAX));
    }
}

/// A turn of the keydir's lock.
struct Turn<'a> {
    tree: &'a mut Tree<Slot>,
    live: &'a mut Liveness,
    /// What range deletes cut out.
    cut: &'a mut Vec<CutOut>,
    /// The latest time that a batch said.
    stamp: u64,
    /// The records that it will come to.
    coming: Coming<'a>,
}

impl Turn<'_> {
    /// Applies a batch whose adds come to `sums`.
    fn apply(&mut self, batch: &Applied<'_>, sums: &[Sum]) -> Committed {
        let Position { segment, offset } = batch.position;
        let payload_offset = offset + FRAME_HEADER_LEN as u32;
        let mut committed = Committed::applied(batch.version, 0);
        let mut sums = sums.iter();
        let mut now = batch.floor_ms;
        for (at, record) in Records::new(batch.payload).map(|record| record.expect(VERIFIED)) {
            self.coming.prefetch(self.tree);
            let old = match record.kind {
                RecordKind::Put => {
                    let slot = slot_of(&record, segment, payload_offset + at as u32, batch.version);
                    self.put(record.key, slot)
                }
                RecordKind::Add => {
                    let Sum { value, expiry } = *sums.next().expect("a sum was made for every add");
                    committed.outcome = Outcome::Sum(value);
                    self.live.note_sum(segment);
                    self.put(record.key, Slot::sum(value, batch.version).expiring(expiry))
                }
                RecordKind::Delete => self.tree.remove(record.key),
                RecordKind::DeleteRange => {
                    let range = deleted_range(&record);
                    let [start, end] = [&range.start, &range.end].map(|it| it.as_ref().map(Vec::as_slice));
                    committed.existed =
                        committed.existed.saturating_add(self.cut(start, end, batch.version, now));
                    None
                }
                RecordKind::Stamp => {
                    now = now.max(stamp_of(&record));
                    self.stamp = self.stamp.max(now);
                    None
                }
                RecordKind::Request | RecordKind::Condition => None,
            };
            if let Some(old) = old {
                committed.existed += u32::from(!old.is_expired(now));
                self.live.remove(record.key.len(), old);
            }
        }
        committed
    }

    fn put(&mut self, key: &[u8], slot: Slot) -> Option<Slot> {
        self.live.add(key.len(), slot);
        self.tree.insert(key, slot)
    }

    fn cut(&mut self, start: Bound<&[u8]>, end: Bound<&[u8]>, version: Version, now: u64) -> u32 {
        let tree = self.tree.remove_range(start, end);
        let keys = u32::try_from(tree.len()).unwrap_or(u32::MAX);
        if keys > 0 {
            let expired_by = if self.live.has_expiring() { now } else { 0 };
            self.cut.push(CutOut { tree, version, expired_by });
        }
        keys
    }
}

/// The keys of the records that are applied next. They are looked up some at a time before they are applied one by one: so their
/// waits for memory overlap, and readers wait less for the lock.
struct Coming<'a> {
    batches: &'a [Applied<'a>],
    records: Records<'a>,
    /// So many records were looked up and are not applied.
    left: usize,
}

impl<'a> Coming<'a> {
    fn of(batches: &'a [Applied<'a>]) -> Self {
        Self { batches, records: Records::new(&[]), left: 0 }
    }

    /// Called before each record.
    fn prefetch(&mut self, tree: &Tree<Slot>) {
        if self.left == 0 {
            let keys: ArrayVec<&[u8], LANES> = self.by_ref().take(LANES).collect();
            self.left = keys.len();
            if keys.len() > 1 {
                std::hint::black_box(tree.get_each(&keys));
            }
        }
        self.left = self.left.saturating_sub(1);
    }
}

impl<'a> Iterator for Coming<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(record.expect(VERIFIED).1.key);
            }
            let (next, rest) = self.batches.split_first()?;
            (self.batches, self.records) = (rest, Records::new(next.payload));
        }
    }
}

/// The keydir as a batch is judged against it.
struct Present<'a> {
    keydir: &'a Keydir,
    segments: &'a dyn Segments,
}

impl State for Present<'_> {
    fn version(&self, key: &[u8]) -> Option<(Version, Option<u64>)> {
        self.keydir.get(key).map(|slot| (slot.version(), slot.expiry()))
    }

    fn integer(&self, key: &[u8]) -> Result<Option<i64>> {
        /// No integer is longer.
        const INTEGER_LEN_MAX: u32 = 20;
        loop {
            let Some(slot) = self.keydir.get(key) else { return Ok(Some(0)) };
            if let Some(sum) = slot.as_sum() {
                return Ok(Some(sum));
            }
            let expiry_len = if slot.expiry().is_some() { 8 } else { 0 };
            if !slot.is_compressed() && slot.value_len() > INTEGER_LEN_MAX + expiry_len {
                return Ok(None);
            }
            let entry = self.segments.segment(slot.segment()).and_then(|found| read(&found, key, slot));
            match entry {
                Ok(entry) => return Ok(parse_integer(&entry.value)),
                // A merge may have moved it meanwhile: then it is found where it is now.
                Err(error) if self.keydir.get(key) == Some(slot) => return Err(error),
                Err(_) => {}
            }
        }
    }
}
