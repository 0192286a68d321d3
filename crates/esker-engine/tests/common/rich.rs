//! A small store with everything in it that a store can have: merged segments beside log segments, deletes of keys and
//! ranges, counters, conditions that held and that did not, expiry, compressed values, and a checkpoint behind which writes
//! follow.

use std::{collections::BTreeMap, io::Write as _, path::Path, sync::Arc, time::Duration};

use esker_engine::{Condition, Db, KeyRange, Options, SyncPolicy, WriteBatch};
use esker_log::{
    Draft, LogOptions, Opening,
    clock::MANUAL_START,
    disk::sim::{CrashMode, SimDisk},
    record::{RecordKind, encode_record, encode_record_of, flags},
};

use super::{DIR, Machine, STORE_ID, small_options};

/// 2030, in milliseconds: after the time that slots begin with.
const NOW_MS: u64 = 1_893_456_000_000;

/// Keys with version, value and expiry.
pub(crate) type Contents = BTreeMap<Vec<u8>, (u64, Vec<u8>, Option<u64>)>;

pub(crate) fn options() -> Options {
    let mut options = small_options(SyncPolicy::Always);
    options.segment_max_bytes = 4096;
    options
}

/// A machine whose clock says 2030.
pub(crate) fn machine(disk: SimDisk) -> Machine {
    let machine = Machine::new(disk);
    machine.clock.advance(Duration::from_millis(NOW_MS) - MANUAL_START);
    machine
}

/// Gzip's number in a record's flags.
const GZIP: u8 = 3 << flags::COMPRESSION_SHIFT;

/// The first batch, written as a front with compression would.
fn write_compressed(disk: &SimDisk) {
    let log_options = LogOptions { segment_max_bytes: 4096, ..LogOptions::default() };
    let opening =
        Opening::begin(Arc::new(disk.clone()), Path::new(DIR), log_options, || Ok(STORE_ID)).unwrap();
    let mut writer = opening.recover(Default::default(), Default::default(), &mut |_| Ok(())).unwrap().writer;
    let mut payload = Vec::new();
    for key in [b"zip/old", b"zip/new"] {
        let value = [&key[..], &[b'x'; 500]].concat();
        let mut body = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        body.write_all(&value).unwrap();
        let body = body.finish().unwrap();
        let len = (value.len() as u32).to_le_bytes();
        encode_record_of(&mut payload, RecordKind::Put, GZIP, key, &[&len, &body]).unwrap();
    }
    encode_record(&mut payload, RecordKind::Put, b"zip/plain", b"not compressed").unwrap();
    writer.append(&mut [Draft::next(0, payload, 3)]).unwrap();
    writer.log().sync().unwrap();
}

fn batch(build: impl FnOnce(&mut WriteBatch)) -> WriteBatch {
    let mut batch = WriteBatch::new();
    build(&mut batch);
    batch
}

fn puts(db: &Db, keys: std::ops::Range<u32>, fill: u8) {
    for n in keys {
        let value = vec![fill; 7 + (n as usize * 37) % 200];
        db.put(format!("key/{n:02}").as_bytes(), &value).unwrap();
    }
}

/// Writes what ends up in merged segments.
fn write_old(db: &Db) {
    db.write(batch(|it| it.put_expiring(b"expires/old", b"soon", NOW_MS + 50).unwrap()), None).unwrap();
    db.write(batch(|it| it.put_expiring(b"expires/never", b"late", NOW_MS + 10_000_000).unwrap()), None)
        .unwrap();
    puts(db, 0..24, b'a');
    for n in 0..4 {
        db.put(format!("range/old/{n}").as_bytes(), &[n; 60]).unwrap();
        db.add(format!("count/{n}").as_bytes(), 10 + i64::from(n)).unwrap();
    }
    db.delete(b"key/03").unwrap();
    puts(db, 8..14, b'b');
    puts(db, 30..36, b'b');
}

/// Writes what stays in log segments.
fn write_new(db: &Db) {
    db.add(b"count/1", -100).unwrap();
    db.write(
        batch(|it| {
            it.require(b"key/05", Condition::Present).unwrap();
            it.put(b"key/05", b"the condition held").unwrap();
        }),
        None,
    )
    .unwrap();
    let void = db
        .write(
            batch(|it| {
                it.require(b"key/05", Condition::Absent).unwrap();
                it.put(b"key/06", b"the condition did not hold").unwrap();
            }),
            None,
        )
        .unwrap();
    assert!(void.is_void());
    db.delete_range(&KeyRange::prefix(*b"range/old/")).unwrap();
    db.put(b"range/old/2", b"written again").unwrap();
    db.delete(b"key/07").unwrap();
    db.delete(b"zip/old").unwrap();
    puts(db, 20..40, b'c');
    db.add(b"count/new", 5).unwrap();
    db.add(b"count/new", 6).unwrap();
    let mixed = batch(|it| {
        it.put_expiring(b"expires/count", b"41", NOW_MS + 9_000_000).unwrap();
        it.add(b"expires/count", 1).unwrap();
        it.delete(b"key/21").unwrap();
        it.delete_range(&KeyRange::inclusive(*b"key/22", *b"key/24")).unwrap();
        it.put(b"key/23", b"behind the range").unwrap();
    });
    db.write(mixed, None).unwrap();
    puts(db, 0..2, b'd');
}

/// The store at rest: killed behind its last writes, with everything durable.
pub(crate) fn store() -> (SimDisk, Contents) {
    let disk = SimDisk::new();
    write_compressed(&disk);
    let machine = machine(disk.crash(CrashMode::KeepUnsynced));
    let db = machine.open(&options()).unwrap();
    write_old(&db);
    // A merge drops what a batch says has expired a minute ago.
    machine.clock.advance(Duration::from_secs(61));
    db.delete(b"nobody").unwrap();
    let merged = db.merge(true).unwrap();
    assert!(merged.inputs > 0 && merged.outputs > 0 && merged.keys_expired == 1, "{merged:?}");
    write_new(&db);
    db.checkpoint().unwrap();
    db.put(b"tail", b"behind the checkpoint").unwrap();
    db.add(b"count/2", 1000).unwrap();
    let stats = db.stats();
    assert!(stats.merged_segments > 0 && stats.segments > 2, "{stats:?}");
    let contents = contents(&db);
    assert!(contents.contains_key(&b"zip/new"[..]) && contents.len() > 40, "{}", contents.len());
    (machine.disk.crash(CrashMode::KeepUnsynced), contents)
}

/// Everything that a store holds.
pub(crate) fn contents(db: &Db) -> Contents {
    db.scan(&KeyRange::all(), false)
        .map(|item| {
            let item = item.unwrap();
            (item.key, (item.version, item.value.unwrap().to_vec(), item.expiry))
        })
        .collect()
}
