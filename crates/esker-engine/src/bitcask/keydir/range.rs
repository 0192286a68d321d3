//! Walking a tree in order, from both ends.

use std::{iter::FusedIterator, ops::Bound, sync::Arc};

use super::{
    node::{Inner, Leaf, Node},
    place::{Place, cross},
};

/// The entries of a snapshot between two bounds; see [`Tree::range`](super::Tree::range).
///
/// Each end is a path from the root to a leaf, so a step costs no lookup, and memory is the two paths
/// whatever the range. The paths start at the root of the snapshot and so keep it alive; they are
/// dropped as soon as the ends meet.
pub struct Range<V> {
    /// The next entry from the front, and the place after the next one from the back. `None` when the range
    /// is exhausted.
    ends: Option<(Cursor<V>, Cursor<V>)>,
}

impl<V: Copy> Range<V> {
    /// The entries below `root` between two bounds.
    pub(super) fn new(root: Option<&Node<V>>, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Self {
        let Some(root) = root.filter(|_| !cross(lower, upper)) else { return Self { ends: None } };
        let [front, back] = [Place::of_lower(lower), Place::of_upper(upper)];
        Self { ends: Some((Cursor::seek(root, front), Cursor::seek(root, back))) }
    }

    /// The next entry, its key written over what `key` holds: for walks that need no key to keep.
    pub fn next_into(&mut self, key: &mut Vec<u8>) -> Option<V> {
        let (leaf, index) = self.step_front()?;
        leaf.keys.key_into(index, key);
        Some(leaf.values[index])
    }

    /// Moves the front end over an entry.
    fn step_front(&mut self) -> Option<(&Leaf<V>, usize)> {
        if !self.settle_front() {
            self.ends = None;
        }
        let (front, _) = self.ends.as_mut()?;
        front.index += 1;
        Some((&front.leaf, front.index - 1))
    }

    /// Moves the back end over an entry.
    fn step_back(&mut self) -> Option<(&Leaf<V>, usize)> {
        if !self.settle_back() {
            self.ends = None;
        }
        let (_, back) = self.ends.as_mut()?;
        back.index -= 1;
        Some((&back.leaf, back.index))
    }

    /// Brings the front end to an entry, over the end of a leaf if need be. False if there is none left.
    ///
    /// The ends are compared before every move, for past the last entry of one leaf and before the first of
    /// the next are the same place, and an end must not step over the other in between.
    fn settle_front(&mut self) -> bool {
        let Some((front, back)) = &mut self.ends else { return false };
        while !front.has_met(back) {
            if front.index < front.leaf.keys.len() {
                return true;
            }
            if !front.next_leaf() {
                return false;
            }
        }
        false
    }

    /// Brings the back end to behind an entry; as [`Range::settle_front`].
    fn settle_back(&mut self) -> bool {
        let Some((front, back)) = &mut self.ends else { return false };
        while !front.has_met(back) {
            if back.index > 0 {
                return true;
            }
            if !back.previous_leaf() {
                return false;
            }
        }
        false
    }
}

impl<V: Copy> Iterator for Range<V> {
    type Item = (Vec<u8>, V);

    fn next(&mut self) -> Option<Self::Item> {
        let (leaf, index) = self.step_front()?;
        Some((leaf.keys.key(index), leaf.values[index]))
    }
}

impl<V: Copy> DoubleEndedIterator for Range<V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (leaf, index) = self.step_back()?;
        Some((leaf.keys.key(index), leaf.values[index]))
    }
}

impl<V: Copy> FusedIterator for Range<V> {}

/// A place in a tree and the way to it.
struct Cursor<V> {
    /// The inner nodes from the root down, and which child was taken in each.
    path: Vec<(Arc<Inner<V>>, usize)>,
    /// The leaf.
    leaf: Arc<Leaf<V>>,
    /// How many of its entries are before the place.
    index: usize,
}

impl<V: Copy> Cursor<V> {
    /// The way to a place below `root`.
    fn seek(root: &Node<V>, place: Place<'_>) -> Self {
        let mut path = Vec::new();
        let leaf = descend(&mut path, root, place);
        let index = place.index(&leaf);
        Self { path, leaf, index }
    }

    /// Whether this front end has come to `back`.
    fn has_met(&self, back: &Self) -> bool {
        self.index >= back.index && Arc::ptr_eq(&self.leaf, &back.leaf)
    }

    /// Moves to the start of the next leaf, if there is one.
    fn next_leaf(&mut self) -> bool {
        let turn = self.path.iter().rposition(|(inner, child)| child + 1 < inner.children.len());
        turn.is_some_and(|level| self.turn(level, |child| child + 1, Place::Start))
    }

    /// Moves to the end of the leaf before, if there is one.
    fn previous_leaf(&mut self) -> bool {
        let turn = self.path.iter().rposition(|(_, child)| *child > 0);
        turn.is_some_and(|level| self.turn(level, |child| child - 1, Place::End))
    }

    /// Takes another child at `level` of the path, and from there on keeps to one side.
    fn turn(&mut self, level: usize, step: impl FnOnce(usize) -> usize, side: Place<'_>) -> bool {
        self.path.truncate(level + 1);
        let (inner, child) = &mut self.path[level];
        *child = step(*child);
        let node = inner.children[*child].clone();
        self.leaf = descend(&mut self.path, &node, side);
        self.index = side.index(&self.leaf);
        true
    }
}

/// Extends `path` from `node` down to the leaf where `place` is.
fn descend<V>(path: &mut Vec<(Arc<Inner<V>>, usize)>, node: &Node<V>, place: Place<'_>) -> Arc<Leaf<V>> {
    let mut node = node;
    loop {
        match node {
            Node::Leaf(leaf) => return Arc::clone(leaf),
            Node::Inner(inner) => {
                let child = place.child(inner);
                path.push((Arc::clone(inner), child));
                node = &inner.children[child];
            }
        }
    }
}
