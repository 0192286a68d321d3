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

    /// Whether there is little left for whoever comes next.
    pub(crate) fn is_short(&self) -> bool {
        self.taken() > self.max / 4 * 3
    }

    /// Whether that is so beside whoever holds `held` bytes: not if these are all that is taken, or nearly.
    pub(crate) fn is_short_beside(&self, held: usize) -> bool {
        self.is_short() && self.taken().saturating_sub(held) > self.max / 16
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
        self.grow_within(bytes, self.budget.max)
    }

    /// The same for one of many that are small: there is a quarter more for them, so that those who hold much do not keep them waiting.
    pub(crate) fn grow_small(&mut self, bytes: usize) -> bool {
        self.grow_within(bytes, self.budget.max.saturating_add(self.budget.max / 4))
    }

    fn grow_within(&mut self, bytes: usize, max: usize) -> bool {
        let before = self.budget.taken.fetch_add(bytes, Ordering::Relaxed);
        if before > self.bytes && before.saturating_add(bytes) > max {
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

    /// Takes over what another share of the same budget has.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
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
        assert!(budget.is_short());
        first.hold(3);
        assert!(!budget.is_short());
        assert!(budget.share().grow(7));
        drop(first);
        assert!(budget.share().grow(10));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn it_is_short_for_the_sake_of_others() {
        let budget = Arc::new(Budget::new(160));
        let (mut large, mut small) = (budget.share(), budget.share());
        assert!(large.grow(130));
        assert!(!budget.is_short_beside(130), "nobody else is there");
        assert!(small.grow(10));
        assert!(!budget.is_short_beside(130), "hardly anybody");
        assert!(small.grow(1));
        assert!(budget.is_short_beside(130) && budget.is_short_beside(11));
        drop(small);
        large.hold(100);
        assert!(!budget.is_short_beside(50));
    }

    #[test]
    fn small_ones_have_a_reserve() {
        let budget = Arc::new(Budget::new(100));
        let (mut large, mut small) = (budget.share(), budget.share());
        assert!(large.grow(95) && !budget.share().grow(6));
        assert!(small.grow_small(6) && small.grow_small(24) && !small.grow_small(1));
        assert_eq!((small.bytes(), budget.taken()), (30, 125));
    }

    #[test]
    fn what_is_joined_is_given_back_once() {
        let budget = Arc::new(Budget::new(10));
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.grow(4) && second.grow(5));
        first.join(second);
        assert_eq!((first.bytes(), budget.taken()), (9, 9));
        first.hold(0);
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
