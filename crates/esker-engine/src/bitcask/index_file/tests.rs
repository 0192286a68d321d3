//! What is written is read; what is damaged is refused.

use std::{
    ops::Bound,
    path::{Path, PathBuf},
};

use esker_log::{Error, disk::sim::SimDisk, format::StoreId};

use super::*;
use crate::{
    bitcask::ranges::RangeTombstone,
    varint::{put_varint, take_varint, unzigzag, zigzag},
};

const STORE: StoreId = [7; 16];

fn write(disk: &SimDisk, keys: &[Vec<u8>]) -> PathBuf {
    let stretch =
        Stretch { segment: 3, group: 0, from: 64, to: 9000, last: GroupEnd { index: 1000, term: 0 } };
    let mut writer = IndexWriter::new(&STORE, stretch);
    for (i, key) in keys.iter().enumerate() {
        writer.push(key, place(i));
    }
    ranges().iter().for_each(|range| writer.push_range(range));
    let dir = Path::new("/");
    writer.finish(disk, dir, &STORE, &IndexName::Hint(3)).unwrap();
    dir.join("0000000003.hint")
}

/// A place of every kind, in turn.
fn place(i: usize) -> Place {
    let version = 1000 - i as u64 % 1000;
    let expiry = i.is_multiple_of(5).then_some(1_800_000_000_000 + i as u64);
    let put = Slot::new(3, i as u32 * 7, i as u32, version);
    match i % 3 {
        0 => Place::tombstone(version),
        1 => Place::of(put.compressed(i.is_multiple_of(2)).expiring(expiry)),
        _ => Place::of(Slot::sum(500 - i as i64, version).expiring(expiry)),
    }
}

fn ranges() -> [RangeTombstone; 3] {
    let range = |start: &[u8], end, version| RangeTombstone { start: start.to_vec(), end, version };
    [
        range(b"a", Bound::Unbounded, 1000),
        range(b"b", Bound::Included(b"c".to_vec()), 1),
        range(b"\0", Bound::Excluded(b"d".to_vec()), 7),
    ]
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
    assert!(index.block_keys().count() > 5);
    index.verify().unwrap();
    assert_eq!(index.ranges, ranges());
    for start in [0, 1, 777, 19_999, 20_000] {
        let from = keys.get(start).cloned().unwrap_or_else(|| b"z".to_vec());
        let mut cursor = IndexCursor::seek(&index, &from).unwrap();
        for (i, key) in keys.iter().enumerate().skip(start) {
            assert_eq!(cursor.key(), key);
            assert_eq!(cursor.place(), Some(place(i)));
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
            assert!(matches!(error, Error::Damage(_) | Error::UnsupportedFormat { .. }), "{offset}: {error}");
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
    for name in ["0000000007.hint", "0000000007.merged.hint", "0000000008-0000000064.ckpt"] {
        assert_eq!(IndexName::parse(name).unwrap().to_string(), name);
    }
    for name in
        ["7.hint", "0000000007.log", "0000000008.ckpt", "+000000007.hint", "x.hint", "0000000007.log.hint"]
    {
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
    for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
        assert_eq!(unzigzag(zigzag(value)), value);
    }
    assert!(zigzag(-64) < 128 && zigzag(63) < 128);
}
