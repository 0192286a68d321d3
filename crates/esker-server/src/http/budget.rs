//! The bytes of request bodies being received, over all connections.

use std::sync::atomic::{AtomicUsize, Ordering};

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
    pub(crate) fn share(&self) -> Share<'_> {
        Share { budget: self, bytes: 0 }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// What one request has taken; dropping gives it back.
pub(crate) struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Share<'_> {
    /// Takes more, if there is so much left. Refusing rather than waiting means that no two half-received bodies
    /// can wait for each other.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.taken.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.budget.max {
            self.budget.taken.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Share<'_> {
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
        let budget = Budget::new(10);
        let mut first = budget.share();
        assert!(first.grow(4) && first.grow(5));
        assert!(!budget.share().grow(2));
        drop(first);
        assert!(budget.share().grow(10));
        assert_eq!(budget.taken(), 0);
    }
}
