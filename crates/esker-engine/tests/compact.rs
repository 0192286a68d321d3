//! Compaction, and merges of more than fits memory, files or disk at once.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use crate::common;

use common::{Machine, model::contents, small_options, survival::modes};
use esker_engine::{Db, KeyRange, Options, SyncPolicy, WriteBatch};
use esker_log::disk::sim::{CrashMode, Fault, SimDisk};

const KEYS: u32 = 300;

/// What is merged is read into so little memory that it takes many turns.
fn options() -> Options {
    let mut options = small_options(SyncPolicy::Never);
    options.memory_budget = 1 << 20;
    options.checkpoint_ops = 200;
    options
}

/// Places of the keys that are all over the key space.
fn key(n: u32) -> Vec<u8> {
    format!("{:08x}/{n}", n.wrapping_mul(0x9e37_79b9)).into_bytes()
}

/// More than ten times what one merge of a compaction copies, a fourth of it dead; also deletes, sums and deleted ranges.
fn fill(db: &Db) {
    for n in (0..KEYS).chain(0..KEYS / 4) {
        db.put(&key(n), &vec![n as u8; 400 + n as usize]).unwrap();
        if n % 16 == 0 {
            db.delete(&key(n / 2)).unwrap();
            db.add(format!("sum/{}", n % 5).as_bytes(), 1).unwrap();
        }
        if n % 100 == 99 {
            let mut batch = WriteBatch::new();
            batch.delete_range(&KeyRange::inclusive(key(n), [key(n), b"~".to_vec()].concat())).unwrap();
            db.write(batch, None).unwrap();
        }
    }
    db.sync().unwrap();
}

fn filled() -> (Machine, Db) {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    fill(&db);
    (machine, db)
}

/// The first key and the last of every merged segment, in the order of the keys.
fn keys_of_merged_segments(machine: &Machine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_merged = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".merged");
    let segments = machine.disk.files().into_iter().filter(is_merged);
    let mut all: Vec<_> = segments
        .map(|path| {
            let bytes = machine.disk.file_bytes(&path).unwrap();
            let found: Vec<_> = (0..KEYS)
                .map(key)
                .filter(|key| bytes.windows(key.len()).any(|window| window == key))
                .collect();
            (found.iter().min().unwrap().clone(), found.iter().max().unwrap().clone())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_compaction_in_many_merges_leaves_all_in_key_order() {
    let (machine, db) = filled();
    let expected = contents(&db);
    let merged = db.merge(true).unwrap();
    assert!(merged.outputs > 20 && db.stats().merges.merges > 10, "{merged:?}");
    assert_eq!(contents(&db), expected);
    let segments = keys_of_merged_segments(&machine);
    assert!(segments.len() > 20);
    let in_order = segments.windows(2).all(|pair| pair[0].1 < pair[1].0);
    assert!(in_order, "{segments:?}");
    drop(db);
    assert_eq!(contents(&machine.open(&options()).unwrap()), expected);
}

/// Who looks while it runs sees that it does.
#[test]
fn a_merge_is_told_while_it_runs() {
    let (_machine, db) = filled();
    assert!(!db.stats().merges.running);
    let mut looks = 0;
    let looked = db.merge_with(true, &mut |_, _| {
        looks += 1;
        assert!(db.stats().merges.running);
        Ok(())
    });
    looked.unwrap();
    assert!(looks > 0 && !db.stats().merges.running);
    let ended = db.merge_with(true, &mut |_, _| Err(esker_engine::Error::Closed));
    assert!(ended.is_err() && !db.stats().merges.running);
}

/// What one merge copies is 16 KiB here, to which come what it does not fill and its index files; of the rest nothing is there twice.
#[test]
fn a_compaction_takes_little_space_beside() {
    let (machine, db) = filled();
    db.checkpoint().unwrap();
    let expected = contents(&db);
    let live = db.stats().live_bytes;
    let used = machine.disk.used_space();
    machine.disk.set_capacity(Some(used + (24 << 10)));
    assert!(live > 128 << 10, "it would not fit twice: {live}");
    db.merge(true).unwrap();
    assert_eq!(contents(&db), expected);
    assert!(machine.disk.used_space() < used, "the dead bytes are gone");
}

/// CHECKS 1, 5, 12: a compaction promises nothing and loses nothing.
#[test]
fn a_crash_at_any_operation_of_a_compaction_loses_nothing() {
    let (machine, db) = filled();
    let expected = contents(&db);
    db.close().unwrap();
    drop(db);
    let filled = machine.disk;
    // Many merges that are alike: a stride that meets each kind of operation.
    for n in (1..).step_by(13) {
        let machine = Machine::new(filled.crash(CrashMode::ProcessKill));
        let db = machine.open(&options()).unwrap();
        machine.disk.fail_at(n, if n % 2 == 0 { Fault::Crash } else { Fault::CrashAfter(n as usize % 900) });
        let merged = db.merge(true);
        drop(db);
        if machine.disk.faults_fired() == 0 {
            assert!(merged.is_ok() && n > 500, "a compaction has only {n} operations");
            break;
        }
        for mode in modes(n) {
            let found = Machine::new(machine.disk.crash(mode));
            let db = found.open(&options()).unwrap_or_else(|e| panic!("operation {n}, {mode:?}: {e}"));
            assert_eq!(contents(&db), expected, "operation {n}, {mode:?}");
        }
    }
}

/// CHECKS 34: however many segments there are, no more files are open than may be, but for the few that are written or read whole.
#[test]
fn a_merge_of_many_segments_opens_few_files() {
    let (machine, db) = filled();
    let expected = contents(&db);
    db.close().unwrap();
    drop(db);
    let mut options = options();
    options.max_files = 8;
    let machine = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
    let db = machine.open(&options).unwrap();
    assert!(db.stats().segments > 40);
    let most = machine.disk.counters().open_handles_max;
    assert!(most <= 16, "opening: {most}");
    for n in 0..4 {
        db.delete(&key(n)).unwrap();
        db.put(&key(n), b"again").unwrap();
    }
    db.merge(false).unwrap();
    db.merge(true).unwrap();
    let others = |all: common::model::State| -> common::model::State {
        all.into_iter().filter(|(at, _)| (0..4).all(|n| *at != key(n))).collect()
    };
    assert_eq!(others(contents(&db)), others(expected));
    let most = machine.disk.counters().open_handles_max;
    assert!(most <= 24, "{most} files");
}

/// What was written in any order is read in that of the files: many records with each read.
#[test]
fn inputs_are_read_in_large_pieces() {
    let mut options = options();
    options.segment_max_bytes = 64 << 10;
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options).unwrap();
    (0..2000).for_each(|n| {
        db.put(&key(n), &[n as u8; 100]).unwrap();
    });
    db.checkpoint().unwrap();
    let before = machine.disk.counters();
    let merged = db.merge(true).unwrap();
    let reads = machine.disk.counters().reads - before.reads;
    assert!(merged.bytes_copied > 200_000 && reads < 300, "{merged:?} with {reads} reads");
}
