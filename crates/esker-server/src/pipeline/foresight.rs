//! A look ahead at the keys that a pipeline will read.
//!
//! Requests are run one after another, and each waits for the memory that its key leads to. The keys of the next few are known, so
//! the store is asked to look for them together ([`Store::prefetch`](esker_cluster::Store::prefetch)).

use arrayvec::ArrayVec;

use crate::access::Door;

/// The keys of so many requests are looked for together: as many as the index looks up at a time.
const REQUESTS: usize = 16;

/// How far a connection has looked ahead among the requests that it took.
#[derive(Default)]
pub(crate) struct Foresight {
    /// The keys of those before this have been looked for.
    seen: usize,
}

impl Foresight {
    /// Called before each request: `next` is its number, of `count`; `read_key` says which key a request reads, if it reads one.
    pub(crate) fn look<'a>(
        &mut self,
        door: &Door,
        next: usize,
        count: usize,
        read_key: impl Fn(usize) -> Option<&'a [u8]>,
    ) {
        if next < self.seen {
            return;
        }
        let coming = next..count.min(next + REQUESTS);
        self.seen = coming.end;
        if coming.len() < 2 {
            return;
        }
        let keys: ArrayVec<&[u8], REQUESTS> = coming.filter_map(read_key).collect();
        // One alone waits as long as it would when it is run.
        if keys.len() > 1 {
            door.prefetch(&keys);
        }
    }

    /// What was taken is done with.
    pub(crate) fn forget(&mut self) {
        self.seen = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::http::test_service;

    #[tokio::test]
    async fn each_request_is_looked_at_once() {
        let (service, _dir) = test_service();
        let (mut foresight, asked) = (Foresight::default(), RefCell::new(Vec::new()));
        let read_key = |number: usize| {
            asked.borrow_mut().push(number);
            number.is_multiple_of(2).then_some(&b"key"[..])
        };
        for next in 0..20 {
            foresight.look(service.door(), next, 20, read_key);
            assert_eq!(asked.borrow().len(), if next < 16 { 16 } else { 20 });
        }
        assert!(asked.borrow().iter().copied().eq(0..20));
        foresight.forget();
        foresight.look(service.door(), 0, 1, read_key);
        assert_eq!(asked.borrow().len(), 20, "there is nothing that one alone could overlap with");
    }
}
