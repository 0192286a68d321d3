//! From sorted entries to an index file's bytes.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use esker_log::{
    Result,
    disk::{Disk, File},
    format::{StoreId, salt},
    small_file::write_durably_from,
};

use super::{
    BLOCK_HEADER_LEN, HEADER_CHECKSUM, HEADER_LEN, IndexName, MAGIC, Place, Stretch, VERSION, block_binding,
    tag,
};
use crate::{
    bitcask::{prefix::common_prefix, ranges::RangeTombstone},
    range::encode_deletion,
    varint::{put_varint, zigzag},
};

/// A block is closed once its entries take this many bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// Builds an index file from entries in strictly ascending key order.
pub(crate) struct IndexWriter {
    stretch: Stretch,
    salt: u32,
    blocks: Vec<u8>,
    block_start: usize,
    block_entries: u32,
    directory: Vec<u8>,
    block_count: u32,
    entries: u64,
    last_key: Vec<u8>,
    /// The deleted ranges, encoded, and how many they are.
    ranges: Vec<u8>,
    range_count: u32,
}

impl IndexWriter {
    pub(crate) fn new(store: &StoreId, stretch: Stretch) -> Self {
        Self {
            stretch,
            salt: salt(store, stretch.segment),
            blocks: Vec::new(),
            block_start: 0,
            block_entries: 0,
            directory: Vec::new(),
            block_count: 0,
            entries: 0,
            last_key: Vec::new(),
            ranges: Vec::new(),
            range_count: 0,
        }
    }

    /// Says where the stretch ends, if that was not known before.
    pub(crate) fn up_to(mut self, to: u32) -> Self {
        self.stretch.to = to;
        self
    }

    pub(crate) fn push(&mut self, key: &[u8], place: Place) {
        debug_assert!(self.entries == 0 || key > self.last_key.as_slice(), "keys ascend");
        if self.block_entries > 0 && self.blocks.len() - self.block_start >= BLOCK_BYTES {
            self.close_block();
        }
        if self.block_entries == 0 {
            self.open_block(key);
        }
        let shared = if self.block_entries == 0 { 0 } else { common_prefix(&self.last_key, key) };
        put_varint(&mut self.blocks, shared as u64);
        put_varint(&mut self.blocks, (key.len() - shared) as u64);
        self.blocks.extend_from_slice(&key[shared..]);
        self.put_place(place);
        self.block_entries += 1;
        self.entries += 1;
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
    }

    fn put_place(&mut self, place: Place) {
        let blocks = &mut self.blocks;
        match place.slot {
            None => put_varint(blocks, tag::TOMBSTONE),
            Some(slot) => {
                let expires = if slot.expiry().is_some() { tag::EXPIRES } else { 0 };
                if let Some(sum) = slot.as_sum() {
                    put_varint(blocks, tag::SUM | expires);
                    put_varint(blocks, zigzag(sum));
                } else {
                    let compressed = if slot.is_compressed() { tag::COMPRESSED } else { 0 };
                    let len = u64::from(slot.value_len()) << tag::LENGTH_SHIFT;
                    put_varint(blocks, tag::PUT | expires | compressed | len);
                    blocks.extend_from_slice(&slot.offset().to_le_bytes());
                }
                if let Some(expiry) = slot.expiry() {
                    blocks.extend_from_slice(&expiry.to_le_bytes());
                }
            }
        }
        put_varint(blocks, behind(&self.stretch, place.version));
    }

    /// Adds a deleted range; they come in any order.
    pub(crate) fn push_range(&mut self, range: &RangeTombstone) {
        let (start, end) = encode_deletion(&range.range());
        for piece in [start, end] {
            put_varint(&mut self.ranges, piece.len() as u64);
            self.ranges.extend_from_slice(&piece);
        }
        put_varint(&mut self.ranges, behind(&self.stretch, range.version));
        self.range_count += 1;
    }

    fn open_block(&mut self, first_key: &[u8]) {
        self.block_start = self.blocks.len();
        self.directory.extend_from_slice(&((HEADER_LEN + self.block_start) as u64).to_le_bytes());
        self.directory.extend_from_slice(&(first_key.len() as u16).to_le_bytes());
        self.directory.extend_from_slice(first_key);
        self.blocks.extend_from_slice(&[0; BLOCK_HEADER_LEN]);
        self.block_count += 1;
    }

    fn close_block(&mut self) {
        let offset = (HEADER_LEN + self.block_start) as u64;
        let block = &mut self.blocks[self.block_start..];
        let len = (block.len() - BLOCK_HEADER_LEN) as u32;
        block[4..8].copy_from_slice(&len.to_le_bytes());
        block[8..12].copy_from_slice(&self.block_entries.to_le_bytes());
        let checksum = crc32c::crc32c(&block[4..]) ^ block_binding(self.salt, offset);
        block[..4].copy_from_slice(&checksum.to_le_bytes());
        self.block_entries = 0;
    }

    /// A file whose one block has any bytes for entries, all checksums right: what a fuzzer needs to get past them.
    #[cfg(fuzzing)]
    pub(crate) fn with_raw_entries(store: &StoreId, stretch: Stretch, entries: &[u8]) -> Self {
        let mut writer = Self::new(store, stretch);
        writer.open_block(b"first");
        writer.blocks.extend_from_slice(entries);
        writer.block_entries = 1;
        writer.entries = 1;
        writer
    }

    /// Writes the file durably under `name`; gives its length in bytes.
    pub(crate) fn finish(
        self,
        disk: &dyn Disk,
        dir: &Path,
        store: &StoreId,
        name: &IndexName,
    ) -> Result<u64> {
        self.encode(store).write(disk, dir, name)
    }

    /// The file's bytes.
    pub(crate) fn encode(mut self, store: &StoreId) -> EncodedIndex {
        if self.block_entries > 0 {
            self.close_block();
        }
        self.directory.append(&mut self.ranges);
        EncodedIndex { header: self.encode_header(store), blocks: self.blocks, directory: self.directory }
    }

    fn encode_header(&self, store: &StoreId) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.stretch.segment.to_le_bytes());
        out[16..32].copy_from_slice(store);
        out[32..36].copy_from_slice(&self.stretch.group.to_le_bytes());
        out[36..40].copy_from_slice(&self.stretch.from.to_le_bytes());
        out[40..44].copy_from_slice(&self.stretch.to.to_le_bytes());
        out[44..48].copy_from_slice(&self.block_count.to_le_bytes());
        out[48..56].copy_from_slice(&self.entries.to_le_bytes());
        out[56..64].copy_from_slice(&self.stretch.last.index.to_le_bytes());
        out[64..72].copy_from_slice(&self.stretch.last.term.to_le_bytes());
        out[72..80].copy_from_slice(&((HEADER_LEN + self.blocks.len()) as u64).to_le_bytes());
        out[80..84].copy_from_slice(&(self.directory.len() as u32).to_le_bytes());
        out[84..88].copy_from_slice(&crc32c::crc32c(&self.directory).to_le_bytes());
        out[88..92].copy_from_slice(&self.range_count.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..HEADER_CHECKSUM]);
        out[HEADER_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        out
    }
}

/// An index file's bytes, not yet written.
pub(crate) struct EncodedIndex {
    header: [u8; HEADER_LEN],
    blocks: Vec<u8>,
    directory: Vec<u8>,
}

impl EncodedIndex {
    /// Writes the file durably under `name`; gives its length in bytes.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path, name: &IndexName) -> Result<u64> {
        let pieces = [IoSlice::new(&self.header), IoSlice::new(&self.blocks), IoSlice::new(&self.directory)];
        write_durably_from(disk, dir, &name.to_string(), &pieces)?;
        Ok(pieces.iter().map(|piece| piece.len() as u64).sum())
    }

    /// A file that exists in memory only, for where the disk has no room for it.
    pub(crate) fn into_memory(self) -> Arc<dyn File> {
        Arc::new(MemoryFile([self.header.as_slice(), &self.blocks, &self.directory].concat()))
    }
}

/// Bytes to be read as a file.
struct MemoryFile(Vec<u8>);

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, _bufs: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// How far a version is behind the stretch's last.
fn behind(stretch: &Stretch, version: u64) -> u64 {
    stretch.last.index.checked_sub(version).expect("no version in a stretch is above its last")
}
