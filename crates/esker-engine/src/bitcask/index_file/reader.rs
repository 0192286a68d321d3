//! From an index file's bytes to entries. Lengths are checked before they are trusted; any damage is an error with its place.

use std::{
    ops::{Deref, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use esker_log::{
    Error, GroupEnd, Result,
    disk::{Disk, File, OpenMode},
    format::{Invalid, StoreId, check_head, salt},
    recovery::invalid_header,
};

use super::{
    BLOCK_HEADER_LEN, HEADER_CHECKSUM, HEADER_LEN, IndexName, MAGIC, Place, Stretch, VERSION, block_binding,
    tag,
};
use crate::{
    bitcask::{keydir::Slot, ranges::RangeTombstone},
    range::decode_deletion_end,
    varint::{take_varint, unzigzag},
};

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
    /// The ranges that were deleted in the stretch, in the order of the log.
    pub(crate) ranges: Vec<RangeTombstone>,
}

impl IndexFile {
    /// Opens an index file. Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, store: &StoreId) -> Result<Self> {
        let file = disk
            .open(path, OpenMode::Read)
            .map_err(|e| Error::io(format_args!("reading {}", path.display()), e))?;
        Self::from_file(file, path, store)
    }

    /// Whether the file is whole but of an older format: opening makes it anew. Errors: `Io`.
    pub(crate) fn is_of_older_format(disk: &dyn Disk, path: &Path) -> Result<bool> {
        let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
        let file = disk.open(path, OpenMode::Read).map_err(doing)?;
        let mut header = [0; HEADER_LEN];
        if file.len().map_err(doing)? < HEADER_LEN as u64 {
            return Ok(false);
        }
        file.read_exact_at(&mut header, 0).map_err(doing)?;
        Ok(check_head(&header, MAGIC, HEADER_CHECKSUM).is_ok_and(|version| version < VERSION))
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
        let makes_no_sense = || Error::damage(path, head.directory_at, "the block directory makes no sense");
        let mut rest = directory.as_slice();
        let blocks =
            decode_directory(&mut rest, head.block_count, head.directory_at).ok_or_else(makes_no_sense)?;
        let ranges =
            decode_ranges(rest, head.range_count, head.stretch.last.index).ok_or_else(makes_no_sense)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            stretch: head.stretch,
            entries: head.entries,
            salt: salt(store, head.stretch.segment),
            blocks,
            ranges,
        })
    }

    /// Whether it is an index of just these bytes of `segment`.
    pub(crate) fn covers(&self, segment: u32, bytes: &Range<u32>) -> bool {
        let Stretch { segment: of, from, to, .. } = self.stretch;
        (of, from, to) == (segment, bytes.start, bytes.end)
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

    /// Reads and verifies the whole file, which has this name.
    pub(crate) fn verify_as(&self, name: &IndexName) -> Result<()> {
        let from = if let IndexName::Checkpoint(_, from) = name { *from } else { self.stretch.from };
        if (name.segment(), from) != (self.stretch.segment, self.stretch.from) {
            return Err(Error::damage(
                &self.path,
                12,
                "the file is of another segment or stretch than its name",
            ));
        }
        self.verify()
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
    range_count: u32,
}

impl Header {
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Invalid> {
        check_head(bytes, MAGIC, HEADER_CHECKSUM)?;
        if u32::from_le_bytes(field(bytes, 8)) != VERSION {
            return Err(Invalid::Bad("it is of an older format"));
        }
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
            range_count: u32::from_le_bytes(field(bytes, 88)),
        })
    }
}

/// Takes the block directory off the front of `bytes`.
fn decode_directory(bytes: &mut &[u8], count: u32, blocks_end: u64) -> Option<Vec<BlockAddress>> {
    let mut blocks: Vec<BlockAddress> = Vec::new();
    for _ in 0..count {
        let offset = u64::from_le_bytes(*bytes.first_chunk()?);
        let key_len = usize::from(u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?));
        let first_key = bytes.get(10..10 + key_len)?.into();
        *bytes = &bytes[10 + key_len..];
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
    blocks.first().is_none_or(|first| first.offset == HEADER_LEN as u64).then_some(blocks)
}

/// All that `bytes` hold are so many ranges.
fn decode_ranges(mut bytes: &[u8], count: u32, last: u64) -> Option<Vec<RangeTombstone>> {
    let take = |bytes: &mut &[u8]| {
        let len = usize::try_from(take_varint(bytes)?).ok()?;
        let (piece, rest) = bytes.split_at_checked(len)?;
        *bytes = rest;
        Some(piece.to_vec())
    };
    let mut ranges = Vec::new();
    for _ in 0..count {
        let start = take(&mut bytes).filter(|start| !start.is_empty())?;
        let end = take(&mut bytes)?;
        let end = decode_deletion_end(&end)?.map(<[u8]>::to_vec);
        let version = last.checked_sub(take_varint(&mut bytes)?)?;
        let range = RangeTombstone { start, end, version };
        if range.range().is_empty() {
            return None;
        }
        ranges.push(range);
    }
    bytes.is_empty().then_some(ranges)
}

/// Walks an index file's entries in key order. Owns the file or borrows it.
pub(crate) struct IndexCursor<I> {
    index: I,
    next_block: usize,
    buffer: Vec<u8>,
    at: usize,
    entry_at: usize,
    key: Vec<u8>,
    place: Option<Place>,
}

impl<I: Deref<Target = IndexFile>> IndexCursor<I> {
    /// A cursor on the first entry.
    pub(crate) fn start(index: I) -> Result<Self> {
        Self::at_block(index, 0)
    }

    /// A cursor on the first entry whose key is at least `key`.
    pub(crate) fn seek(index: I, key: &[u8]) -> Result<Self> {
        let block = index.block_of(key);
        let mut cursor = Self::at_block(index, block)?;
        while cursor.place.is_some() && cursor.key.as_slice() < key {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// Goes on to the first entry whose key is at least `key`: cheap where it is near, and never back.
    pub(crate) fn seek_on(&mut self, key: &[u8]) -> Result<()> {
        if self.place.is_none() || self.key.as_slice() >= key {
            return Ok(());
        }
        let block = self.index.block_of(key);
        if block >= self.next_block {
            self.next_block = block;
            self.at = self.buffer.len();
        }
        while self.place.is_some() && self.key.as_slice() < key {
            self.advance()?;
        }
        Ok(())
    }

    fn at_block(index: I, block: usize) -> Result<Self> {
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
        let place = decode_place(&mut rest, &self.index.stretch)?;
        self.at = self.buffer.len() - rest.len();
        Some(place)
    }
}

/// The longest value that fits a slot, in bytes.
const VALUE_LEN_MAX: u64 = (1 << 31) - 1;

/// Takes the place of an entry off the front of `rest`.
fn decode_place(rest: &mut &[u8], stretch: &Stretch) -> Option<Place> {
    let head = take_varint(rest)?;
    let (kind, len) = (head & tag::KIND, head >> tag::LENGTH_SHIFT);
    let (mut offset, mut sum) = (0, 0);
    match kind {
        tag::TOMBSTONE => {}
        tag::PUT if len <= VALUE_LEN_MAX => offset = u32::from_le_bytes(take_field(rest)?),
        tag::SUM => sum = unzigzag(take_varint(rest)?),
        _ => return None,
    }
    let expiry = match head & tag::EXPIRES {
        0 => None,
        _ => Some(u64::from_le_bytes(take_field(rest)?)),
    };
    let version = stretch.last.index.checked_sub(take_varint(rest)?).filter(|version| *version < 1 << 56)?;
    let slot = match kind {
        tag::TOMBSTONE => return Some(Place::tombstone(version)),
        tag::PUT => {
            Slot::new(stretch.segment, offset, len as u32, version).compressed(head & tag::COMPRESSED != 0)
        }
        _ => Slot::sum(sum, version),
    };
    Some(Place::of(slot.expiring(expiry)))
}

fn take_field<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*field)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}
