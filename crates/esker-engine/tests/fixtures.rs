//! Stores that earlier builds wrote are kept in `tests/fixtures`: each opens, verifies and holds what it should. A fixture is
//! never changed; a new format gets one of its own.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{io::Read as _, path::Path, sync::Arc};

use common::rich::{self, Contents, contents, options};
use esker_engine::{Db, Environment, KeyRange, repair, verify_dir};
use esker_log::disk::sim::SimDisk;

/// Format 1: 120 batches over small segments, a checkpoint, and a write behind it.
const FORMAT_1: &[u8] = include_bytes!("fixtures/format-1-single.tar.gz");
/// Format 2: merged segments, deleted ranges, counters, conditions, expiry, compression.
const FORMAT_2: &[u8] = include_bytes!("fixtures/format-2-single.tar.gz");

/// A disk with the files of an archive in `/store`, and the file beside them that says what they hold.
fn unpack(archive: &[u8]) -> (SimDisk, String) {
    let (disk, mut expected) = (SimDisk::new(), String::new());
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        if !entry.header().entry_type().is_file() || name == "LOCK" {
            continue;
        }
        if name == "expected" {
            entry.read_to_string(&mut expected).unwrap();
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        disk.write_file(Path::new(common::DIR).join(name), &bytes);
    }
    (disk, expected)
}

/// One key a line, sorted: key, version, expiry or a dash, value; all bytes as escaped text.
fn lines(contents: &Contents) -> String {
    let mut lines = String::new();
    for (key, (version, value, expiry)) in contents {
        let expiry = expiry.map_or("-".to_owned(), |at| at.to_string());
        lines += &format!("{} {version} {expiry} {}\n", key.escape_ascii(), value.escape_ascii());
    }
    lines
}

fn open(disk: &SimDisk, dir: &str) -> Db {
    let environment: Environment = rich::machine(disk.clone()).environment();
    Db::open_in(&environment, dir, options()).unwrap()
}

fn check(archive: &[u8]) {
    let (disk, expected) = unpack(archive);
    let report = verify_dir(&disk, common::DIR, &mut |_, _| Ok(())).unwrap();
    assert_eq!((report.damage, report.notices), (Vec::new(), Vec::new()));
    let repaired = repair(
        &(Arc::new(disk.clone()) as _),
        common::DIR,
        "/new",
        &options(),
        || Ok([5; 16]),
        &mut |_, _| Ok(()),
    )
    .unwrap();
    assert!(repaired.is_lossless(), "{repaired:?}");
    let db = open(&disk, common::DIR);
    assert_eq!(lines(&contents(&db)), expected);
    assert_eq!(lines(&contents(&open(&disk, "/new"))), expected);
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
    let version = db.version();
    assert_eq!(db.put(b"goes on", b"x").unwrap(), version + 1);
    db.delete_range(&KeyRange::prefix(*b"goes")).unwrap();
    db.merge(true).unwrap();
    db.close().unwrap();
    drop(db);
    assert_eq!(lines(&contents(&open(&disk, common::DIR))), expected);
}

#[test]
fn a_store_of_format_1_opens_and_holds_what_it_did() {
    check(FORMAT_1);
}

#[test]
fn a_store_of_format_2_opens_and_holds_what_it_did() {
    check(FORMAT_2);
}

/// Writes a fixture of today's format to the directory that `ESKER_FIXTURE` names, to be kept as the next one.
#[test]
#[ignore = "writes files"]
fn write_a_fixture() {
    use esker_log::disk::{Disk as _, OpenMode, RealDisk};
    let to = std::env::var("ESKER_FIXTURE").unwrap();
    let (disk, expected) = rich::store();
    RealDisk.create_dir_all(Path::new(&to)).unwrap();
    let mut files: Vec<_> =
        disk.files().iter().map(|path| (path.clone(), disk.file_bytes(path).unwrap())).collect();
    files.push(("expected".into(), lines(&expected).into_bytes()));
    for (path, bytes) in files {
        let file =
            RealDisk.open(&Path::new(&to).join(path.file_name().unwrap()), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
}
