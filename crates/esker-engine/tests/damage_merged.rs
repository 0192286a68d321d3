//! CHECKS 8, 9: the same as `damage.rs` of a store in which all is that there can be: merged segments, deleted ranges,
//! counters, conditions, expiry, compressed values.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::path::{Path, PathBuf};

use common::{
    DIR,
    rich::{self, Contents, contents, options},
};
use esker_engine::{Db, Error, KeyRange, VerifyReport, verify_dir};
use esker_log::disk::{Disk as _, sim::SimDisk};

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with(DIR) && !path.ends_with("LOCK")).collect()
}

fn verify(disk: &SimDisk) -> VerifyReport {
    verify_dir(disk, DIR, &mut |_, _| Ok(())).unwrap()
}

/// Where what was written ends: behind it is reserved space.
fn used(disk: &SimDisk, path: &Path) -> usize {
    disk.file_bytes(path).unwrap().iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "hint" || extension == "ckpt")
}

/// Whether a verification names the file, as damaged or as cut off.
fn names(report: &VerifyReport, path: &Path) -> bool {
    let noticed = report.notices.iter().any(|notice| notice.contains(path.to_str().unwrap()));
    report.damage.iter().any(|damage| damage.path == path) || noticed
}

/// Opens a damaged store and reads everything: what it says is true, or it says where it is damaged.
fn check_reads(disk: &SimDisk, expected: &Contents, what: &str) {
    let db = match rich::machine(disk.clone()).open(&options()) {
        Ok(db) => db,
        Err(Error::Damage(_)) => return,
        Err(other) => panic!("{what}: {other}"),
    };
    let cut = db.open_report().notices.iter().any(|notice| notice.contains("cut off"));
    for (key, (version, value, expiry)) in expected {
        match db.get(key) {
            Ok(Some(entry)) => {
                let found = (entry.version, entry.value.to_vec(), entry.expiry);
                assert!(found == (*version, value.clone(), *expiry) || cut, "{what}: {}", key.escape_ascii());
            }
            Ok(None) => assert!(cut, "{what}: {} is gone", key.escape_ascii()),
            Err(Error::Damage(_)) => {}
            Err(other) => panic!("{what}: {other}"),
        }
    }
    let all = db.scan(&KeyRange::all(), true).filter_map(Result::ok);
    assert!(cut || all.count() <= expected.len(), "{what}: keys have come back");
}

#[test]
fn an_intact_store_verifies_clean() {
    let (disk, expected) = rich::store();
    let report = verify(&disk);
    assert_eq!((report.damage, report.notices), (Vec::new(), Vec::new()));
    check_reads(&disk, &expected, "intact");
}

/// CHECKS 8: one bit of every byte of every file.
#[test]
fn every_flipped_bit_is_found_and_never_read_as_data() {
    let (disk, expected) = rich::store();
    for path in files(&disk) {
        for at in 0..used(&disk, &path) as u64 {
            let bad = disk.copied();
            bad.flip_bit(&path, at, (at % 8) as u8).unwrap();
            let what = format!("{} flipped at {at}", path.display());
            let report = verify(&bad);
            assert!(names(&report, &path), "{what}: {report:?}");
            check_reads(&bad, &expected, &what);
        }
    }
}

/// CHECKS 8: every file, cut to every length.
#[test]
fn every_truncation_is_found_and_nothing_comes_back() {
    let (disk, expected) = rich::store();
    let last = files(&disk).into_iter().rfind(|path| path.extension().is_some_and(|it| it == "log")).unwrap();
    for path in files(&disk) {
        for len in 0..used(&disk, &path) as u64 {
            let bad = disk.copied();
            bad.truncate(&path, len).unwrap();
            let what = format!("{} cut to {len}", path.display());
            let report = verify(&bad);
            // Of the active segment, nothing vouches for what a cut took; opening says that the reserved space is gone.
            assert!(names(&report, &path) || path == last, "{what}: {report:?}");
            check_reads(&bad, &expected, &what);
        }
    }
}

/// CHECKS 8, 9: files that are missing, and files of a kind that are exchanged.
#[test]
fn missing_and_exchanged_files_are_found() {
    let (disk, expected) = rich::store();
    let all = files(&disk);
    for path in &all {
        let bad = disk.copied();
        bad.remove(path).unwrap();
        let what = format!("{} missing", path.display());
        // Index files may be lost.
        assert!(is_index(path) || !verify(&bad).damage.is_empty() || *path == last_log(&all), "{what}");
        check_reads(&bad, &expected, &what);
    }
    let mut exchanged = 0;
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        if a < b && a.extension() == b.extension() && a.extension().is_some() {
            let bad = disk.copied();
            bad.write_file(a, &disk.file_bytes(b).unwrap());
            bad.write_file(b, &disk.file_bytes(a).unwrap());
            let what = format!("{} and {} exchanged", a.display(), b.display());
            assert!(!verify(&bad).damage.is_empty(), "{what}");
            check_reads(&bad, &expected, &what);
            exchanged += 1;
        }
    }
    assert!(exchanged > 3, "{exchanged}");
}

fn last_log(all: &[PathBuf]) -> PathBuf {
    all.iter().rfind(|path| path.extension().is_some_and(|it| it == "log")).unwrap().clone()
}

/// A verification ends when nobody wants it any more.
#[test]
fn a_verification_can_be_ended() {
    let (disk, _) = rich::store();
    let offline = verify_dir(&disk, DIR, &mut |_, _| Err(Error::Cancelled));
    assert!(matches!(offline, Err(Error::Cancelled)));
    let db: Db = rich::machine(disk).open(&options()).unwrap();
    let mut calls = 0;
    let open = db.verify(&mut |_, _| {
        calls += 1;
        if calls == 3 { Err(Error::Cancelled) } else { Ok(()) }
    });
    assert!(matches!(open, Err(Error::Cancelled)));
    assert_eq!(calls, 3);
    assert_eq!(contents(&db).len(), rich::store().1.len());
}

/// CHECKS 8: of a backup, every byte of every file.
#[test]
fn every_flipped_bit_of_a_backup_is_found() {
    let (disk, _) = rich::store();
    let db = rich::machine(disk.clone()).open(&options()).unwrap();
    db.backup("/backup", &mut |_, _| Ok(())).unwrap();
    let check = |disk: &SimDisk| verify_dir(disk, "/backup", &mut |_, _| Ok(())).unwrap().damage;
    assert_eq!(check(&disk), []);
    let listed = disk.list(Path::new("/backup")).unwrap();
    for file in listed.iter().filter(|file| file.name != "LOCK") {
        let path = Path::new("/backup").join(&file.name);
        for at in 0..file.len {
            let bad = disk.copied();
            bad.flip_bit(&path, at, (at % 8) as u8).unwrap();
            assert!(check(&bad).iter().any(|damage| damage.path == path), "{} at {at}", path.display());
            let bad = disk.copied();
            bad.truncate(&path, at).unwrap();
            assert!(check(&bad).iter().any(|damage| damage.path == path), "{} cut to {at}", path.display());
        }
    }
}
