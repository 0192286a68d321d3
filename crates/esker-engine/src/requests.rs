//! The requests that were applied lately: what makes a retried write harmless.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{Committed, RequestId};

/// So many requests are remembered, the newest. Every replica forgets at the same index, because this number is the
/// same for all and only what is applied counts. 13 seconds' worth at 20,000 writes a second, 15 MB once it is full.
pub const REQUESTS_MAX: usize = 1 << 18;

/// Requests and what they came to, from old to new.
pub(crate) type RequestList = Arc<[(RequestId, Committed)]>;

/// See the module.
///
/// A ring of the outcomes in the order of their coming, which is what is copied at every checkpoint, and a table of places in
/// it: ten bytes a request beside the 48 of the ring. Names are a client's to choose, so they are hashed with a secret.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Grows up to `REQUESTS_MAX`; from then on the newest takes the oldest one's place.
    ring: Vec<(RequestId, Committed)>,
    /// The oldest one's place, where the next goes once the ring is full.
    oldest: usize,
    places: HashTable<u32>,
    secret: RandomState,
}

impl Requests {
    /// What the request came to, if it was applied.
    pub(crate) fn get(&self, id: &RequestId) -> Option<Committed> {
        let place = self.places.find(self.secret.hash_one(id), |place| self.at(*place).0 == *id)?;
        Some(self.at(*place).1)
    }

    /// Remembers a request; the caller knows that it is new.
    pub(crate) fn insert(&mut self, id: RequestId, outcome: Committed) {
        let place = if self.ring.len() < REQUESTS_MAX {
            self.ring.push((id, outcome));
            self.ring.len() - 1
        } else {
            self.replace_oldest(id, outcome)
        };
        let place = u32::try_from(place).expect("REQUESTS_MAX is less");
        let Self { ring, places, secret, .. } = self;
        places.insert_unique(secret.hash_one(id), place, |place| secret.hash_one(ring[*place as usize].0));
    }

    /// All of them, from old to new.
    pub(crate) fn to_list(&self) -> RequestList {
        let (newer, older) = self.ring.split_at(self.oldest);
        older.iter().chain(newer).copied().collect()
    }

    fn at(&self, place: u32) -> &(RequestId, Committed) {
        &self.ring[place as usize]
    }

    /// The place that is new.
    fn replace_oldest(&mut self, id: RequestId, outcome: Committed) -> usize {
        let place = self.oldest;
        let forgotten = self.secret.hash_one(self.ring[place].0);
        if let Ok(entry) = self.places.find_entry(forgotten, |other| *other as usize == place) {
            entry.remove();
        }
        self.ring[place] = (id, outcome);
        self.oldest = (place + 1) % REQUESTS_MAX;
        place
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
        let list = all.to_list();
        let sequences: Vec<_> = list.iter().map(|(id, _)| id.sequence).collect();
        assert!(sequences.is_sorted() && sequences[0] == 2);
        assert_eq!(all.places.len(), REQUESTS_MAX);
        assert!(list.iter().all(|(id, outcome)| all.get(id) == Some(*outcome)));
    }

    #[test]
    fn it_takes_what_is_said() {
        assert_eq!(size_of::<(RequestId, Committed)>(), 48);
    }
}
