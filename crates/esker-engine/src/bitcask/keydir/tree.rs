//! The tree: lookups, and the updates that work in place or copy.

use std::{ops::Bound, sync::Arc};

use super::{
    keys::KEY_BYTES_MAX,
    node::{Inner, Leaf, Node, Split},
    range::Range,
};

/// A persistent, ordered map from byte strings to small values.
///
/// [`Tree::clone`] is a snapshot and takes no time: both trees share all nodes. From then on an update
/// copies the nodes on its way that are shared, and changes in place those that are not. See the
/// [module](super) for how it is built.
pub struct Tree<V> {
    /// `None` when the tree is empty.
    pub(super) root: Option<Node<V>>,
    /// How many keys there are.
    pub(super) len: usize,
    /// Memory of all nodes, kept up to date by every update; see [`Tree::memory_bytes`].
    pub(super) memory: usize,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: None, len: 0, memory: 0 }
    }
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len, memory: self.memory }
    }
}

impl<V: Copy> Tree<V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory this tree reaches, with what the allocator adds. Trees that share nodes each count them.
    pub fn memory_bytes(&self) -> usize {
        self.memory
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.keys.count_up_to(key)],
                Node::Leaf(leaf) => return leaf.keys.search_to_use(key).ok().map(|index| leaf.values[index]),
            }
        }
    }

    /// Sets the value of `key`, returns the one it had.
    ///
    /// # Panics
    /// If the key is longer than [`KEY_BYTES_MAX`], which whoever accepts keys has to refuse.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        assert!(key.len() <= KEY_BYTES_MAX, "key of {} bytes", key.len());
        loop {
            let Some(root) = &mut self.root else {
                self.plant(key, value);
                return None;
            };
            let inserted = insert(root, key, value, &mut self.memory);
            if let Some(split) = inserted.split {
                self.grow(split);
            }
            match inserted.outcome {
                Outcome::Added => {
                    self.len += 1;
                    return None;
                }
                Outcome::Replaced(old) => return Some(old),
                Outcome::Again => {}
            }
        }
    }

    /// Removes `key`, returns its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        // An absent key must not copy shared nodes, and one lookup warms the cache for the next.
        let old = self.get(key)?;
        let root = self.root.as_mut().expect("the key was found");
        remove(root, key, &mut self.memory);
        self.len -= 1;
        self.shrink();
        Some(old)
    }

    /// The entries between two bounds as of now, in order, from both ends. Empty if the bounds cross.
    pub fn range(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Range<V> {
        Range::new(self.root.as_ref(), lower, upper)
    }

    /// All entries as of now.
    pub fn iter(&self) -> Range<V> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    /// The first leaf of an empty tree.
    fn plant(&mut self, key: &[u8], value: V) {
        let leaf = Leaf::of(key, value);
        self.memory += leaf.memory_bytes();
        self.len = 1;
        self.root = Some(Node::Leaf(Arc::new(leaf)));
    }

    /// Puts a root over the old one and its new neighbour.
    fn grow(&mut self, split: Split<V>) {
        let left = self.root.take().expect("the root has split");
        let root = Inner::over(left, split);
        self.memory += root.memory_bytes();
        self.root = Some(Node::Inner(Arc::new(root)));
    }

    /// Drops roots that no longer branch.
    fn shrink(&mut self) {
        while let Some(root) = &self.root {
            let below = match root {
                Node::Inner(inner) if inner.children.len() == 1 => Some(inner.children[0].clone()),
                Node::Leaf(leaf) if leaf.keys.is_empty() => None,
                _ => return,
            };
            self.memory -= root.memory_bytes();
            self.root = below;
        }
    }
}

impl<V: Copy> IntoIterator for &Tree<V> {
    type Item = (Vec<u8>, V);
    type IntoIter = Range<V>;

    fn into_iter(self) -> Range<V> {
        self.iter()
    }
}

/// What an insert did to the key.
enum Outcome<V> {
    /// It is new.
    Added,
    /// It had this value.
    Replaced(V),
    /// The leaf had to be split before there was room; insert again. Only keys of many hundred bytes ask
    /// for this, when neither half of a leaf can take them.
    Again,
}

/// What an insert did to a node.
struct Inserted<V> {
    outcome: Outcome<V>,
    /// The node's new neighbour, which its parent has to take in.
    split: Option<Split<V>>,
}

/// Inserts below `node`.
///
/// Both kinds of node are searched before `make_mut`, whose atomic operation holds up all later loads: so
/// the cache misses of the search overlap.
fn insert<V: Copy>(node: &mut Node<V>, key: &[u8], value: V, memory: &mut usize) -> Inserted<V> {
    match node {
        Node::Leaf(leaf) => {
            let place = leaf.keys.search_to_use(key);
            leaf.touch(place);
            let before = leaf.memory_bytes();
            let leaf = Arc::make_mut(leaf);
            let inserted = insert_in_leaf(leaf, place, key, value);
            settle(memory, before, leaf.memory_bytes(), &inserted);
            inserted
        }
        Node::Inner(inner) => {
            let index = inner.keys.count_up_to(key);
            let before = inner.memory_bytes();
            let inner = Arc::make_mut(inner);
            let below = insert(&mut inner.children[index], key, value, memory);
            let split = below.split.and_then(|split| inner.adopt(index, split));
            let inserted = Inserted { outcome: below.outcome, split };
            settle(memory, before, inner.memory_bytes(), &inserted);
            inserted
        }
    }
}

/// Accounts for a node that was changed and perhaps split.
fn settle<V: Copy>(memory: &mut usize, before: usize, after: usize, inserted: &Inserted<V>) {
    let split = inserted.split.as_ref().map_or(0, |split| split.right.memory_bytes());
    *memory = *memory + after + split - before;
}

fn insert_in_leaf<V: Copy>(
    leaf: &mut Leaf<V>,
    place: Result<usize, usize>,
    key: &[u8],
    value: V,
) -> Inserted<V> {
    match place {
        Ok(index) => {
            let old = std::mem::replace(&mut leaf.values[index], value);
            Inserted { outcome: Outcome::Replaced(old), split: None }
        }
        Err(index) if leaf.has_room_for(key) => {
            leaf.insert(index, key, value);
            Inserted { outcome: Outcome::Added, split: None }
        }
        Err(index) => {
            let (outcome, split) = insert_splitting(leaf, index, key, value);
            Inserted { outcome, split: Some(split) }
        }
    }
}

/// Inserts into a leaf that has no room.
///
/// At either end the new key gets a leaf of its own: ascending (or descending) inserts then leave
/// full leaves behind, where halving would leave half-full ones.
fn insert_splitting<V: Copy>(
    leaf: &mut Leaf<V>,
    index: usize,
    key: &[u8],
    value: V,
) -> (Outcome<V>, Split<V>) {
    if index == leaf.keys.len() {
        let separator = leaf.keys.separator_after(key);
        leaf.keys.seal();
        return (Outcome::Added, new_neighbour(separator, Leaf::of(key, value)));
    }
    if index == 0 {
        let separator = leaf.keys.separator_before(key);
        let right = std::mem::replace(leaf, Leaf::of(key, value));
        return (Outcome::Added, new_neighbour(separator, right));
    }
    let (separator, mut right) = leaf.split();
    let side = if key < separator.as_slice() { leaf } else { &mut right };
    let outcome = match side.keys.search(key) {
        Err(index) if side.has_room_for(key) => {
            side.insert(index, key, value);
            Outcome::Added
        }
        _ => Outcome::Again,
    };
    (outcome, new_neighbour(separator, right))
}

fn new_neighbour<V>(separator: Vec<u8>, right: Leaf<V>) -> Split<V> {
    Split { separator, right: Node::Leaf(Arc::new(right)) }
}

/// Removes a key that is there from below `node`.
fn remove<V: Copy>(node: &mut Node<V>, key: &[u8], memory: &mut usize) {
    let before = node.memory_bytes();
    match node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            let index = leaf.keys.search(key).expect("the key was found");
            leaf.keys.remove(index);
            leaf.values.remove(index);
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let index = inner.keys.count_up_to(key);
            remove(&mut inner.children[index], key, memory);
            if inner.children[index].is_underfull() {
                mend(inner, index, memory);
            }
        }
    }
    *memory = *memory + node.memory_bytes() - before;
}

/// Drops child `index` if nothing is left of it, or joins it with a neighbour that has room.
///
/// A node whose neighbours are too full to join may stay small, and nothing is moved between
/// neighbours: what one lacks its neighbours have, and a removal stays cheap.
fn mend<V: Copy>(parent: &mut Inner<V>, index: usize, memory: &mut usize) {
    if parent.children[index].entries() == 0 {
        *memory -= parent.children[index].memory_bytes();
        forget(parent, index, index.saturating_sub(1));
        return;
    }
    for left in [Some(index), index.checked_sub(1)].into_iter().flatten() {
        if left + 1 < parent.children.len() && join(parent, left, memory) {
            return;
        }
    }
}

/// Joins children `left` and `left + 1`, if they are small enough.
fn join<V: Copy>(parent: &mut Inner<V>, left: usize, memory: &mut usize) -> bool {
    let [a, b] = [&parent.children[left], &parent.children[left + 1]];
    if !Node::may_join(a, b) {
        return false;
    }
    let Some(joined) = Node::join(a, &parent.keys.key(left), b) else { return false };
    *memory = *memory + joined.memory_bytes() - a.memory_bytes() - b.memory_bytes();
    parent.children[left] = joined;
    forget(parent, left + 1, left);
    true
}

/// Removes a child and one of the separators beside it.
fn forget<V: Copy>(parent: &mut Inner<V>, child: usize, separator: usize) {
    parent.children.remove(child);
    if !parent.keys.is_empty() {
        parent.keys.remove(separator);
    }
}
