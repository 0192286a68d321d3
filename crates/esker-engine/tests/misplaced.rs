//! CHECKS 9: what is intact but lies in the wrong place, where there are merged segments: files of another number, of another
//! store, of an earlier time of the same store, of another generation of a replica's state; frames and records of merged
//! segments; files of backups. It is found, and nothing is removed on the strength of it.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Machine, STORE_ID, small_options};
use esker_engine::{
    Db, Environment, Error, Options, Replica, Result, SyncPolicy, WriteBatch,
    replica::{Hooks, LogEntry, StoredMembership},
    restore, verify_dir,
};
use esker_log::{
    GroupEnd,
    disk::{
        Disk,
        sim::{CrashMode, SimDisk},
    },
    format::{FrameKind, StoreId},
    manifest::MANIFEST_NAME,
};

const DIR: &str = common::DIR;

/// They fill more than one merged segment.
const KEYS: u64 = 99;
/// So many are written again after they were merged.
const AGAIN: u64 = 20;
/// All records are alike in length, so that each fits into the place of each other one.
const VALUE_LEN: usize = 100;
/// Of a record in a placed frame: version, header, key, value.
const PLACED_LEN: usize = 8 + 12 + 6 + VALUE_LEN;
/// Of a segment and a frame: behind them is the first record.
const HEADERS_LEN: usize = 64 + 44;

fn options() -> Options {
    small_options(SyncPolicy::Always)
}

fn other_id() -> io::Result<StoreId> {
    Ok([8; 16])
}

fn key(n: u64) -> Vec<u8> {
    format!("key/{n:02}").into_bytes()
}

fn environment(disk: &SimDisk, store_id: fn() -> io::Result<StoreId>) -> Environment {
    Environment { store_id, ..Machine::new(disk.clone()).environment() }
}

fn open(disk: &SimDisk) -> Result<Db> {
    Db::open_in(&environment(disk, || Ok(STORE_ID)), DIR, options())
}

fn put_all(db: &Db, generation: u8) {
    for n in 0..KEYS {
        db.put(&key(n), &[generation; VALUE_LEN]).unwrap();
    }
}

/// A store with merged segments, index files of both kinds of segments, and a log behind them.
fn store(store_id: fn() -> io::Result<StoreId>) -> SimDisk {
    let disk = SimDisk::new();
    let db = Db::open_in(&environment(&disk, store_id), DIR, options()).unwrap();
    put_all(&db, 1);
    put_all(&db, 2);
    assert!(db.merge(true).unwrap().outputs > 1);
    for n in 0..AGAIN {
        db.put(&key(n), &[3; VALUE_LEN]).unwrap();
    }
    db.checkpoint().unwrap();
    db.put(&key(0), &[4; VALUE_LEN]).unwrap();
    drop(db);
    disk.crash(CrashMode::KeepUnsynced)
}

/// The same store later: more was written over one key, so that whole segments of the log are dead, and merged.
fn later(disk: &SimDisk, all: bool) -> SimDisk {
    let disk = disk.copied();
    let db = open(&disk).unwrap();
    for n in 0..150 {
        db.put(b"another", &[n; VALUE_LEN]).unwrap();
    }
    assert!(db.merge(all).unwrap().inputs > 0);
    put_all(&db, 5);
    db.checkpoint().unwrap();
    drop(db);
    disk.crash(CrashMode::KeepUnsynced)
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with(DIR) && !path.ends_with("LOCK")).collect()
}

fn merged_files(disk: &SimDisk) -> Vec<PathBuf> {
    files(disk).into_iter().filter(|path| path.extension().is_some_and(|it| it == "merged")).collect()
}

fn bytes_of(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    files(disk).into_iter().map(|path| (path.clone(), disk.file_bytes(&path).unwrap())).collect()
}

fn manifest() -> PathBuf {
    Path::new(DIR).join(MANIFEST_NAME)
}

/// Opening refuses and changes nothing; verifying finds it too.
fn is_refused(disk: &SimDisk, what: &str) {
    let before = bytes_of(disk);
    let report = verify_dir(disk, DIR, &mut |_, _| Ok(())).unwrap();
    assert!(!report.damage.is_empty(), "{what}: not found by verifying: {report:?}");
    match open(disk) {
        Err(Error::Damage(_)) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(db) => panic!("{what}: it opens: {:?}", db.open_report()),
    }
    assert!(bytes_of(disk) == before, "{what}: a refusal changes nothing");
}

/// Index files may be lost: another's in the place of one is noticed, and made anew.
fn is_noticed(disk: &SimDisk, path: &Path, what: &str) {
    assert!(!verify_dir(disk, DIR, &mut |_, _| Ok(())).unwrap().damage.is_empty(), "{what}");
    let db = open(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    let name = path.file_name().unwrap().to_str().unwrap();
    let notices = db.open_report().notices;
    assert!(notices.iter().any(|notice| notice.contains(name)), "{what}: {notices:?}");
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty(), "{what}");
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "hint" || extension == "ckpt")
}

/// CHECKS 9: a merged segment under the number of another one.
#[test]
fn a_merged_segment_of_another_number_is_refused() {
    let disk = store(|| Ok(STORE_ID));
    let merged = merged_files(&disk);
    assert!(merged.len() > 1);
    for (from, to) in merged.iter().flat_map(|from| merged.iter().map(move |to| (from, to))) {
        if from != to {
            let bad = disk.copied();
            bad.write_file(to, &disk.file_bytes(from).unwrap());
            is_refused(&bad, &format!("{} as {}", from.display(), to.display()));
        }
    }
}

/// CHECKS 9: any file of another store that went the same way, merged segments, their index files and `MANIFEST` among them.
#[test]
fn files_of_another_store_are_found() {
    let (disk, other) = (store(|| Ok(STORE_ID)), store(other_id));
    assert_eq!(files(&disk), files(&other));
    for path in files(&disk) {
        let bad = disk.copied();
        bad.write_file(&path, &other.file_bytes(&path).unwrap());
        let what = format!("another store's {}", path.display());
        if is_index(&path) { is_noticed(&bad, &path, &what) } else { is_refused(&bad, &what) }
    }
}

/// CHECKS 9, 13: a `MANIFEST` from before the last merge does not make the store forget what that merge made, whether what it
/// names is still there or not.
#[test]
fn an_earlier_manifest_is_refused() {
    let early = store(|| Ok(STORE_ID));
    for all in [false, true] {
        let late = later(&early, all);
        let is_there = |path: &PathBuf| merged_files(&late).contains(path);
        assert_eq!(merged_files(&early).iter().any(is_there), !all, "what the earlier one names");
        late.write_file(manifest(), &early.file_bytes(manifest()).unwrap());
        is_refused(&late, &format!("a MANIFEST from before, all {all}"));
    }
}

/// CHECKS 9, 12: a store that goes back to an earlier merged segment, or to its index file.
#[test]
fn earlier_merged_segments_are_found() {
    let early = store(|| Ok(STORE_ID));
    let late = later(&early, true);
    let (old, new) = (merged_files(&early), merged_files(&late));
    assert!(!old.is_empty() && !new.is_empty() && old.iter().all(|path| !new.contains(path)));
    for (old, new) in old.iter().zip(&new) {
        let bad = late.copied();
        bad.write_file(new, &early.file_bytes(old).unwrap());
        is_refused(&bad, &format!("{} as {}", old.display(), new.display()));
        let hint = |path: &Path| path.with_extension("merged.hint");
        let bad = late.copied();
        bad.write_file(hint(new), &early.file_bytes(hint(old)).unwrap());
        is_noticed(&bad, &hint(new), &format!("the hint of {} as that of {}", old.display(), new.display()));
    }
}

/// Reading gives what was written or says that it is damaged, and says so at least once; verifying names the file.
fn is_never_data(disk: &SimDisk, path: &Path, what: &str) {
    let found = verify_dir(disk, DIR, &mut |_, _| Ok(())).unwrap().damage;
    assert!(found.iter().any(|damage| damage.path == *path), "{what}: {found:?}");
    let intact = open(&store(|| Ok(STORE_ID))).unwrap();
    let db = open(disk).unwrap();
    let mut damaged = 0;
    for n in 0..KEYS {
        match db.get(&key(n)) {
            Ok(entry) => assert_eq!(entry, intact.get(&key(n)).unwrap(), "{what}: key {n}"),
            Err(Error::Damage(damage)) => {
                assert_eq!(damage.path, *path, "{what}");
                damaged += 1;
            }
            Err(other) => panic!("{what}: {other}"),
        }
    }
    assert!(damaged > 0, "{what}: all was read");
}

/// CHECKS 9: records with their versions, and whole frames, exchanged within merged segments and between them.
#[test]
fn misplaced_records_of_merged_segments_are_never_data() {
    let disk = store(|| Ok(STORE_ID));
    let merged = merged_files(&disk);
    let record = |n: usize| HEADERS_LEN + n * PLACED_LEN..HEADERS_LEN + (n + 1) * PLACED_LEN;
    let bytes = |path: &PathBuf| disk.file_bytes(path).unwrap();
    let full = merged.iter().map(|path| bytes(path).len()).max().unwrap();
    let merged: Vec<_> = merged.into_iter().filter(|path| bytes(path).len() == full).collect();
    let [first, second, ..] = &merged[..] else { panic!("{merged:?}") };
    let (one, other) = (bytes(first), bytes(second));

    let mut swapped = other.clone();
    swapped[record(0)].copy_from_slice(&other[record(1)]);
    swapped[record(1)].copy_from_slice(&other[record(0)]);
    let bad = disk.copied();
    bad.write_file(second, &swapped);
    is_never_data(&bad, second, "two records of one segment, exchanged");

    let mut stray = one.clone();
    // Not one of those that were written again since.
    stray[record(AGAIN as usize)].copy_from_slice(&other[record(AGAIN as usize)]);
    let bad = disk.copied();
    bad.write_file(first, &stray);
    is_never_data(&bad, first, "a record of another segment in the same place");

    let mut stray = one.clone();
    stray[64..].copy_from_slice(&other[64..]);
    let bad = disk.copied();
    bad.write_file(first, &stray);
    is_never_data(&bad, first, "another segment's frames");
}

const BACKUP: &str = "/backup";

/// A store with a backup that has taken the place of an earlier one, and the same when it had only that.
fn backed_up(store_id: fn() -> io::Result<StoreId>) -> (SimDisk, SimDisk) {
    let disk = store(store_id);
    disk.set_no_links(true);
    let db = Db::open_in(&environment(&disk, store_id), DIR, options()).unwrap();
    db.backup(BACKUP, &mut |_, _| Ok(())).unwrap();
    let early = disk.copied();
    put_all(&db, 6);
    db.merge(true).unwrap();
    put_all(&db, 7);
    db.backup(BACKUP, &mut |_, _| Ok(())).unwrap();
    (early, disk)
}

fn backup_files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with(BACKUP) && !path.ends_with("LOCK")).collect()
}

/// What kind of file it is: its name without the numbers.
fn kind(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().replace(|c: char| c.is_ascii_digit(), "")
}

/// Neither verified nor restored.
fn is_no_backup(disk: &SimDisk, what: &str) {
    let verified = verify_dir(disk, BACKUP, &mut |_, _| Ok(()));
    assert!(!matches!(&verified, Ok(report) if report.damage.is_empty()), "{what}: not found: {verified:?}");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let restored = restore(&shared, BACKUP, "/restored", &mut |_, _| Ok(()));
    assert!(matches!(restored, Err(Error::Damage(_) | Error::InvalidRequest(_))), "{what}: {restored:?}");
}

/// CHECKS 9: files of a backup in one another's place, of another store's, and the list of an earlier one.
#[test]
fn misplaced_files_of_a_backup_are_found() {
    let (early, disk) = backed_up(|| Ok(STORE_ID));
    let (_, other) = backed_up(other_id);
    let all = backup_files(&disk);
    assert_eq!(all, backup_files(&other));
    for path in &all {
        let bad = disk.copied();
        bad.write_file(path, &other.file_bytes(path).unwrap());
        is_no_backup(&bad, &format!("another store's {}", path.display()));
    }
    let mut exchanged = 0;
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        if a < b && kind(a) == kind(b) {
            let bad = disk.copied();
            bad.write_file(a, &disk.file_bytes(b).unwrap());
            bad.write_file(b, &disk.file_bytes(a).unwrap());
            is_no_backup(&bad, &format!("{} and {} exchanged", a.display(), b.display()));
            exchanged += 1;
        }
    }
    assert!(exchanged > 3, "{exchanged}");
    let list = Path::new(BACKUP).join("BACKUP");
    disk.write_file(&list, &early.file_bytes(&list).unwrap());
    is_no_backup(&disk, "the list of an earlier backup");
}

fn open_replica(disk: &SimDisk) -> Result<Replica> {
    Replica::open(&environment(disk, || Ok(STORE_ID)), DIR, options(), Hooks::default())
}

fn append_and_apply(replica: &Replica, indexes: std::ops::Range<u64>) {
    for index in indexes {
        let mut batch = WriteBatch::new();
        batch.put(&key(index % KEYS), &[index as u8; VALUE_LEN]).unwrap();
        let (payload, records) = batch.into_payload();
        let id = GroupEnd { index, term: 1 };
        let entry = LogEntry { id, kind: FrameKind::Records, payload: payload.into(), records };
        replica.append(std::slice::from_ref(&entry), Box::new(|outcome| outcome.unwrap())).unwrap();
        replica.apply(&[entry]).unwrap();
        replica.note_committed(id);
    }
}

/// Merges what the state holds up to an entry.
fn merge_upto(replica: &Replica, index: u64) {
    replica.checkpoint().unwrap();
    replica.purge(GroupEnd { index, term: 1 });
    assert!(replica.merge(true).unwrap().outputs > 0);
}

/// CHECKS 9, 13: of a replica, what was merged before a snapshot took the place of the state belongs to another generation of
/// it. Neither the `MANIFEST` of that time nor its segments pass for those of now.
#[test]
fn merged_segments_of_another_generation_are_found() {
    let disk = SimDisk::new();
    let replica = open_replica(&disk).unwrap();
    append_and_apply(&replica, 1..201);
    merge_upto(&replica, 200);
    let early = disk.copied();
    let last = GroupEnd { index: 500, term: 1 };
    let mut install = replica.begin_install();
    for n in 0..KEYS {
        install.push(&key(n), 0, &[9; VALUE_LEN], 300 + n).unwrap();
    }
    install.finish(last, StoredMembership { bytes: b"m".to_vec(), at: last }, Vec::new(), 0).unwrap();
    drop(install);
    append_and_apply(&replica, 501..701);
    merge_upto(&replica, 700);
    drop(replica);
    let late = disk.crash(CrashMode::KeepUnsynced);
    drop(open_replica(&late.copied()).unwrap());

    let refused = |bad: &SimDisk, what: &str| {
        let before = bytes_of(bad);
        let opened = open_replica(bad).map(|replica| replica.open_report());
        assert!(matches!(opened, Err(Error::Damage(_))), "{what}: {opened:?}");
        assert!(bytes_of(bad) == before, "{what}: a refusal changes nothing");
        assert!(!verify_dir(bad, DIR, &mut |_, _| Ok(())).unwrap().damage.is_empty(), "{what}");
    };
    let bad = late.copied();
    bad.write_file(manifest(), &early.file_bytes(manifest()).unwrap());
    refused(&bad, "the MANIFEST of another generation");
    let (old, new) = (merged_files(&early), merged_files(&late));
    assert!(!old.is_empty() && !new.is_empty());
    for (old, new) in old.iter().zip(&new) {
        let bad = late.copied();
        bad.write_file(new, &early.file_bytes(old).unwrap());
        refused(&bad, "a merged segment of another generation");
    }
}
