//! What came of the judged batches that were applied last, for those who watch: beyond the next checkpoint, but not for ever.

use std::collections::VecDeque;

use crate::{
    Version,
    judge::{Judgement, Verdict},
};

/// So many are kept, each of its sums counted as one more: some 10 MiB.
const KEPT_MAX: usize = 1 << 17;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Of judged batches up to this version nothing is known; of those behind it everything.
    since: Version,
    /// Versions ascend.
    kept: VecDeque<(Version, Verdict)>,
    /// What they count for.
    weight: usize,
}

fn weight(verdict: &Verdict) -> usize {
    1 + match verdict {
        Verdict::Applies(sums) => sums.len(),
        Verdict::Void(_) => 0,
    }
}

impl Verdicts {
    /// Nothing is known of what was judged up to this version.
    pub(super) fn behind(since: Version) -> Self {
        Self { since, ..Self::default() }
    }

    /// Notes what came of a batch, the newest.
    pub(super) fn note(&mut self, version: Version, verdict: Verdict) {
        self.weight += weight(&verdict);
        self.kept.push_back((version, verdict));
        while self.weight > KEPT_MAX
            && let Some((oldest, verdict)) = self.kept.pop_front()
        {
            self.weight -= weight(&verdict);
            self.since = oldest;
        }
    }

    /// What came of a batch that was applied.
    pub(super) fn get(&self, version: Version) -> Judgement {
        match self.kept.binary_search_by_key(&version, |(version, _)| *version) {
            Ok(at) => self.kept[at].1.clone().into(),
            Err(_) if version > self.since => Judgement::Plain,
            Err(_) => Judgement::Forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Refusal,
        judge::{Sum, Sums},
    };

    #[test]
    fn the_oldest_are_forgotten_and_said_to_be() {
        let mut verdicts = Verdicts::behind(10);
        let sum = Sum { value: 7, expiry: None };
        verdicts.note(12, Verdict::Void(Refusal::Overflow));
        verdicts.note(14, Verdict::Applies(vec![sum]));
        assert_eq!([verdicts.get(10), verdicts.get(11)], [Judgement::Forgotten, Judgement::Plain]);
        assert_eq!(
            [verdicts.get(12), verdicts.get(14)],
            [Judgement::Void, Judgement::Applied(Sums(vec![sum]))]
        );
        verdicts.note(16, Verdict::Applies(vec![sum; KEPT_MAX - 3]));
        assert_eq!([verdicts.get(12), verdicts.get(13)], [Judgement::Forgotten, Judgement::Plain]);
        verdicts.note(17, Verdict::Applies(vec![sum; 2 * KEPT_MAX]));
        assert_eq!([verdicts.get(17), verdicts.get(18)], [Judgement::Forgotten, Judgement::Plain]);
        assert_eq!((verdicts.weight, verdicts.kept.len()), (0, 0));
    }
}
