//! `MANIFEST`: which merged segments are part of the store, and which log segments no longer are. See `docs/merge.md`.
//!
//! A manifest is replaced as a whole. What the next one says is worked out here, without touching a disk; `docs/format.md`
//! has the bytes. What it keeps true: merged segments ascend, ranges of gone segments ascend and do not touch, and a
//! number that was given to a merged segment is never given again.

use std::path::Path;

use crate::{
    Error, Index, Result, SegmentId,
    disk::Disk,
    error::invalid_header,
    format::{FORMAT_VERSION, Invalid, SEGMENT_HEADER_LEN, StoreId, check_head},
    record::array,
    segment::{MERGED_BIT, is_merged},
    small_file::read_small,
};

/// The file's name.
pub const MANIFEST_NAME: &str = "MANIFEST";

/// What the file holds while a backup becomes a store: no manifest, so that what is there is not opened.
pub const UNFINISHED_RESTORE: &[u8] = b"a restore is under way or was interrupted: run it again";

const MAGIC: &[u8; 8] = b"ESKMANIF";
/// Bytes before the merged segments: magic, version, store, number, next number, judged, count.
const HEAD_LEN: usize = 8 + 4 + 16 + 8 + 4 + 8 + 4;
const MERGED_LEN: usize = 24;
const COUNT_LEN: usize = 4;
const GONE_LEN: usize = 12;
const CHECKSUM_LEN: usize = 4;

/// A merged segment that is part of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergedSegment {
    /// Its number, with [`MERGED_BIT`].
    pub id: SegmentId,
    /// Its file's length in bytes.
    pub len: u32,
    /// The generation of the state that it is part of.
    pub generation: u64,
    /// What was dead at this version was left out.
    pub judged: Index,
}

/// Log segments in a row that are no longer part of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The first.
    pub first: SegmentId,
    /// The last.
    pub last: SegmentId,
    /// Where the segment before the first ended, as the first's header said it; 0 if there was none.
    pub previous_end: u32,
}

/// What `MANIFEST` says. The default is what holds as long as there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Counts the manifests.
    pub number: u64,
    /// The number that the next merged segment gets.
    pub next_merged: SegmentId,
    /// What was dead at this version may be missing: a state from before cannot be had any more.
    pub judged: Index,
    /// The merged segments of the store, ascending.
    pub merged: Vec<MergedSegment>,
    /// The log segments that are gone: ranges, ascending, not touching.
    pub gone: Vec<Gone>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { number: 0, next_merged: MERGED_BIT + 1, judged: 0, merged: Vec::new(), gone: Vec::new() }
    }
}

impl Manifest {
    /// The merged segment of this number, if it is part of the store.
    pub fn merged(&self, id: SegmentId) -> Option<&MergedSegment> {
        self.merged.binary_search_by_key(&id, |found| found.id).ok().map(|at| &self.merged[at])
    }

    /// Whether this log segment is no longer part of the store.
    pub fn is_gone(&self, id: SegmentId) -> bool {
        self.range_of(id).is_some()
    }

    /// The range of gone segments that this one is in.
    fn range_of(&self, id: SegmentId) -> Option<&Gone> {
        let at = self.gone.partition_point(|range| range.last < id);
        self.gone.get(at).filter(|range| range.first <= id)
    }

    /// The first log segment from `id` on that is not gone.
    pub fn next_there(&self, id: SegmentId) -> SegmentId {
        self.range_of(id).map_or(id, |range| range.last + 1)
    }

    /// Adds merged segments, with numbers that were not given before.
    pub fn add(&mut self, outputs: impl IntoIterator<Item = MergedSegment>) {
        self.merged.extend(outputs);
        self.merged.sort_unstable_by_key(|segment| segment.id);
        if let Some(last) = self.merged.last() {
            self.skip_number(last.id);
        }
    }

    /// Sees to it that no later segment gets this number.
    pub fn skip_number(&mut self, id: SegmentId) {
        self.next_merged = self.next_merged.max(id.saturating_add(1));
    }

    /// Takes a segment of either kind out of the store. `previous_end` is where the log segment before it ended; 0 if
    /// there is none.
    pub fn remove(&mut self, id: SegmentId, previous_end: u32) {
        if is_merged(id) {
            self.merged.retain(|segment| segment.id != id);
            return;
        }
        if self.is_gone(id) {
            return;
        }
        let at = self.gone.partition_point(|range| range.last < id);
        self.gone.insert(at, Gone { first: id, last: id, previous_end });
        self.join(at);
        if at > 0 {
            self.join(at - 1);
        }
    }

    /// Joins the range at `at` with the next one if they touch.
    fn join(&mut self, at: usize) {
        if let Some(&next) = self.gone.get(at + 1)
            && self.gone[at].last + 1 == next.first
        {
            self.gone[at].last = next.last;
            self.gone.remove(at + 1);
        }
    }

    /// Forgets what an installed snapshot took the place of: merged segments of other generations than `generation`, and
    /// log segments before `first`.
    pub fn forget_before(&mut self, first: SegmentId, generation: u64) {
        self.merged.retain(|segment| segment.generation == generation);
        self.gone.retain(|range| range.last >= first);
        if let Some(range) = self.gone.first_mut().filter(|range| range.first <= first) {
            (range.first, range.previous_end) = (first, 0);
        }
    }

    /// Encodes the file.
    pub fn encode(&self, store: &StoreId) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(store);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.next_merged.to_le_bytes());
        out.extend_from_slice(&self.judged.to_le_bytes());
        out.extend_from_slice(&(self.merged.len() as u32).to_le_bytes());
        for segment in &self.merged {
            out.extend_from_slice(&segment.id.to_le_bytes());
            out.extend_from_slice(&segment.len.to_le_bytes());
            out.extend_from_slice(&segment.generation.to_le_bytes());
            out.extend_from_slice(&segment.judged.to_le_bytes());
        }
        out.extend_from_slice(&(self.gone.len() as u32).to_le_bytes());
        for range in &self.gone {
            out.extend_from_slice(&range.first.to_le_bytes());
            out.extend_from_slice(&range.last.to_le_bytes());
            out.extend_from_slice(&range.previous_end.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Decodes the file; gives also the store it belongs to.
    pub fn decode(bytes: &[u8]) -> Result<(Self, StoreId), Invalid> {
        let end = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(Invalid::Bad("the file is cut off"))?;
        check_head(bytes, MAGIC, end)?;
        Self::decode_body(&bytes[..end]).map_err(Invalid::Bad)
    }

    /// Decodes what the checksum vouches for: were it to lie, this is still an error and no panic.
    fn decode_body(bytes: &[u8]) -> Result<(Self, StoreId), &'static str> {
        let head = bytes.get(..HEAD_LEN).ok_or("the file is cut off")?;
        let u32_at = |at: usize| u32::from_le_bytes(array(&bytes[at..at + 4]));
        let merged_end = HEAD_LEN as u64 + u64::from(u32_at(HEAD_LEN - 4)) * MERGED_LEN as u64;
        if merged_end + COUNT_LEN as u64 > bytes.len() as u64 {
            return Err("more merged segments than the file has room for");
        }
        let gone_start = merged_end as usize + COUNT_LEN;
        let gone_len = u64::from(u32_at(merged_end as usize)) * GONE_LEN as u64;
        if gone_start as u64 + gone_len != bytes.len() as u64 {
            return Err("another number of ranges than the file has room for");
        }
        let manifest = Self {
            number: u64::from_le_bytes(array(&head[28..36])),
            next_merged: u32_at(36),
            judged: u64::from_le_bytes(array(&head[40..48])),
            merged: bytes[HEAD_LEN..merged_end as usize]
                .chunks_exact(MERGED_LEN)
                .map(decode_merged)
                .collect(),
            gone: bytes[gone_start..].chunks_exact(GONE_LEN).map(decode_gone).collect(),
        };
        manifest.check()?;
        Ok((manifest, array(&head[12..28])))
    }

    fn check(&self) -> Result<(), &'static str> {
        let ascend = self.merged.iter().zip(self.merged.iter().skip(1)).all(|(one, next)| one.id < next.id);
        let is_possible =
            |segment: &MergedSegment| is_merged(segment.id) && segment.len as usize > SEGMENT_HEADER_LEN;
        if !ascend || !self.merged.iter().all(is_possible) {
            return Err("impossible merged segments");
        }
        // A log segment follows every range: the last one of the log is never gone.
        let is_possible =
            |range: &Gone| (1..=range.last).contains(&range.first) && range.last < MERGED_BIT - 1;
        let mut pairs = self.gone.iter().zip(self.gone.iter().skip(1));
        if !self.gone.iter().all(is_possible) || !pairs.all(|(one, next)| one.last + 1 < next.first) {
            return Err("impossible ranges of segments");
        }
        if !is_merged(self.next_merged) || self.merged.last().is_some_and(|last| last.id >= self.next_merged)
        {
            return Err("impossible next number");
        }
        Ok(())
    }

    /// Reads the manifest of the store in `dir`; `None` if there is none.
    ///
    /// Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub fn read(disk: &dyn Disk, dir: &Path, store: &StoreId) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST_NAME);
        let Some(bytes) = read_small(disk, &path)? else { return Ok(None) };
        let (manifest, found) = Self::decode(&bytes).map_err(|invalid| invalid_header(&path, invalid))?;
        if found != *store {
            return Err(Error::damage(&path, 12, "the manifest belongs to another store"));
        }
        Ok(Some(manifest))
    }
}

/// Whether a restore to `dir` has not come to its end: there is no store in it yet.
///
/// Errors: `Damage` (it is too long to be either), `Io`.
pub fn is_unfinished_restore(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    Ok(read_small(disk, &dir.join(MANIFEST_NAME))?.is_some_and(|found| found == UNFINISHED_RESTORE))
}

/// What whoever takes such a directory for a store is told.
pub fn unfinished_restore(dir: &Path) -> Error {
    Error::InvalidRequest(format!(
        "{} has a restore that is under way or did not come to its end, and no store yet: run the restore to it again",
        dir.display()
    ))
}

fn decode_merged(bytes: &[u8]) -> MergedSegment {
    MergedSegment {
        id: u32::from_le_bytes(array(&bytes[..4])),
        len: u32::from_le_bytes(array(&bytes[4..8])),
        generation: u64::from_le_bytes(array(&bytes[8..16])),
        judged: u64::from_le_bytes(array(&bytes[16..24])),
    }
}

fn decode_gone(bytes: &[u8]) -> Gone {
    Gone {
        first: u32::from_le_bytes(array(&bytes[..4])),
        last: u32::from_le_bytes(array(&bytes[4..8])),
        previous_end: u32::from_le_bytes(array(&bytes[8..12])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STORE: StoreId = [7; 16];

    fn merged(number: u32) -> MergedSegment {
        MergedSegment { id: MERGED_BIT + number, len: 1000 + number, generation: 3, judged: 99 }
    }

    fn some() -> Manifest {
        let mut manifest = Manifest { number: 5, ..Manifest::default() };
        manifest.add([merged(2), merged(4)]);
        for (id, previous_end) in [(4, 400), (3, 300), (9, 900)] {
            manifest.remove(id, previous_end);
        }
        manifest
    }

    fn rechecksummed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - CHECKSUM_LEN;
        let checksum = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for manifest in [Manifest::default(), some()] {
            assert_eq!(Manifest::decode(&manifest.encode(&STORE)), Ok((manifest, STORE)));
        }
    }

    #[test]
    fn ranges_are_joined_and_remember_where_the_segment_before_them_ended() {
        let mut manifest = some();
        let range = |first, last, previous_end| Gone { first, last, previous_end };
        assert_eq!(manifest.gone, [range(3, 4, 300), range(9, 9, 900)]);
        manifest.remove(6, 600);
        manifest.remove(5, 500);
        assert_eq!(manifest.gone, [range(3, 6, 300), range(9, 9, 900)]);
        manifest.remove(4, 1);
        manifest.remove(8, 800);
        manifest.remove(7, 700);
        assert_eq!(manifest.gone, [range(3, 9, 300)]);
        let there: Vec<_> = [2, 3, 9, 10].map(|id| manifest.next_there(id)).into();
        assert_eq!(there, [2, 10, 10, 10]);
    }

    #[test]
    fn numbers_are_not_given_again() {
        let mut manifest = some();
        assert_eq!(manifest.next_merged, MERGED_BIT + 5);
        manifest.remove(MERGED_BIT + 4, 0);
        assert_eq!(manifest.merged, [merged(2)]);
        assert_eq!(manifest.next_merged, MERGED_BIT + 5);
        manifest.skip_number(MERGED_BIT + 7);
        assert_eq!(manifest.next_merged, MERGED_BIT + 8);
    }

    #[test]
    fn what_a_snapshot_replaced_is_forgotten() {
        let mut manifest = some();
        manifest.add([MergedSegment { generation: 4, ..merged(6) }]);
        manifest.forget_before(4, 4);
        assert_eq!(manifest.merged.len(), 1);
        let ranges = [(4, 4, 0), (9, 9, 900)];
        assert_eq!(
            manifest.gone,
            ranges.map(|(first, last, previous_end)| Gone { first, last, previous_end })
        );
        manifest.forget_before(10, 4);
        assert_eq!(manifest.gone, []);
    }

    /// CHECKS 8.
    #[test]
    fn every_bit_flip_and_truncation_is_seen() {
        let good = some().encode(&STORE);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Manifest::decode(&good[..len]).is_err(), "length {len}");
        }
    }

    /// CHECKS 35: lengths are checked before anything is made of them.
    #[test]
    fn impossible_contents_are_refused_whatever_the_checksum_says() {
        let good = some().encode(&STORE);
        let second_range = good.len() - CHECKSUM_LEN - GONE_LEN;
        let cases = [
            (HEAD_LEN - 4, u32::MAX, "more merged segments"),
            (second_range - GONE_LEN - COUNT_LEN, u32::MAX, "another number of ranges"),
            (HEAD_LEN, 2, "impossible merged"),
            (HEAD_LEN + 4, 64, "impossible merged"),
            (second_range, 5, "impossible ranges"),
            (second_range + 4, 8, "impossible ranges"),
            (second_range + 4, MERGED_BIT - 1, "impossible ranges"),
            (36, MERGED_BIT + 4, "impossible next number"),
        ];
        for (at, value, expected) in cases {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            match Manifest::decode(&rechecksummed(bad)) {
                Err(Invalid::Bad(why)) => assert!(why.starts_with(expected), "{why}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    proptest! {
        /// Whatever is taken out in whatever order: what is gone is exactly that, and the file stays one that is read.
        #[test]
        fn what_was_removed_is_gone(ids in prop::collection::vec(1..30_u32, 0..40)) {
            let mut manifest = Manifest::default();
            for &id in &ids {
                manifest.remove(id, id * 10);
            }
            for id in 1..32 {
                prop_assert_eq!(manifest.is_gone(id), ids.contains(&id), "{}", id);
                prop_assert!(!manifest.is_gone(manifest.next_there(id)));
            }
            prop_assert!(manifest.gone.iter().all(|range| range.previous_end == range.first * 10));
            prop_assert_eq!(Manifest::decode(&manifest.encode(&STORE)), Ok((manifest, STORE)));
        }

        #[test]
        fn any_bytes_are_an_error_or_a_manifest(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let head = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &body, &[0; CHECKSUM_LEN]].concat();
            let bytes = rechecksummed(head);
            if let Ok((manifest, store)) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(&store), bytes);
            }
        }
    }
}
