//! Merging: what lives of some segments moves to new ones, in key order, and the old ones go. `docs/merge.md` has the design.
//!
//! ```text
//! choose.rs   which segments
//! copy.rs     what lives of them, into new segments
//! older.rs    what tombstones are kept for
//! ```
//!
//! Between copying and installing, index files must come to cover everything that was applied when it was judged what lives: a
//! replay that began before would meet a state that has lost what was dead by then. That is the store's to do, for it may have
//! more to save than the engine's index.

mod choose;
mod copy;
mod older;

use std::{
    collections::HashSet,
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use esker_log::{Error, Log, Merge, Position, Result, SegmentId, is_merged, segment::Segment};

pub(crate) use self::choose::Policy;
use self::{
    choose::{Candidate, choose},
    copy::{Copied, Copier},
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
        let _turn = self.merge_turn.lock();
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
        let job = Job::new(self, log, inputs)?;
        let mut copied = job.copy(merging.pace)?;
        // Everything that was applied when the last key was looked at.
        let judged =
            Judged { version: self.applied_version.load(Ordering::Acquire), to: *self.applied_to.lock() };
        (merging.save)()?;
        if self.checkpoints.lock().covered() < judged.to {
            let why = "index files do not cover what was applied: the merge is given up";
            return Err(Error::InvalidRequest(why.into()));
        }
        job.install(&mut copied, generation, judged.version)?;
        job.swing(&copied)?;
        job.retire(copied).map(Some)
    }

    fn candidates(&self, log: &Log, before: Position) -> Vec<Candidate> {
        let before = before.min(self.checkpoints.lock().covered()).segment;
        let live = self.live.lock();
        let overheads = self.overheads.lock();
        let candidate = |segment: &Arc<Segment>| {
            let id = segment.id;
            let end = segment.sealed_end();
            let overhead = overheads.get(&id).copied().unwrap_or(0);
            Candidate {
                id,
                bytes: u64::from(end.unwrap_or_else(|| log.appended().offset)),
                // What a merged segment needs beside its records would be there again.
                live: match live.of_segment(id) {
                    0 => 0,
                    bytes => bytes + overhead,
                },
                eligible: end.is_some() && (is_merged(id) || id < before),
            }
        };
        log.segments().iter().chain(&log.merged()).map(candidate).collect()
    }

    fn merge_policy(&self, log: &Log) -> Policy {
        let segment_bytes = log.segment_max_bytes();
        Policy { segment_bytes, ..self.policy }
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

/// A merge under way.
struct Job<'a> {
    engine: &'a Bitcask,
    log: &'a Arc<Log>,
    inputs: Vec<SegmentId>,
    input_set: HashSet<SegmentId>,
    /// The index files of the inputs.
    files: Vec<IndexFile>,
}

impl<'a> Job<'a> {
    fn new(engine: &'a Bitcask, log: &'a Arc<Log>, inputs: Vec<SegmentId>) -> Result<Self> {
        // No row is joined or added to meanwhile.
        let turn = engine.files_turn.lock();
        let names = RowNames::list(log)?;
        let mut files = Vec::new();
        for &id in &inputs {
            let row = names.open(log, id)?;
            check_whole(log, &*log.segment(id)?, &row)?;
            files.extend(row);
        }
        drop(turn);
        let input_set = inputs.iter().copied().collect();
        Ok(Self { engine, log, inputs, input_set, files })
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
        let outside = Outside::new(&self.input_set, || self.rows());
        let mut copier = Copier::new(self.log, self.engine, &self.input_set, &outside, pace);
        let (cover, all) = (cover_of(&self.files), Bound::Unbounded);
        merge_index(&self.files, &cover, all, all, |key, place, _| copier.take(key, place))?;
        for range in self.files.iter().flat_map(|file| &file.ranges) {
            copier.take_range(range)?;
        }
        copier.finish()
    }

    fn install(&self, copied: &mut Copied, generation: u64, judged: Version) -> Result<()> {
        let merge = Merge {
            outputs: copied.outputs.iter().map(|output| Arc::clone(&output.segment)).collect(),
            inputs: self.inputs.clone(),
            generation,
            judged,
        };
        self.log.install(&merge)?;
        copied.keep();
        Ok(())
    }

    /// Leads the keys to their new places, as far as they still are where they were copied from.
    fn swing(&self, copied: &Copied) -> Result<()> {
        for output in &copied.outputs {
            let file = output.open_index(self.log)?;
            let mut cursor = IndexCursor::start(&file)?;
            while cursor.place().is_some() {
                let mut chunk = Vec::with_capacity(IN_PLACE_OPERATIONS_MAX);
                while let Some(place) = cursor.place().filter(|_| chunk.len() < IN_PLACE_OPERATIONS_MAX) {
                    if let Some(slot) = place.slot {
                        chunk.push((cursor.key().to_vec(), slot));
                    }
                    cursor.advance()?;
                }
                self.swing_some(&chunk);
            }
        }
        for keys in copied.expired.chunks(IN_PLACE_OPERATIONS_MAX) {
            self.drop_expired(keys);
        }
        Ok(())
    }

    /// Whether a slot is what the inputs hold of this version.
    fn is_input(&self, slot: Slot, version: Version) -> bool {
        slot.version() == version && (slot.as_sum().is_some() || self.input_set.contains(&slot.segment()))
    }

    fn swing_some(&self, places: &[(Vec<u8>, Slot)]) {
        let mut live = self.engine.live.lock();
        self.engine.keydir.apply(places.len(), |tree: &mut Tree<Slot>| {
            for (key, new) in places {
                let Some(old) = tree.get(key).filter(|old| self.is_input(*old, new.version())) else {
                    continue;
                };
                if tree.replace_if(key, old, *new) {
                    live.remove(key.len(), old);
                    live.add(key.len(), *new);
                }
            }
        });
    }

    fn drop_expired(&self, keys: &[(Vec<u8>, Version)]) {
        let mut live = self.engine.live.lock();
        self.engine.keydir.apply(keys.len(), |tree: &mut Tree<Slot>| {
            for (key, version) in keys {
                if let Some(old) = tree.get(key).filter(|old| self.is_input(*old, *version)) {
                    tree.remove(key);
                    live.remove(key.len(), old);
                }
            }
        });
    }

    /// Takes the inputs out of the store.
    fn retire(&self, copied: Copied) -> Result<Merged> {
        {
            let _turn = self.engine.files_turn.lock();
            self.engine.checkpoints.lock().forget(&self.inputs);
            self.log.retire(&self.inputs)?;
            remove_index_files(self.log, |name| self.input_set.contains(&name.segment()))?;
        }
        let mut overheads = self.engine.overheads.lock();
        self.inputs.iter().for_each(|id| {
            overheads.remove(id);
        });
        overheads.extend(copied.outputs.iter().map(|output| (output.segment.id, output.overhead())));
        drop(overheads);
        let first = |segments: Vec<Arc<Segment>>, none| segments.first().map_or(none, |first| first.id);
        let (first_log, first_merged) = (first(self.log.segments(), 0), first(self.log.merged(), 1 << 31));
        self.engine.live.lock().forget_before(first_log, first_merged);
        let merged = Merged {
            inputs: self.inputs.len() as u64,
            outputs: copied.outputs.len() as u64,
            bytes_copied: copied.outputs.iter().map(|output| output.bytes()).sum(),
            keys_expired: copied.expired.len() as u64,
        };
        self.engine.merges.add(&merged);
        let index_bytes: u64 = copied.outputs.iter().map(|output| output.index_bytes).sum();
        self.engine.file_bytes_written.fetch_add(index_bytes, Ordering::Relaxed);
        Ok(merged)
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
