//! Tests of the keydir as a whole.

mod builder;
mod concurrency;
mod edges;
mod model;
mod slot;

use super::Tree;

/// The entries of a tree.
fn entries<V: Copy>(tree: &Tree<V>) -> Vec<(Vec<u8>, V)> {
    tree.iter().collect()
}

/// A tree of these keys, each with its place in the list; checked after every insert.
fn tree_of(keys: &[&[u8]]) -> Tree<u32> {
    let mut tree = Tree::new();
    for (key, value) in keys.iter().zip(0..) {
        tree.insert(key, value);
        tree.check();
    }
    tree
}
