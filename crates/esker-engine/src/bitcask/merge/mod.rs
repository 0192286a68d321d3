//! Merging: what lives of some segments moves to new ones, in key order, and the old ones go. `docs/merge.md` has the design.
//!
//! ```text
//! choose.rs   which segments
//! beside.rs   what merged segments hold beside records
//! copy.rs     what lives of them, into new segments
//! older.rs    what tombstones are kept for
//! ```
//!
//! Between copying and installing, index files must come to cover everything that was applied when it was judged what lives: a
//! replay that began before would meet a state that has lost what was dead by then. That is the store's to do, for it may have
//! more to save than the engine's index.

pub(crate) mod beside;
mod choose;
mod copy;
mod older;

use std::{
    collections::HashSet,
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use esker_log::{Error, Log, Merge, Position, Result, SegmentId, is_merged, segment::Segment};

/// A merge never takes less than this, whatever the disk has room for, but for one segment.
const COPY_BYTES_MIN: u64 = 1 << 20;

pub(crate) use self::choose::Policy;
use self::{
    choose::{Candidate, choose},
    copy::{Copied, Copier, Output},
    older::{Outside, Rows},
};
use super::{
    Bitcask,
    checkpoint::{RowNames, remove_index_files},
    index_file::{IndexCursor, IndexFile, IndexName},
    index_merge::{cover_of, merge_index},
    keydir::{IN_PLACE_OPERATIONS_MAX, Slot, Tree},
};
use crate::{Merged, Merging, Pace, Version};

impl Bitcask {
    /// See [`Engine::merge`](crate::Engine::merge).
    pub(super) fn merge_some(&self, log: &Arc<Log>, merging: &mut Merging<'_>) -> Result<Option<Merged>> {
        let mut turn = self.merge_turn.lock();
        if let Some(unfinished) = turn.as_ref() {
            let merged = unfinished.finish(self, log)?;
            *turn = None;
            return Ok(merged);
        }
        self.count_cut();
        let candidates = self.candidates(log, merging.before);
        let inputs = match merging.all {
            true => candidates.iter().filter(|it| it.eligible).map(|it| it.id).collect(),
            false => choose(&candidates, &self.merge_policy(log)),
        };
        if inputs.is_empty() {
            return Ok(None);
        }
        let generation = log.generation();
        let copied = self.copy(log, &inputs, merging.pace)?;
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
        let installed = Installed::new(log, inputs, copied, generation, judged.version)?;
        // From here on it has happened. What fails now is done first the next time.
        let merged = turn.insert(installed).finish(self, log)?;
        *turn = None;
        Ok(merged)
    }

    /// Copies what lives of the inputs. Where the disk is too full for it, the next merge takes less.
    fn copy(&self, log: &Arc<Log>, inputs: &[SegmentId], pace: &mut dyn Pace) -> Result<Copied> {
        let copied = Job::new(self, log, inputs)?.copy(pace);
        let limit = self.copy_bytes_max.load(Ordering::Relaxed);
        let next = match &copied {
            Err(Error::DiskFull) => limit / 2,
            Err(_) => limit,
            Ok(_) => (2 * limit).clamp(COPY_BYTES_MIN, self.policy.copy_bytes_max),
        };
        self.copy_bytes_max.store(next, Ordering::Relaxed);
        copied
    }

    fn candidates(&self, log: &Log, before: Position) -> Vec<Candidate> {
        let before = before.min(self.checkpoints.lock().covered()).segment;
        let live = self.live.lock();
        let beside = self.beside.lock();
        let candidate = |segment: &Arc<Segment>| {
            let id = segment.id;
            let end = segment.sealed_end();
            Candidate {
                id,
                bytes: u64::from(end.unwrap_or_else(|| log.appended().offset)),
                live: beside.needed(id, live.of_segment(id)),
                eligible: end.is_some() && (is_merged(id) || id < before),
            }
        };
        log.segments().iter().chain(&log.merged()).map(candidate).collect()
    }

    fn merge_policy(&self, log: &Log) -> Policy {
        let segment_bytes = log.segment_max_bytes();
        let copy_bytes_max = self.copy_bytes_max.load(Ordering::Relaxed);
        Policy { segment_bytes, copy_bytes_max, ..self.policy }
    }

    /// Whether enough is dead for a merge, as far as that is known without looking at every segment.
    pub(super) fn merge_is_due(&self, log: &Log, before: Position) -> bool {
        self.cut.lock().is_empty()
            && !choose(&self.candidates(log, before), &self.merge_policy(log)).is_empty()
    }
}

/// Up to where the log was applied when it had been judged what lives.
struct Judged {
    version: Version,
    to: Position,
}

/// A merge whose outputs are not part of the store yet.
struct Job<'a> {
    engine: &'a Bitcask,
    log: &'a Arc<Log>,
    inputs: HashSet<SegmentId>,
    /// The index files of the inputs.
    files: Vec<IndexFile>,
}

impl<'a> Job<'a> {
    fn new(engine: &'a Bitcask, log: &'a Arc<Log>, inputs: &[SegmentId]) -> Result<Self> {
        // No row is joined or added to meanwhile.
        let turn = engine.files_turn.lock();
        let names = RowNames::list(log)?;
        let mut files = Vec::new();
        for &id in inputs {
            let row = names.open(log, id)?;
            check_whole(log, log.segment(id)?.as_ref(), &row)?;
            files.extend(row);
        }
        drop(turn);
        Ok(Self { engine, log, inputs: inputs.iter().copied().collect(), files })
    }

    /// The index files of all segments.
    fn rows(&self) -> Result<Rows> {
        let _turn = self.engine.files_turn.lock();
        let names = RowNames::list(self.log)?;
        let segments = self.log.merged().into_iter().chain(self.log.segments());
        segments.map(|segment| Ok((segment.id, names.open(self.log, segment.id)?))).collect()
    }

    /// Copies what lives.
    fn copy(&self, pace: &mut dyn Pace) -> Result<Copied> {
        let outside = Outside::new(&self.inputs, || self.rows());
        let newest = self.files.iter().map(|file| file.stretch.last.index).max().unwrap_or(0);
        let newest = newest.max(self.engine.applied_version.load(Ordering::Acquire));
        let mut copier = Copier::new(self.log, self.engine, &self.inputs, &outside, newest, pace);
        let (cover, all) = (cover_of(&self.files), Bound::Unbounded);
        merge_index(&self.files, &cover, all, all, |key, place, _| copier.take(key, place))?;
        for range in self.files.iter().flat_map(|file| &file.ranges) {
            copier.take_range(range)?;
        }
        copier.finish()
    }
}

/// A merge that has happened: its outputs are part of the store and its inputs are not. What is left to do can be done again
/// from the beginning. Until it is done, keys lead to the inputs, which can be read.
pub(super) struct Installed {
    inputs: Vec<SegmentId>,
    input_set: HashSet<SegmentId>,
    copied: Copied,
    /// Of the state that it is a merge of.
    generation: u64,
}

impl Installed {
    fn new(
        log: &Log,
        inputs: Vec<SegmentId>,
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
        Ok(Self { input_set: inputs.iter().copied().collect(), inputs, copied, generation })
    }

    /// Leads the keys to their new places and takes the inputs out. `None`: a snapshot has taken the place of both meanwhile.
    fn finish(&self, engine: &Bitcask, log: &Log) -> Result<Option<Merged>> {
        match self.try_finish(engine, log) {
            _ if log.generation() != self.generation => Ok(None),
            finished => finished.map(Some),
        }
    }

    fn try_finish(&self, engine: &Bitcask, log: &Log) -> Result<Merged> {
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
        Ok(merged)
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

    /// Whether a slot is what the inputs hold of this version.
    fn is_input(&self, slot: Slot, version: Version) -> bool {
        slot.version() == version && (slot.as_sum().is_some() || self.input_set.contains(&slot.segment()))
    }

    fn swing_some(&self, engine: &Bitcask, places: &[(Vec<u8>, Slot)]) {
        let mut live = engine.live.lock();
        engine.keydir.apply(places.len(), |tree: &mut Tree<Slot>| {
            for (key, new) in places {
                let old = tree.get(key).filter(|old| self.is_input(*old, new.version()));
                if let Some(old) = old
                    && tree.replace_if(key, old, *new)
                {
                    live.remove(key.len(), old);
                    live.add(key.len(), *new);
                }
            }
        });
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
        remove_index_files(log, |name| self.input_set.contains(&name.segment()))?;
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
