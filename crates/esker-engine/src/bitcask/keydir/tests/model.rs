//! The tree against `BTreeMap`, under random operations.

use std::{collections::BTreeMap, ops::Bound};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    super::{LANES, Tree},
    entries,
};

type Model = BTreeMap<Vec<u8>, u32>;

/// Keys that meet often: few letters, NULs among them, short; some behind a long common start; now and then
/// one so long that a node is full of a handful.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop::sample::select(vec![0_u8, 1, b'a', b'b', 0xff]);
    let short = vec(letter, 0..6);
    prop_oneof![
        6 => short.clone(),
        3 => short.clone().prop_map(|end| [b"a common start/".as_slice(), &end].concat()),
        2 => any::<[u8; 2]>().prop_map(|bytes| bytes.to_vec()),
        1 => (short, 1_000_usize..9_000).prop_map(|(mut key, len)| { key.resize(len, b'x'); key }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u32),
    Remove(Vec<u8>),
    /// Removes a key that is there.
    RemoveOne(Index),
    /// Removes all keys between two, one by one.
    Clear(Vec<u8>, Vec<u8>),
    /// Cuts out what lies between two bounds.
    Cut(Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Cuts out so many keys from one that is there on.
    CutFrom(Index, usize),
    Snapshot,
    Forget(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => key().prop_map(Step::Remove),
        6 => any::<Index>().prop_map(Step::RemoveOne),
        1 => (key(), key()).prop_map(|(low, high)| Step::Clear(low, high)),
        1 => (bound(), bound()).prop_map(|(lower, upper)| Step::Cut(lower, upper)),
        2 => (any::<Index>(), 0_usize..150).prop_map(|(from, count)| Step::CutFrom(from, count)),
        1 => Just(Step::Snapshot),
        3 => any::<Index>().prop_map(Step::Forget),
    ]
}

/// A tree and its model, and snapshots with what they must go on showing.
#[derive(Default)]
struct Pair {
    tree: Tree<u32>,
    model: Model,
    snapshots: Vec<(Tree<u32>, Model)>,
}

impl Pair {
    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(key, value) => {
                assert_eq!(self.tree.insert(&key, value), self.model.insert(key, value));
            }
            Step::Remove(key) => self.remove(&key),
            Step::RemoveOne(index) if !self.model.is_empty() => {
                let at = index.index(self.model.len());
                let key = self.model.keys().nth(at).cloned().expect("within the model");
                self.remove(&key);
            }
            Step::Clear(low, high) => {
                for key in
                    self.model.keys().filter(|key| low <= **key && **key < high).cloned().collect::<Vec<_>>()
                {
                    self.remove(&key);
                }
            }
            Step::Cut(lower, upper) => self.cut(borrow(&lower), borrow(&upper)),
            Step::CutFrom(from, count) if !self.model.is_empty() => {
                let mut keys = self.model.keys().skip(from.index(self.model.len())).cloned();
                let first = keys.next().expect("within the model");
                let end = keys.nth(count).map_or(Bound::Unbounded, Bound::Excluded);
                self.cut(Bound::Included(&first), borrow(&end));
            }
            Step::Snapshot => self.snapshots.push((self.tree.clone(), self.model.clone())),
            Step::Forget(index) if !self.snapshots.is_empty() => {
                self.snapshots.swap_remove(index.index(self.snapshots.len()));
            }
            Step::RemoveOne(_) | Step::CutFrom(..) | Step::Forget(_) => {}
        }
    }

    fn remove(&mut self, key: &[u8]) {
        assert_eq!(self.tree.remove(key), self.model.remove(key));
    }

    /// What was cut out is kept beside the snapshots: it shares nodes with them, and must not change either.
    fn cut(&mut self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) {
        let cut_out = self.tree.remove_range(lower, upper);
        let expected: Model = expected(&self.model, lower, upper).into_iter().collect();
        self.model.retain(|key, _| !expected.contains_key(key));
        check_equal(&cut_out, &expected);
        self.snapshots.push((cut_out, expected));
    }

    /// Asserts that the tree and all snapshots are sound and equal their models.
    fn check(&self) {
        check_equal(&self.tree, &self.model);
        for (tree, model) in &self.snapshots {
            check_equal(tree, model);
        }
    }
}

fn check_equal(tree: &Tree<u32>, model: &Model) {
    tree.check();
    assert_eq!(tree.len(), model.len());
    assert!(tree.iter().eq(model.iter().map(|(key, value)| (key.clone(), *value))));
    for (key, value) in model {
        assert_eq!(tree.get(key), Some(*value));
    }
    // Keys that are there and others that begin like them.
    let keys: Vec<Vec<u8>> =
        model.keys().flat_map(|key| [key.clone(), [key.as_slice(), b"\0"].concat()]).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    assert!(tree.get_each(&[]).is_empty());
    for keys in keys.chunks(LANES) {
        let values: Vec<Option<u32>> = keys.iter().map(|key| model.get(*key).copied()).collect();
        assert_eq!(tree.get_each(keys).as_slice(), values);
    }
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        3 => key().prop_map(Bound::Included),
        3 => key().prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ]
}

fn borrow(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// What the range ought to hold.
fn expected(model: &Model, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Vec<(Vec<u8>, u32)> {
    use std::ops::RangeBounds;
    let inside = |key: &Vec<u8>| RangeBounds::<[u8]>::contains(&(lower, upper), key.as_slice());
    model.iter().filter(|(key, _)| inside(key)).map(|(key, value)| (key.clone(), *value)).collect()
}

/// A tree of many keys: enough for three levels.
fn large() -> impl Strategy<Value = Model> {
    prop_oneof![
        vec((key(), any::<u32>()), 0..400).prop_map(|entries| entries.into_iter().collect()),
        vec((any::<[u8; 3]>(), any::<u32>()), 3_000..6_000)
            .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_vec(), value)).collect()),
    ]
}

fn tree_of_model(model: &Model) -> Tree<u32> {
    let mut tree = Tree::new();
    for (key, value) in model {
        tree.insert(key, *value);
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn behaves_as_a_map_after_every_step(steps in vec(step(), 0..120)) {
        let mut pair = Pair::default();
        for step in steps {
            pair.take(step);
            pair.check();
        }
    }

    #[test]
    fn behaves_as_a_map_when_large(steps in vec(step(), 2_000..4_000)) {
        let mut pair = Pair::default();
        for (count, step) in steps.into_iter().enumerate() {
            pair.take(step);
            if count % 250 == 0 {
                pair.check();
            }
        }
        pair.check();
    }

    #[test]
    fn grows_to_three_levels_and_empties(
        keys in vec(any::<[u8; 3]>(), 5_000..8_000),
        snapshot_every in 100_usize..3_000,
    ) {
        let mut pair = Pair::default();
        for (count, key) in keys.iter().enumerate() {
            pair.take(Step::Insert(key.to_vec(), count as u32));
            if count % snapshot_every == 0 {
                pair.take(Step::Snapshot);
            }
        }
        pair.check();
        for key in &keys {
            pair.remove(key);
        }
        pair.check();
        prop_assert_eq!((pair.tree.len(), pair.tree.memory_bytes()), (0, 0));
    }

    #[test]
    fn ranges_hold_what_lies_between_their_bounds(
        model in large(),
        bounds in vec((bound(), bound()), 1..20),
        turns in vec(any::<bool>(), 1..50),
    ) {
        let tree = tree_of_model(&model);
        for (lower, upper) in &bounds {
            let (lower, upper) = (borrow(lower), borrow(upper));
            let expected = expected(&model, lower, upper);
            prop_assert!(tree.range(lower, upper).eq(expected.iter().cloned()));
            prop_assert!(tree.range(lower, upper).rev().eq(expected.iter().rev().cloned()));
            let (mut range, mut rest) = (tree.range(lower, upper), expected.iter().cloned());
            for &front in turns.iter().cycle().take(expected.len() + 2) {
                let (got, want) =
                    if front { (range.next(), rest.next()) } else { (range.next_back(), rest.next_back()) };
                prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn range_shows_the_instant_it_was_made(model in large(), taken in 0_usize..200) {
        let mut tree = tree_of_model(&model);
        let mut range = tree.iter();
        let seen: Vec<_> = range.by_ref().take(taken).collect();
        for key in model.keys() {
            tree.remove(key);
        }
        prop_assert!(entries(&tree).is_empty());
        prop_assert!(seen.into_iter().chain(range).eq(model));
    }
}

#[test]
fn next_into_reuses_the_buffer() {
    let tree = tree_of_model(&Model::from([(b"one".to_vec(), 1), (b"two".to_vec(), 2)]));
    let (mut range, mut key) = (tree.iter(), b"what was here".to_vec());
    assert_eq!((range.next_into(&mut key), key.as_slice()), (Some(1), b"one".as_slice()));
    assert_eq!((range.next_into(&mut key), key.as_slice()), (Some(2), b"two".as_slice()));
    assert_eq!(range.next_into(&mut key), None);
}
