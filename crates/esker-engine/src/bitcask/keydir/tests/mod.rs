//! Tests of the keydir as a whole.

mod builder;
mod concurrency;
mod cut;
mod edges;
mod model;
mod sharing;
mod slot;

use super::{Builder, Tree};

/// The entries of a tree.
fn entries<V: Copy>(tree: &Tree<V>) -> Vec<(Vec<u8>, V)> {
    tree.iter().collect()
}

/// A tree of all even numbers below twice `count`, as keys of four bytes.
fn tree_of_even(count: u32) -> Tree<u32> {
    let mut builder = Builder::new();
    for number in 0..count {
        builder.push(&(2 * number).to_be_bytes(), number).expect("numbers ascend");
    }
    builder.finish()
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
