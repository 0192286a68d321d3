//! Cutting ranges out of trees of several levels.

use std::{collections::BTreeMap, ops::Bound};

use proptest::{collection::vec, prelude::*};

use super::{super::Tree, entries, tree_of_even};

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// The numbers that are the keys of a tree.
fn numbers(tree: &Tree<u32>) -> Vec<u32> {
    let number = |key: Vec<u8>| u32::from_be_bytes(key.try_into().expect("keys of four bytes"));
    tree.iter().map(|(key, _)| number(key)).collect()
}

/// Cuts out the numbers from `low` on and below `high`; checks both parts.
fn cut(tree: &mut Tree<u32>, low: u32, high: u32) -> Tree<u32> {
    let (before, memory) = (tree.len(), tree.memory_bytes());
    let cut_out = tree.remove_range(Bound::Included(&number(low)), Bound::Excluded(&number(high)));
    tree.check();
    cut_out.check();
    assert_eq!(tree.len() + cut_out.len(), before);
    // A node that is cut through becomes two, two at each level at most.
    assert!(tree.memory_bytes() + cut_out.memory_bytes() <= memory + 8 * 4096);
    cut_out
}

/// From every key of a tree of three levels a stretch of every size up to more than that of a leaf, and some sizes around a subtree.
#[test]
fn any_stretch_can_be_cut_out_and_the_rest_stays() {
    const COUNT: u32 = 6_000;
    let whole = tree_of_even(COUNT);
    let all = numbers(&whole);
    let sizes = [1, 2, 31, 63, 64, 65, 200, 2_500, 3_500, 5_900];
    for (first, size) in (0..COUNT).step_by(13).flat_map(|first| sizes.map(|size| (first, size))) {
        let end = COUNT.min(first + size);
        let mut tree = whole.clone();
        let cut_out = cut(&mut tree, 2 * first, 2 * end);
        assert_eq!(numbers(&cut_out), all[first as usize..end as usize]);
        assert_eq!(numbers(&tree), [&all[..first as usize], &all[end as usize..]].concat());
    }
    assert_eq!(numbers(&whole), all);
    whole.check();
}

/// Joined at the seam: what is cut down from both sides of many ranges is no train of nearly empty leaves.
#[test]
fn what_stays_between_ranges_is_put_together() {
    let mut tree = tree_of_even(200_000);
    for start in (0..400_000).step_by(1_000) {
        drop(cut(&mut tree, start + 2, start + 1_000));
    }
    assert_eq!(numbers(&tree), (0..400_000).step_by(1_000).collect::<Vec<_>>());
    let bytes = tree.memory_bytes() / tree.len();
    assert!(bytes < 150, "{bytes} bytes a key");
}

/// The head of a queue goes again and again, while its tail grows.
#[test]
fn a_queue_stays_small() {
    let mut tree = Tree::new();
    for end in 0..100_000_u32 {
        tree.insert(&number(end), end);
        if end % 50 == 49 && end > 5_000 {
            drop(tree.remove_range(Bound::Unbounded, Bound::Excluded(&number(end - 5_000))));
        }
    }
    tree.check();
    assert_eq!(numbers(&tree), (94_999..100_000).collect::<Vec<_>>());
    let bytes = tree.memory_bytes() / tree.len();
    assert!(bytes < 50, "{bytes} bytes a key");
}

/// Four levels, cut in many ways while snapshots of all stages are held.
#[test]
fn a_large_tree_is_cut_to_nothing() {
    let mut tree = tree_of_even(400_000);
    let mut model: BTreeMap<u32, u32> = (0..400_000).map(|number| (2 * number, number)).collect();
    let mut stages = vec![(tree.clone(), model.clone())];
    let mut random = 7_u32;
    for turn in 0..120_u32 {
        random = random.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let low = random % 800_000;
        let high = low + (1 << (turn % 16)) + random % 7;
        let cut_out = cut(&mut tree, low, high);
        let mut expected = model.split_off(&low);
        model.append(&mut expected.split_off(&high));
        assert!(numbers(&cut_out).iter().eq(expected.keys()));
        if turn % 30 == 0 {
            stages.push((tree.clone(), model.clone()));
        }
    }
    assert!(!tree.is_empty());
    stages.push((tree.clone(), model.clone()));
    while let Some((&first, _)) = model.first_key_value() {
        let end = first + 77_777;
        cut(&mut tree, first, end);
        model = model.split_off(&end);
    }
    assert_eq!((tree.len(), tree.memory_bytes()), (0, 0));
    for (stage, model) in &stages {
        stage.check();
        assert!(numbers(stage).iter().eq(model.keys()));
    }
}

#[test]
fn long_keys_are_cut_too() {
    let key = |letter: u8, len: usize| vec![letter; len];
    let mut tree = Tree::new();
    for letter in b'a'..=b'z' {
        for len in [1, 900, 9_000, 17_000, 65_535] {
            tree.insert(&key(letter, len), u32::from(letter));
        }
    }
    let whole = tree.clone();
    let (low, high) = (key(b'c', 9_000), key(b'x', 17_000));
    let cut_out = tree.remove_range(Bound::Excluded(&low), Bound::Included(&high));
    tree.check();
    cut_out.check();
    assert_eq!((cut_out.len(), tree.len()), (2 + 20 * 5 + 4, 13 + 11));
    let all = entries(&whole);
    assert_eq!(entries(&cut_out), all[13..119]);
    assert_eq!(entries(&tree), [&all[..13], &all[119..]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Parts that were cut out take updates like any tree.
    #[test]
    fn parts_take_updates(
        ranges in vec((0_u32..40_000, 0_u32..9_000), 1..6),
        updates in vec((0_u32..40_000, any::<bool>()), 0..600),
    ) {
        let mut tree = tree_of_even(20_000);
        let mut parts: Vec<_> = ranges.iter().map(|&(low, len)| cut(&mut tree, low, low + len)).collect();
        parts.push(tree);
        for part in &mut parts {
            let mut model: BTreeMap<u32, u32> = numbers(part).into_iter().map(|key| (key, key / 2)).collect();
            for &(key, insert) in &updates {
                if insert {
                    prop_assert_eq!(part.insert(&number(key), key), model.insert(key, key));
                } else {
                    prop_assert_eq!(part.remove(&number(key)), model.remove(&key));
                }
            }
            part.check();
            prop_assert!(numbers(part).iter().eq(model.keys()));
        }
    }
}
