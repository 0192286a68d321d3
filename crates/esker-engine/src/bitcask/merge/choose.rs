//! Which segments to merge: a pure function of what is known of them.

use esker_log::SegmentId;

use crate::{Options, merging::FULL_SPEED};

/// A segment, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: SegmentId,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// Of these, what records that live take up.
    pub(crate) live: u64,
    /// Whether sums may live that only its adds tell of: they are not among these, and become records.
    pub(crate) has_sums: bool,
    /// Whether it may be merged now. Those that may not count towards the dead bytes all the same.
    pub(crate) eligible: bool,
}

impl Candidate {
    fn dead(&self) -> u64 {
        self.bytes.saturating_sub(self.live)
    }

    /// How much of it is dead, in parts of one.
    fn dead_ratio(&self) -> f64 {
        self.dead() as f64 / self.bytes.max(1) as f64
    }

    /// Whether nothing in it lives.
    fn is_dead(&self) -> bool {
        self.live == 0 && !self.has_sums
    }

    /// What is copied of it, in bytes, at most: the record of a sum is about half as long as the frame of an add.
    fn copied(&self) -> u64 {
        if self.has_sums { self.live.max(self.bytes / 2) } else { self.live }
    }
}

/// When to merge, and how much at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Merging begins when so much of all is dead, in parts of one.
    pub(crate) trigger_ratio: f64,
    /// Or when so many bytes are.
    pub(crate) trigger_bytes: u64,
    /// One merge copies about so many bytes at most: what it costs in disk space and time until it pays.
    pub(crate) copy_bytes_max: u64,
    /// So many segments that are less than an eighth of a full one are merged into one.
    pub(crate) small_segments_max: usize,
    /// The size of a full segment, which is smaller in small stores.
    pub(crate) segment_bytes: u64,
    /// A store of less counts as one of so much: in a small one dead bytes cost nobody anything, and merging would take as much
    /// of the processor as the writes themselves.
    pub(crate) store_bytes_min: u64,
    /// What is copied is read into so much memory at a time.
    pub(crate) buffer_bytes: usize,
}

impl Policy {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            trigger_ratio: options.merge_trigger_ratio,
            trigger_bytes: options.merge_trigger_bytes.unwrap_or(u64::MAX),
            copy_bytes_max: COPY_BYTES_MAX.min(PASSES_MAX * options.merge_buffer_bytes()).max(COPY_BYTES_MIN),
            small_segments_max: SMALL_SEGMENTS_MAX,
            segment_bytes: options.segment_max_bytes,
            store_bytes_min: options.segment_max_bytes,
            buffer_bytes: options.merge_buffer_bytes() as usize,
        }
    }
}

/// See [`Policy::copy_bytes_max`]: a second or two of copying.
const COPY_BYTES_MAX: u64 = 256 << 20;
/// It is not much more than what is read at a time: inputs that are not in key order are read once for each time.
const PASSES_MAX: u64 = 4;
/// Of what lives one merge copies such a part, as long as that is more than the least: until the inputs go it takes space, and the
/// fewer segments it takes, the more is dead in them.
const COPY_PART: u64 = 8;
const COPY_BYTES_MIN: u64 = 8 << 20;
/// One merge has no more inputs: each has an index file that is read.
pub(crate) const INPUTS_MAX: usize = 256;
/// See [`Policy::small_segments_max`].
const SMALL_SEGMENTS_MAX: usize = 32;

/// A segment of which less is dead is not worth copying to free it,
const WORTHWHILE_RATIO: f64 = 0.1;
/// nor one of which less is dead, as a part of what makes merging begin: where most dead bytes lie in segments that cannot be merged
/// yet, they are waited for.
const WORTHWHILE_PART: f64 = 0.5;

/// The segments to merge now; none if there is no need.
pub(crate) fn choose(candidates: &[Candidate], policy: &Policy) -> Vec<SegmentId> {
    let eligible = || candidates.iter().filter(|candidate| candidate.eligible);
    // What is all dead costs nothing.
    let dead: Vec<_> = eligible().filter(|it| it.is_dead()).take(INPUTS_MAX).map(|it| it.id).collect();
    if !dead.is_empty() {
        return dead;
    }
    let total: u64 = candidates.iter().map(|it| it.bytes).sum();
    let live: u64 = candidates.iter().map(|it| it.live).sum();
    let dead = total.saturating_sub(live);
    let by_ratio = dead as f64 > policy.trigger_ratio * total.max(policy.store_bytes_min) as f64;
    if by_ratio || dead >= policy.trigger_bytes {
        let part = if by_ratio { WORTHWHILE_PART * policy.trigger_ratio } else { 0.0 };
        let mut least = part.max(WORTHWHILE_RATIO);
        if dead as f64 > FULL_SPEED * policy.trigger_bytes as f64 {
            // They lie thin: then less is worth it, as long as it is not much less than what there is of it everywhere.
            least = least.min(WORTHWHILE_PART * dead as f64 / total as f64);
        }
        let mut worth: Vec<_> = eligible().filter(|it| it.dead_ratio() > least).collect();
        worth.sort_by(|a, b| b.dead_ratio().total_cmp(&a.dead_ratio()));
        let copy_bytes_max = policy.copy_bytes_max.min((live / COPY_PART).max(COPY_BYTES_MIN));
        let chosen = up_to(worth, copy_bytes_max);
        if !chosen.is_empty() {
            return chosen;
        }
    }
    let mut small: Vec<_> = eligible().filter(|it| it.bytes < policy.segment_bytes / 8).collect();
    if small.len() < policy.small_segments_max {
        return Vec::new();
    }
    small.sort_by_key(|it| it.bytes);
    up_to(small, policy.copy_bytes_max)
}

/// As many from the front as do not copy more than that, at least one.
fn up_to(candidates: Vec<&Candidate>, copy_bytes_max: u64) -> Vec<SegmentId> {
    let mut copied = 0;
    let fits = candidates.into_iter().take_while(|it| {
        let is_first = copied == 0;
        copied += it.copied();
        is_first || copied <= copy_bytes_max
    });
    fits.take(INPUTS_MAX).map(|it| it.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        trigger_ratio: 0.4,
        trigger_bytes: u64::MAX,
        copy_bytes_max: 100,
        small_segments_max: 4,
        segment_bytes: 100,
        store_bytes_min: 0,
        buffer_bytes: 1 << 20,
    };

    fn candidate(id: SegmentId, bytes: u64, live: u64) -> Candidate {
        Candidate { id, bytes, live, has_sums: false, eligible: true }
    }

    #[test]
    fn what_is_all_dead_goes_at_once() {
        let all = [candidate(1, 100, 100), candidate(2, 100, 0), candidate(3, 100, 100), candidate(4, 50, 0)];
        assert_eq!(choose(&all, &POLICY), [2, 4]);
        let busy = Candidate { eligible: false, ..all[1] };
        assert!(choose(&[all[0], busy, all[2]], &POLICY).is_empty());
    }

    #[test]
    fn a_small_store_is_left_alone() {
        let all = [candidate(1, 100, 20), candidate(2, 100, 20)];
        assert_eq!(choose(&all, &Policy { store_bytes_min: 399, ..POLICY }), [1, 2]);
        assert!(choose(&all, &Policy { store_bytes_min: 400, ..POLICY }).is_empty());
        let bytes = Policy { store_bytes_min: 400, trigger_bytes: 160, ..POLICY };
        assert_eq!(choose(&all, &bytes), [1, 2], "who says how many bytes may be dead means it");
    }

    #[test]
    fn what_has_nothing_but_sums_waits_for_its_turn() {
        let adds = |id| Candidate { has_sums: true, ..candidate(id, 100, 0) };
        assert!(choose(&[candidate(1, 100, 100), candidate(2, 100, 100), adds(3)], &POLICY).is_empty());
        let all = [candidate(1, 100, 100), candidate(2, 100, 30), adds(3), adds(4), adds(5)];
        assert_eq!(choose(&all, &POLICY), [3, 4], "what they are copied to counts");
    }

    #[test]
    fn the_most_dead_goes_first_when_enough_is_dead() {
        let all =
            [candidate(1, 100, 70), candidate(2, 100, 20), candidate(3, 100, 50), candidate(4, 100, 40)];
        assert_eq!(choose(&all, &POLICY), [2, 4]);
        let little_dead = [candidate(1, 100, 70), candidate(2, 100, 50), candidate(3, 100, 80)];
        assert!(choose(&little_dead, &POLICY).is_empty());
    }

    #[test]
    fn so_many_dead_bytes_are_enough_whatever_part_they_are() {
        let all = [candidate(1, 100, 95), candidate(2, 100, 80), candidate(3, 100, 85)];
        assert!(choose(&all, &POLICY).is_empty());
        assert_eq!(choose(&all, &Policy { trigger_bytes: 40, ..POLICY }), [2]);
        assert!(choose(&all, &Policy { trigger_bytes: 41, ..POLICY }).is_empty());
    }

    #[test]
    fn dead_bytes_that_lie_thin_are_had_when_they_are_many() {
        let mut all: Vec<_> = (1..=10).map(|id| candidate(id, 100, 95)).collect();
        assert!(choose(&all, &Policy { trigger_bytes: 40, ..POLICY }).is_empty());
        assert_eq!(choose(&all, &Policy { trigger_bytes: 39, ..POLICY }), [1]);
        all[6].live = 92;
        assert_eq!(choose(&all, &Policy { trigger_bytes: 39, ..POLICY }), [7]);
        // Less than half of what there is everywhere: the others are waited for.
        all.iter_mut().for_each(|it| it.eligible = false);
        all.push(candidate(11, 100, 98));
        assert!(choose(&all, &Policy { trigger_bytes: 1, ..POLICY }).is_empty());
        all.push(candidate(12, 100, 97));
        assert_eq!(choose(&all, &Policy { trigger_bytes: 1, ..POLICY }), [12]);
    }

    #[test]
    fn what_is_hardly_dead_is_not_copied() {
        let busy = Candidate { eligible: false, ..candidate(3, 1000, 1) };
        assert!(choose(&[candidate(1, 100, 95), candidate(2, 100, 91), busy], &POLICY).is_empty());
    }

    #[test]
    fn many_small_segments_become_one() {
        let all: Vec<_> = (1..=4).map(|id| candidate(id, 10 + u64::from(id % 2), 10)).collect();
        assert_eq!(choose(&all, &POLICY), [2, 4, 1, 3]);
        assert!(choose(&all[..3], &POLICY).is_empty());
    }
}
