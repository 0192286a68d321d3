//! Index files: hints and checkpoints. `docs/format.md` has the byte tables.
//!
//! An index file is a sorted table of keys, each with the place of its newest record in one stretch of one segment, or a
//! tombstone. It is written whole from sorted entries and read block by block, from any key on.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use esker_log::{
    Error, GroupEnd, GroupId, Result, SegmentId,
    disk::{Disk, File, OpenMode},
    format::{FORMAT_VERSION, Invalid, StoreId, check_head, salt},
    record::binding,
    recovery::invalid_header,
    small_file::write_durably_from,
};

const MAGIC: &[u8; 8] = b"ESKINDEX";
const HEADER_LEN: usize = 96;
const HEADER_CHECKSUM: usize = 92;
const BLOCK_HEADER_LEN: usize = 12;
/// A block is closed once its entries take this many bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// Which stretch of the log an index file covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) segment: SegmentId,
    pub(crate) group: GroupId,
    /// The first byte covered.
    pub(crate) from: u32,
    /// The first byte not covered.
    pub(crate) to: u32,
    /// The last frame in the stretch.
    pub(crate) last: GroupEnd,
}

/// An index file's name.
pub(crate) enum IndexName {
    /// Covers a whole sealed segment.
    Hint(SegmentId),
    /// Covers a part of the active segment, from a byte on.
    Checkpoint(SegmentId, u32),
}

impl IndexName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let number = |digits: &str| {
            let valid = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
            if valid { digits.parse().ok() } else { None }
        };
        if let Some(stem) = name.strip_suffix(".hint") {
            return number(stem).map(Self::Hint);
        }
        let (segment, from) = name.strip_suffix(".ckpt")?.split_once('-')?;
        Some(Self::Checkpoint(number(segment)?, number(from)?))
    }
}

impl std::fmt::Display for IndexName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hint(segment) => write!(f, "{segment:010}.hint"),
            Self::Checkpoint(segment, from) => write!(f, "{segment:010}-{from:010}.ckpt"),
        }
    }
}

/// What an index file says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the record begins.
    pub(crate) offset: u32,
    /// The value's length; `None` for a tombstone.
    pub(crate) value_len: Option<u32>,
    /// The record's version.
    pub(crate) version: u64,
}

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
        }
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
        put_varint(&mut self.blocks, place.value_len.map_or(0, |len| u64::from(len) + 1));
        self.blocks.extend_from_slice(&place.offset.to_le_bytes());
        put_varint(&mut self.blocks, self.stretch.last.index - place.version);
        self.block_entries += 1;
        self.entries += 1;
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
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
        EncodedIndex { header: self.encode_header(store), blocks: self.blocks, directory: self.directory }
    }

    fn encode_header(&self, store: &StoreId) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
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

fn block_binding(salt: u32, offset: u64) -> u32 {
    binding(salt, offset as u32, offset >> 32)
}

/// One block, as the directory tells of it.
#[derive(Debug, Clone)]
struct BlockAddress {
    offset: u64,
    end: u64,
    first_key: Box<[u8]>,
}

/// An open index file whose header and directory were verified.
pub(crate) struct IndexFile {
    file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) stretch: Stretch,
    pub(crate) entries: u64,
    salt: u32,
    blocks: Vec<BlockAddress>,
}

impl IndexFile {
    /// Opens an index file. Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, store: &StoreId) -> Result<Self> {
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(|e| Error::io(format_args!("reading {}", path.display()), e))?;
        Self::from_file(file, path, store)
    }

    /// Like [`IndexFile::open`], of a file that is open.
    pub(crate) fn from_file(file: Arc<dyn File>, path: &Path, store: &StoreId) -> Result<Self> {
        let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
        let len = file.len().map_err(doing)?;
        let mut header = [0; HEADER_LEN];
        if len < HEADER_LEN as u64 {
            return Err(Error::damage(path, 0, "the header is cut off"));
        }
        file.read_exact_at(&mut header, 0).map_err(doing)?;
        let head = Header::decode(&header).map_err(|invalid| invalid_header(path, invalid))?;
        if head.store != *store {
            return Err(Error::damage(path, 16, "the file belongs to another store"));
        }
        if head.directory_at.checked_add(u64::from(head.directory_len)) != Some(len) {
            return Err(Error::damage(path, 72, "the file's length is not what its header says"));
        }
        let mut directory = vec![0; head.directory_len as usize];
        file.read_exact_at(&mut directory, head.directory_at).map_err(doing)?;
        if crc32c::crc32c(&directory) != head.directory_checksum {
            return Err(Error::damage(
                path,
                head.directory_at,
                "the block directory's checksum does not match",
            ));
        }
        let blocks = decode_directory(&directory, head.block_count, head.directory_at)
            .ok_or_else(|| Error::damage(path, head.directory_at, "the block directory makes no sense"))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            stretch: head.stretch,
            entries: head.entries,
            salt: salt(store, head.stretch.segment),
            blocks,
        })
    }

    /// The first keys of the blocks: where the file can be divided.
    pub(crate) fn block_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().map(|block| &*block.first_key)
    }

    /// The number of the last block that may hold `key` or a smaller one.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| &*block.first_key <= key).saturating_sub(1)
    }

    /// Reads and verifies a block's entries.
    fn read_block(&self, number: usize, buffer: &mut Vec<u8>) -> Result<()> {
        let block = &self.blocks[number];
        let bad = |what| Err(Error::damage(&self.path, block.offset, what));
        buffer.resize((block.end - block.offset) as usize, 0);
        self.file
            .read_exact_at(buffer, block.offset)
            .map_err(|e| Error::io(format_args!("reading {}", self.path.display()), e))?;
        let checksum = u32::from_le_bytes(field(buffer, 0));
        if checksum ^ block_binding(self.salt, block.offset) != crc32c::crc32c(&buffer[4..]) {
            return bad("a block's checksum does not match");
        }
        if u32::from_le_bytes(field(buffer, 4)) as usize != buffer.len() - BLOCK_HEADER_LEN {
            return bad("a block's length is not what the directory says");
        }
        Ok(())
    }

    /// Reads and verifies the whole file.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut cursor = IndexCursor::start(self)?;
        let mut entries = 0;
        let mut last: Option<Vec<u8>> = None;
        while cursor.place().is_some() {
            if last.as_deref().is_some_and(|last| last >= cursor.key()) {
                return Err(Error::damage(&self.path, 0, "the keys do not ascend"));
            }
            last = Some(cursor.key().to_vec());
            entries += 1;
            cursor.advance()?;
        }
        if entries != self.entries {
            return Err(Error::damage(&self.path, 48, "the file has another number of entries than it says"));
        }
        Ok(())
    }
}

struct Header {
    stretch: Stretch,
    store: StoreId,
    block_count: u32,
    entries: u64,
    directory_at: u64,
    directory_len: u32,
    directory_checksum: u32,
}

impl Header {
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Invalid> {
        check_head(bytes, MAGIC, HEADER_CHECKSUM)?;
        Ok(Self {
            stretch: Stretch {
                segment: u32::from_le_bytes(field(bytes, 12)),
                group: u32::from_le_bytes(field(bytes, 32)),
                from: u32::from_le_bytes(field(bytes, 36)),
                to: u32::from_le_bytes(field(bytes, 40)),
                last: GroupEnd {
                    index: u64::from_le_bytes(field(bytes, 56)),
                    term: u64::from_le_bytes(field(bytes, 64)),
                },
            },
            store: field(bytes, 16),
            block_count: u32::from_le_bytes(field(bytes, 44)),
            entries: u64::from_le_bytes(field(bytes, 48)),
            directory_at: u64::from_le_bytes(field(bytes, 72)),
            directory_len: u32::from_le_bytes(field(bytes, 80)),
            directory_checksum: u32::from_le_bytes(field(bytes, 84)),
        })
    }
}

fn decode_directory(mut bytes: &[u8], count: u32, blocks_end: u64) -> Option<Vec<BlockAddress>> {
    let mut blocks: Vec<BlockAddress> = Vec::new();
    while !bytes.is_empty() {
        let offset = u64::from_le_bytes(*bytes.first_chunk()?);
        let key_len = usize::from(u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?));
        let first_key = bytes.get(10..10 + key_len)?.into();
        bytes = &bytes[10 + key_len..];
        let expected =
            blocks.last().map_or(HEADER_LEN as u64, |block| block.offset + BLOCK_HEADER_LEN as u64);
        if offset < expected || offset + BLOCK_HEADER_LEN as u64 > blocks_end {
            return None;
        }
        if let Some(before) = blocks.last_mut() {
            before.end = offset;
        }
        blocks.push(BlockAddress { offset, end: blocks_end, first_key });
    }
    (blocks.len() == count as usize && blocks.first().is_none_or(|first| first.offset == HEADER_LEN as u64))
        .then_some(blocks)
}

/// Walks an index file's entries in key order.
pub(crate) struct IndexCursor<'a> {
    index: &'a IndexFile,
    next_block: usize,
    buffer: Vec<u8>,
    at: usize,
    entry_at: usize,
    key: Vec<u8>,
    place: Option<Place>,
}

impl<'a> IndexCursor<'a> {
    /// A cursor on the first entry.
    pub(crate) fn start(index: &'a IndexFile) -> Result<Self> {
        Self::at_block(index, 0)
    }

    /// A cursor on the first entry whose key is at least `key`.
    pub(crate) fn seek(index: &'a IndexFile, key: &[u8]) -> Result<Self> {
        let mut cursor = Self::at_block(index, index.block_of(key))?;
        while cursor.place.is_some() && cursor.key.as_slice() < key {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    fn at_block(index: &'a IndexFile, block: usize) -> Result<Self> {
        let mut cursor = Self {
            index,
            next_block: block,
            buffer: Vec::new(),
            at: 0,
            entry_at: 0,
            key: Vec::new(),
            place: None,
        };
        cursor.advance()?;
        Ok(cursor)
    }

    /// The entry's key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The entry; `None` behind the last.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place
    }

    /// Goes to the next entry.
    pub(crate) fn advance(&mut self) -> Result<()> {
        if self.at == self.buffer.len() {
            if self.next_block == self.index.blocks.len() {
                self.place = None;
                return Ok(());
            }
            self.index.read_block(self.next_block, &mut self.buffer)?;
            self.next_block += 1;
            self.at = BLOCK_HEADER_LEN;
            self.key.clear();
        }
        self.entry_at = self.at;
        match self.decode_entry() {
            Some(place) => {
                self.place = Some(place);
                Ok(())
            }
            None => {
                let block = &self.index.blocks[self.next_block - 1];
                Err(Error::damage(
                    &self.index.path,
                    block.offset + self.entry_at as u64,
                    "an entry makes no sense",
                ))
            }
        }
    }

    fn decode_entry(&mut self) -> Option<Place> {
        let mut rest = &self.buffer[self.at..];
        let shared = usize::try_from(take_varint(&mut rest)?).ok()?;
        let own = usize::try_from(take_varint(&mut rest)?).ok()?;
        if shared > self.key.len() || own > rest.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(&rest[..own]);
        rest = &rest[own..];
        let value_len = match take_varint(&mut rest)? {
            0 => None,
            len => Some(u32::try_from(len - 1).ok()?),
        };
        let offset = u32::from_le_bytes(*rest.first_chunk()?);
        rest = &rest[4..];
        let version = self.index.stretch.last.index.checked_sub(take_varint(&mut rest)?)?;
        self.at = self.buffer.len() - rest.len();
        Some(Place { offset, value_len, version })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// LEB128, as in the DWARF standard.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use esker_log::disk::sim::SimDisk;

    use super::*;

    const STORE: StoreId = [7; 16];

    fn write(disk: &SimDisk, keys: &[Vec<u8>]) -> PathBuf {
        let stretch =
            Stretch { segment: 3, group: 0, from: 64, to: 9000, last: GroupEnd { index: 1000, term: 0 } };
        let mut writer = IndexWriter::new(&STORE, stretch);
        for (i, key) in keys.iter().enumerate() {
            let value_len = (i % 3 != 0).then_some(i as u32);
            writer.push(key, Place { offset: i as u32 * 7, value_len, version: 1000 - i as u64 % 1000 });
        }
        let dir = Path::new("/");
        writer.finish(disk, dir, &STORE, &IndexName::Hint(3)).unwrap();
        dir.join("0000000003.hint")
    }

    fn keys(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|i| format!("key/{i:06}").into_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read_from_any_key_on() {
        let disk = SimDisk::new();
        let keys = keys(20_000);
        let path = write(&disk, &keys);
        let index = IndexFile::open(&disk, &path, &STORE).unwrap();
        assert!(index.blocks.len() > 5);
        index.verify().unwrap();
        for start in [0, 1, 777, 19_999, 20_000] {
            let from = keys.get(start).cloned().unwrap_or_else(|| b"z".to_vec());
            let mut cursor = IndexCursor::seek(&index, &from).unwrap();
            for (i, key) in keys.iter().enumerate().skip(start) {
                assert_eq!(cursor.key(), key);
                let place = cursor.place().unwrap();
                assert_eq!(place.value_len, (i % 3 != 0).then_some(i as u32));
                assert_eq!((place.offset, place.version), (i as u32 * 7, 1000 - i as u64 % 1000));
                cursor.advance().unwrap();
            }
            assert!(cursor.place().is_none());
        }
    }

    /// CHECKS 8: a flipped bit or a truncation gives a located error, never entries.
    #[test]
    fn every_flipped_byte_and_every_truncation_is_seen() {
        let disk = SimDisk::new();
        let path = write(&disk, &keys(40));
        let good = disk.file_bytes(&path).unwrap();
        let read = |disk: &SimDisk| IndexFile::open(disk, &path, &STORE).and_then(|index| index.verify());
        read(&disk).unwrap();
        for offset in 0..good.len() {
            for bit in 0..8 {
                disk.flip_bit(&path, offset as u64, bit).unwrap();
                let error = read(&disk).expect_err("a flipped bit");
                assert!(
                    matches!(error, Error::Damage(_) | Error::UnsupportedFormat { .. }),
                    "{offset}: {error}"
                );
                disk.flip_bit(&path, offset as u64, bit).unwrap();
            }
        }
        for len in 0..good.len() {
            disk.write_file(&path, &good[..len]);
            assert!(matches!(read(&disk), Err(Error::Damage(_))), "length {len}");
        }
    }

    #[test]
    fn names_round_trip() {
        for name in ["0000000007.hint", "0000000008-0000000064.ckpt"] {
            assert_eq!(IndexName::parse(name).unwrap().to_string(), name);
        }
        for name in ["7.hint", "0000000007.log", "0000000008.ckpt", "+000000007.hint", "x.hint"] {
            assert!(IndexName::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn varints_round_trip_and_end() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(take_varint(&mut bytes.as_slice()), Some(value));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut [0x80_u8; 11].as_slice()), None);
    }
}
