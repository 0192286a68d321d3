//! What a part of the tree adds up to.

use std::{
    iter::Sum,
    ops::{AddAssign, SubAssign},
};

/// Keys and memory of a node and all below it.
///
/// Inner nodes keep those of their children, so that a whole subtree can be cut off or put in without a look at
/// its leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Keys.
    pub(super) len: usize,
    /// Bytes, with what the allocator adds.
    pub(super) memory: usize,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.len += other.len;
        self.memory += other.memory;
    }
}

impl SubAssign for Totals {
    fn sub_assign(&mut self, other: Self) {
        self.len -= other.len;
        self.memory -= other.memory;
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}
