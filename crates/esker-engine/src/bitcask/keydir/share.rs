//! Making a shared node one's own, and counting what that leaves to the snapshots that share it.

use std::{cell::Cell, sync::Arc};

use super::node::{Inner, Leaf};

thread_local! {
    /// Bytes of nodes that this thread has copied. Changes are made by one thread from beginning to end.
    static COPIED: Cell<u64> = const { Cell::new(0) };
}

/// A node, as far as its copies are counted.
pub(super) trait Shared: Clone {
    /// What it takes itself, in bytes.
    fn bytes(&self) -> usize;
}

impl<V: Copy> Shared for Leaf<V> {
    fn bytes(&self) -> usize {
        self.memory_bytes()
    }
}

impl<V: Copy> Shared for Inner<V> {
    fn bytes(&self) -> usize {
        self.memory_bytes()
    }
}

/// Like [`Arc::make_mut`].
pub(super) fn make_mut<T: Shared>(node: &mut Arc<T>) -> &mut T {
    if Arc::strong_count(node) > 1 {
        COPIED.set(COPIED.get() + node.bytes() as u64);
    }
    Arc::make_mut(node)
}

/// Makes a change; says what nodes it copied, in bytes.
pub(super) fn counting<R>(change: impl FnOnce() -> R) -> (R, u64) {
    let before = COPIED.get();
    let result = change();
    (result, COPIED.get() - before)
}
