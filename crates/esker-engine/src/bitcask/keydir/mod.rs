//! The keydir: every key in memory, in order, with the place of its newest record.
//!
//! # Structure
//! A B+-tree whose nodes are shared by reference count. [`Tree::clone`] copies the root's reference and is
//! a snapshot. An update changes a node in place if nobody else holds it and copies it otherwise, from
//! the root down ("path copying"), so a snapshot never changes, costs only the nodes that were changed
//! since it was taken, and blocks nobody.
//!
//! ```text
//! Keydir        the lock and the two ways to change (this file)
//!   Tree        get and insert                    tree.rs    Range   range.rs
//!               several gets at once              together.rs
//!               remove, and remove a range        remove.rs, cut.rs
//!     Node      leaf or inner, split, join        node.rs    Builder builder.rs
//!       Keys    the sorted keys of one node       keys.rs    Slot    slot.rs
//!     make_mut  a shared node becomes one's own   share.rs
//! ```
//!
//! # Invariants
//! 1. All keys below child `i` are at or above separator `i - 1` and below separator `i`.
//! 2. All leaves are equally deep; no node is empty; an inner root has two children or more.
//! 3. Those of `keys`. [`Tree::check`] asserts them all.
//!
//! # Memory
//! A key costs itself, a [`Slot`] of 24 bytes and 6 bytes to find it; the latter two divided by how full leaves
//! are (seven tenths under random inserts, nearly full in order), the key less the prefix its leaf shares.
//!
//! # Where the ideas are from
//! Prefix truncation, key heads, and separators cut to what separates: Graefe, "Modern B-Tree Techniques"
//! (2011). Path copying: Driscoll, Sarnak, Sleator, Tarjan, "Making data structures persistent" (1989),
//! and the B-trees of LMDB and redb on disk.
//!
//! # Left out on purpose
//! Concurrent writers: records are applied in log order, so there is one. Moving keys between neighbours
//! before a split or after a removal: leaves would be fuller by a tenth for slower inserts.

mod builder;
mod check;
mod cut;
mod keys;
mod node;
mod place;
mod range;
mod remove;
mod run;
mod share;
mod slot;
mod together;
mod totals;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use parking_lot::{Mutex, RwLock};

pub use self::{
    builder::{Builder, Fill, NotAscending},
    keys::KEY_BYTES_MAX,
    range::Range,
    slot::Slot,
    together::LANES,
    tree::Tree,
};

/// Most operations to apply under the write lock. Readers wait that long at most: by the cost of
/// an insert, about a millisecond for keys spread over millions. A larger batch copies the nodes it touches instead: with
/// 64 here, filling by batches of 1,000 random keys ran at less than half the speed (570,000 a second for 1,269,000).
pub const IN_PLACE_OPERATIONS_MAX: usize = 1024;

/// The index as it stands, for any number of readers and one writer at a time.
///
/// Lock order: `writer`, then `tree`.
#[derive(Default)]
pub struct Keydir {
    /// The index of now.
    tree: RwLock<Tree<Slot>>,
    /// Held while a change is made, so that a version built beside `tree` replaces the one it came from.
    writer: Mutex<()>,
    /// Bytes of nodes that were copied because somebody else held them too.
    copied: AtomicU64,
}

impl Keydir {
    /// An index that starts as `tree`.
    pub fn new(tree: Tree<Slot>) -> Self {
        Self { tree: RwLock::new(tree), ..Self::default() }
    }

    /// What is known of `key`. Holds the lock for the lookup only.
    pub fn get(&self, key: &[u8]) -> Option<Slot> {
        self.tree.read().get(key)
    }

    /// What is known of each key, of the first [`LANES`]. Holds the lock for these lookups only.
    pub fn get_each(&self, keys: &[&[u8]]) -> ArrayVec<Option<Slot>, LANES> {
        self.tree.read().get_each(keys)
    }

    /// The index as it is now and will stay.
    pub fn snapshot(&self) -> Tree<Slot> {
        self.tree.read().clone()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.tree.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of the index, snapshots apart.
    pub fn memory_bytes(&self) -> usize {
        self.tree.read().memory_bytes()
    }

    /// Bytes of nodes copied since the index was made: a snapshot holds at most those copied since it was taken, beyond what the
    /// present index has.
    pub fn copied_bytes(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// Makes a change of about `operations` inserts and removes. Readers see all of it or nothing.
    ///
    /// A small change is made in place under the lock. A large one ([`IN_PLACE_OPERATIONS_MAX`]) is
    /// made on a snapshot, beside the readers, and swapped in. If a change panics in place, what it did so
    /// far stays: it must not.
    pub fn apply<R>(&self, operations: usize, change: impl FnOnce(&mut Tree<Slot>) -> R) -> R {
        let writer = self.writer.lock();
        if operations <= IN_PLACE_OPERATIONS_MAX {
            let (result, copied) = share::counting(|| change(&mut self.tree.write()));
            self.count_copied(copied);
            return result;
        }
        let mut next = self.snapshot();
        let (result, copied) = share::counting(|| change(&mut next));
        self.count_copied(copied);
        std::mem::swap(&mut *self.tree.write(), &mut next);
        // `next` is the old version now. To drop it may free many nodes, so nobody waits for that.
        drop(writer);
        drop(next);
        result
    }

    fn count_copied(&self, bytes: u64) {
        if bytes > 0 {
            self.copied.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
