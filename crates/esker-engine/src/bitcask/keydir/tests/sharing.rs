//! What an update copies while a snapshot is held: the nodes on its way and no others.

use std::{collections::HashSet, ops::Bound, sync::Arc};

use super::{
    super::{Tree, node::Node},
    tree_of_even,
};

/// Keys of a tree four levels high.
const COUNT: u32 = 300_000;

/// The addresses of all nodes of a tree.
fn nodes(tree: &Tree<u32>) -> HashSet<usize> {
    let mut found = HashSet::new();
    let mut rest: Vec<_> = tree.root.iter().collect();
    while let Some(node) = rest.pop() {
        found.insert(match node {
            Node::Leaf(leaf) => Arc::as_ptr(leaf).addr(),
            Node::Inner(inner) => {
                rest.extend(&inner.children);
                Arc::as_ptr(inner).addr()
            }
        });
    }
    found
}

fn height(tree: &Tree<u32>) -> usize {
    let mut node = tree.root.as_ref().expect("a tree with keys");
    let mut levels = 1;
    while let Node::Inner(inner) = node {
        (node, levels) = (&inner.children[0], levels + 1);
    }
    levels
}

/// How many nodes of `tree` are not of `snapshot`.
fn copied(tree: &Tree<u32>, snapshot: &Tree<u32>) -> usize {
    nodes(tree).difference(&nodes(snapshot)).count()
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

#[test]
fn cutting_a_range_copies_two_paths_whatever_lies_between() {
    let whole = tree_of_even(COUNT);
    let height = height(&whole);
    assert_eq!(height, 4);
    for (low, high) in
        [(7, 2 * COUNT - 7), (COUNT, COUNT + 2), (COUNT / 2, COUNT), (0, COUNT), (COUNT, u32::MAX)]
    {
        let mut tree = whole.clone();
        let cut_out = tree.remove_range(Bound::Included(&number(low)), Bound::Excluded(&number(high)));
        let of_cut_out = copied(&cut_out, &whole);
        assert!(of_cut_out <= 2 * height, "{low} to {high}: {of_cut_out} nodes made for what is cut out");
        // What stays may have been joined with a neighbour on each side.
        let of_rest = copied(&tree, &whole);
        assert!(of_rest <= 2 * height, "{low} to {high}: {of_rest} nodes made for what stays");
        assert_eq!(tree.len() + cut_out.len(), COUNT as usize);
    }
}

#[test]
fn cutting_out_all_or_nothing_copies_nothing() {
    let whole = tree_of_even(COUNT);
    let mut tree = whole.clone();
    let between = tree.remove_range(Bound::Included(&number(7)), Bound::Included(&number(7)));
    let crossing = tree.remove_range(Bound::Included(&number(8)), Bound::Excluded(&number(6)));
    let one_point = tree.remove_range(Bound::Excluded(&number(8)), Bound::Excluded(&number(8)));
    let behind = tree.remove_range(Bound::Excluded(&number(2 * COUNT - 2)), Bound::Unbounded);
    assert!([between, crossing, one_point, behind].iter().all(Tree::is_empty));
    assert_eq!(copied(&tree, &whole), 0);
    let all = tree.remove_range(Bound::Included(&number(0)), Bound::Included(&number(2 * COUNT)));
    assert_eq!((tree.len(), tree.memory_bytes(), all.len()), (0, 0, COUNT as usize));
    assert_eq!(copied(&all, &whole), 0);
}

#[test]
fn a_value_is_replaced_only_if_it_is_the_expected_one() {
    let whole = tree_of_even(COUNT);
    let mut tree = whole.clone();
    assert!(!tree.replace_if(&number(2 * 17), 16, 100), "another value");
    assert!(!tree.replace_if(&number(2 * 17 + 1), 17, 100), "no such key");
    assert_eq!(copied(&tree, &whole), 0);
    assert!(tree.replace_if(&number(2 * 17), 17, 100));
    assert_eq!(copied(&tree, &whole), height(&whole));
    assert_eq!([tree.get(&number(2 * 17)), whole.get(&number(2 * 17))], [Some(100), Some(17)]);
    assert!(!tree.replace_if(&number(2 * 17), 17, 200));
    assert_eq!((tree.get(&number(2 * 17)), tree.len()), (Some(100), whole.len()));
    tree.check();
    assert!(!Tree::new().replace_if(b"key", 1, 2));
}
