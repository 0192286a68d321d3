//! Removing keys, and mending the nodes that are left with few.

use super::{
    Tree,
    node::{Inner, Node},
    share::make_mut,
};

impl<V: Copy> Tree<V> {
    /// Removes `key`, returns its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        // An absent key must not copy shared nodes, and one lookup warms the cache for the next.
        let old = self.get(key)?;
        let root = self.root.as_mut().expect("the key was found");
        remove(root, key);
        self.shrink();
        Some(old)
    }

    /// Drops roots that no longer branch.
    pub(super) fn shrink(&mut self) {
        while let Some(root) = &self.root {
            self.root = match root {
                Node::Inner(inner) if inner.children.len() == 1 => Some(inner.children[0].clone()),
                Node::Leaf(leaf) if leaf.keys.is_empty() => None,
                _ => return,
            };
        }
    }
}

/// Removes a key that is there from below `node`.
fn remove<V: Copy>(node: &mut Node<V>, key: &[u8]) {
    match node {
        Node::Leaf(leaf) => {
            let leaf = make_mut(leaf);
            let index = leaf.keys.search(key).expect("the key was found");
            leaf.keys.remove(index..index + 1);
            leaf.values.remove(index);
        }
        Node::Inner(inner) => {
            let inner = make_mut(inner);
            let index = inner.keys.count_up_to(key);
            inner.change(index, |child| remove(child, key));
            mend(inner, index);
        }
    }
}

/// Drops child `index` if nothing is left of it, or joins it with a neighbour that has room if little is left.
///
/// A node whose neighbours are too full to join may stay small, and nothing is moved between
/// neighbours: what one lacks its neighbours have, and a removal stays cheap.
pub(super) fn mend<V: Copy>(parent: &mut Inner<V>, index: usize) {
    let child = &parent.children[index];
    if !child.is_underfull() {
        return;
    }
    if child.entries() == 0 {
        drop_child(parent, index);
        return;
    }
    for left in [Some(index), index.checked_sub(1)].into_iter().flatten() {
        if left + 1 < parent.children.len() && join(parent, left) {
            return;
        }
    }
}

/// Drops child `index`, be it the only one.
fn drop_child<V: Copy>(parent: &mut Inner<V>, index: usize) {
    if parent.children.len() > 1 {
        parent.take(index..index + 1);
    } else {
        let child = parent.children.remove(index);
        parent.below -= child.totals();
    }
}

/// Joins children `left` and `left + 1`, if they are small enough.
pub(super) fn join<V: Copy>(parent: &mut Inner<V>, left: usize) -> bool {
    let [a, b] = [&parent.children[left], &parent.children[left + 1]];
    if !Node::may_join(a, b) {
        return false;
    }
    let Some(joined) = Node::join(a, &parent.keys.key(left), b) else { return false };
    parent.take(left + 1..left + 2);
    parent.change(left, |child| *child = joined);
    true
}
