//! Bytes that requests hold, over all connections: of bodies being received, of answers being sent.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bounded number of bytes to be shared out.
pub(crate) struct Budget {
    taken: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// What one request has taken; dropping gives it back.
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Takes more, if there is so much left. Refusing rather than waiting means that no two half-received bodies
    /// can wait for each other. Who is alone always gets more: the limits bound it, and it could never be served else.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.taken.fetch_add(bytes, Ordering::Relaxed);
        if before > self.bytes && before.saturating_add(bytes) > self.budget.max {
            self.budget.taken.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// How many it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another share of the same budget, of nothing yet.
    pub(crate) fn split(&self) -> Self {
        self.budget.share()
    }

    /// Holds so many bytes from now on, more or less than before, whatever is left: for what is there already.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.budget.taken.fetch_add(bytes, Ordering::Relaxed);
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_refused_and_given_back() {
        let budget = Arc::new(Budget::new(10));
        let mut first = budget.share();
        assert!(first.grow(4) && first.grow(5));
        assert!(!budget.share().grow(2));
        first.hold(3);
        assert!(budget.share().grow(7));
        drop(first);
        assert!(budget.share().grow(10));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn who_is_alone_is_served_however_large() {
        let budget = Arc::new(Budget::new(10));
        let mut large = budget.share();
        assert!(large.grow(8) && large.grow(8));
        assert!(!budget.share().grow(1));
    }
}
