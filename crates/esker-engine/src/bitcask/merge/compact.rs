//! Merging everything, so that all that lives lies in key order, with little space beside.
//!
//! Merged at once, everything would be there twice before the first input goes; and inputs that are not in key order would be read
//! once for each time that the buffer fills. So it is done as external sorting is, by distribution, in merges that each copy about
//! [`bytes_at_once`] and are done with when the next begins:
//!
//! 1. The inputs are merged group by group, each group into pieces that are cut at the same keys.
//! 2. Part by part of the keys, the pieces of all groups are merged.
//!
//! So what is copied is copied twice, and if it is no more than one merge takes, once. A crash or an error between two of
//! the merges leaves a store like any other.

use std::sync::Arc;

use esker_log::{Log, Position, Result, SegmentId, record::record_len};

use super::choose::{Candidate, INPUTS_MAX};
use crate::{
    Merged, Merging,
    bitcask::{
        Bitcask,
        keydir::{Slot, Tree},
    },
};

/// One merge of a compaction copies about so many full segments, and fills the buffer so often, or the less of both.
const SEGMENTS_AT_ONCE: u64 = 4;
const BUFFERS_AT_ONCE: u64 = 2;
/// Pieces are not smaller than such a part of a full segment, on the average: each is a file.
const PIECES_OF_SEGMENT: u64 = 16;

/// What one merge copies, where so much lives. The more there is, the more, since as many pieces as there are groups come of each
/// group: 128 MiB for up to 1 GiB, 1 GiB for 64 GiB, and 4 GiB for 1 TiB.
fn bytes_at_once(live: u64, segment_bytes: u64, buffer_bytes: u64) -> u64 {
    let piece = (segment_bytes / PIECES_OF_SEGMENT).max(1);
    let for_pieces = (live as f64 * piece as f64).sqrt() as u64;
    for_pieces.max((SEGMENTS_AT_ONCE * segment_bytes).min(BUFFERS_AT_ONCE * buffer_bytes))
}

/// The inputs, in their order, in groups that one merge takes.
fn groups(inputs: &[Candidate], at_once: u64) -> Vec<Vec<SegmentId>> {
    let mut groups: Vec<Vec<SegmentId>> = Vec::new();
    let mut live = 0;
    for input in inputs {
        live += input.live;
        match groups.last_mut().filter(|group| live <= at_once && group.len() < INPUTS_MAX) {
            Some(group) => group.push(input.id),
            None => {
                live = input.live;
                groups.push(vec![input.id]);
            }
        }
    }
    groups
}

/// Keys that cut the tree into so many parts of about as many bytes.
fn cuts(tree: &Tree<Slot>, parts: u64) -> Vec<Vec<u8>> {
    if parts < 2 {
        return Vec::new();
    }
    let len = |key: &[u8], slot: Slot| {
        let value_len = if slot.as_sum().is_some() { 0 } else { slot.value_len() as usize };
        record_len(key.len(), value_len) as u64
    };
    let mut total = 0;
    tree.iter().for_each(|(key, slot)| total += len(&key, slot));
    let (mut cuts, mut before) = (Vec::new(), 0);
    for (key, slot) in tree.iter() {
        let part = cuts.len() as u64 + 1;
        if part < parts && before > 0 && before >= total * part / parts {
            cuts.push(key.to_vec());
        }
        before += len(&key, slot);
    }
    cuts
}

impl Bitcask {
    /// Merges everything that may be; `None` if there is nothing.
    pub(super) fn compact(&self, log: &Arc<Log>, merging: &mut Merging<'_>) -> Result<Option<Merged>> {
        let _turn = self.compact_turn.lock();
        let inputs = self.all_inputs(log, merging.before);
        let live = inputs.iter().map(|input| input.live).sum();
        let at_once = bytes_at_once(live, log.segment_max_bytes(), self.policy.buffer_bytes as u64);
        let groups = groups(&inputs, at_once);
        // Until they are pieces of the compaction they must not be merged into something else.
        let reserved = Reserved { engine: self };
        reserved.add(inputs.iter().map(|input| input.id));
        let cuts = match groups.len() {
            0 | 1 => Vec::new(),
            _ => cuts(&self.keydir.snapshot(), live.div_ceil(at_once)),
        };
        let mut sum = None;
        let mut parts = vec![Vec::new(); cuts.len() + 1];
        for group in &groups {
            merging.pace.copied(0)?;
            let Some(done) = self.merge_these(log, group, &cuts, merging)? else { continue };
            sum = Some(done.merged.plus(sum.unwrap_or_default()));
            reserved.add(done.made.iter().map(|(_, id)| *id));
            done.made.iter().for_each(|(part, id)| parts[*part].push(*id));
        }
        if groups.len() > 1 {
            for pieces in parts.iter().filter(|pieces| !pieces.is_empty()) {
                merging.pace.copied(0)?;
                let Some(done) = self.merge_these(log, pieces, &[], merging)? else { continue };
                sum = Some(done.merged.plus(sum.unwrap_or_default()));
            }
        }
        Ok(sum)
    }

    /// All that may be merged: what was merged before, which is older, first.
    fn all_inputs(&self, log: &Log, before: Position) -> Vec<Candidate> {
        self.count_cut();
        let mut inputs = self.candidates(log, before);
        inputs.retain(|candidate| candidate.eligible);
        inputs.sort_by_key(|candidate| (!esker_log::is_merged(candidate.id), candidate.id));
        inputs
    }
}

/// Segments that a compaction is going to merge.
struct Reserved<'a> {
    engine: &'a Bitcask,
}

impl Reserved<'_> {
    fn add(&self, ids: impl IntoIterator<Item = SegmentId>) {
        self.engine.compacting.lock().extend(ids);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.engine.compacting.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_merge_copies_grows_slower_than_what_there_is() {
        const SEGMENT: u64 = 256 << 20;
        let at_once = |live: u64| bytes_at_once(live, SEGMENT, 64 << 20) >> 20;
        assert_eq!([1 << 20, 1 << 30, 64 << 30, 1 << 40].map(at_once), [128, 128, 1024, 4096]);
        assert_eq!(bytes_at_once(1 << 20, 1 << 10, 64 << 20), 8192, "as many pieces as groups");
    }

    #[test]
    fn groups_are_what_one_merge_takes() {
        let input = |id, live| Candidate { id, bytes: 100, live, has_sums: false, eligible: true };
        let inputs = [input(1, 40), input(2, 60), input(3, 1), input(4, 100), input(5, 300), input(6, 0)];
        assert_eq!(groups(&inputs, 100), [vec![1, 2], vec![3], vec![4], vec![5], vec![6]]);
        assert!(groups(&[], 100).is_empty());
        let many: Vec<_> = (1..=2 * INPUTS_MAX as u32 + 1).map(|id| input(id, 0)).collect();
        assert_eq!(groups(&many, 100).len(), 3);
    }

    #[test]
    fn cuts_divide_bytes_and_not_keys() {
        let mut tree = Tree::new();
        for n in 0..100_u8 {
            let len = if n < 10 { 9000 } else { 100 };
            tree.insert(&[n], Slot::new(1, 64, len, 1));
        }
        assert_eq!(cuts(&tree, 2), [vec![6]]);
        assert_eq!(cuts(&tree, 4).len(), 3);
        assert!(cuts(&tree, 1).is_empty() && cuts(&Tree::new(), 4).is_empty());
    }
}
