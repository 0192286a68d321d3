//! Merged segments and `MANIFEST`: crashes, failures and damage at every step (CHECKS 4, 5, 8, 10, 11, 12, 14).

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use std::path::Path;

use esker_log::{
    Error, LogOptions, MergedWriter, Result, SegmentId,
    disk::sim::{CrashMode, Fault, FaultPlan, Ops, SimDisk},
    format::FORMAT_VERSION,
    manifest::MANIFEST_NAME,
    record::{RecordKind, encode_record},
    segment::{MERGED_BIT, is_merged, parse_segment_name, segment_name},
};
use support::{
    DIR,
    merging::{Model, Store, is_power_off},
    options,
};

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// The segments whose files are there.
fn files(disk: &SimDisk) -> Vec<SegmentId> {
    let names = disk.files().into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    names.filter_map(|name| parse_segment_name(&name)).collect()
}

fn merged(number: SegmentId) -> SegmentId {
    MERGED_BIT + number
}

fn value(n: u64) -> Vec<u8> {
    vec![n as u8; 150 + (n as usize * 37) % 300]
}

/// What the workload does, and what of it was promised.
#[derive(Default)]
struct Run {
    /// What is there for certain.
    model: Model,
    /// The write under way.
    pending: Option<(Vec<u8>, Vec<u8>)>,
}

impl Run {
    fn put(&mut self, store: &mut Store, n: u64) -> Result<()> {
        let (key, value) = (format!("key{}", n % 7).into_bytes(), value(n));
        self.pending = Some((key.clone(), value.clone()));
        store.put(&key, &value)?;
        self.model.extend(self.pending.take());
        Ok(())
    }

    /// Writes, merges of log segments, of both kinds, of everything; a store opened again in between.
    fn go(&mut self, disk: &SimDisk) -> Result<()> {
        let mut store = Store::open(disk)?;
        let mut n = 0;
        for round in 0..4 {
            for _ in 0..12 {
                n += 1;
                self.put(&mut store, n)?;
            }
            let sealed = store.sealed();
            let inputs = match round {
                0 => &sealed[1..],
                1 => &sealed[sealed.len() - 2..],
                _ => &sealed[..],
            };
            store.merge(inputs)?;
            if round == 1 {
                drop(store);
                store = Store::open(disk)?;
            }
        }
        Ok(())
    }

    /// Whether a store holds what it must.
    fn check(&self, store: &Store) -> Result<(), String> {
        let found = store.content().map_err(|e| format!("reading: {e}"))?;
        let mut with_pending = self.model.clone();
        with_pending.extend(self.pending.clone());
        if found == self.model || found == with_pending { Ok(()) } else { Err("other values".into()) }
    }
}

/// A store with log segments that are gone in the middle, and two merged ones.
fn merged_store() -> (SimDisk, Model) {
    let (disk, mut run) = (SimDisk::new(), Run::default());
    let mut store = Store::open(&disk).unwrap();
    for n in 1..=60 {
        run.put(&mut store, n).unwrap();
        match n {
            20 => store.merge(&[2, 3]).unwrap(),
            40 => store.merge(&[6, 7]).unwrap(),
            _ => {}
        }
    }
    let manifest = store.log.manifest();
    assert_eq!(
        manifest.gone.iter().map(|range| (range.first, range.last)).collect::<Vec<_>>(),
        [(2, 3), (6, 7)]
    );
    assert_eq!(manifest.merged.len(), 2);
    drop(store);
    (disk, run.model)
}

fn modes(seed: u64) -> Vec<CrashMode> {
    let plain = [CrashMode::ProcessKill, CrashMode::DropUnsynced, CrashMode::KeepUnsynced];
    plain.into_iter().chain((0..6).map(|n| CrashMode::power_loss(seed * 100 + n))).collect()
}

/// Opens what a crash left, checks it, and goes on: another write, another merge, another opening.
fn check_survivor(run: &Run, disk: &SimDisk) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let mut store = Store::open(disk).map_err(|e| format!("opening: {e}"))?;
    run.check(&store)?;
    check_files(&store, disk)?;
    let mut goes_on = Run { model: store.content().map_err(text)?, pending: None };
    for n in 200..206 {
        goes_on.put(&mut store, n).map_err(text)?;
    }
    let sealed = store.sealed();
    store.merge(&sealed).map_err(|e| format!("merging: {e}"))?;
    goes_on.check(&store)?;
    drop(store);
    let again = disk.crash(CrashMode::DropUnsynced);
    let store = Store::open(&again).map_err(|e| format!("opening again: {e}"))?;
    goes_on.check(&store)?;
    check_files(&store, &again)
}

/// What is there of segments is what counts, and nothing else.
fn check_files(store: &Store, disk: &SimDisk) -> Result<(), String> {
    let known: Vec<_> =
        store.log.segments().into_iter().chain(store.log.merged()).map(|segment| segment.id).collect();
    let mut found = files(disk);
    found.sort_unstable();
    if found == known { Ok(()) } else { Err(format!("files {found:?}, segments {known:?}")) }
}

/// CHECKS 5, 10, 11, 12: the machine stops at every disk operation of writes, merges and openings.
#[test]
fn a_crash_at_every_operation_loses_nothing() {
    let mut last = 0;
    for n in 1.. {
        for stop in [Fault::Crash, Fault::CrashAfter(30), Fault::CrashAfter(400)] {
            let (disk, mut run) = (SimDisk::new(), Run::default());
            disk.fail_at(n, stop);
            if let Err(error) = run.go(&disk) {
                assert!(is_power_off(&error), "operation {n}: {error}");
            }
            if disk.faults_fired() == 0 {
                last = n;
                break;
            }
            for mode in modes(n) {
                let found = disk.crash(mode);
                if let Err(why) = check_survivor(&run, &found) {
                    panic!("operation {n} ({stop:?}), {mode:?}: {why}\n{}", disk.op_trace().join("\n"));
                }
            }
        }
        if last > 0 {
            break;
        }
    }
    assert!(last > 300, "the workload has only {last} operations");
}

/// CHECKS 5, 12: and again while it opens what a crash within a merge left.
#[test]
fn a_crash_while_opening_loses_nothing_more() {
    for n in (1..).step_by(29) {
        let (disk, mut run) = (SimDisk::new(), Run::default());
        disk.fail_at(n, Fault::Crash);
        if run.go(&disk).is_ok() && disk.faults_fired() == 0 {
            assert!(n > 300);
            break;
        }
        for mode in modes(n) {
            for r in 1.. {
                let found = disk.crash(mode);
                found.fail_at(r, Fault::Crash);
                // A file that cannot be removed behind its last reader is no failure of the opening.
                drop(Store::open(&found));
                if found.faults_fired() == 0 {
                    break;
                }
                for second in [CrashMode::ProcessKill, CrashMode::power_loss(n * 1000 + r)] {
                    if let Err(why) = check_survivor(&run, &found.crash(second)) {
                        panic!("operation {n}, {mode:?}, then {r}, {second:?}: {why}");
                    }
                }
            }
        }
    }
}

/// A store with four segments, and what came of merging three of them, with a fault at operation `n` of that.
fn merge_with_fault(n: u64, fault: Fault) -> (SimDisk, Store, Run, Result<()>) {
    let (disk, mut run) = (SimDisk::new(), Run::default());
    let mut store = Store::open(&disk).unwrap();
    for n in 1..=20 {
        run.put(&mut store, n).unwrap();
    }
    disk.fail_at(n, fault);
    let merged = store.merge(&[1, 2, 3]);
    disk.clear_faults();
    if let Err(error) = &merged {
        let is_full = matches!(error, Error::DiskFull);
        assert!(is_full == (fault == Fault::NoSpace), "operation {n}: {error}");
    }
    (disk, store, run, merged)
}

/// CHECKS 4, 14: whatever fails within a merge, the log goes on, nothing is lost, and the next merge works.
#[test]
fn a_failure_at_every_operation_of_a_merge_harms_nothing() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortThenIo(50)] {
        for n in 1.. {
            let (disk, mut store, mut run, merged) = merge_with_fault(n, fault);
            assert!(store.log.poison().is_none());
            run.put(&mut store, 30).unwrap();
            run.check(&store).unwrap_or_else(|why| panic!("operation {n}: {why}"));
            for mode in modes(n) {
                let found = disk.after_crash(mode);
                check_survivor(&run, &found)
                    .unwrap_or_else(|why| panic!("{fault:?} at {n}, {mode:?}: {why}"));
            }
            if merged.is_err() {
                store.merge(&[1, 2, 3]).unwrap_or_else(|e| panic!("{fault:?} at {n}: {e}"));
                check_files(&store, &disk).unwrap_or_else(|why| panic!("{fault:?} at {n}: {why}"));
                check_survivor(&run, &disk.after_crash(CrashMode::DropUnsynced)).unwrap();
            } else if disk.faults_fired() > 0 {
                assert!(store.log.failed_removal().is_some(), "operation {n} failed, and nobody says so");
            } else {
                assert!(n > 8, "{n}");
                break;
            }
        }
    }
}

/// CHECKS 4, 12: closing a store removes nothing that a manifest may name whose replacement failed.
#[test]
fn a_store_is_closed_after_a_failed_merge() {
    for n in 1.. {
        let (disk, store, run, _) = merge_with_fault(n, Fault::Io);
        drop(store);
        check_survivor(&run, &disk).unwrap_or_else(|why| panic!("operation {n}: {why}"));
        if disk.faults_fired() == 0 {
            break;
        }
    }
}

/// CHECKS 11, 12: what a killed process left may be in the page cache only. Nothing is removed on the strength of it.
#[test]
fn a_manifest_that_never_reached_the_disk_removes_nothing() {
    for n in 1.. {
        let (disk, mut run) = (SimDisk::new(), Run::default());
        disk.fail_at(n, Fault::Crash);
        if run.go(&disk).is_ok() && disk.faults_fired() == 0 {
            break;
        }
        let found = disk.crash(CrashMode::ProcessKill);
        drop(Store::open(&found).unwrap());
        for seed in 0..8 {
            let again = found.after_crash(CrashMode::Reorder { seed: n * 8 + seed });
            let store = Store::open(&again).unwrap_or_else(|e| panic!("operation {n}, seed {seed}: {e}"));
            run.check(&store).unwrap_or_else(|why| panic!("operation {n}, seed {seed}: {why}"));
        }
    }
}

/// CHECKS 14: where the disk is full, a store opens and reads, and what no manifest can name makes room.
#[test]
fn a_full_disk_opens() {
    let (disk, model) = merged_store();
    let store = Store::open(&disk).unwrap();
    let (merge, _) = store.copy(&store.sealed()[..1]).unwrap();
    store.log.install(&merge).unwrap();
    let killed = disk.crash(CrashMode::ProcessKill);
    let unfinished = path(&segment_name(merged(9)));
    killed.write_file(&unfinished, &[0; 1000]);
    killed.set_capacity(Some(0));
    let store = Store::open(&killed).unwrap();
    assert_eq!(store.content().unwrap(), model);
    assert!(
        store.notices.iter().any(|notice| notice.contains("could not be removed")),
        "{:?}",
        store.notices
    );
    assert!(files(&killed).contains(&1) && killed.file_bytes(&unfinished).is_none());
    drop((store, merge));
    killed.set_capacity(None);
    let store = Store::open(&killed).unwrap();
    check_files(&store, &killed).unwrap();
    assert_eq!(store.content().unwrap(), model);
}

/// CHECKS 12: a segment is there for who began to read before it was retired.
#[test]
fn files_go_behind_their_last_reader() {
    let disk = SimDisk::new();
    let (mut store, mut run) = (Store::open(&disk).unwrap(), Run::default());
    for n in 1..=20 {
        run.put(&mut store, n).unwrap();
    }
    let (pin, before) = (store.log.pin(), store.keydir.clone());
    let segment = store.log.segment(2).unwrap();
    store.merge(&[1, 2]).unwrap();
    assert_eq!(store.log.segments()[0].id, 3);
    for at in before.values() {
        store.read(at).unwrap();
    }
    assert!(files(&disk).contains(&1) && files(&disk).contains(&2));
    drop(pin);
    assert!(!files(&disk).contains(&1) && files(&disk).contains(&2));
    drop(segment);
    assert!(!files(&disk).contains(&2));
    assert_eq!(store.log.failed_removal(), None);
    run.check(&store).unwrap();
}

#[test]
fn what_was_not_installed_leaves_nothing() {
    let disk = SimDisk::new();
    let (mut store, mut run) = (Store::open(&disk).unwrap(), Run::default());
    for n in 1..=20 {
        run.put(&mut store, n).unwrap();
    }
    let (before, sealed) = (files(&disk), store.sealed());
    drop(store.copy(&sealed).unwrap());
    let mut writer = MergedWriter::create(&store.log).unwrap();
    writer.push(5, |buf| encode_record(buf, RecordKind::Delete, b"key", b"")).unwrap();
    drop(writer);
    assert!(MergedWriter::create(&store.log).unwrap().finish().is_err());
    assert_eq!(files(&disk), before);
    // Numbers are not given again all the same.
    let (merge, _) = store.copy(&sealed).unwrap();
    assert_eq!(merge.outputs[0].id, merged(4));
    assert!(!store.log.manifest().is_gone(1));
    assert!(store.log.retire(&[1]).is_err() && store.log.segments()[0].id == 1);
}

#[test]
fn only_sealed_segments_are_merged_and_no_record_is_made_up() {
    let disk = SimDisk::new();
    let mut store = Store::open(&disk).unwrap();
    store.put(b"key", b"value").unwrap();
    assert!(matches!(store.merge(&[1]), Err(Error::InvalidRequest(_))));
    assert!(matches!(store.merge(&[7]), Err(Error::InvalidRequest(_))));
    let mut writer = MergedWriter::create(&store.log).unwrap();
    let place = writer.push(1, |buf| encode_record(buf, RecordKind::Put, b"a", b"1")).unwrap();
    let at = store.keydir.values().next().unwrap();
    let segment = store.log.segment(1).unwrap();
    let mut record = segment.read_record(at).unwrap();
    record[14] ^= 1;
    for bad in [&record[..], &record[..5], b""] {
        let refused = writer.copy(bad, at, &segment);
        assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{refused:?}");
    }
    let next = writer.push(2, |buf| encode_record(buf, RecordKind::Put, b"b", b"")).unwrap();
    assert_eq!(next.offset, place.offset + 12 + 1 + 1 + 8);
}

/// A long value has a frame of its own, a segment ends before it is too long, and every place can be read.
#[test]
fn records_of_all_sizes_are_found_where_it_was_said() {
    let disk = SimDisk::new();
    let store =
        Store::open_with(&disk, LogOptions { segment_max_bytes: 8 << 20, ..LogOptions::default() }).unwrap();
    let sizes = [10, 700 << 10, 600 << 10, 0, 1 << 20, 5, 3 << 20, 9 << 20, 1, 40];
    let (mut outputs, mut places) = (Vec::new(), Vec::new());
    let mut writer = MergedWriter::create(&store.log).unwrap();
    for (n, size) in sizes.into_iter().enumerate() {
        if !writer.has_room(12 + 1 + size) {
            outputs.push(writer.finish().unwrap());
            writer = MergedWriter::create(&store.log).unwrap();
        }
        let key = [n as u8];
        let place = writer
            .push(n as u64, |buf| encode_record(buf, RecordKind::Put, &key, &vec![n as u8; size]))
            .unwrap();
        places.push(place);
    }
    outputs.push(writer.finish().unwrap());
    let lens: Vec<_> = outputs.iter().map(|output| output.sealed_end().unwrap() >> 20).collect();
    assert_eq!(lens, [5, 9, 0]);
    let merge = esker_log::Merge { outputs, inputs: Vec::new(), generation: 0, judged: 0 };
    store.log.install(&merge).unwrap();
    drop((store, merge));
    let store = Store::open(&disk.crash(CrashMode::DropUnsynced)).unwrap();
    for (n, size) in sizes.into_iter().enumerate() {
        let at = &store.keydir[&[n as u8][..]];
        assert_eq!((at.segment, at.offset), (places[n].segment, places[n].offset));
        assert_eq!(store.read(at).unwrap(), vec![n as u8; size]);
    }
}

/// CHECKS 8: a damaged manifest is told, with its name, and nothing is removed.
#[test]
fn a_damaged_manifest_is_refused() {
    let (disk, _) = merged_store();
    let (name, before) = (path(MANIFEST_NAME), disk.files());
    let len = disk.file_bytes(&name).unwrap().len() as u64;
    for at in 0..len {
        for bit in 0..8 {
            let bad = disk.copied();
            bad.flip_bit(&name, at, bit).unwrap();
            check_refused(&bad, MANIFEST_NAME, &before);
        }
        let bad = disk.copied();
        bad.truncate(&name, at).unwrap();
        check_refused(&bad, MANIFEST_NAME, &before);
    }
}

fn check_refused(disk: &SimDisk, named: &str, files: &[std::path::PathBuf]) {
    match Store::open(disk).map(|store| store.notices) {
        Err(Error::Damage(damage)) => assert_eq!(damage.path, Path::new(DIR).join(named), "{damage}"),
        other => panic!("{named}: {other:?}"),
    }
    assert_eq!(disk.files(), files, "a refusal changes nothing");
}

/// CHECKS 8: whatever is missing is told.
#[test]
fn a_missing_file_is_told() {
    let (disk, _) = merged_store();
    let last = files(&disk).into_iter().filter(|id| !is_merged(*id)).max().unwrap();
    let merged_files = [merged(1), merged(2)].map(|id| (segment_name(id), segment_name(id)));
    // Without its manifest, a store lacks the first segment that is gone.
    let others = [(MANIFEST_NAME.to_owned(), segment_name(2)), (segment_name(4), segment_name(4))];
    for (missing, named) in merged_files.into_iter().chain(others) {
        let bad = disk.copied();
        esker_log::disk::Disk::remove(&bad, Path::new(&path(&missing))).unwrap();
        let before = bad.files();
        check_refused(&bad, &named, &before);
    }
    // All that comes behind a segment that is gone.
    let bad = disk.copied();
    for id in 8..=last {
        esker_log::disk::Disk::remove(&bad, Path::new(&path(&segment_name(id)))).unwrap();
    }
    let before = bad.files();
    check_refused(&bad, &segment_name(8), &before);
    let alien = disk.copied();
    alien.write_file(path("STORE"), &esker_log::format::encode_store(&[4; 16]));
    check_refused(&alien, MANIFEST_NAME, &alien.files());
}

/// CHECKS 8: a segment that was cut short is told, also where its successor, which knew its end, is gone.
#[test]
fn a_segment_cut_short_is_told() {
    let (disk, _) = merged_store();
    let before = disk.files();
    for id in [1, 4, 5, merged(1), merged(2)] {
        let len = disk.file_bytes(path(&segment_name(id))).unwrap().len() as u64;
        for cut in [len - 1, len - 40, 64, 10, 0] {
            let bad = disk.copied();
            bad.truncate(path(&segment_name(id)), cut).unwrap();
            check_refused(&bad, &segment_name(id), &before);
        }
    }
    for at in (0..64).chain([100, 300]) {
        let bad = disk.copied();
        bad.flip_bit(path(&segment_name(merged(1))), at, 3).unwrap();
        check_refused(&bad, &segment_name(merged(1)), &before);
    }
}

/// A snapshot takes the place of all that was merged, once it is durable, and a merge that was under way.
#[test]
fn merged_segments_of_another_generation_are_dead() {
    let (disk, model) = merged_store();
    let store = Store::open(&disk).unwrap();
    let (merge, _) = store.copy(&[1]).unwrap();
    store.log.begin_generation(1);
    assert!(matches!(store.log.install(&merge), Err(Error::InvalidRequest(_))));
    assert_eq!(store.log.merged().len(), 0);
    drop((store, merge));
    assert!(files(&disk).iter().all(|id| !is_merged(*id)));

    // Whether the files are there or not, the manifest forgets them.
    for disk in [disk, merged_store().0] {
        let next = LogOptions { generation: 1, first_segment: 4, ..options() };
        let mut store = Store::open_with(&disk, next.clone()).unwrap();
        check_files(&store, &disk).unwrap();
        let manifest = store.log.manifest();
        assert_eq!((manifest.merged.len(), manifest.gone.len()), (0, 1));
        assert_eq!(store.log.segments()[0].id, 4);
        store.merge(&[4, 5]).unwrap();
        drop(store);
        let store = Store::open_with(&disk, next).unwrap();
        assert_eq!(store.log.manifest().gone.len(), 1, "{:?}", store.log.manifest());
        assert!(store.content().unwrap().iter().all(|(key, value)| model[key] == *value));
    }
}

/// CHECKS 12: that a snapshot took the place of merged segments may not be durable yet: they stay until the engine says so.
#[test]
fn the_dead_are_removed_only_when_told() {
    let (disk, model) = merged_store();
    let options = LogOptions { generation: 1, ..options() };
    let new = || Ok([3; 16]);
    let opening =
        esker_log::Opening::begin(std::sync::Arc::new(disk.clone()), Path::new(DIR), options, new).unwrap();
    assert!(opening.has_dead_segments() && opening.merged().is_empty());
    drop(opening);
    assert_eq!(Store::open(&disk).unwrap().content().unwrap(), model);
}

/// A store of the first version is told apart from then on, so that a build that knows no other does not take what is
/// written for damage.
#[test]
fn a_store_of_the_first_version_is_one_of_today_from_then_on() {
    let disk = SimDisk::new();
    let (mut store, mut run) = (Store::open(&disk).unwrap(), Run::default());
    run.put(&mut store, 1).unwrap();
    drop(store);
    for (name, end) in [("STORE", 28), (segment_name(1).as_str(), 60)] {
        let mut bytes = disk.file_bytes(path(name)).unwrap();
        bytes[8] = 1;
        let checksum = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
        disk.write_file(path(name), &bytes);
    }
    let mut store = Store::open(&disk).unwrap();
    run.check(&store).unwrap();
    assert_eq!(disk.durable_bytes(path("STORE")).unwrap()[8], FORMAT_VERSION as u8);
    run.put(&mut store, 2).unwrap();
    drop(store);
    run.check(&Store::open(&disk).unwrap()).unwrap();
}

/// CHECKS 14: the disk fills while a merge runs: it is given up, and writers go on within what is reserved.
#[test]
fn a_disk_that_fills_gives_up_the_merge_only() {
    let disk = SimDisk::new();
    let (mut store, mut run) = (Store::open(&disk).unwrap(), Run::default());
    for n in 1..=20 {
        run.put(&mut store, n).unwrap();
    }
    let (before, sealed) = (files(&disk), store.sealed());
    disk.inject(FaultPlan::from_nth(Ops::Writes, 1, Fault::NoSpace).on_path(".merged"));
    assert!(matches!(store.merge(&sealed), Err(Error::DiskFull)));
    assert_eq!(files(&disk), before);
    assert!(!store.log.is_disk_full());
    run.put(&mut store, 21).unwrap();
    run.check(&store).unwrap();
}
