//! Request ids: what tells a write that is sent again from a new one.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::HeaderValue;

use crate::random;

/// Numbers the writes of one client.
#[derive(Debug)]
pub(crate) struct RequestIds {
    /// Drawn at random, once.
    client: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { client: random::client_number(), next: AtomicU64::new(1) }
    }

    /// The id of another write.
    pub(crate) fn next(&self) -> HeaderValue {
        let (client, sequence) = self.next_numbers();
        let text = format!("{client:016x}-{sequence:x}");
        HeaderValue::try_from(text).expect("hexadecimal digits make a header")
    }
}

impl RequestIds {
    /// The same as two numbers: the client's and the write's.
    pub(crate) fn next_numbers(&self) -> (u64, u64) {
        (self.client, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use esker_engine::RequestId;

    use super::*;

    fn parsed(id: &HeaderValue) -> RequestId {
        id.to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn ids_are_what_the_server_reads_and_never_repeat() {
        let (ids, others) = (RequestIds::new(), RequestIds::new());
        let (first, second) = (parsed(&ids.next()), parsed(&ids.next()));
        assert_eq!((first.client, first.sequence + 1), (second.client, second.sequence));
        assert_ne!(parsed(&others.next()).client, first.client);
    }
}
