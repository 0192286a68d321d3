//! Places between entries, where ranges begin and end.

use std::ops::Bound;

use super::node::{Inner, Leaf, Node};

/// A place between two entries.
#[derive(Clone, Copy)]
pub(super) enum Place<'key> {
    Start,
    Before(&'key [u8]),
    After(&'key [u8]),
    End,
}

impl<'key> Place<'key> {
    /// Where a range with this lower bound begins.
    pub(super) fn of_lower(bound: Bound<&'key [u8]>) -> Self {
        match bound {
            Bound::Unbounded => Self::Start,
            Bound::Included(key) => Self::Before(key),
            Bound::Excluded(key) => Self::After(key),
        }
    }

    /// Where a range with this upper bound ends.
    pub(super) fn of_upper(bound: Bound<&'key [u8]>) -> Self {
        match bound {
            Bound::Unbounded => Self::End,
            Bound::Included(key) => Self::After(key),
            Bound::Excluded(key) => Self::Before(key),
        }
    }

    /// The child to look in.
    pub(super) fn child<V>(self, inner: &Inner<V>) -> usize {
        match self {
            Self::Start => 0,
            Self::Before(key) | Self::After(key) => inner.keys.count_up_to(key),
            Self::End => inner.children.len() - 1,
        }
    }

    /// How many entries of the leaf are before the place.
    pub(super) fn index<V>(self, leaf: &Leaf<V>) -> usize {
        match self {
            Self::Start => 0,
            Self::Before(key) => leaf.keys.search(key).unwrap_or_else(|index| index),
            Self::After(key) => leaf.keys.count_up_to(key),
            Self::End => leaf.keys.len(),
        }
    }

    /// Whether no entry below `node` is before the place.
    pub(super) fn is_start_of<V>(self, node: &Node<V>) -> bool {
        match node {
            Node::Leaf(leaf) => self.index(leaf) == 0,
            Node::Inner(inner) => self.child(inner) == 0 && self.is_start_of(&inner.children[0]),
        }
    }

    /// Whether all entries below `node` are before the place.
    pub(super) fn is_end_of<V>(self, node: &Node<V>) -> bool {
        match node {
            Node::Leaf(leaf) => self.index(leaf) == leaf.keys.len(),
            Node::Inner(inner) => {
                let last = inner.children.len() - 1;
                self.child(inner) == last && self.is_end_of(&inner.children[last])
            }
        }
    }
}

/// Whether no key can lie between the bounds because the lower one is the higher.
pub(super) fn cross(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => {
            low > high
        }
    }
}
