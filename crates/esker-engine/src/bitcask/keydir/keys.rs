//! The sorted keys of one node.
//!
//! ```text
//! bytes   | prefix | suffix 0 | suffix 1 | ... |      one allocation
//! heads   | first four bytes of suffix 0 | of 1 | ...  inline: the search reads only these
//! ends    | where suffix 0 ends | 1 ends | ...         inline, counted from the end of the prefix
//! ```
//!
//! What all keys of the node have in common is stored once ("prefix truncation"), and what remains
//! of each key is stored back to back. A lookup compares the prefix, then counts the heads below
//! the wanted one without touching key bytes, and reads bytes only where heads are equal.
//!
//! Invariants:
//! 1. Keys ascend strictly.
//! 2. `heads[i]` is [`head`] of suffix `i`. Heads ascend, but not strictly: `"a"` and `"a\0"` are
//!    padded to the same head, as are any two suffixes that agree in four bytes. So equal heads
//!    decide nothing and the bytes are compared.
//! 3. `prefix` is common to all keys, but not always the longest such: a removal leaves it alone.
//! 4. Suffixes together take at most [`SUFFIX_BYTES_MAX`], so a node is cheap to copy and a
//!    sixteen-bit end is enough. A lone key is all prefix, so that any key fits an empty node.

use std::{cmp::Ordering, ops::Range};

use arrayvec::ArrayVec;

use super::{
    super::prefix::{EQUAL_LEN_MAX, are_equal, common_prefix},
    run::Run,
};

/// Most keys in a node. With 32, five million random keys cost 3 bytes more each; with 96 or 128, one byte
/// less and perhaps a tenth of a lookup, but every write beside a snapshot copies that much more.
pub(super) const FANOUT: usize = 64;

/// Most bytes of suffixes in a node: bounds what a write has to copy while a snapshot shares it.
pub(super) const SUFFIX_BYTES_MAX: usize = 16 * 1024;

/// The longest key the index takes; the log has the same limit.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// How much of a prefix is kept in the node itself. With it the fixed fields and the first heads share a
/// cache line.
const INLINE_PREFIX: usize = 14;

const _: () = assert!(INLINE_PREFIX <= EQUAL_LEN_MAX);

const _: () = assert!(SUFFIX_BYTES_MAX <= u16::MAX as usize, "ends are sixteen bits wide");

/// The sorted keys of one node; see the module.
///
/// `repr(C)` keeps what a lookup reads first (the prefix's length, where the bytes are, the heads) in
/// neighbouring cache lines.
#[derive(Clone, Default)]
#[repr(C)]
pub(super) struct Keys {
    /// The prefix, then every suffix.
    bytes: Vec<u8>,
    /// How much of `bytes` is prefix.
    prefix_len: u16,
    /// The start of the prefix once more: a lookup mostly needs no more of it, and `bytes` is a cache
    /// miss away.
    inline_prefix: [u8; INLINE_PREFIX],
    /// The first bytes of each suffix as a number that sorts like them.
    heads: ArrayVec<u32, FANOUT>,
    /// Where each suffix ends, from the end of the prefix.
    ends: ArrayVec<u16, FANOUT>,
}

impl Keys {
    /// A node's worth of one key.
    pub(super) fn of(key: &[u8]) -> Self {
        let mut keys = Self::default();
        keys.insert(0, key);
        keys
    }

    /// The keys of a run, in as little memory as they need.
    pub(super) fn from_run(run: &Run) -> Self {
        let prefix = run.prefix();
        let suffixes = run.suffix_bytes();
        let mut keys = Self::with_capacity(prefix.len(), prefix.len() + suffixes);
        keys.bytes.extend_from_slice(prefix);
        keys.keep_inline_prefix();
        for key in run.keys() {
            keys.push_suffix(&key[prefix.len()..]);
        }
        keys
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes of memory the key bytes occupy outside the node.
    pub(super) fn bytes_capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Writes key `index` over what `buffer` holds.
    pub(super) fn key_into(&self, index: usize, buffer: &mut Vec<u8>) {
        buffer.clear();
        self.append_key(index, buffer);
    }

    /// Key `index`, whole.
    pub(super) fn key(&self, index: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(usize::from(self.prefix_len) + self.suffix(index).len());
        self.append_key(index, &mut key);
        key
    }

    fn append_key(&self, index: usize, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.prefix());
        buffer.extend_from_slice(self.suffix(index));
    }

    /// As [`Keys::search`], where the key is likely to be found or inserted: in a leaf.
    ///
    /// Then the ends are needed too, last of all and some cache lines away, so they are asked for at once. In
    /// inner nodes heads mostly decide, and ends would only crowd the cache.
    pub(super) fn search_to_use(&self, key: &[u8]) -> Result<usize, usize> {
        self.touch_ends();
        self.search(key)
    }

    /// Where `key` is, or where it would go.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let suffix = match self.split_prefix(key) {
            Ok(suffix) => suffix,
            Err(Ordering::Less) => return Err(0),
            Err(_) => return Err(self.len()),
        };
        let wanted = head(suffix);
        let low = count_below(&self.heads, wanted);
        if self.heads.get(low) != Some(&wanted) {
            return Err(low);
        }
        self.search_equal_heads(low, wanted, suffix)
    }

    /// What follows the prefix in `key`, or else on which side of the keys it is.
    fn split_prefix<'key>(&self, key: &'key [u8]) -> Result<&'key [u8], Ordering> {
        let len = usize::from(self.prefix_len);
        let known = len.min(INLINE_PREFIX);
        if key.len() < len || !are_equal(&self.inline_prefix[..known], &key[..known]) {
            return Err(key.cmp(self.prefix()));
        }
        if len > known && self.bytes[known..len] != key[known..len] {
            return Err(key.cmp(self.prefix()));
        }
        Ok(&key[len..])
    }

    /// The search's slow end: among keys whose heads equal `wanted`, the bytes decide.
    fn search_equal_heads(&self, mut low: usize, wanted: u32, suffix: &[u8]) -> Result<usize, usize> {
        let mut high = low + self.heads[low..].iter().take_while(|&&head| head == wanted).count();
        while low < high {
            let middle = low.midpoint(high);
            match self.suffix(middle).cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// How many keys are at or below `key`: for separators, the child to descend into.
    pub(super) fn count_up_to(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(index) => index + 1,
            Err(index) => index,
        }
    }

    /// Whether the bytes of `key` would fit, whatever the number of keys.
    pub(super) fn has_bytes_for(&self, key: &[u8]) -> bool {
        let prefix_len = usize::from(self.prefix_len);
        if self.suffix_bytes() + self.len() * prefix_len + key.len() <= SUFFIX_BYTES_MAX {
            return true; // Even without a prefix: no need to see what the key shares.
        }
        let shared = if self.is_empty() { key.len() } else { common_prefix(self.prefix(), key) };
        let regrown = (prefix_len - shared.min(prefix_len)) * self.len();
        self.suffix_bytes() + regrown + (key.len() - shared) <= SUFFIX_BYTES_MAX
    }

    /// Asks for the memory that a search reads first.
    pub(super) fn touch_heads(&self) {
        /// Heads in a cache line.
        const LINE: usize = 16;
        self.heads.iter().step_by(LINE).for_each(|head| {
            std::hint::black_box(*head);
        });
    }

    /// Asks for the memory that tells where the bytes of a key are.
    pub(super) fn touch_ends(&self) {
        std::hint::black_box((self.ends.first().copied(), self.ends.last().copied()));
    }

    /// About where `key` is: exactly, if no other begins like it.
    pub(super) fn first_of_head(&self, key: &[u8]) -> usize {
        match self.split_prefix(key) {
            Ok(suffix) => count_below(&self.heads, head(suffix)),
            Err(Ordering::Less) => 0,
            Err(_) => self.len(),
        }
    }

    /// Asks for the memory an insert or a removal at `index` will move.
    pub(super) fn touch(&self, index: usize) {
        std::hint::black_box((self.bytes.get(self.start(index)).copied(), self.bytes.last().copied()));
    }

    /// Puts `key` at `index`, which [`Keys::search`] gave and [`Keys::has_bytes_for`] allowed.
    pub(super) fn insert(&mut self, index: usize, key: &[u8]) {
        debug_assert!(self.len() < FANOUT && self.has_bytes_for(key));
        self.share_prefix_with(key);
        let suffix = &key[usize::from(self.prefix_len)..];
        let start = self.start(index);
        insert_bytes(&mut self.bytes, start, suffix);
        let end = start - usize::from(self.prefix_len) + suffix.len();
        for later in &mut self.ends[index..] {
            *later += narrow(suffix.len());
        }
        self.ends.insert(index, narrow(end));
        self.heads.insert(index, head(suffix));
    }

    /// Removes a stretch of keys; gives memory back when more than half would lie idle.
    pub(super) fn remove(&mut self, removed: Range<usize>) {
        if removed.is_empty() {
            return;
        }
        let (start, end) = (self.start(removed.start), self.end(removed.end - 1));
        self.bytes.drain(start..end);
        self.heads.drain(removed.clone());
        self.ends.drain(removed.clone());
        for later in &mut self.ends[removed.start..] {
            *later -= narrow(end - start);
        }
        if self.bytes.len() < self.bytes.capacity() / 2 {
            self.bytes.shrink_to(usable(self.bytes.len()));
        }
    }

    /// Keeps the keys before `at`, returns those from `at` on. Both take the longest prefix they can.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let right = self.copy(at..self.len());
        *self = self.copy(0..at);
        right
    }

    /// Drops spare capacity: for a node that is not expected to grow.
    pub(super) fn seal(&mut self) {
        self.bytes.shrink_to(usable(self.bytes.len()));
    }

    /// `left`, `between` and `right` in one, if their bytes fit.
    pub(super) fn join(left: &Self, between: Option<&[u8]>, right: &Self) -> Option<Self> {
        let mut run = Run::default();
        let mut key = Vec::new();
        for (keys, index) in (0..left.len()).map(|index| (left, index)) {
            keys.key_into(index, &mut key);
            run.push_if_fits(&key).then_some(())?;
        }
        if let Some(between) = between {
            run.push_if_fits(between).then_some(())?;
        }
        for index in 0..right.len() {
            right.key_into(index, &mut key);
            run.push_if_fits(&key).then_some(())?;
        }
        Some(Self::from_run(&run))
    }

    /// The first index at which half of the suffix bytes lie behind; never an end.
    pub(super) fn middle_by_bytes(&self) -> usize {
        let half = self.suffix_bytes() / 2;
        let middle = self.ends.iter().take_while(|&&end| usize::from(end) < half).count();
        middle.clamp(1, self.len() - 1)
    }

    /// The shortest key above key `at - 1` and not above key `at`.
    pub(super) fn separator(&self, at: usize) -> Vec<u8> {
        let (left, right) = (self.suffix(at - 1), self.suffix(at));
        let mut separator = self.prefix().to_vec();
        separator.extend_from_slice(shortest_separator(left, right));
        separator
    }

    /// The shortest key above the last and not above `key`.
    pub(super) fn separator_after(&self, key: &[u8]) -> Vec<u8> {
        let last = self.key(self.len() - 1);
        shortest_separator(&last, key).to_vec()
    }

    /// The shortest key above `key` and not above the first.
    pub(super) fn separator_before(&self, key: &[u8]) -> Vec<u8> {
        let first = self.key(0);
        shortest_separator(key, &first).to_vec()
    }

    /// Asserts the module's invariants.
    pub(super) fn check(&self) {
        assert_eq!(self.heads.len(), self.ends.len());
        assert_eq!(usize::from(self.prefix_len) + self.suffix_bytes(), self.bytes.len());
        assert!(self.suffix_bytes() <= SUFFIX_BYTES_MAX);
        let known = usize::from(self.prefix_len).min(INLINE_PREFIX);
        assert_eq!(self.inline_prefix[..known], self.bytes[..known]);
        for index in 0..self.len() {
            assert!(self.start(index) <= self.end(index));
            assert_eq!(self.heads[index], head(self.suffix(index)));
            assert!(index == 0 || self.suffix(index - 1) < self.suffix(index), "keys do not ascend");
        }
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..usize::from(self.prefix_len)]
    }

    fn suffix(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.end(index)]
    }

    fn start(&self, index: usize) -> usize {
        let before = if index == 0 { 0 } else { self.ends[index - 1] };
        usize::from(self.prefix_len) + usize::from(before)
    }

    fn end(&self, index: usize) -> usize {
        usize::from(self.prefix_len) + usize::from(self.ends[index])
    }

    /// Bytes of all suffixes.
    pub(super) fn suffix_bytes(&self) -> usize {
        self.ends.last().map_or(0, |&end| usize::from(end))
    }

    /// Makes the prefix one that `key` has too: the whole key for the first one.
    fn share_prefix_with(&mut self, key: &[u8]) {
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.reserve_exact(usable(key.len()));
            self.bytes.extend_from_slice(key);
            self.prefix_len = narrow(key.len());
            self.keep_inline_prefix();
        } else if !key.starts_with(self.prefix()) {
            *self = self.with_prefix(0..self.len(), common_prefix(self.prefix(), key));
        }
    }

    /// The keys of `range` on their own, under the longest prefix they share.
    pub(super) fn copy(&self, range: Range<usize>) -> Self {
        if range.is_empty() {
            return Self::default();
        }
        let (first, last) = (self.suffix(range.start), self.suffix(range.end - 1));
        let prefix_len = usize::from(self.prefix_len) + common_prefix(first, last);
        self.with_prefix(range, prefix_len)
    }

    /// The keys of `range` with a prefix of another length.
    fn with_prefix(&self, range: Range<usize>, prefix_len: usize) -> Self {
        let old_len = usize::from(self.prefix_len);
        let returned = &self.bytes[prefix_len.min(old_len)..old_len];
        let dropped = prefix_len.saturating_sub(old_len);
        let suffixes = self.end(range.end - 1) - self.start(range.start);
        let suffixes = suffixes + range.len() * returned.len() - range.len() * dropped;
        let mut keys = Self::with_capacity(prefix_len, prefix_len + suffixes);
        let longer = &self.bytes[self.start(range.start)..][..dropped];
        keys.bytes.extend_from_slice(&self.bytes[..prefix_len.min(old_len)]);
        keys.bytes.extend_from_slice(longer);
        keys.keep_inline_prefix();
        for index in range {
            let start = keys.bytes.len();
            keys.bytes.extend_from_slice(returned);
            keys.bytes.extend_from_slice(&self.suffix(index)[dropped..]);
            keys.close_suffix(start);
        }
        keys
    }

    /// No keys yet, but room for `bytes`.
    fn with_capacity(prefix_len: usize, bytes: usize) -> Self {
        let bytes = Vec::with_capacity(usable(bytes));
        Self { bytes, prefix_len: narrow(prefix_len), ..Self::default() }
    }

    /// Copies the prefix into its place in the node.
    fn keep_inline_prefix(&mut self) {
        let known = usize::from(self.prefix_len).min(INLINE_PREFIX);
        self.inline_prefix[..known].copy_from_slice(&self.bytes[..known]);
    }

    fn push_suffix(&mut self, suffix: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(suffix);
        self.close_suffix(start);
    }

    /// Makes a key of the bytes appended since `start`.
    fn close_suffix(&mut self, start: usize) {
        self.heads.push(head(&self.bytes[start..]));
        self.ends.push(narrow(self.bytes.len() - usize::from(self.prefix_len)));
    }
}

/// The first four bytes as a number that sorts like them, padded with zeros.
fn head(suffix: &[u8]) -> u32 {
    if let Some(bytes) = suffix.first_chunk::<4>() {
        return u32::from_be_bytes(*bytes);
    }
    let mut padded = [0; 4];
    padded[..suffix.len()].copy_from_slice(suffix);
    u32::from_be_bytes(padded)
}

/// How many `heads` are below `wanted`.
fn count_below(heads: &[u32], wanted: u32) -> usize {
    heads.iter().map(|&head| u32::from(head < wanted)).sum::<u32>() as usize
}

/// The shortest key above `left` and not above `right`: as much of `right` as tells them apart.
pub(super) fn shortest_separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    debug_assert!(left < right);
    &right[..=common_prefix(left, right)]
}

/// Inserts `new` into `bytes`. Grows by an eighth where `Vec` would double: most of the index's memory
/// outside the nodes is here, and a node's bytes are few enough to move.
fn insert_bytes(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let (old_len, len) = (bytes.len(), bytes.len() + new.len());
    if len > bytes.capacity() {
        bytes.reserve_exact(usable(len + len / 8) - old_len);
    }
    bytes.resize(len, 0);
    bytes.copy_within(at..old_len, at + new.len());
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// The capacity an allocation of `len` bytes may as well have: allocators hand out multiples of 16
/// bytes less a header of 8.
fn usable(len: usize) -> usize {
    (len + 8).next_multiple_of(16) - 8
}

/// A length or offset as the sixteen bits it is stored in.
fn narrow(len: usize) -> u16 {
    u16::try_from(len).expect("a key is at most 65,535 bytes and suffixes stay below SUFFIX_BYTES_MAX")
}
