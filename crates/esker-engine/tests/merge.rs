//! Merging: what it frees, what it keeps, and what it must not change.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use crate::common;

use std::time::Duration;

use common::{
    DIR, Machine,
    model::{apply, compare, contents},
    small_options,
    workload::{Step, run, steps, universe},
};
use esker_engine::{Condition, Db, KeyRange, Options, SyncPolicy, WriteBatch};
use esker_log::disk::{
    Disk, RealDisk,
    sim::{CrashMode, SimDisk},
};

fn options() -> Options {
    small_options(SyncPolicy::Always)
}

/// Fills segments, so that what was written before lies in sealed ones.
fn fill(db: &Db, key: &[u8], bytes: usize) {
    for _ in 0..bytes / 1000 {
        db.put(key, &[b'.'; 1000]).unwrap();
    }
}

fn files(machine: &Machine, suffix: &str) -> Vec<std::path::PathBuf> {
    let ends = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(suffix);
    machine.disk.files().into_iter().filter(ends).collect()
}

/// CHECKS 8, 12: the index file of a merged segment is a function of the segment, also with deletes of ranges that one batch has
/// beside puts into them.
#[test]
fn a_lost_hint_of_a_merged_segment_is_made_anew() {
    for seed in 0..40 {
        let machine = Machine::new(SimDisk::new());
        let steps: Vec<_> =
            steps(seed, 60).into_iter().filter(|step| !matches!(step, Step::Reopen)).collect();
        let outcome = run(&machine, &options(), &steps);
        let machine = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
        let db = machine.open(&options()).unwrap();
        db.merge(seed % 2 == 0).unwrap();
        db.close().unwrap();
        drop(db);
        for hint in files(&machine, ".merged.hint") {
            machine.disk.remove(&hint).unwrap();
        }
        let db = machine.open(&options()).unwrap();
        compare(&db, outcome.history.last(), &universe()).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn a_range_and_a_put_into_it_in_one_batch_survive_a_merge_and_the_loss_of_its_hint() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    db.put(b"old/kept", b"outside of the merge").unwrap();
    db.put(b"p/0", b"old").unwrap();
    fill(&db, b"q", 8000);
    let mut batch = WriteBatch::new();
    batch.delete_range(&KeyRange::prefix(*b"p/")).unwrap();
    batch.put(b"p/1", b"new").unwrap();
    assert_eq!(db.write(batch, None).unwrap().existed, 1);
    fill(&db, b"q", 8000);
    let expected = contents(&db);
    for all in [false, true] {
        db.merge(all).unwrap();
        assert_eq!(contents(&db), expected);
    }
    drop(db);
    for hint in files(&machine, ".merged.hint") {
        machine.disk.remove(&hint).unwrap();
    }
    assert_eq!(contents(&machine.open(&options()).unwrap()), expected);
}

/// Disk use is bounded however often a key is written, and nothing is left of what keys come and go.
#[test]
fn endless_overwriting_and_keys_that_never_come_back_leave_a_bounded_store() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    let mut most = 0;
    for n in 0..3000_u32 {
        db.put(format!("often/{:02}", n % 20).as_bytes(), &[n as u8; 100]).unwrap();
        let once = format!("once/{n:06}");
        db.put(once.as_bytes(), &[n as u8; 100]).unwrap();
        if n >= 10 {
            db.delete(format!("once/{:06}", n - 10).as_bytes()).unwrap();
        }
        if n % 50 == 0 {
            machine.clock.advance(Duration::from_secs(1));
            db.maintain();
            most = most.max(db.stats().log_bytes);
        }
    }
    let stats = db.stats();
    assert!(most < 40_000 && stats.merges.merges > 10, "{most} bytes at most, {stats:?}");
    assert_eq!(stats.keys, 30);
}

/// Expired keys are absent at once, and their space is had back once batches say that it is a minute later.
#[test]
fn what_expired_goes() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    let now = || esker_log::clock::Clock::wall(machine.clock.as_ref()).as_millis() as u64;
    let mut batch = WriteBatch::new();
    for n in 0..40_u8 {
        batch.put_expiring(&[b'e', n], &[n; 200], now() + 1000).unwrap();
    }
    db.write(batch, None).unwrap();
    fill(&db, b"q", 6000);
    machine.clock.advance(Duration::from_millis(1000));
    assert!(db.get(b"e\x05").unwrap().is_none() && db.meta(b"e\x05").is_none());
    assert_eq!(db.scan(&KeyRange::prefix(*b"e"), true).count(), 0);
    db.delete(b"another").unwrap();
    // So soon another batch may have been stamped before.
    assert_eq!(db.merge(true).unwrap().keys_expired, 0);
    machine.clock.advance(Duration::from_secs(61));
    db.delete(b"another").unwrap();
    fill(&db, b"q", 6000);
    assert_eq!(db.merge(true).unwrap().keys_expired, 40);
    assert_eq!(db.stats().keys, 1);
    drop(db);
    assert_eq!(machine.open(&options()).unwrap().stats().keys, 1);
}

/// The keys that a merge drops are noted in a buffer's worth of memory.
#[test]
fn what_expired_goes_by_and_by_where_memory_is_small() {
    let machine = Machine::new(SimDisk::new());
    let mut options = options();
    options.memory_budget = 1 << 20;
    options.segment_max_bytes = 1 << 20;
    let db = machine.open(&options).unwrap();
    let now = esker_log::clock::Clock::wall(machine.clock.as_ref()).as_millis() as u64;
    for n in 0..200_u8 {
        let mut batch = WriteBatch::new();
        batch.put_expiring(&[n; 1000], b"", now + 1000).unwrap();
        db.write(batch, None).unwrap();
    }
    machine.clock.advance(Duration::from_secs(62));
    db.delete(b"another").unwrap();
    fill(&db, b"q", 2_000_000);
    // 64 KiB of them in each of the merges that it takes.
    let expired = db.merge(true).unwrap().keys_expired;
    assert!((60..200).contains(&expired), "{expired}");
    while db.stats().keys > 1 {
        assert!(db.merge(true).unwrap().keys_expired > 0);
    }
}

/// What `docs/merge.md` says of the headers of frames: they are dead, and merging frees them, once.
#[test]
fn small_values_that_were_written_one_by_one_take_less_when_merged() {
    let machine = Machine::new(SimDisk::new());
    let mut options = options();
    options.segment_max_bytes = 64 << 10;
    let db = machine.open(&options).unwrap();
    for n in 0..2000_u32 {
        db.put(format!("key/{n:012}").as_bytes(), &[n as u8; 20]).unwrap();
    }
    let before = db.stats().log_bytes;
    let merged = db.merge(false).unwrap();
    let after = db.stats().log_bytes;
    assert!(merged.inputs > 1 && after * 10 < before * 8, "{before} bytes, {after} after {merged:?}");
    assert_eq!((db.merge(false).unwrap().inputs, db.stats().keys), (0, 2000));
}

/// A scan that began before goes on over what a merge took out, and the files go when it ends.
#[test]
fn a_scan_keeps_what_a_merge_takes_out() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&options()).unwrap();
    for n in 0..200_u32 {
        db.put(format!("{n:04}").as_bytes(), &[n as u8; 100]).unwrap();
    }
    let expected = contents(&db);
    let mut scan = db.scan(&KeyRange::all(), false);
    let first = scan.next().unwrap().unwrap();
    for n in 0..200_u32 {
        db.put(format!("{n:04}").as_bytes(), b"new").unwrap();
    }
    let before = files(&machine, ".log").len();
    db.merge(true).unwrap();
    let rest: Vec<_> = scan.map(Result::unwrap).collect();
    let seen = std::iter::once(first)
        .chain(rest)
        .map(|item| (item.key, (item.value.unwrap().to_vec(), item.version)));
    assert!(seen.eq(expected));
    assert!(files(&machine, ".log").len() < before, "the scan has ended");
}

/// Merges go on beside writers whose conditional writes and adds come in groups; a kill at the end loses none of them.
#[test]
fn merges_beside_groups_of_judged_writes_lose_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.sync = SyncPolicy::Never;
    options.segment_max_bytes = 64 << 10;
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u8)
            .map(|writer| {
                let db = &db;
                scope.spawn(move || {
                    let mut version = db.put(&[b'v', writer], b"0").unwrap();
                    for n in 1..=2000_u32 {
                        let mut batch = WriteBatch::new();
                        batch.require(&[b'v', writer], Condition::Version(version)).unwrap();
                        batch.put(&[b'v', writer], n.to_string().as_bytes()).unwrap();
                        let committed = db.write(batch, None).unwrap();
                        assert!(!committed.is_void(), "{committed:?}");
                        version = committed.version;
                        db.add(b"sum", 1).unwrap();
                        db.put(&[b'f', writer, n as u8], &[writer; 100]).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                db.merge(false).unwrap();
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let expected = contents(&db);
    assert_eq!(&*db.get(b"sum").unwrap().unwrap().value, b"8000");
    assert!(db.stats().merges.merges > 0);
    // As a killed process would leave it: copied while it is open.
    let copy = tempfile::tempdir().unwrap();
    for found in RealDisk.list(dir.path()).unwrap() {
        std::fs::copy(dir.path().join(&found.name), copy.path().join(&found.name)).unwrap();
    }
    assert_eq!(contents(&Db::open(copy.path(), options).unwrap()), expected);
}

/// The model itself, where the others rely on it.
#[test]
fn the_model_voids_whole_batches() {
    use common::model::Op;
    let mut state = std::iter::once((b"k".to_vec(), (b"x".to_vec(), 1))).collect();
    let ops = [Op::Delete(b"k".to_vec()), Op::Put(b"k".to_vec(), b"y".to_vec()), Op::Add(b"k".to_vec(), 1)];
    assert!(apply(&mut state, &ops, 2).is_void());
    assert_eq!(state[&b"k".to_vec()].1, 1);
    assert!(DIR.starts_with('/'));
}

/// CHECKS 12: the last version is known though all segments that had it are merged, older ones are not, and the one to be
/// written next lost its only frame.
#[test]
fn the_version_is_known_where_what_follows_an_older_segment_was_merged() {
    let machine = Machine::new(SimDisk::new());
    let db = machine.open(&small_options(SyncPolicy::Never)).unwrap();
    db.put(b"stays", &[1; 3000]).unwrap();
    for _ in 0..3 {
        db.put(b"again", &[2; 3000]).unwrap();
    }
    db.put(b"again", b"small").unwrap();
    let version = db.version();
    db.put(b"lost", &[3; 3000]).unwrap();
    let machine = Machine::new(machine.disk.crash(CrashMode::DropUnsynced));
    drop(db);
    let db = machine.open(&options()).unwrap();
    assert_eq!(db.version(), version, "the last frame is lost, and it alone");
    assert!(db.merge(false).unwrap().inputs > 0);
    assert!(machine.disk.files().iter().any(|path| path.ends_with("0000000001.log")), "it lives");
    let killed = |machine: &Machine| {
        let machine = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
        let db = machine.open(&options()).unwrap();
        (machine, db)
    };
    // With nothing behind what was merged, and with a frame that no index file covers.
    let (machine, db) = killed(&machine);
    assert_eq!(db.version(), version);
    assert_eq!(db.put(b"new", b"v").unwrap(), version + 1);
    let (_machine, db) = killed(&machine);
    assert_eq!((db.version(), &*db.get(b"again").unwrap().unwrap().value), (version + 1, &b"small"[..]));
}
