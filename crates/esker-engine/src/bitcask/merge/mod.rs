//! Merging: what lives of some segments moves to new ones, in key order, and the old ones go. `docs/merge.md` has the design.
//!
//! ```text
//! choose.rs   which segments
//! beside.rs   what merged segments hold beside records
//! copy.rs     what lives of them
//! stretch.rs  read in the order of the files
//! outputs.rs  written in the order of the keys
//! older.rs    what tombstones are kept for
//! compact.rs  everything, merge by merge
//! ```
//!
//! Between copying and installing, index files must come to cover everything that was applied when it was judged what lives: a
//! replay that began before would meet a state that has lost what was dead by then. That is the store's to do, for it may have
//! more to save than the engine's index.

pub(crate) mod beside;
mod choose;
mod compact;
mod copy;
mod older;
mod outputs;
mod stretch;

use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use esker_log::{
    Error, Log, Merge, Position, Result, SegmentId, is_merged,
    segment::{Segment, segment_name},
};

/// A merge never takes less than this, whatever the disk has room for, but for one segment.
const COPY_BYTES_MIN: u64 = 1 << 20;

pub(crate) use self::choose::Policy;
use self::{
    choose::{Candidate, choose},
    copy::{Copied, Copier},
    older::Outside,
    outputs::{Output, Outputs},
};
use super::{
    Bitcask,
    checkpoint::{RowNames, remove_index_files},
    index_file::{IndexCursor, IndexFile, IndexName},
    index_merge::{cover_of, merge_index},
    keydir::{IN_PLACE_OPERATIONS_MAX, Slot, Tree},
};
use crate::{Merged, Merging, Pace, Version};

/// A merge that is done.
struct Done {
    merged: Merged,
    /// The segments that it made, each with the part of the keys that it holds.
    made: Vec<(usize, SegmentId)>,
}

impl Bitcask {
    /// See [`Engine::merge`](crate::Engine::merge).
    pub(super) fn merge_some(&self, log: &Arc<Log>, merging: &mut Merging<'_>) -> Result<Option<Merged>> {
        if merging.all {
            return self.compact(log, merging);
        }
        let mut turn = self.merge_turn.lock();
        if turn.is_some() {
            return Ok(self.finish_merge(&mut turn, log)?.map(|done| done.merged));
        }
        self.count_cut();
        let inputs = choose(&self.candidates(log, merging.before), &self.merge_policy(log));
        let done = self.begin_merge(&mut turn, log, &inputs, &[], merging)?;
        Ok(done.map(|done| done.merged))
    }

    /// Merges those of the segments that are still part of the store; a segment ends at each of the `cuts`.
    fn merge_these(
        &self,
        log: &Arc<Log>,
        ids: &[SegmentId],
        cuts: &[Vec<u8>],
        merging: &mut Merging<'_>,
    ) -> Result<Option<Done>> {
        let mut turn = self.merge_turn.lock();
        self.finish_merge(&mut turn, log)?;
        let present = log.merged().into_iter().chain(log.segments());
        let present: Vec<_> = present.map(|segment| segment.id).filter(|id| ids.contains(id)).collect();
        self.begin_merge(&mut turn, log, &present, cuts, merging)
    }

    /// Finishes a merge that has happened, if there is one.
    fn finish_merge(&self, turn: &mut Option<Installed>, log: &Log) -> Result<Option<Done>> {
        let Some(installed) = turn.as_ref() else { return Ok(None) };
        let done = installed.finish(self, log)?;
        *turn = None;
        Ok(done)
    }

    fn begin_merge(
        &self,
        turn: &mut Option<Installed>,
        log: &Arc<Log>,
        inputs: &[SegmentId],
        cuts: &[Vec<u8>],
        merging: &mut Merging<'_>,
    ) -> Result<Option<Done>> {
        if inputs.is_empty() {
            return Ok(None);
        }
        let generation = log.generation();
        let rows = self.hold_rows(inputs);
        let copied = match self.copy(log, inputs, cuts, merging.pace) {
            // A snapshot has taken the place of what was being copied.
            Err(_) if log.generation() != generation => return Ok(None),
            copied => copied?,
        };
        // Everything that was applied when the last key was looked at.
        let judged = {
            let _agreement = self.live.lock();
            Judged { version: self.applied_version.load(Ordering::Acquire), to: *self.applied_to.lock() }
        };
        (merging.save)()?;
        if self.checkpoints.lock().covered() < judged.to {
            let why = "index files do not cover what was applied: the merge is given up";
            return Err(Error::InvalidRequest(why.into()));
        }
        *turn = Some(Installed::new(log, inputs.to_vec(), copied, generation, judged.version)?);
        // From here on it has happened. What fails now is done first the next time.
        rows.let_go();
        self.finish_merge(turn, log)
    }

    /// Copies what lives of the inputs. Where the disk is too full for it, the next merge takes less.
    fn copy(
        &self,
        log: &Arc<Log>,
        inputs: &[SegmentId],
        cuts: &[Vec<u8>],
        pace: &mut dyn Pace,
    ) -> Result<Copied> {
        let copied = Job::new(self, log, inputs)?.copy(cuts, pace);
        let limit = self.copy_bytes_max.load(Ordering::Relaxed);
        let next = match &copied {
            Err(Error::DiskFull) => limit / 2,
            Err(_) => limit,
            Ok(_) => (2 * limit).clamp(COPY_BYTES_MIN, self.policy.copy_bytes_max),
        };
        self.copy_bytes_max.store(next, Ordering::Relaxed);
        copied
    }

    /// Sees to it that the rows of these segments are not joined for a while.
    pub(super) fn hold_rows(&self, segments: &[SegmentId]) -> HeldRows<'_> {
        // None of them is being joined now.
        let _turn = self.files_turn.lock();
        HeldRows { engine: self, rows: self.checkpoints.lock().forget(segments) }
    }

    fn candidates(&self, log: &Log, before: Position) -> Vec<Candidate> {
        let before = before.min(self.checkpoints.lock().covered()).segment;
        let live = self.live.lock();
        let beside = self.beside.lock();
        let compacting = self.compacting.lock();
        let candidate = |segment: &Arc<Segment>| {
            let id = segment.id;
            let end = segment.sealed_end();
            Candidate {
                id,
                bytes: u64::from(end.unwrap_or_else(|| log.appended().offset)),
                live: beside.needed(id, live.of_segment(id)),
                has_sums: live.may_have_sums(id),
                eligible: end.is_some() && (is_merged(id) || id < before) && !compacting.contains(&id),
            }
        };
        log.segments().iter().chain(&log.merged()).map(candidate).collect()
    }

    fn merge_policy(&self, log: &Log) -> Policy {
        let segment_bytes = log.segment_target();
        let copy_bytes_max = self.copy_bytes_max.load(Ordering::Relaxed);
        // On a full disk whatever is dead is missed.
        let store_bytes_min = if log.is_disk_full() { 0 } else { self.policy.store_bytes_min };
        Policy { segment_bytes, copy_bytes_max, store_bytes_min, ..self.policy }
    }

    /// Whether enough is dead for a merge.
    pub(super) fn merge_is_due(&self, log: &Log, before: Position) -> bool {
        self.count_cut();
        !choose(&self.candidates(log, before), &self.merge_policy(log)).is_empty()
    }
}

/// Rows that are not joined, for a merge reads them. When it fails, they are again.
pub(super) struct HeldRows<'a> {
    engine: &'a Bitcask,
    rows: Vec<(SegmentId, usize)>,
}

impl HeldRows<'_> {
    /// The merge has happened: the rows go with their segments.
    pub(super) fn let_go(mut self) {
        self.rows.clear();
    }
}

impl Drop for HeldRows<'_> {
    fn drop(&mut self) {
        self.engine.checkpoints.lock().remember(std::mem::take(&mut self.rows));
    }
}

/// Up to where the log was applied when it had been judged what lives.
struct Judged {
    version: Version,
    to: Position,
}

/// The segments that are merged.
struct Inputs {
    segments: HashMap<SegmentId, Arc<Segment>>,
}

impl Inputs {
    /// Errors: `Damage`.
    fn open(log: &Log, ids: &[SegmentId]) -> Result<Self> {
        let segments = ids.iter().map(|&id| Ok((id, log.segment(id)?))).collect::<Result<_>>()?;
        Ok(Self { segments })
    }

    fn contains(&self, id: SegmentId) -> bool {
        self.segments.contains_key(&id)
    }

    /// One of them. Errors: `Damage` if it is none of them.
    fn segment(&self, id: SegmentId) -> Result<&Arc<Segment>> {
        self.segments.get(&id).ok_or_else(|| Error::damage(segment_name(id), 0, "it is not being merged"))
    }
}

/// A merge whose outputs are not part of the store yet.
struct Job<'a> {
    engine: &'a Bitcask,
    log: &'a Arc<Log>,
    inputs: Inputs,
    /// The index files of the inputs.
    files: Vec<IndexFile>,
}

impl<'a> Job<'a> {
    fn new(engine: &'a Bitcask, log: &'a Arc<Log>, ids: &[SegmentId]) -> Result<Self> {
        let inputs = Inputs::open(log, ids)?;
        // No row is added to meanwhile. Those of the inputs are not joined as long as the merge lasts: their files are opened again
        // where too many are open.
        let _turn = engine.files_turn.lock();
        let names = RowNames::list(log)?;
        let mut files = Vec::new();
        for &id in ids {
            let row = names.open_pooled(log, id)?;
            check_whole(log, inputs.segment(id)?, &row)?;
            files.extend(row);
        }
        Ok(Self { engine, log, inputs, files })
    }

    /// Copies what lives.
    fn copy(&self, cuts: &[Vec<u8>], pace: &mut dyn Pace) -> Result<Copied> {
        let newest = self.files.iter().map(|file| file.stretch.last.index).max().unwrap_or(0);
        // No version that is copied is higher.
        let newest = newest.max(self.engine.applied_version.load(Ordering::Acquire));
        let outside = Outside { engine: self.engine, log: self.log, inputs: &self.inputs };
        let outputs = Outputs::new(self.log, newest, cuts);
        let mut copier = Copier::new(self.engine, &self.inputs, outside, outputs, pace);
        let (cover, all) = (cover_of(&self.files), Bound::Unbounded);
        merge_index(&self.files, &cover, all, all, |key, place, _| copier.take(key, place))?;
        copier.finish(self.files.iter().flat_map(|file| &file.ranges), &cover)
    }
}

/// A merge that has happened: its outputs are part of the store and its inputs are not. What is left to do can be done again
/// from the beginning. Until it is done, keys lead to the inputs, which can be read.
pub(super) struct Installed {
    inputs: Vec<SegmentId>,
    copied: Copied,
    /// Of the state that it is a merge of.
    generation: u64,
}

impl Installed {
    fn new(
        log: &Log,
        mut inputs: Vec<SegmentId>,
        mut copied: Copied,
        generation: u64,
        judged: Version,
    ) -> Result<Self> {
        let merge = Merge {
            outputs: copied.outputs.iter().map(|output| Arc::clone(&output.segment)).collect(),
            inputs: inputs.clone(),
            generation,
            judged,
        };
        log.install(&merge)?;
        copied.keep();
        // Ascending, to be searched.
        inputs.sort_unstable();
        Ok(Self { inputs, copied, generation })
    }

    /// Leads the keys to their new places and takes the inputs out. `None`: a snapshot has taken the place of both meanwhile.
    fn finish(&self, engine: &Bitcask, log: &Log) -> Result<Option<Done>> {
        match self.try_finish(engine, log) {
            _ if log.generation() != self.generation => Ok(None),
            finished => finished.map(Some),
        }
    }

    fn try_finish(&self, engine: &Bitcask, log: &Log) -> Result<Done> {
        for output in &self.copied.outputs {
            self.swing(engine, &output.open_index(log)?)?;
        }
        for keys in self.copied.expired.chunks(IN_PLACE_OPERATIONS_MAX) {
            self.drop_expired(engine, keys);
        }
        self.retire(engine, log)?;
        let merged = Merged {
            inputs: self.inputs.len() as u64,
            outputs: self.copied.outputs.len() as u64,
            bytes_copied: self.copied.outputs.iter().map(Output::bytes).sum(),
            keys_expired: self.copied.expired.len() as u64,
        };
        engine.merges.add(&merged);
        let made = self.copied.outputs.iter().map(|output| (output.part, output.segment.id)).collect();
        Ok(Done { merged, made })
    }

    /// Leads the keys of an output there, as far as they still are where they were copied from.
    fn swing(&self, engine: &Bitcask, file: &IndexFile) -> Result<()> {
        let mut cursor = IndexCursor::start(file)?;
        while cursor.place().is_some() {
            let mut chunk = Vec::with_capacity(IN_PLACE_OPERATIONS_MAX);
            while let Some(place) = cursor.place().filter(|_| chunk.len() < IN_PLACE_OPERATIONS_MAX) {
                if let Some(slot) = place.slot {
                    chunk.push((cursor.key().to_vec(), slot));
                }
                cursor.advance()?;
            }
            self.swing_some(engine, &chunk);
        }
        Ok(())
    }

    fn holds(&self, segment: SegmentId) -> bool {
        self.inputs.binary_search(&segment).is_ok()
    }

    /// Whether a slot is what the inputs hold of this version.
    fn is_input(&self, slot: Slot, version: Version) -> bool {
        slot.version() == version && (slot.as_sum().is_some() || self.holds(slot.segment()))
    }

    fn swing_some(&self, engine: &Bitcask, places: &[(Vec<u8>, Slot)]) {
        let mut moved = Vec::with_capacity(places.len());
        let mut live = engine.live.lock();
        engine.keydir.apply(places.len(), |tree: &mut Tree<Slot>| {
            for (key, new) in places {
                let old = tree.get(key).filter(|old| self.is_input(*old, new.version()));
                if let Some(old) = old
                    && tree.replace_if(key, old, *new)
                {
                    live.remove(key.len(), old);
                    live.add(key.len(), *new);
                    moved.push((old, *new));
                }
            }
        });
        drop(live);
        if let Some(cache) = engine.budget.cache() {
            // A sum was nowhere.
            let records = moved.iter().filter(|(old, _)| old.as_sum().is_none());
            records.for_each(|(old, new)| cache.moved(*old, *new));
        }
    }

    fn drop_expired(&self, engine: &Bitcask, keys: &[(Vec<u8>, Version)]) {
        let mut live = engine.live.lock();
        engine.keydir.apply(keys.len(), |tree: &mut Tree<Slot>| {
            for (key, version) in keys {
                if let Some(old) = tree.get(key).filter(|old| self.is_input(*old, *version)) {
                    tree.remove(key);
                    live.remove(key.len(), old);
                }
            }
        });
    }

    /// Takes the inputs out of the store.
    fn retire(&self, engine: &Bitcask, log: &Log) -> Result<()> {
        // What was cut out of the keydir may lead to the inputs: it is counted as long as their bytes are.
        engine.count_cut();
        let turn = engine.files_turn.lock();
        engine.checkpoints.lock().forget(&self.inputs);
        log.retire(&self.inputs)?;
        remove_index_files(log, |name| self.holds(name.segment()))?;
        drop(turn);
        let outputs = self.copied.outputs.iter().map(|output| (output.segment.id, output.beside()));
        engine.beside.lock().merged(&self.inputs, outputs);
        let first = |segments: Vec<Arc<Segment>>, none| segments.first().map_or(none, |first| first.id);
        let index_bytes: u64 = self.copied.outputs.iter().map(|output| output.index_bytes).sum();
        engine.file_bytes_written.fetch_add(index_bytes, Ordering::Relaxed);
        engine.live.lock().forget_before(first(log.segments(), 0), first(log.merged(), 1 << 31));
        Ok(())
    }
}

/// Index files must say everything of an input, or what they do not say would be lost.
fn check_whole(log: &Log, segment: &Segment, row: &[IndexFile]) -> Result<()> {
    let reaches = row.last().map(|file| file.stretch.to) == segment.sealed_end();
    let joins = row.windows(2).all(|pair| pair[0].stretch.to == pair[1].stretch.from);
    if reaches && joins {
        return Ok(());
    }
    let name = IndexName::Hint(segment.id).to_string();
    Err(Error::damage(log.dir().join(name), 0, "index files do not cover a segment that is to be merged"))
}
