//! Keys that are awkward for a node: empty suffixes, equal heads, NULs, prefixes that come and go, and keys
//! as long as they may be.

use super::{
    super::{KEY_BYTES_MAX, Tree, keys::Keys},
    entries, tree_of,
};

/// Inserts `keys` in every rotation of their order; all must be found, in order, and removable.
fn check_keys(keys: &[&[u8]]) {
    for start in 0..keys.len() {
        let mut rotated = keys.to_vec();
        rotated.rotate_left(start);
        let mut tree = tree_of(&rotated);
        for (key, value) in rotated.iter().zip(0..) {
            assert_eq!(tree.get(key), Some(value), "{key:?}");
        }
        let mut sorted = rotated.clone();
        sorted.sort_unstable();
        assert!(tree.iter().map(|(key, _)| key).eq(sorted.iter().map(|key| key.to_vec())));
        for (key, value) in rotated.iter().zip(0..) {
            assert_eq!(tree.remove(key), Some(value));
            assert_eq!(tree.remove(key), None);
            tree.check();
        }
        assert!(tree.is_empty() && tree.memory_bytes() == 0);
    }
}

#[test]
fn zero_padded_heads_do_not_hide_short_suffixes() {
    check_keys(&[b"a", b"a\0", b"a\0\0", b"a\0\0\0", b"a\0\0\0\0", b"a\0\0\0\0\0", b"a\0\0\0\x01", b"b"]);
}

#[test]
fn keys_of_nuls_only_sort_by_length() {
    check_keys(&[b"\0", b"\0\0", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0\0", b"\0\0\0\0\0\0\0\0\0"]);
}

#[test]
fn equal_heads_are_told_apart_by_the_bytes() {
    check_keys(&[b"xsame1", b"xsame2", b"xsame", b"xsamf", b"ysame", b"xsam", b"xsame11"]);
}

#[test]
fn a_prefix_that_is_a_key_has_an_empty_suffix() {
    check_keys(&[b"user", b"user1", b"user12", b"user\0", b"use", b"v", b"\xff\xff\xff\xff\xff"]);
}

#[test]
fn more_equal_heads_than_a_node_holds() {
    let mut tree = Tree::new();
    for number in 0..500_u32 {
        let key = format!("user{:05}", number * 7919 % 500);
        tree.insert(key.as_bytes(), number);
        tree.insert(format!("u{number}").as_bytes(), number);
        tree.check();
    }
    assert_eq!(tree.len(), 1000);
    assert!((0..500).all(|number| tree.get(format!("user{number:05}").as_bytes()).is_some()));
}

#[test]
fn prefix_shrinks_with_a_stranger_and_grows_with_a_split() {
    let mut keys = Keys::of(b"tenant/a/1");
    keys.insert(1, b"tenant/a/2");
    keys.insert(2, b"tenant/b/1");
    keys.check();
    keys.insert(3, b"u");
    keys.check();
    assert_eq!(keys.search(b"tenant/a/2"), Ok(1));
    assert_eq!(keys.search(b"tenant/a"), Err(0));
    let right = keys.split_off(2);
    keys.check();
    right.check();
    assert_eq!([keys.key(1), right.key(0)], [b"tenant/a/2".to_vec(), b"tenant/b/1".to_vec()]);
    assert_eq!(
        [keys.search(b"tenant/a0"), keys.search(b"tenant/"), keys.search(b"u")],
        [Err(2), Err(0), Err(2)]
    );
}

#[test]
fn search_outside_the_prefix_falls_to_its_side() {
    let mut keys = Keys::of(b"a long prefix, longer than what a node keeps inline: 1");
    keys.insert(1, b"a long prefix, longer than what a node keeps inline: 2");
    assert_eq!(keys.search(b"a long prefix, longer"), Err(0));
    assert_eq!(keys.search(b"a long prefix, longer zzz"), Err(2));
    assert_eq!(keys.search(b"a long prefix, longer than what a node keeps inline: "), Err(0));
    assert_eq!(keys.search(b""), Err(0));
    assert_eq!(keys.search(b"b"), Err(2));
}

/// A long key: `letter` over and over, then `end`.
fn long_key(letter: u8, len: usize, end: &[u8]) -> Vec<u8> {
    let mut key = vec![letter; len - end.len()];
    key.extend_from_slice(end);
    key
}

#[test]
fn longest_keys_sharing_all_but_their_ends() {
    let keys: Vec<_> =
        (0..200_u32).map(|number| long_key(b'k', KEY_BYTES_MAX, &number.to_be_bytes())).collect();
    let mut tree = Tree::new();
    for index in (0..keys.len()).map(|step| step * 77 % keys.len()) {
        tree.insert(&keys[index], index);
    }
    tree.check();
    // The prefix is there once a node, so two hundred of the longest keys take but a few times 64 KiB.
    assert!(tree.memory_bytes() < 20 * KEY_BYTES_MAX, "{} bytes", tree.memory_bytes());
    tree.insert(b"stranger", 0);
    tree.insert(b"a stranger", 0);
    tree.check();
    assert!(keys.iter().enumerate().all(|(index, key)| tree.get(key) == Some(index)));
    assert_eq!(tree.range(std::ops::Bound::Included(b"k"), std::ops::Bound::Excluded(b"l")).count(), 200);
}

#[test]
fn longest_keys_among_short_ones() {
    let mut keys = Vec::new();
    for letter in b'a'..=b'z' {
        keys.push(long_key(letter, KEY_BYTES_MAX, b""));
        keys.push(long_key(letter, 9_000, b"!"));
        keys.push(long_key(letter, 17_000, b"?"));
        keys.extend((0..70_u8).map(|number| vec![letter, number]));
    }
    for stride in [1, 37, 701, 1897] {
        let mut tree = Tree::new();
        for step in 0..keys.len() {
            tree.insert(&keys[step * stride % keys.len()], step);
        }
        tree.check();
        let before = tree.clone();
        assert!(keys.iter().all(|key| tree.remove(key).is_some()));
        assert_eq!((tree.len(), tree.memory_bytes()), (0, 0));
        before.check();
        assert_eq!(before.len(), keys.len());
    }
}

#[test]
fn any_byte_string_is_a_key_even_none() {
    let mut tree = tree_of(&[b"b", b"", b"a"]);
    assert_eq!(entries(&tree)[0], (Vec::new(), 1));
    assert_eq!(tree.remove(b""), Some(1));
    tree.check();
}

#[test]
#[should_panic(expected = "key of 65536 bytes")]
fn a_key_beyond_the_limit_is_refused() {
    Tree::new().insert(&vec![0; KEY_BYTES_MAX + 1], 0);
}

#[test]
fn ascending_and_descending_inserts_fill_leaves() {
    let ordered = |number: u32| number.to_be_bytes();
    let (mut up, mut down) = (Tree::new(), Tree::new());
    for number in 0..20_000 {
        up.insert(&ordered(number), number);
        down.insert(&ordered(20_000 - number), number);
    }
    for tree in [up, down] {
        tree.check();
        let bytes = tree.memory_bytes() / tree.len();
        assert!(bytes < 4 + 36, "{bytes} bytes a key");
    }
}
