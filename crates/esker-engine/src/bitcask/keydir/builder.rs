//! Building trees in bulk, from keys that come in order.

use std::{error::Error, fmt, sync::Arc};

use arrayvec::ArrayVec;

use super::{
    Tree,
    keys::{FANOUT, KEY_BYTES_MAX, Keys, shortest_separator},
    node::{Inner, Leaf, Node},
    run::Run,
};

/// How full to leave the leaves of a bulk load, in hundredths.
///
/// The default serves an index that goes on growing. If all leaves were equally full, random inserts
/// would later fill them all at the same time, and for a while nearly every insert would split; then
/// memory sits at half-full leaves ("waves of misery", Glombiewski, Seeger, Graefe, 2019). So
/// leaves are given every fill between the two bounds, in turn. Five million random keys of 16 bytes, and
/// three million more inserted after the load, cost beyond the key at first and at worst, in bytes:
///
/// | fill | at first | at worst |
/// | --- | --- | --- |
/// | 90 | 30.0 | 48.4 |
/// | 100 | 26.8 | 50.6 |
/// | 80 to 100 | 29.9 | 45.9 |
/// | 75 to 100 | 30.7 | 44.9 |
/// | 60 to 100 | 33.8 | 41.7 |
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// The emptiest leaf. Default 75.
    pub percent_min: u8,
    /// The fullest leaf. Default 100. Set both to 100 for keys that will not be added to.
    pub percent_max: u8,
}

impl Default for Fill {
    fn default() -> Self {
        Self { percent_min: 75, percent_max: 100 }
    }
}

impl Fill {
    /// How many keys leaf number `leaf` gets. Steps of the golden ratio spread evenly whatever the count.
    fn keys_of(self, leaf: usize) -> usize {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let [low, high] =
            [self.percent_min, self.percent_max].map(|percent| FANOUT * usize::from(percent) / 100);
        let (low, high) = (low.clamp(1, FANOUT), high.clamp(1, FANOUT));
        let span = high.saturating_sub(low) + 1;
        let turn = (leaf as u64).wrapping_mul(GOLDEN) >> 32;
        low + ((turn as usize * span) >> 32)
    }
}

/// A key did not come after the one before it, or is too long: whoever fed them read damaged input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAscending;

impl fmt::Display for NotAscending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys do not ascend strictly, or one is longer than 65,535 bytes")
    }
}

impl Error for NotAscending {}

/// A node of the level being built, and the separator to its left (of no meaning for the first).
type Entry<V> = (Box<[u8]>, Node<V>);

/// Builds a tree from keys in strictly ascending order: several times faster than inserting them, and in
/// less memory.
pub struct Builder<V> {
    fill: Fill,
    /// Finished leaves.
    leaves: Vec<Entry<V>>,
    /// The separator to the left of the leaf being filled.
    separator: Box<[u8]>,
    /// The keys of the leaf being filled.
    run: Run,
    /// Their values.
    values: ArrayVec<V, FANOUT>,
    /// Keys in finished leaves.
    len: usize,
}

impl<V: Copy> Default for Builder<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Copy> Builder<V> {
    /// A builder with the default fill.
    pub fn new() -> Self {
        Self::with_fill(Fill::default())
    }

    /// A builder with another fill.
    pub fn with_fill(fill: Fill) -> Self {
        let (leaves, separator) = (Vec::new(), Box::default());
        Self { fill, leaves, separator, run: Run::default(), values: ArrayVec::new(), len: 0 }
    }

    /// How many keys were pushed.
    pub fn len(&self) -> usize {
        self.len + self.run.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the next key.
    ///
    /// # Errors
    /// If it is not above the last one; the builder is then as before.
    pub fn push(&mut self, key: &[u8], value: V) -> Result<(), NotAscending> {
        if key.len() > KEY_BYTES_MAX || self.run.last().is_some_and(|last| last >= key) {
            return Err(NotAscending);
        }
        if self.run.len() >= self.fill.keys_of(self.leaves.len()) || !self.run.push_if_fits(key) {
            self.close_leaf(key);
            let fits = self.run.push_if_fits(key);
            debug_assert!(fits, "any key fits an empty leaf");
        }
        self.values.push(value);
        Ok(())
    }

    /// The tree.
    pub fn finish(mut self) -> Tree<V> {
        if self.run.len() > 0 {
            self.push_leaf();
        }
        assemble(self.leaves)
    }

    /// Finishes a leaf before `next`.
    fn close_leaf(&mut self, next: &[u8]) {
        let last = self.run.last().expect("an empty leaf takes any key");
        let separator = shortest_separator(last, next).into();
        self.push_leaf();
        self.separator = separator;
    }

    fn push_leaf(&mut self) {
        self.len += self.run.len();
        let leaf = Leaf { keys: Keys::from_run(&self.run), values: self.values.take() };
        self.leaves.push((std::mem::take(&mut self.separator), Node::Leaf(Arc::new(leaf))));
        self.run.clear();
    }
}

impl<V: Copy> Tree<V> {
    /// One tree out of several, each wholly above the one before it: so that threads can build parts of an
    /// index. Takes the leaves as they are and builds what is above them anew.
    ///
    /// # Errors
    /// If the trees overlap or are out of order.
    pub fn concat(trees: Vec<Tree<V>>) -> Result<Tree<V>, NotAscending> {
        let mut leaves = Vec::new();
        let mut last = None::<Vec<u8>>;
        for tree in &trees {
            let (Some(root), Some((first, _))) = (&tree.root, tree.iter().next()) else { continue };
            let separator = match &last {
                Some(last) if *last >= first => return Err(NotAscending),
                Some(last) => shortest_separator(last, &first).into(),
                None => Box::default(),
            };
            collect_leaves(root, separator, &mut leaves);
            last = tree.iter().next_back().map(|(key, _)| key);
        }
        Ok(assemble(leaves))
    }
}

/// The leaves below `node`, in order, each with the separator to its left.
fn collect_leaves<V>(node: &Node<V>, separator: Box<[u8]>, leaves: &mut Vec<Entry<V>>) {
    match node {
        Node::Leaf(_) => leaves.push((separator, node.clone())),
        Node::Inner(inner) => {
            let between = (0..inner.keys.len()).map(|index| inner.keys.key(index).into());
            for (separator, child) in std::iter::once(separator).chain(between).zip(&inner.children) {
                collect_leaves(child, separator, leaves);
            }
        }
    }
}

/// Builds the levels above the leaves.
fn assemble<V: Copy>(mut level: Vec<Entry<V>>) -> Tree<V> {
    while level.len() > 1 {
        level = level_above(level);
    }
    Tree { root: level.pop().map(|(_, root)| root) }
}

/// Puts inner nodes over a level, each nine tenths full: every split below adds a child.
fn level_above<V: Copy>(level: Vec<Entry<V>>) -> Vec<Entry<V>> {
    const CHILDREN: usize = FANOUT * 9 / 10;
    let mut above = Vec::with_capacity(level.len() / CHILDREN + 1);
    let mut run = Run::default();
    let mut children = ArrayVec::new();
    let mut lower = Box::default();
    for (separator, node) in level {
        let first = children.is_empty();
        if first || children.len() == CHILDREN || !run.push_if_fits(&separator) {
            if !first {
                above.push((std::mem::take(&mut lower), inner(&run, &mut children)));
                run.clear();
            }
            lower = separator;
        }
        children.push(node);
    }
    above.push((lower, inner(&run, &mut children)));
    above
}

fn inner<V: Copy>(run: &Run, children: &mut ArrayVec<Node<V>, FANOUT>) -> Node<V> {
    Node::Inner(Arc::new(Inner::new(Keys::from_run(run), children.take())))
}
