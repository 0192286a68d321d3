//! SPEC 2.13: a backup is the store at one version, made while it is written to and merged, and comes back as it was.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{path::Path, sync::Arc};

use common::{
    DIR, Machine,
    rich::{self, contents, options},
};
use esker_engine::{BackupReport, Db, Environment, Error, Result, restore};
use esker_log::disk::{
    Disk, RealDisk,
    sim::{CrashMode, Fault, FaultPlan, Ops, SimDisk},
};

const BACKUP: &str = "/backup";
const RESTORED: &str = "/restored";

fn backup(db: &Db) -> Result<BackupReport> {
    db.backup(BACKUP, &mut |_, _| Ok(()))
}

/// Restores the backup on `disk` and opens it.
fn restored(disk: &SimDisk) -> Db {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&disk, BACKUP, RESTORED, &mut |_, _| Ok(())).unwrap();
    open_restored(disk)
}

fn open_restored(disk: Arc<dyn Disk>) -> Db {
    let environment = Environment { disk, ..rich::machine(SimDisk::new()).environment() };
    let db = Db::open_in(&environment, RESTORED, options()).unwrap();
    assert_eq!(db.open_report().notices, [""; 0]);
    assert_eq!(db.open_report().replayed, 0);
    db
}

#[test]
fn a_backup_comes_back_as_the_store_was() {
    for no_links in [false, true] {
        let (disk, _) = rich::store();
        disk.set_no_links(no_links);
        let db = rich::machine(disk.clone()).open(&options()).unwrap();
        let (then, version) = (contents(&db), db.version());
        let report = backup(&db).unwrap();
        assert_eq!(report.version, version);
        assert_eq!(report.files_linked == 0, no_links, "{report:?}");
        db.put(b"later", b"x").unwrap();
        db.merge(true).unwrap();
        let copy = restored(&disk.after_crash(CrashMode::DropUnsynced));
        assert_eq!(contents(&copy), then);
        assert_eq!(copy.version(), version);
        assert!(copy.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
        assert_eq!(copy.put(b"goes on", b"x").unwrap(), version + 1);
        assert_eq!(copy.add(b"count/2", 1).unwrap(), 1013);
        copy.merge(true).unwrap();
        copy.close().unwrap();
        // What the copy did to its files does not show in the backup.
        let disk: Arc<dyn Disk> = Arc::new(disk.after_crash(CrashMode::DropUnsynced));
        restore(&disk, BACKUP, "/again", &mut |_, _| Ok(())).unwrap();
    }
}

#[test]
fn the_next_backup_keeps_what_is_there() {
    for no_links in [false, true] {
        let (disk, _) = rich::store();
        disk.set_no_links(no_links);
        let db = rich::machine(disk.clone()).open(&options()).unwrap();
        let first = backup(&db).unwrap();
        let same = backup(&db).unwrap();
        // STORE and MANIFEST are always written anew.
        assert_eq!(same.files_kept + 2, first.files, "{same:?}");
        db.put(b"later", b"x").unwrap();
        let next = backup(&db).unwrap();
        assert!(next.files_kept + 4 > first.files && next.bytes_copied < 5000, "{next:?}");
        db.merge(true).unwrap();
        backup(&db).unwrap();
        let listed = disk.list(Path::new(BACKUP)).unwrap().len() as u64;
        let last = backup(&db).unwrap();
        assert_eq!(listed, last.files + 2, "the old ones are gone: what is left are BACKUP and LOCK");
        assert_eq!(contents(&restored(&disk)), contents(&db));
    }
}

/// A store that was restored goes another way than the one it was a backup of, under the same names.
#[test]
fn a_restored_store_is_not_taken_for_the_one_before() {
    for no_links in [false, true] {
        let (disk, _) = rich::store();
        disk.set_no_links(no_links);
        let db = rich::machine(disk.clone()).open(&options()).unwrap();
        let early = Path::new("/early");
        db.backup(early, &mut |_, _| Ok(())).unwrap();
        let fill = |db: &Db, with: u8| {
            for n in 0..20 {
                db.put(format!("fill/{n:02}").as_bytes(), &[with; 500]).unwrap();
            }
        };
        fill(&db, 1);
        backup(&db).unwrap();
        drop(db);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        restore(&shared, early, "/other", &mut |_, _| Ok(())).unwrap();
        let environment = rich::machine(disk.clone()).environment();
        let other = Db::open_in(&environment, "/other", options()).unwrap();
        fill(&other, 2);
        backup(&other).unwrap();
        assert_eq!(contents(&restored(&disk)), contents(&other));
    }
}

#[test]
fn a_backup_goes_where_there_is_nothing_else() {
    let (disk, _) = rich::store();
    let db = rich::machine(disk.clone()).open(&options()).unwrap();
    let refused = |dir: &str, because: &str| {
        let error = db.backup(dir, &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains(because), "{error}");
    };
    refused(DIR, "is locked");
    disk.write_file("/photos/cat.jpg", b"meow");
    refused("/photos", "other files (cat.jpg)");
    assert_eq!(disk.file_bytes("/photos/cat.jpg").unwrap(), b"meow");

    let other = Machine::new(disk.clone());
    let environment = Environment { store_id: || Ok([9; 16]), ..other.environment() };
    Db::open_in(&environment, "/store2", options()).unwrap().backup("/backup2", &mut |_, _| Ok(())).unwrap();
    refused("/backup2", "another store");
    let opened = Db::open_in(&environment, "/backup2", options()).err().unwrap();
    assert!(opened.to_string().contains("is a backup"), "{opened}");
    let into_store = restore(&(Arc::new(disk.clone()) as _), "/backup2", "/store2", &mut |_, _| Ok(()));
    assert!(into_store.unwrap_err().to_string().contains("not empty"));
    let none = restore(&(Arc::new(disk) as _), "/photos", "/new", &mut |_, _| Ok(()));
    assert!(matches!(none, Err(Error::InvalidRequest(_))));
}

#[test]
fn a_backup_that_is_given_up_leaves_the_earlier_one() {
    let (disk, _) = rich::store();
    let db = rich::machine(disk.clone()).open(&options()).unwrap();
    backup(&db).unwrap();
    let then = contents(&db);
    db.put(b"later", &[7; 3000]).unwrap();
    let names = |disk: &SimDisk| disk.list(Path::new(BACKUP)).unwrap();
    let before = names(&disk);
    let mut steps = 0;
    let given_up = db.backup(BACKUP, &mut |_, _| {
        steps += 1;
        if steps > 5 { Err(Error::Closed) } else { Ok(()) }
    });
    assert!(matches!(given_up, Err(Error::Closed)));
    assert_eq!(names(&disk), before);
    assert_eq!(contents(&restored(&disk)), then);
}

/// CHECKS 8: no flipped bit of a backup comes into a store.
#[test]
fn a_damaged_backup_is_not_restored() {
    let (disk, _) = rich::store();
    let db = rich::machine(disk.clone()).open(&options()).unwrap();
    backup(&db).unwrap();
    let files = disk.list(Path::new(BACKUP)).unwrap();
    let mut meant_nothing = 0;
    for file in files.iter().filter(|file| file.name != "LOCK") {
        let path = Path::new(BACKUP).join(&file.name);
        for at in 0..file.len {
            let bad = disk.copied();
            bad.flip_bit(&path, at, (at % 8) as u8).unwrap();
            let bad: Arc<dyn Disk> = Arc::new(bad);
            match restore(&bad, BACKUP, RESTORED, &mut |_, _| Ok(())) {
                Err(Error::Damage(damage)) => assert_eq!(damage.path, path),
                Ok(_) => meant_nothing += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let bad = disk.copied();
        bad.remove(&path).unwrap();
        assert!(restore(&(Arc::new(bad) as _), BACKUP, RESTORED, &mut |_, _| Ok(())).is_err());
    }
    assert_eq!(meant_nothing, 0);
}

/// Ends the other threads, also where an assertion failed.
struct StopOnDrop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Writers and merges go on, on the real disk, with threads.
#[test]
fn a_backup_under_load_is_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = esker_engine::Options::default();
    options.segment_max_bytes = 64 << 10;
    options.checkpoint_ops = 500;
    options.sync = esker_engine::SyncPolicy::Never;
    let db = Db::open(dir.path().join("store"), options.clone()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Every batch writes its number under two keys: a consistent copy has pairs, and all up to its version.
            for n in (0_u64..).take_while(|_| !stop.load(relaxed)) {
                let mut batch = esker_engine::WriteBatch::new();
                for side in ["left", "right"] {
                    batch
                        .put(format!("{side}/{:03}", n % 300).as_bytes(), &[n.to_be_bytes(); 20].concat())
                        .unwrap();
                }
                db.write(batch, None).unwrap();
            }
        });
        scope.spawn(|| {
            while !stop.load(relaxed) {
                db.merge(true).unwrap();
            }
        });
        let _stopped = StopOnDrop(&stop);
        for round in 0..6 {
            while db.version() < 1000 * (round + 1) {
                std::thread::yield_now();
            }
            let report = db.backup(dir.path().join("backup"), &mut |_, _| Ok(())).unwrap();
            let target = dir.path().join(format!("restored{round}"));
            restore(&(Arc::new(RealDisk) as _), dir.path().join("backup"), &target, &mut |_, _| Ok(()))
                .unwrap();
            let copy = Db::open(&target, options.clone()).unwrap();
            assert_eq!(copy.version(), report.version);
            let state = contents(&copy);
            assert_eq!(state.len(), 600);
            for (key, (version, value, _)) in &state {
                let n = u64::from_be_bytes(*value.first_chunk().unwrap());
                assert_eq!(*version, n + 1);
                assert!(
                    report.version - version < 300,
                    "{}: {version} at {}",
                    key.escape_ascii(),
                    report.version
                );
            }
        }
    });
}

/// CHECKS 12, 13: a full disk leaves the earlier backup, and no litter.
#[test]
fn a_full_disk_leaves_the_earlier_backup() {
    let (disk, _) = rich::store();
    disk.set_no_links(true);
    let db = rich::machine(disk.clone()).open(&options()).unwrap();
    backup(&db).unwrap();
    let then = contents(&db);
    let before = disk.list(Path::new(BACKUP)).unwrap();
    db.merge(true).unwrap();
    disk.inject(FaultPlan::from_nth(Ops::Writes, 3, Fault::NoSpace).on_path(BACKUP));
    assert!(matches!(backup(&db), Err(Error::DiskFull)));
    disk.clear_faults();
    assert_eq!(disk.list(Path::new(BACKUP)).unwrap(), before);
    assert_eq!(contents(&restored(&disk)), then);
}
