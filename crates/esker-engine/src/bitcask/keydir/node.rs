//! The nodes of the tree: what they hold, how they are shared, how they split and join.

use std::{ops::Range, sync::Arc};

use arrayvec::ArrayVec;

use super::{
    keys::{FANOUT, Keys, SUFFIX_BYTES_MAX},
    totals::Totals,
};

/// A node with fewer entries than this looks for a neighbour to join.
const UNDERFULL: usize = FANOUT / 2;

/// Two nodes join if the result has at most this many entries. Less than [`FANOUT`], so that the next
/// insert does not split it again.
const JOINED_MAX: usize = FANOUT * 3 / 4;

/// A shared reference to a node.
///
/// The kind is told by the reference, so a walk knows what it descends into before it has loaded it.
pub(super) enum Node<V> {
    /// Keys with their values.
    Leaf(Arc<Leaf<V>>),
    /// Separators between children.
    Inner(Arc<Inner<V>>),
}

/// Keys with their values.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Leaf<V> {
    /// The keys.
    pub(super) keys: Keys,
    /// The value of each key.
    pub(super) values: ArrayVec<V, FANOUT>,
}

/// Children, and between any two of them a separator: every key left of it is smaller, every key right
/// of it is not.
///
/// `repr(C)` keeps the totals, which every update writes, beside the counters of the `Arc`, which it writes as well.
#[repr(C)]
pub(super) struct Inner<V> {
    /// What the children add up to.
    pub(super) below: Totals,
    /// The separators: one less than children.
    pub(super) keys: Keys,
    /// The children. At least one.
    pub(super) children: ArrayVec<Node<V>, FANOUT>,
}

/// A node's new right neighbour.
pub(super) struct Split<V> {
    /// What goes between the two into the parent.
    pub(super) separator: Vec<u8>,
    /// The neighbour.
    pub(super) right: Node<V>,
}

/// Written out because a derive would ask for `V: Clone`.
impl<V> Clone for Node<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(leaf) => Self::Leaf(Arc::clone(leaf)),
            Self::Inner(inner) => Self::Inner(Arc::clone(inner)),
        }
    }
}

impl<V> Clone for Inner<V> {
    fn clone(&self) -> Self {
        Self { below: self.below, keys: self.keys.clone(), children: self.children.clone() }
    }
}

impl<V: Copy> Node<V> {
    /// How many entries the node itself has: keys of a leaf, children of an inner node.
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    /// The keys of the node and all below it, and the memory.
    pub(super) fn totals(&self) -> Totals {
        match self {
            Self::Leaf(leaf) => Totals { len: leaf.keys.len(), memory: leaf.memory_bytes() },
            Self::Inner(inner) => {
                Totals { len: inner.below.len, memory: inner.below.memory + inner.memory_bytes() }
            }
        }
    }

    /// Whether the node should look for a neighbour to join.
    ///
    /// Few keys of many bytes are not few: they would not fit into a neighbour.
    pub(super) fn is_underfull(&self) -> bool {
        let keys = match self {
            Self::Leaf(leaf) => &leaf.keys,
            Self::Inner(inner) => &inner.keys,
        };
        self.entries() < UNDERFULL && keys.suffix_bytes() < SUFFIX_BYTES_MAX / 2
    }

    /// Whether one node could take the entries of both without being nearly full.
    pub(super) fn may_join(left: &Self, right: &Self) -> bool {
        left.entries() + right.entries() <= JOINED_MAX
    }

    /// Neighbours `left` and `right` as one node, unless their keys take too many bytes.
    pub(super) fn join(left: &Self, separator: &[u8], right: &Self) -> Option<Self> {
        match (left, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                let keys = Keys::join(&left.keys, None, &right.keys)?;
                let values = left.values.iter().chain(&right.values).copied().collect();
                Some(Self::Leaf(Arc::new(Leaf { keys, values })))
            }
            (Self::Inner(left), Self::Inner(right)) => {
                let keys = Keys::join(&left.keys, Some(separator), &right.keys)?;
                let children = left.children.iter().chain(&right.children).cloned().collect();
                Some(Self::Inner(Arc::new(Inner::new(keys, children))))
            }
            _ => unreachable!("all leaves are at the same depth"),
        }
    }
}

impl<V: Copy> Leaf<V> {
    /// A leaf of one key.
    pub(super) fn of(key: &[u8], value: V) -> Self {
        Self { keys: Keys::of(key), values: std::iter::once(value).collect() }
    }

    /// Memory the leaf takes.
    pub(super) fn memory_bytes(&self) -> usize {
        allocation(ARC_HEADER + size_of::<Self>()) + allocation(self.keys.bytes_capacity())
    }

    /// Whether `key` can be inserted without a split.
    pub(super) fn has_room_for(&self, key: &[u8]) -> bool {
        self.keys.len() < FANOUT && self.keys.has_bytes_for(key)
    }

    /// Asks for the memory a change at `place` will read, so that its cache misses overlap.
    pub(super) fn touch(&self, place: Result<usize, usize>) {
        let (Ok(index) | Err(index)) = place;
        std::hint::black_box(self.values.get(index).copied());
        if place.is_err() {
            self.keys.touch(index);
        }
    }

    /// Puts a key where [`Keys::search`] said.
    pub(super) fn insert(&mut self, index: usize, key: &[u8], value: V) {
        self.keys.insert(index, key);
        self.values.insert(index, value);
    }

    /// Moves the upper half into a new right neighbour.
    pub(super) fn split(&mut self) -> (Vec<u8>, Self) {
        let full = self.keys.len() == FANOUT;
        let at = if full { FANOUT / 2 } else { self.keys.middle_by_bytes() };
        let separator = self.keys.separator(at);
        let right = Self { keys: self.keys.split_off(at), values: self.values.drain(at..).collect() };
        (separator, right)
    }
}

impl<V: Copy> Inner<V> {
    /// A node of these children, and what separates them.
    pub(super) fn new(keys: Keys, children: ArrayVec<Node<V>, FANOUT>) -> Self {
        debug_assert_eq!(keys.len() + 1, children.len());
        Self { below: children.iter().map(Node::totals).sum(), keys, children }
    }

    /// A node above two others.
    pub(super) fn over(left: Node<V>, split: Split<V>) -> Self {
        Self::new(Keys::of(&split.separator), [left, split.right].into_iter().collect())
    }

    /// Memory the node takes, children apart.
    pub(super) fn memory_bytes(&self) -> usize {
        allocation(ARC_HEADER + size_of::<Self>()) + allocation(self.keys.bytes_capacity())
    }

    /// Changes child `index` and keeps count.
    pub(super) fn change<R>(&mut self, index: usize, change: impl FnOnce(&mut Node<V>) -> R) -> R {
        let child = &mut self.children[index];
        let before = child.totals();
        let result = change(child);
        self.below -= before;
        self.below += child.totals();
        result
    }

    /// Takes in the new right neighbour of child `index`; splits if there is no room for it.
    pub(super) fn adopt(&mut self, index: usize, new: Split<V>) -> Option<Split<V>> {
        let has_bytes = self.keys.has_bytes_for(&new.separator);
        if has_bytes && self.children.len() < FANOUT {
            self.below += new.right.totals();
            self.keys.insert(index, &new.separator);
            self.children.insert(index + 1, new.right);
            return None;
        }
        if index == self.keys.len() || !has_bytes {
            return Some(self.split_around(index, new));
        }
        let middle = self.keys.len() / 2;
        let (separator, mut right) = self.split(middle);
        // Half a node has room, and its bytes fit as they fitted beside more keys.
        let rest =
            if index <= middle { self.adopt(index, new) } else { right.adopt(index - middle - 1, new) };
        debug_assert!(rest.is_none());
        Some(Split { separator, right: Node::Inner(Arc::new(right)) })
    }

    /// Takes out a stretch of children, but not all, and as many separators.
    pub(super) fn take(&mut self, taken: Range<usize>) -> ArrayVec<Node<V>, FANOUT> {
        // With a child goes the separator to its left; the first has none, but what is first then needs none.
        let left = usize::from(taken.start > 0);
        self.keys.remove(taken.start - left..taken.end - left);
        let children: ArrayVec<_, FANOUT> = self.children.drain(taken).collect();
        self.below -= children.iter().map(Node::totals).sum();
        children
    }

    /// Splits where `new` belongs, so that its separator moves up and need not fit here. At the right end
    /// this leaves the node full, which is what ascending inserts want.
    fn split_around(&mut self, index: usize, new: Split<V>) -> Split<V> {
        self.below += new.right.totals();
        let mut children = ArrayVec::new();
        children.push(new.right);
        children.extend(self.children.drain(index + 1..));
        let right = self.split_keys(index, index, children);
        Split { separator: new.separator, right: Node::Inner(Arc::new(right)) }
    }

    /// Splits at separator `middle`, which moves up.
    fn split(&mut self, middle: usize) -> (Vec<u8>, Self) {
        let separator = self.keys.key(middle);
        let children = self.children.drain(middle + 1..).collect();
        (separator, self.split_keys(middle, middle + 1, children))
    }

    /// Keeps the keys before `left`, gives those from `right` on to a node of `children`.
    fn split_keys(&mut self, left: usize, right: usize, children: ArrayVec<Node<V>, FANOUT>) -> Self {
        let right = Self::new(self.keys.copy(right..self.keys.len()), children);
        self.keys = self.keys.copy(0..left);
        self.below -= right.below;
        right
    }
}

/// The two counters before what an `Arc` points to.
const ARC_HEADER: usize = 2 * size_of::<usize>();

/// What an allocation of `len` bytes takes with the allocator's own header and rounding (glibc's; others
/// differ little).
fn allocation(len: usize) -> usize {
    if len == 0 { 0 } else { (len + 8).next_multiple_of(16).max(32) }
}
