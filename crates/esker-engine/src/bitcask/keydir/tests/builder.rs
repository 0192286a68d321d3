//! Bulk loads and joined parts equal what inserts would have made.

use super::{
    super::{Builder, Fill, NotAscending, Tree},
    entries,
};

fn key(number: u32) -> Vec<u8> {
    let mut key = number.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
    if number.is_multiple_of(997) {
        key.resize(5_000, b'x');
    }
    key
}

/// Sorted keys: random, of which a few are long.
fn sorted(count: u32) -> Vec<Vec<u8>> {
    let mut keys: Vec<_> = (0..count).map(key).collect();
    keys.sort_unstable();
    keys
}

fn build(keys: &[Vec<u8>], fill: Fill) -> Tree<u32> {
    let mut builder = Builder::with_fill(fill);
    for (key, value) in keys.iter().zip(0..) {
        builder.push(key, value).expect("the keys are sorted");
    }
    assert_eq!(builder.len(), keys.len());
    builder.finish()
}

fn inserted(keys: &[Vec<u8>]) -> Tree<u32> {
    let mut tree = Tree::new();
    for (key, value) in keys.iter().zip(0..) {
        tree.insert(key, value);
    }
    tree
}

#[test]
fn built_equals_inserted() {
    for count in [0, 1, 2, 63, 64, 65, 129, 4_000, 30_000] {
        let keys = sorted(count);
        for (percent_min, percent_max) in [(80, 100), (100, 100), (1, 1), (0, 200), (90, 50)] {
            let tree = build(&keys, Fill { percent_min, percent_max });
            tree.check();
            assert_eq!(entries(&tree), entries(&inserted(&keys)));
        }
    }
}

#[test]
fn a_built_tree_takes_updates() {
    let keys = sorted(10_000);
    let mut tree = build(&keys, Fill::default());
    for number in 10_000..20_000 {
        tree.insert(&key(number), number);
    }
    tree.check();
    for number in (0..20_000).step_by(2) {
        assert!(tree.remove(&key(number)).is_some());
    }
    tree.check();
    assert_eq!(tree.len(), 10_000);
}

#[test]
fn joined_parts_equal_the_whole() {
    let keys = sorted(20_000);
    for parts in [vec![], vec![10_000], vec![0, 1, 1, 64, 9_000, 20_000], (0..60).map(|n| n * 300).collect()]
    {
        let mut trees = Vec::new();
        let mut rest = keys.as_slice();
        let mut before = 0;
        for end in parts {
            let (part, after) = rest.split_at(end - before);
            trees.push(build(part, Fill::default()));
            (rest, before) = (after, end);
        }
        trees.push(inserted(rest));
        let mut tree = Tree::concat(trees).expect("the parts ascend");
        tree.check();
        assert!(tree.iter().map(|(key, _)| key).eq(keys.iter().cloned()));
        for key in &keys {
            assert!(tree.remove(key).is_some());
        }
        tree.check();
    }
}

#[test]
fn disorder_is_refused() {
    let mut builder = Builder::new();
    builder.push(b"b", 1).expect("any first key");
    for bad in [b"b".as_slice(), b"a", b"", &[b'c'; 65_536]] {
        assert_eq!(builder.push(bad, 2), Err(NotAscending));
    }
    builder.push(b"b\0", 3).expect("it ascends");
    let tree = builder.finish();
    tree.check();
    assert_eq!(entries(&tree), [(b"b".to_vec(), 1), (b"b\0".to_vec(), 3)]);
    assert!(Tree::concat(vec![tree.clone(), tree]).is_err());
    let one = build(&[b"key".to_vec()], Fill::default());
    assert!(Tree::concat(vec![one.clone(), Tree::new(), one]).is_err());
}

#[test]
fn disorder_is_refused_where_a_leaf_ends() {
    for count in 1..200_u8 {
        let mut builder = Builder::new();
        for number in 0..count {
            builder.push(&[number], number).expect("they ascend");
        }
        assert_eq!(builder.push(&[count - 1], 0), Err(NotAscending));
        builder.push(&[count], count).expect("it ascends");
        builder.finish().check();
    }
}
