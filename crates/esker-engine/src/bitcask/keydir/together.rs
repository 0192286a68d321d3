//! Several lookups at once.
//!
//! A lookup in a tree that the processor's caches do not hold is a chain of waits for memory, one for each node and one for the
//! bytes of the key. Those of one key cannot overlap, for each tells where the next is; those of several keys can. So all
//! lookups go down a level before any goes down another, and the memory of a level is asked for before any of it is used
//! (Chen, Gibbons, Mowry, "Improving index performance through prefetching", 2001; Valkey does so for the commands of
//! a pipeline). There is no instruction for it without `unsafe`, so what is asked for is read.

use arrayvec::ArrayVec;

use super::{
    node::{Leaf, Node},
    tree::Tree,
};

/// So many lookups at a time: about as many waits for memory as a core can have open.
pub const LANES: usize = 16;

impl<V: Copy> Tree<V> {
    /// The value of each key, of the first [`LANES`] keys.
    pub fn get_each(&self, keys: &[&[u8]]) -> ArrayVec<Option<V>, LANES> {
        let keys = &keys[..keys.len().min(LANES)];
        let Some(root) = &self.root else { return keys.iter().map(|_| None).collect() };
        let mut nodes: ArrayVec<&Node<V>, LANES> = keys.iter().map(|_| root).collect();
        // All leaves are equally deep.
        while matches!(nodes.first(), Some(Node::Inner(_))) {
            descend(&mut nodes, keys);
        }
        let leaves = nodes.iter().filter_map(|node| match node {
            Node::Leaf(leaf) => Some(leaf.as_ref()),
            Node::Inner(_) => None,
        });
        look_up(&leaves.collect(), keys)
    }
}

/// Goes down a level from inner nodes.
fn descend<V>(nodes: &mut ArrayVec<&Node<V>, LANES>, keys: &[&[u8]]) {
    for node in nodes.iter() {
        if let Node::Inner(inner) = node {
            inner.keys.touch_heads();
        }
    }
    for (node, key) in nodes.iter_mut().zip(keys) {
        if let Node::Inner(inner) = node {
            *node = &inner.children[inner.keys.count_up_to(key)];
        }
    }
}

/// Looks each key up in its leaf.
fn look_up<V: Copy>(leaves: &ArrayVec<&Leaf<V>, LANES>, keys: &[&[u8]]) -> ArrayVec<Option<V>, LANES> {
    for leaf in leaves {
        leaf.keys.touch_heads();
        leaf.keys.touch_ends();
    }
    let near = leaves.iter().zip(keys).map(|(leaf, key)| leaf.keys.first_of_head(key));
    let near: ArrayVec<usize, LANES> = near.collect();
    leaves.iter().zip(near).for_each(|(leaf, index)| leaf.touch(Err(index)));
    let found = leaves.iter().zip(keys).map(|(leaf, key)| leaf.keys.search(key).ok());
    let found: ArrayVec<Option<usize>, LANES> = found.collect();
    leaves.iter().zip(found).map(|(leaf, index)| Some(leaf.values[index?])).collect()
}
