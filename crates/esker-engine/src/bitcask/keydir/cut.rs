//! Cutting a range out of the tree.
//!
//! The tree is cut along two paths, from the root to where the range begins and to where it ends. Subtrees
//! between the paths move whole, and of the nodes on a path some entries stay and some go.
//!
//! ```text
//!              . - - range - - .
//! [   a   |    b   |    c   |    d   ]        a node: of child a and d a part goes, b and c go whole
//!
//! [   a'  |    d'  ]     [  a" |  b  |  c  | d" ]
//!       what stays              what goes
//! ```
//! Both parts are as high as the node was, so all leaves stay equally deep. Where a node would be left
//! without an entry, it is its parent that moves it whole, so there are no empty nodes.

use std::{
    ops::{Bound, Range},
    sync::Arc,
};

use arrayvec::ArrayVec;

use super::{
    Tree,
    node::{Inner, Leaf, Node},
    place::Place,
    remove::{join, mend},
    share::make_mut,
};

impl<V: Copy> Tree<V> {
    /// Removes all keys between two bounds and returns them as a tree of their own: none if the bounds cross.
    ///
    /// This takes time by the tree's height, however many keys go. What does take time for each key is to
    /// drop the tree returned, as far as no snapshot shares it: so do that where nobody waits.
    #[must_use = "to drop what was removed takes time"]
    pub fn remove_range(&mut self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Self {
        // A range without keys must not copy shared nodes.
        if self.range(lower, upper).next().is_none() {
            return Self::new();
        }
        let root = self.root.as_mut().expect("the range has keys");
        let (from, to) = (Place::of_lower(lower), Place::of_upper(upper));
        if from.is_start_of(root) && to.is_end_of(root) {
            return std::mem::take(self);
        }
        let mut cut_out = Self { root: Some(cut(root, from, to)) };
        cut_out.shrink();
        self.shrink();
        cut_out
    }
}

/// Cuts out what is below `node` between two places: something, but not all.
fn cut<V: Copy>(node: &mut Node<V>, from: Place<'_>, to: Place<'_>) -> Node<V> {
    match node {
        Node::Leaf(leaf) => {
            let entries = from.index(leaf)..to.index(leaf);
            Node::Leaf(Arc::new(cut_leaf(make_mut(leaf), entries)))
        }
        Node::Inner(inner) => Node::Inner(Arc::new(cut_inner(make_mut(inner), from, to))),
    }
}

fn cut_leaf<V: Copy>(leaf: &mut Leaf<V>, entries: Range<usize>) -> Leaf<V> {
    let keys = leaf.keys.copy(entries.clone());
    leaf.keys.remove(entries.clone());
    Leaf { keys, values: leaf.values.drain(entries).collect() }
}

fn cut_inner<V: Copy>(inner: &mut Inner<V>, from: Place<'_>, to: Place<'_>) -> Inner<V> {
    let affected = affected(inner, from, to);
    let (first, last) = (affected.start, affected.end - 1);
    let first_stays = !from.is_start_of(&inner.children[first]);
    let last_stays = !to.is_end_of(&inner.children[last]);
    let keys = inner.keys.copy(first..last);
    let mut children = ArrayVec::new();
    if first == last && (first_stays || last_stays) {
        children.push(inner.change(first, |child| cut(child, from, to)));
        mend(inner, first);
    } else {
        let whole = first + usize::from(first_stays)..affected.end - usize::from(last_stays);
        let seam = whole.start;
        let left = first_stays.then(|| inner.change(first, |child| cut(child, from, Place::End)));
        let right = last_stays.then(|| inner.change(last, |child| cut(child, Place::Start, to)));
        children.extend(left.into_iter().chain(inner.take(whole)).chain(right));
        close_seam(inner, seam);
    }
    Inner::new(keys, children)
}

/// The children of which something lies between two places.
fn affected<V: Copy>(inner: &Inner<V>, from: Place<'_>, to: Place<'_>) -> Range<usize> {
    let (first, last) = (from.child(inner), to.child(inner));
    let start = first + usize::from(from.is_end_of(&inner.children[first]));
    let end = last + usize::from(!to.is_start_of(&inner.children[last]));
    start..end
}

/// Joins what was left small on both sides of the place before child `seam`, where something was cut out; and if
/// that makes neighbours of what is below, on that level too.
fn close_seam<V: Copy>(parent: &mut Inner<V>, seam: usize) {
    if seam == 0 || seam == parent.children.len() {
        mend(parent, seam.saturating_sub(1));
        return;
    }
    let [left, right] = [&parent.children[seam - 1], &parent.children[seam]];
    let (is_small, seam_below) = (left.is_underfull() || right.is_underfull(), left.entries());
    if is_small && join(parent, seam - 1) {
        parent.change(seam - 1, |joined| {
            if let Node::Inner(inner) = joined {
                close_seam(make_mut(inner), seam_below);
            }
        });
    } else {
        mend(parent, seam);
    }
    mend(parent, seam - 1);
}
