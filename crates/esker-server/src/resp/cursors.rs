//! Where SCANs go on.
//!
//! A cursor of the protocol is a number of 64 bits, and a key is longer; so the server remembers which key a number stands
//! for. It remembers a bounded number of them, the newest, whoever asked for them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

/// So many cursors are remembered,
const CURSORS_MAX: usize = 16_384;
/// of keys of so many bytes together.
const BYTES_MAX: usize = 16 << 20;

/// See the module.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    last: u64,
    keys: HashMap<u64, Vec<u8>>,
    /// In the order in which they were given.
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cursors {
    /// A cursor that goes on behind this key. Never 0, which is where a SCAN begins and ends.
    pub(crate) fn give(&self, last_key: Vec<u8>) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.last += 1;
        let cursor = all.last;
        all.bytes += last_key.len();
        all.keys.insert(cursor, last_key);
        all.order.push_back(cursor);
        while all.order.len() > CURSORS_MAX || all.bytes > BYTES_MAX {
            let Some(oldest) = all.order.pop_front() else { break };
            let key = all.keys.remove(&oldest);
            all.bytes -= key.map_or(0, |key| key.len());
        }
        cursor
    }

    /// The key behind which a cursor goes on; `None` if it was never given, or is forgotten. It may be asked for again.
    pub(crate) fn find(&self, cursor: u64) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_within_bounds() {
        let cursors = Cursors::default();
        let first = cursors.give(b"a".to_vec());
        assert_eq!(
            (cursors.find(first), cursors.find(0), cursors.find(99)),
            (Some(b"a".to_vec()), None, None)
        );
        (0..CURSORS_MAX).for_each(|_| assert_ne!(cursors.give(b"b".to_vec()), 0));
        assert_eq!(cursors.find(first), None);
        let (mut last, long) = (0, vec![b'k'; 65_535]);
        (0..300).for_each(|_| last = cursors.give(long.clone()));
        assert_eq!(cursors.find(last), Some(long));
        let all = cursors.0.lock().unwrap();
        assert!(all.bytes <= BYTES_MAX && all.keys.len() == all.order.len());
    }
}
