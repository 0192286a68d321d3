//! What a watcher is shown of a replica: entries that were applied, and what came of each.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use esker_log::{GroupEnd, Index, Position, Result, format::FrameKind};

use super::{Inner, Replica};
use crate::{
    Engine, Judgement, Outcome, RequestId, Sums, Version,
    watch::{Changes, ReplicatedLog},
};

/// So many repeated requests are remembered: they are rare.
const REPEATS_MAX: usize = 1 << 16;

/// The entries applied lately that repeat a request, and so did nothing.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Of entries up to this one it is not known.
    since: Index,
    /// Ascending.
    kept: VecDeque<Index>,
}

impl Repeats {
    /// Nothing is known of entries up to this one.
    pub(super) fn behind(since: Index) -> Self {
        Self { since, ..Self::default() }
    }

    pub(super) fn note(&mut self, index: Index) {
        self.kept.push_back(index);
        if self.kept.len() > REPEATS_MAX
            && let Some(oldest) = self.kept.pop_front()
        {
            self.since = oldest;
        }
    }

    /// Whether the entry is known to repeat a request; `None`: it is not known.
    fn contains(&self, index: Index) -> Option<bool> {
        match self.kept.binary_search(&index) {
            Ok(_) => Some(true),
            Err(_) => (index > self.since).then_some(false),
        }
    }
}

/// What came of an applied entry.
pub(crate) enum Fate {
    /// It counts, and the engine was asked what it came to.
    Counts(Judgement),
    /// It repeats a request: nothing.
    Repeats,
    /// One of these, and nobody knows any more which.
    Unknown,
}

/// An applied entry.
pub(crate) struct HeldEntry {
    pub(crate) id: GroupEnd,
    pub(crate) kind: FrameKind,
    pub(crate) payload_len: u32,
    /// Where its frame lies.
    pub(crate) position: Option<Position>,
    /// Its payload, if it is in memory.
    pub(crate) payload: Option<Arc<[u8]>>,
}

impl Replica {
    /// What was changed, to be read from any version on that this replica still holds.
    pub fn changes(&self) -> Changes {
        Changes::new(ReplicatedLog::new(Arc::clone(&self.inner)))
    }
}

impl Inner {
    /// The last entry applied.
    pub(crate) fn applied(&self) -> Version {
        self.machine.lock().applied.index
    }

    /// Entries from the front of `range`, all of which are applied, of about `bytes_max`, at least one. Err: the first entry that is held, for
    /// the range begins before it.
    pub(crate) fn applied_entries(
        &self,
        range: Range<Index>,
        bytes_max: u64,
    ) -> Result<Vec<HeldEntry>, Index> {
        self.shared.with_entries(|entries| {
            if range.start < entries.range().start {
                return Err(entries.range().start);
            }
            let mut bytes = 0;
            let term_and_held = range.map_while(|index| Some((index, entries.get(index)?)));
            let fitting = term_and_held.take_while(|(_, held)| {
                let fits = bytes < bytes_max;
                bytes += u64::from(held.payload_len);
                fits
            });
            let found = fitting.map(|(index, held)| HeldEntry {
                id: GroupEnd { index, term: held.term },
                kind: held.kind,
                payload_len: held.payload_len,
                position: held.position,
                payload: held.payload.clone(),
            });
            Ok(found.collect())
        })
    }

    /// What came of an applied entry. `request` is asked for its request's id where that may tell.
    ///
    /// Errors: those of `request`.
    pub(crate) fn fate_of(
        &self,
        version: Version,
        request: impl FnOnce() -> Result<Option<RequestId>>,
    ) -> Result<Fate> {
        let judgement = self.engine.judgement(version);
        let repeats = self.machine.lock().repeats.contains(version);
        match repeats {
            Some(true) => return Ok(Fate::Repeats),
            Some(false) if judgement != Judgement::Forgotten => return Ok(Fate::Counts(judgement)),
            _ => {}
        }
        let Some(id) = request()?.filter(|id| !id.is_comparison()) else {
            return Ok(Fate::Counts(judgement));
        };
        Ok(match self.machine.lock().requests.get(&id) {
            None if repeats.is_none() => Fate::Unknown,
            None => Fate::Counts(judgement),
            Some(committed) if committed.version != version => Fate::Repeats,
            Some(committed) => Fate::Counts(match (committed.outcome, judgement) {
                (Outcome::Refused(_), _) => Judgement::Void,
                // Nothing was added, then.
                (Outcome::Applied, Judgement::Forgotten) => Judgement::Applied(Sums::default()),
                (_, judgement) => judgement,
            }),
        })
    }

    /// What has the state.
    pub(crate) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// Whether it is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(std::sync::atomic::Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_repeats_are_forgotten_and_said_to_be() {
        let mut repeats = Repeats::behind(10);
        (0..=REPEATS_MAX as u64).for_each(|n| repeats.note(20 + 2 * n));
        assert_eq!(
            [19, 20, 21, 22].map(|index| repeats.contains(index)),
            [None, None, Some(false), Some(true)]
        );
    }
}
