//! CHECKS 8, 9: whatever befalls a file, reads give what was written or a located error. Where keys are missing, opening
//! has said so.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use common::{
    DIR, Machine,
    model::{History, contents},
    small_options,
    workload::{Step, run, steps, universe},
};
use esker_engine::{Damage, Db, Environment, Error, KeyRange, Options, SyncPolicy};
use esker_log::{
    disk::sim::{CrashMode, SimDisk},
    format::FORMAT_VERSION,
};

/// A store at rest, and what it holds.
struct Fixture {
    disk: SimDisk,
    history: History,
    /// Whether it was closed; else it was killed.
    closed: bool,
}

/// What became of a damaged store.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It did not open: this is why.
    Refused(Damage),
    /// It opened, said something about the file, and held this much of its history or gave located errors.
    Noticed { whole: bool },
    /// It opened without a word; reading or verifying found the damage.
    Found,
    /// Nobody noticed, and nothing is wrong.
    Harmless,
}

fn options() -> Options {
    small_options(SyncPolicy::Always)
}

/// No maintenance, for that would merge: a store with merges is in `damage_merged.rs`.
fn without_merges(step: Step) -> Option<Step> {
    match step {
        Step::Reopen | Step::Merge(_) => None,
        Step::Maintain(_) => Some(Step::Checkpoint),
        other => Some(other),
    }
}

impl Fixture {
    fn new(closed: bool) -> Self {
        let machine = Machine::new(SimDisk::new());
        let steps: Vec<_> = steps(5, 64).into_iter().filter_map(without_merges).collect();
        let outcome = run(&machine, &options(), &steps);
        let disk = machine.disk.crash(CrashMode::ProcessKill);
        if closed {
            Machine::new(disk.clone()).open(&options()).unwrap().close().unwrap();
        }
        Self { disk: disk.crash(CrashMode::KeepUnsynced), history: outcome.history, closed }
    }

    fn both() -> [Self; 2] {
        [Self::new(true), Self::new(false)]
    }

    /// All files but the lock, which holds nothing.
    fn files(&self) -> Vec<PathBuf> {
        let files = self.disk.files();
        files.into_iter().filter(|path| path.starts_with(DIR) && !path.ends_with("LOCK")).collect()
    }

    fn files_of(&self, suffix: &str) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
    }

    /// Whether a file is a checkpoint of a sealed segment, which the next opening removes unread.
    fn is_superseded(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let last = self.files_of(".log").pop().unwrap();
        name.ends_with(".ckpt") && name[..10] != *last.file_stem().unwrap()
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        self.disk.file_bytes(path).unwrap()
    }

    fn copy(&self) -> SimDisk {
        self.disk.after_crash(CrashMode::KeepUnsynced)
    }

    fn describe(&self, what: &str, path: &Path) -> String {
        format!(
            "{what} of {} in a store that was {}",
            path.display(),
            ["killed", "closed"][usize::from(self.closed)]
        )
    }

    /// Opens a damaged copy and reads everything. Panics if it gives wrong data or loses data in silence.
    fn judge(&self, disk: SimDisk, what: &str, path: &Path) -> Verdict {
        let what = self.describe(what, path);
        let machine = Machine::new(disk);
        let db = match machine.open(&options()) {
            Ok(db) => db,
            Err(Error::Damage(damage)) => return Verdict::Refused(damage),
            Err(other) => panic!("{what}: {other}"),
        };
        let notices = db.open_report().notices;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // What is left of the loss of the last segment is that the one before it ends without reserved space.
        let noticed = notices.iter().any(|notice| notice.contains(&name) || notice.contains("were cut off"));
        let found = self.read_all(&db, noticed, &what);
        if noticed {
            let whole = db.stats().version as usize == self.history.len();
            assert!(whole || !self.closed, "{what}: a closed store lost its end: {notices:?}");
            Verdict::Noticed { whole }
        } else if found {
            Verdict::Found
        } else {
            Verdict::Harmless
        }
    }

    /// Whether reading or verifying finds damage.
    fn read_all(&self, db: &Db, noticed: bool, what: &str) -> bool {
        let batches = db.stats().version as usize;
        assert!(noticed || batches == self.history.len(), "{what}: only {batches} batches, and no notice");
        let state = self.history.after(batches);
        let mut damaged = BTreeSet::new();
        for key in universe() {
            match db.get(&key) {
                Ok(entry) => {
                    let got = entry.map(|entry| (entry.value.to_vec(), entry.version));
                    assert_eq!(got.as_ref(), state.get(&key), "{what}: {}", String::from_utf8_lossy(&key));
                }
                Err(Error::Damage(_)) => drop(damaged.insert(key)),
                Err(other) => panic!("{what}: {other}"),
            }
        }
        let mut scanned = 0;
        for item in db.scan(&KeyRange::all(), false) {
            scanned += 1;
            match item {
                Ok(item) => {
                    let got = (item.value.unwrap().to_vec(), item.version);
                    assert_eq!(Some(&got), state.get(&item.key), "{what}: scan");
                }
                Err(error) => assert!(matches!(error, Error::Damage(_)), "{what}: {error}"),
            }
        }
        assert_eq!(scanned, state.len(), "{what}: a scan skips keys");
        let report = db.verify(&mut |_, _| Ok(())).unwrap();
        assert!(damaged.is_empty() || !report.damage.is_empty(), "{what}: verify misses what reading finds");
        !report.damage.is_empty()
    }
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "hint" || extension == "ckpt")
}

/// CHECKS 8: a flipped bit in every byte of every file.
#[test]
fn a_flipped_bit_is_located_or_noticed_and_never_data() {
    for fixture in Fixture::both() {
        for path in fixture.files() {
            let len = fixture.bytes(&path).len() as u64;
            let (mut refused, mut harmless) = (0, 0);
            for offset in 0..len {
                let disk = fixture.copy();
                disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
                match fixture.judge(disk, &format!("a flip at {offset}"), &path) {
                    Verdict::Refused(damage) => {
                        assert!(!is_index(&path), "{damage}");
                        assert_eq!(damage.path, path, "a flip at {offset}: {damage}");
                        assert!(damage.offset <= offset, "a flip at {offset}: {damage}");
                        refused += 1;
                    }
                    Verdict::Harmless => harmless += 1,
                    _ => {}
                }
            }
            if fixture.is_superseded(&path) {
                continue;
            }
            let is_segment = path.extension().is_some_and(|extension| extension == "log");
            assert!(refused > 0 || is_index(&path), "{}", path.display());
            assert_eq!(harmless, 0, "{}", fixture.describe("flips", &path));
            assert!(is_segment || len < 4096, "{}: {len} bytes", path.display());
        }
    }
}

/// CHECKS 8: every file, cut to every length. Cutting off reserved space is harmless.
#[test]
fn a_truncation_is_located_or_noticed() {
    for fixture in Fixture::both() {
        for path in fixture.files() {
            let bytes = fixture.bytes(&path);
            let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            for len in 0..bytes.len() {
                let disk = fixture.copy();
                disk.truncate(&path, len as u64).unwrap();
                let verdict = fixture.judge(disk, &format!("a cut to {len} bytes"), &path);
                if let Verdict::Refused(damage) = &verdict {
                    assert!(!is_index(&path), "{damage}");
                    assert!(damage.offset <= len as u64, "a cut to {len}: {damage}");
                }
                if len < used && !fixture.is_superseded(&path) {
                    assert_ne!(
                        verdict,
                        Verdict::Harmless,
                        "{}",
                        fixture.describe(&format!("a cut to {len} bytes"), &path)
                    );
                }
            }
        }
    }
}

/// CHECKS 8: every file, missing. An index file is made anew, or what it covers replayed.
#[test]
fn a_missing_file_is_located_or_noticed() {
    for fixture in Fixture::both() {
        for path in fixture.files() {
            let machine = Machine::new(fixture.copy());
            esker_log::disk::Disk::remove(&machine.disk, &path).unwrap();
            esker_log::disk::Disk::sync_dir(&machine.disk, Path::new(DIR)).unwrap();
            let verdict = fixture.judge(machine.disk, "the loss", &path);
            match verdict {
                Verdict::Refused(damage) => {
                    assert!(!is_index(&path) && damage.path == path, "{damage}");
                }
                Verdict::Harmless | Verdict::Noticed { whole: true } => {
                    assert!(is_index(&path), "{}", fixture.describe("the loss", &path));
                }
                Verdict::Noticed { whole: false } => assert_eq!(fixture.files_of(".log").last(), Some(&path)),
                other => panic!("{}: {other:?}", fixture.describe("the loss", &path)),
            }
        }
    }
}

/// CHECKS 8: the only segment is gone, and nothing else tells of it.
#[test]
fn a_store_without_its_only_segment_says_so() {
    let machine = Machine::new(SimDisk::new());
    machine.open(&options()).unwrap().put(b"key", b"value").unwrap();
    let disk = machine.disk.crash(CrashMode::ProcessKill);
    for path in disk.files().into_iter().filter(|path| !path.ends_with("STORE")) {
        esker_log::disk::Disk::remove(&disk, &path).unwrap();
    }
    let report = Machine::new(disk).open(&options()).unwrap().open_report();
    assert!(report.notices.iter().any(|notice| notice.contains("no segment")), "{report:?}");
}

/// CHECKS 9: two files of a kind, exchanged.
#[test]
fn exchanged_files_are_located_or_noticed() {
    for fixture in Fixture::both() {
        for suffix in [".log", ".hint"] {
            let files = fixture.files_of(suffix);
            assert!(files.len() >= 2, "{files:?}");
            for (a, b) in files.iter().zip(&files[1..]) {
                let disk = fixture.copy();
                disk.write_file(a, &fixture.bytes(b));
                disk.write_file(b, &fixture.bytes(a));
                match fixture.judge(disk, "an exchange", a) {
                    Verdict::Refused(damage) => assert!(suffix == ".log" && damage.path == *a, "{damage}"),
                    verdict => assert_eq!(verdict, Verdict::Noticed { whole: true }),
                }
            }
        }
    }
}

/// CHECKS 9: a file of another store that saw the same writes.
#[test]
fn a_file_of_another_store_is_located_or_noticed() {
    for fixture in Fixture::both() {
        let other = Machine::new(SimDisk::new());
        let environment = Environment { store_id: || Ok([8; 16]), ..other.environment() };
        let db = Db::open_in(&environment, DIR, options()).unwrap();
        for batches in 1..=fixture.history.len() {
            // What matters is that the files are there.
            db.put(format!("key/{:02}", batches % 24).as_bytes(), &[batches as u8; 150]).unwrap();
        }
        db.close().unwrap();
        for path in fixture.files() {
            let Some(bytes) = other.disk.file_bytes(&path) else { continue };
            let disk = fixture.copy();
            disk.write_file(&path, &bytes);
            match fixture.judge(disk, "another store's file in place", &path) {
                // The first to be found out is the first segment.
                Verdict::Refused(damage) if path.ends_with("STORE") => assert_eq!(damage.offset, 16),
                Verdict::Refused(damage) => assert!(!is_index(&path) && damage.path == path, "{damage}"),
                verdict => {
                    assert!(is_index(&path), "{}", path.display());
                    assert_eq!(verdict, Verdict::Noticed { whole: true });
                }
            }
        }
    }
}

/// CHECKS 9: an intact frame in the place of another, of the same segment and of another.
#[test]
fn a_frame_in_the_wrong_place_is_found() {
    let fixture = Fixture::new(true);
    let segments = fixture.files_of(".log");
    let mut found = 0;
    for from in &segments {
        for (source, len) in frames(&fixture.bytes(from)) {
            for to in &segments {
                for (target, _) in frames(&fixture.bytes(to)).into_iter().filter(|&frame| frame.1 == len) {
                    if (from, source) == (to, target) {
                        continue;
                    }
                    let mut bytes = fixture.bytes(to);
                    bytes[target..target + len].copy_from_slice(&fixture.bytes(from)[source..source + len]);
                    let disk = fixture.copy();
                    disk.write_file(to, &bytes);
                    assert_eq!(
                        fixture.judge(disk, &format!("a stray frame at {target}"), to),
                        Verdict::Found
                    );
                    found += 1;
                }
            }
        }
    }
    assert!(found > 10, "only {found} frames to misplace");
}

/// Where a segment's frames begin, and how long they are.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = 64;
    while bytes.get(at..at + 4) == Some(b"EKF1") {
        let len = 44 + u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        frames.push((at, len));
        at += len;
    }
    frames
}

/// A newer format is an error of its own, in every file with a version.
#[test]
fn a_newer_format_is_refused_as_such() {
    let fixture = Fixture::new(true);
    for path in fixture.files() {
        let mut bytes = fixture.bytes(&path);
        let checksum_at = match path.extension().and_then(|extension| extension.to_str()) {
            None => 28,
            Some("log") => 60,
            Some(_) => 92,
        };
        bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..checksum_at]);
        bytes[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_le_bytes());
        let disk = fixture.copy();
        disk.write_file(&path, &bytes);
        let error = Machine::new(disk).open(&options()).err();
        match error {
            Some(Error::UnsupportedFormat { path: named, found, supported: FORMAT_VERSION }) => {
                assert_eq!((named, found), (path, FORMAT_VERSION + 1));
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

/// CHECKS 8: a row of checkpoints, one of which is damaged, is whole again after the next opening.
#[test]
fn a_damaged_checkpoint_is_replaced_for_good() {
    let machine = Machine::new(SimDisk::new());
    let mut options = options();
    options.segment_max_bytes = 64 << 10;
    let mut history = History::default();
    let db = machine.open(&options).unwrap();
    for n in 0..80_u64 {
        let ops = vec![common::model::Op::Put(common::workload::key(n % 24), vec![n as u8; 20])];
        history.push(&ops);
        db.write(common::model::batch(&ops), None).unwrap();
        if n % 20 == 19 {
            db.checkpoint().unwrap();
        }
    }
    drop(db);
    let checkpoints: Vec<_> =
        machine.disk.files().into_iter().filter(|path| path.to_string_lossy().ends_with("ckpt")).collect();
    assert_eq!(checkpoints.len(), 4);
    for damaged in &checkpoints {
        let machine = Machine::new(machine.disk.after_crash(CrashMode::ProcessKill));
        machine.disk.flip_bit(damaged, 100, 3).unwrap();
        let db = machine.open(&options).unwrap();
        assert_eq!(db.open_report().notices.len(), 1, "{:?}", db.open_report());
        assert_eq!(contents(&db), *history.last());
        db.close().unwrap();
        drop(db);
        let db = machine.open(&options).unwrap();
        let report = db.open_report();
        assert!(report.notices.is_empty() && report.replayed == 0, "{}: {report:?}", damaged.display());
        assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
        assert_eq!(contents(&db), *history.last());
    }
}

/// `verify_dir` changes nothing, and tells a torn tail from damage, on a store that a killed process left.
#[test]
fn a_closed_store_is_verified_without_changing_a_byte() {
    let disk = SimDisk::new();
    let empty = std::path::Path::new("/empty");
    esker_log::disk::Disk::create_dir_all(&disk, empty).unwrap();
    let none = esker_engine::verify_dir(&disk, empty, &mut |_, _| Ok(()));
    assert!(matches!(none, Err(esker_engine::Error::InvalidRequest(_))), "{none:?}");

    let environment = esker_engine::Environment {
        disk: std::sync::Arc::new(disk.clone()),
        clock: std::sync::Arc::new(esker_log::clock::ManualClock::default()),
        store_id: || Ok([5; 16]),
        threads: false,
    };
    let dir = std::path::Path::new("/store");
    let db = esker_engine::Db::open_in(&environment, dir, esker_engine::Options::default()).unwrap();
    for i in 0..100_u8 {
        db.put(&[b'k', i], &[i; 50]).unwrap();
    }
    let killed = disk.after_crash(esker_log::disk::sim::CrashMode::ProcessKill);
    let before: Vec<_> = killed.files().into_iter().map(|path| (killed.file_bytes(&path), path)).collect();
    let report = esker_engine::verify_dir(&killed, dir, &mut |_, _| Ok(())).unwrap();
    assert_eq!((report.records, report.damage.len(), report.notices.len()), (100, 0, 0));
    let after: Vec<_> = killed.files().into_iter().map(|path| (killed.file_bytes(&path), path)).collect();
    assert!(before == after, "verifying changed a file");

    let log = dir.join("0000000001.log");
    killed.flip_bit(&log, 500, 1).unwrap();
    let report = esker_engine::verify_dir(&killed, dir, &mut |_, _| Ok(())).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!((1..500).contains(&report.damage[0].offset));
    killed.flip_bit(&log, 500, 1).unwrap();
    let end = db.stats().log_bytes;
    killed.flip_bit(&log, end + 3, 1).unwrap();
    let report = esker_engine::verify_dir(&killed, dir, &mut |_, _| Ok(())).unwrap();
    assert_eq!((report.records, report.damage.len(), report.notices.len()), (100, 0, 1));
}
