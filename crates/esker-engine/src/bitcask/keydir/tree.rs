//! The tree: lookups and inserts.

use std::{ops::Bound, sync::Arc};

use super::{
    keys::KEY_BYTES_MAX,
    node::{Inner, Leaf, Node, Split},
    range::Range,
    share::make_mut,
    totals::Totals,
};

/// A persistent, ordered map from byte strings to small values.
///
/// [`Tree::clone`] is a snapshot and takes no time: both trees share all nodes. From then on an update
/// copies the nodes on its way that are shared, and changes in place those that are not. See the
/// [module](super) for how it is built.
pub struct Tree<V> {
    /// `None` when the tree is empty.
    pub(super) root: Option<Node<V>>,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<V: Copy> Tree<V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.totals().len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Memory this tree reaches, with what the allocator adds. Trees that share nodes each count them.
    pub fn memory_bytes(&self) -> usize {
        self.totals().memory
    }

    fn totals(&self) -> Totals {
        self.root.as_ref().map(Node::totals).unwrap_or_default()
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
            let inserted = insert(root, key, value);
            if let Some(split) = inserted.split {
                self.grow(split);
            }
            match inserted.outcome {
                Outcome::Added => return None,
                Outcome::Replaced(old) => return Some(old),
                Outcome::Again => {}
            }
        }
    }

    /// Sets the value of `key` to `new` if it is `expected`; returns whether it was. If not, nothing is copied.
    pub fn replace_if(&mut self, key: &[u8], expected: V, new: V) -> bool
    where
        V: PartialEq,
    {
        // One lookup warms the cache for the next.
        let is_expected = self.get(key) == Some(expected);
        if is_expected {
            self.insert(key, new);
        }
        is_expected
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
        self.root = Some(Node::Leaf(Arc::new(Leaf::of(key, value))));
    }

    /// Puts a root over the old one and its new neighbour.
    fn grow(&mut self, split: Split<V>) {
        let left = self.root.take().expect("the root has split");
        self.root = Some(Node::Inner(Arc::new(Inner::over(left, split))));
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
fn insert<V: Copy>(node: &mut Node<V>, key: &[u8], value: V) -> Inserted<V> {
    match node {
        Node::Leaf(leaf) => {
            let place = leaf.keys.search_to_use(key);
            leaf.touch(place);
            insert_in_leaf(make_mut(leaf), place, key, value)
        }
        Node::Inner(inner) => {
            let index = inner.keys.count_up_to(key);
            let inner = make_mut(inner);
            let below = inner.change(index, |child| insert(child, key, value));
            let split = below.split.and_then(|split| inner.adopt(index, split));
            Inserted { outcome: below.outcome, split }
        }
    }
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
