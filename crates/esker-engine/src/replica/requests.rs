//! The requests that were applied lately: what makes a retried write harmless.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{Committed, RequestId};

/// So many requests are remembered, the newest. Every replica forgets at the same index, because this number is the
/// same for all and only what is applied counts. 13 seconds' worth at 20,000 writes a second.
pub const REQUESTS_MAX: usize = 1 << 18;

/// Requests and what they came to, from old to new.
pub(crate) type RequestList = Arc<[(RequestId, Committed)]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    outcomes: HashMap<RequestId, Committed>,
    /// From old to new, with the outcomes: they are copied at every checkpoint.
    order: VecDeque<(RequestId, Committed)>,
}

impl Requests {
    /// What the request came to, if it was applied.
    pub(crate) fn get(&self, id: &RequestId) -> Option<Committed> {
        self.outcomes.get(id).copied()
    }

    /// Remembers a request; the caller knows that it is new.
    pub(crate) fn insert(&mut self, id: RequestId, outcome: Committed) {
        self.outcomes.insert(id, outcome);
        self.order.push_back((id, outcome));
        if self.order.len() > REQUESTS_MAX
            && let Some((oldest, _)) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }

    /// All of them, from old to new.
    pub(crate) fn to_list(&self) -> RequestList {
        self.order.iter().copied().collect()
    }
}

impl FromIterator<(RequestId, Committed)> for Requests {
    fn from_iter<I: IntoIterator<Item = (RequestId, Committed)>>(requests: I) -> Self {
        let mut all = Self::default();
        requests.into_iter().for_each(|(id, outcome)| all.insert(id, outcome));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let id = |sequence| RequestId { client: 1, sequence };
        let all: Requests = (0..REQUESTS_MAX as u64 + 2).map(|n| (id(n), Committed::applied(n, 0))).collect();
        assert_eq!((all.get(&id(0)), all.get(&id(1)), all.to_list().len()), (None, None, REQUESTS_MAX));
        assert_eq!(all.get(&id(2)).map(|outcome| outcome.version), Some(2));
        assert_eq!(all.to_list().first().map(|(first, _)| *first), Some(id(2)));
    }
}
