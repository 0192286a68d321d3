//! Walking a whole tree to see that it is sound.

use super::{Tree, node::Node};

impl<V: Copy> Tree<V> {
    /// Asserts every invariant of the tree, node by node.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        let mut found = Found::default();
        if let Some(root) = &self.root {
            let branches = matches!(root, Node::Leaf(_)) || root.entries() > 1;
            assert!(branches, "a root with one child");
            found.visit(root, None, None, 0);
        }
    }
}

/// What a walk has found.
#[derive(Default)]
struct Found {
    /// How deep the leaves lie: all the same.
    depth: Option<usize>,
}

impl Found {
    /// Checks `node` and what is below it, all of which must be at least `lower` and below `upper`.
    fn visit<V: Copy>(&mut self, node: &Node<V>, lower: Option<&[u8]>, upper: Option<&[u8]>, depth: usize) {
        assert!(node.entries() > 0, "an empty node");
        let keys = match node {
            Node::Leaf(leaf) => &leaf.keys,
            Node::Inner(inner) => &inner.keys,
        };
        keys.check();
        if !keys.is_empty() {
            assert!(lower.is_none_or(|lower| lower <= keys.key(0).as_slice()), "a key below its node");
            assert!(upper.is_none_or(|upper| keys.key(keys.len() - 1).as_slice() < upper), "a key above it");
        }
        match node {
            Node::Leaf(leaf) => {
                assert_eq!(leaf.values.len(), leaf.keys.len());
                assert_eq!(*self.depth.get_or_insert(depth), depth, "leaves at different depths");
            }
            Node::Inner(inner) => {
                assert_eq!(inner.children.len(), inner.keys.len() + 1);
                assert_eq!(inner.below, inner.children.iter().map(Node::totals).sum(), "counts");
                let separators: Vec<_> = (0..keys.len()).map(|index| keys.key(index)).collect();
                for (index, child) in inner.children.iter().enumerate() {
                    let left = index.checked_sub(1).map(|before| separators[before].as_slice());
                    let right = separators.get(index).map(Vec::as_slice);
                    self.visit(child, left.or(lower), right.or(upper), depth + 1);
                }
            }
        }
    }
}
