//! What a merge made takes the place of what it was made from.
//!
//! 1. The outputs are written and durable ([`MergedWriter`](crate::MergedWriter)), and nobody knows of them.
//! 2. [`Log::install`] replaces `MANIFEST`: from that instant the outputs count and the inputs do not, also after a crash.
//! 3. The engine leads its keys to the outputs. The inputs can still be read.
//! 4. [`Log::retire`] takes the inputs out. Their files go when the last [`Pin`](crate::segment::Pin) from before is gone.
//!
//! A replacement of `MANIFEST` that fails half-way may be found after a crash, or not. Until the next one has made that
//! clear, the outputs stay where they are: they are dead, or they are the only place of what lives.

use std::{io::IoSlice, sync::Arc};

use crate::{
    Error, Index, Log, Result, SegmentId,
    manifest::{MANIFEST_NAME, Manifest, MergedSegment},
    segment::{Segment, is_merged},
    small_file,
};

/// A merge that is done but for its installation.
pub struct Merge {
    /// The new segments, as [`MergedWriter::finish`](crate::MergedWriter::finish) gave them. None, if nothing lived.
    pub outputs: Vec<Arc<Segment>>,
    /// The numbers of the segments they take the place of, of either kind, all sealed.
    pub inputs: Vec<SegmentId>,
    /// The generation of the state that they are part of.
    pub generation: u64,
    /// What was dead at this version was left out.
    pub judged: Index,
}

/// What an open log knows of merges.
pub(crate) struct MergeState {
    /// What `MANIFEST` says, or is to say when it is written next.
    pub(crate) manifest: Manifest,
    /// The generation that counts.
    generation: u64,
    /// Outputs that a `MANIFEST` may name whose installation failed.
    unsettled: Vec<Arc<Segment>>,
}

impl MergeState {
    pub(crate) fn new(manifest: Manifest, generation: u64) -> Self {
        Self { manifest, generation, unsettled: Vec::new() }
    }
}

impl Log {
    /// What `MANIFEST` says. As long as no merge was installed, there is no such file.
    pub fn manifest(&self) -> Manifest {
        self.merges.lock().manifest.clone()
    }

    /// The generation of the state that counts: the number of the snapshot that was installed last, 0 if none was.
    pub fn generation(&self) -> u64 {
        self.merges.lock().generation
    }

    /// The outputs of a merge become part of the store, and its inputs are no longer, durably. Those can be read until they
    /// are retired.
    ///
    /// Errors: `InvalidRequest` if an input is no sealed segment of the store, or a snapshot of another generation was
    /// installed meanwhile; `DiskFull`, `Io`. Then nothing has changed for now; after a crash the merge may be found
    /// installed.
    pub fn install(&self, merge: &Merge) -> Result<()> {
        let mut state = self.merges.lock();
        if merge.generation != state.generation {
            return Err(Error::InvalidRequest("a snapshot took the place of what was merged".into()));
        }
        let next = self.manifest_after(&state.manifest, merge)?;
        self.replace_manifest(&mut state, next, &merge.outputs)?;
        for output in &merge.outputs {
            output.keep();
            self.registry.insert(Arc::clone(output));
        }
        Ok(())
    }

    fn manifest_after(&self, now: &Manifest, merge: &Merge) -> Result<Manifest> {
        let mut next = now.clone();
        next.number += 1;
        next.judged = next.judged.max(merge.judged);
        let sealed_end = |id| self.registry.get_current(id).and_then(|segment| segment.sealed_end());
        for &id in &merge.inputs {
            if sealed_end(id).is_none() {
                return Err(Error::InvalidRequest(format!("segment {id} cannot be merged")));
            }
            // Of a merged segment it is not asked; before the first log segment there is none.
            next.remove(id, sealed_end(id - 1).unwrap_or(0));
        }
        next.add(merge.outputs.iter().map(|output| MergedSegment {
            id: output.id,
            len: output.sealed_end().unwrap_or_default(),
            generation: merge.generation,
            judged: merge.judged,
        }));
        Ok(next)
    }

    /// Writes `MANIFEST`, durably. What only a failed replacement named goes then.
    fn replace_manifest(
        &self,
        state: &mut MergeState,
        next: Manifest,
        outputs: &[Arc<Segment>],
    ) -> Result<()> {
        let (disk, bytes) = (self.disk.as_ref(), next.encode(&self.store));
        small_file::prepare(disk, &self.dir, MANIFEST_NAME, &[IoSlice::new(&bytes)])?;
        let placed = small_file::put_in_place(disk, &self.dir, MANIFEST_NAME);
        if let Err(error) = placed {
            outputs.iter().for_each(|output| output.keep());
            state.unsettled.extend(outputs.iter().map(Arc::clone));
            state.manifest.number = next.number;
            return Err(error);
        }
        state.manifest = next;
        for segment in state.unsettled.drain(..) {
            segment.remove_on_drop(&self.removals);
        }
        Ok(())
    }

    /// The number of the next merged segment.
    pub(crate) fn take_merged_number(&self) -> Result<SegmentId> {
        let manifest = &mut self.merges.lock().manifest;
        let id = manifest.next_merged;
        manifest.skip_number(id);
        if manifest.next_merged == id {
            let why = "the store has used up its numbers of merged segments: export and import it";
            return Err(Error::InvalidRequest(why.into()));
        }
        Ok(id)
    }

    /// Takes segments out that an installed merge took the place of. They can be read as long as there is a pin from
    /// before; then their files are removed. What a crash leaves, the next opening removes.
    ///
    /// Errors: `InvalidRequest` if one of them still counts.
    pub fn retire(&self, ids: &[SegmentId]) -> Result<()> {
        let state = self.merges.lock();
        let counts = |id| match is_merged(id) {
            true => state.manifest.merged(id).is_some(),
            false => !state.manifest.is_gone(id),
        };
        if let Some(id) = ids.iter().find(|id| counts(**id)) {
            return Err(Error::InvalidRequest(format!("segment {id} is part of the store")));
        }
        drop(state);
        self.retire_those(|id| ids.contains(&id));
        Ok(())
    }

    /// Takes the log segments before `first` out, of which nothing is part of the state any more, as [`Log::retire`] does.
    /// That must be durable. The next opening removes what is left, if it is told of `first`.
    pub fn retire_before(&self, first: SegmentId) {
        let state = &mut *self.merges.lock();
        state.manifest.forget_before(first, state.generation);
        self.retire_those(|id| id < first);
    }

    /// Takes all merged segments out, which are of earlier generations: a snapshot took the place of the state. That must be
    /// durable. The next opening removes what is left, if it is told of `generation`.
    pub fn begin_generation(&self, generation: u64) {
        let state = &mut *self.merges.lock();
        if state.generation != generation {
            state.generation = generation;
            state.manifest.forget_before(0, generation);
            self.retire_those(is_merged);
        }
    }

    fn retire_those(&self, is_over: impl Fn(SegmentId) -> bool) {
        for segment in self.registry.retire(is_over) {
            segment.remove_on_drop(&self.removals);
        }
    }

    /// Why the file of a retired segment could not be removed, if that happened. It takes space until the next opening,
    /// and does no other harm.
    pub fn failed_removal(&self) -> Option<Arc<str>> {
        self.removals.failed()
    }
}
