//! SPEC 2.13: a backup as one stream of bytes comes back as the store was, or not at all: whatever is cut off or changed of it,
//! and wherever the disk fails under it (CHECKS 1, 8, 12, 13).

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{io, path::Path, sync::Arc};

use common::{
    is_power_off,
    rich::{self, Contents, contents, options},
    survival::modes,
};
use esker_engine::{Db, Error, Result, restore, restore_archive, unpack_archive, verify_archive};
use esker_log::disk::{
    Disk,
    sim::{CrashMode, Fault, FaultPlan, Ops, SimDisk},
};

const NAME: &str = "a.tar";
const RESTORED: &str = "/restored";
const UNPACKED: &str = "/unpacked";

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn archive(db: &Db) -> Vec<u8> {
    let mut out = Vec::new();
    let archive = db.backup_archive().unwrap();
    let mut steps = Vec::new();
    let report = archive
        .write_to(&mut out, &mut |done, total| {
            steps.push((done, total));
            Ok(())
        })
        .unwrap();
    assert_eq!(out.len() as u64, archive.bytes());
    assert_eq!(steps.last(), Some(&(archive.bytes(), archive.bytes())));
    assert_eq!((report.version, report.version), (db.version(), archive.version()));
    out
}

fn restore_into(disk: &SimDisk, bytes: &[u8], dir: &str) -> Result<()> {
    restore_archive(&shared(disk), &mut &bytes[..], Path::new(NAME), dir, &mut |_| Ok(())).map(drop)
}

fn unpack(disk: &SimDisk, bytes: &[u8]) -> Result<()> {
    unpack_archive(&shared(disk), &mut &bytes[..], Path::new(NAME), UNPACKED, &mut |_| Ok(())).map(drop)
}

fn open(disk: &SimDisk, dir: &str) -> Result<Db> {
    Db::open_in(&rich::machine(disk.clone()).environment(), dir, options())
}

fn restored(disk: &SimDisk, bytes: &[u8]) -> Contents {
    restore_into(disk, bytes, RESTORED).unwrap();
    let db = open(disk, RESTORED).unwrap();
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
    contents(&db)
}

/// What the unpacked backup comes back as; `None` if there is no complete one.
fn unpacked(disk: &SimDisk, dir: &str) -> Option<Contents> {
    match restore(&shared(disk), UNPACKED, dir, &mut |_, _| Ok(())) {
        Ok(_) => Some(contents(&open(disk, dir).unwrap())),
        Err(Error::InvalidRequest(why)) if why.contains("no complete backup") => None,
        Err(other) => panic!("{other}"),
    }
}

fn damage_in(bytes: &[u8]) -> Result<usize> {
    verify_archive(&mut &bytes[..], Path::new(NAME), &mut |_| Ok(())).map(|report| report.damage.len())
}

/// An archive of a store, and what it held.
fn of_rich_store() -> (Vec<u8>, Contents) {
    let (disk, _) = rich::store();
    let db = rich::machine(disk).open(&options()).unwrap();
    (archive(&db), contents(&db))
}

#[test]
fn an_archive_comes_back_as_the_store_was() {
    let (disk, _) = rich::store();
    let db = rich::machine(disk).open(&options()).unwrap();
    let then = contents(&db);
    let version = db.version();
    let made = db.backup_archive().unwrap();
    // What is written, merged and removed meanwhile is not in it.
    db.put(b"later", b"x").unwrap();
    db.merge(true).unwrap();
    let mut bytes = Vec::new();
    made.write_to(&mut bytes, &mut |_, _| Ok(())).unwrap();
    drop(made);
    assert_eq!(damage_in(&bytes).unwrap(), 0);

    let elsewhere = SimDisk::new();
    assert_eq!(restored(&elsewhere, &bytes), then);
    let copy = open(&elsewhere, RESTORED).unwrap();
    assert_eq!(copy.open_report().replayed, 0);
    assert_eq!(copy.put(b"goes on", b"x").unwrap(), version + 1);

    unpack(&elsewhere, &bytes).unwrap();
    assert_eq!(unpacked(&elsewhere, "/again"), Some(then));
}

/// Where an archive was cut off is told, as near as it is known.
#[test]
fn a_cut_archive_says_how_far_it_goes() {
    let (bytes, _) = of_rich_store();
    for len in [700, bytes.len() / 2, bytes.len() - 2000] {
        let error = unpack(&SimDisk::new(), &bytes[..len]).unwrap_err();
        assert!(matches!(&error, Error::Damage(damage) if damage.offset == len as u64), "{len}: {error}");
    }
}

/// Any tool that knows tar files makes a backup's directory of one.
#[test]
fn an_archive_is_a_tar_file_of_a_backups_directory() {
    let (bytes, expected) = of_rich_store();
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(UNPACKED)).unwrap();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = Path::new(UNPACKED).join(entry.path().unwrap());
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        disk.write_file(path, &content);
    }
    assert_eq!(unpacked(&disk, "/again"), Some(expected));
}

#[test]
fn an_unpacked_archive_takes_the_place_of_the_backup_before() {
    let (store, _) = rich::store();
    let db = rich::machine(store).open(&options()).unwrap();
    let elsewhere = SimDisk::new();
    unpack(&elsewhere, &archive(&db)).unwrap();
    db.put(b"later", b"x").unwrap();
    db.merge(true).unwrap();
    unpack(&elsewhere, &archive(&db)).unwrap();
    let listed = elsewhere.list(Path::new(UNPACKED)).unwrap().len() as u64;
    assert_eq!(unpacked(&elsewhere, "/again"), Some(contents(&db)));
    let report = restore(&shared(&elsewhere), UNPACKED, "/once more", &mut |_, _| Ok(())).unwrap();
    assert_eq!(listed, report.files + 2, "the old files are gone: what is left are BACKUP and LOCK");

    let other = common::Machine::new(SimDisk::new());
    let environment = esker_engine::Environment { store_id: || Ok([9; 16]), ..other.environment() };
    let other = archive(&Db::open_in(&environment, "/other", options()).unwrap());
    let refused = unpack(&elsewhere, &other).unwrap_err();
    assert!(refused.to_string().contains("another store"), "{refused}");
    assert_eq!(unpacked(&elsewhere, "/still"), Some(contents(&db)));
    elsewhere.write_file("/photos/cat.jpg", b"meow");
    let refused =
        unpack_archive(&shared(&elsewhere), &mut &other[..], Path::new(NAME), "/photos", &mut |_| Ok(()));
    assert!(refused.unwrap_err().to_string().contains("other files (cat.jpg)"));
}

/// CHECKS 8: where it was cut off is seen, wherever that was.
#[test]
fn an_archive_that_was_cut_off_is_not_taken() {
    let (bytes, _) = of_rich_store();
    let end = bytes.len() - 1024;
    let list_len = end - bytes[..end].windows(6).rposition(|at| at == b"BACKUP").unwrap();
    for len in (0..bytes.len()).step_by(37).chain(end - list_len..end) {
        let cut = &bytes[..len];
        // Behind the list there is nothing but the mark of the format's end, and what fills the list's last block.
        if verify_archive(&mut &cut[..], Path::new(NAME), &mut |_| Ok(()))
            .is_ok_and(|it| it.damage.is_empty())
        {
            assert!(len + 512 > end, "cut off at {len} of {end}");
            assert_eq!(restored(&SimDisk::new(), cut), restored(&SimDisk::new(), &bytes));
            continue;
        }
        let disk = SimDisk::new();
        assert!(restore_into(&disk, cut, RESTORED).is_err(), "cut off at {len}");
        // What is no archive yet has left nothing.
        assert!(disk.files().is_empty() || open(&disk, RESTORED).is_err(), "cut off at {len}");
        assert!(unpack(&disk, cut).is_err(), "cut off at {len}");
        assert_eq!(unpacked(&disk, "/again"), None);
    }
}

/// CHECKS 8: no flipped bit comes into a store.
#[test]
fn a_damaged_archive_is_not_taken() {
    let (bytes, expected) = of_rich_store();
    let mut meant_nothing = 0;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        match damage_in(&bad) {
            Ok(0) => {
                // What fills up blocks, and numbers of a header.
                assert!(matches!(bytes[at], 0 | b'0'), "flipped at {at}");
                meant_nothing += 1;
                if at % 64 == 0 || bytes[at] != 0 {
                    assert_eq!(restored(&SimDisk::new(), &bad), expected, "flipped at {at}");
                }
            }
            Ok(_) | Err(Error::InvalidRequest(_)) => {
                if at % 16 == 0 {
                    assert!(restore_into(&SimDisk::new(), &bad, RESTORED).is_err(), "flipped at {at}");
                    assert!(unpack(&SimDisk::new(), &bad).is_err(), "flipped at {at}");
                }
            }
            Err(other) => panic!("flipped at {at}: {other}"),
        }
    }
    let files = tar::Archive::new(&bytes[..]).entries().unwrap().count();
    assert!(meant_nothing < 1024 + files * 512, "{meant_nothing}");
}

/// CHECKS 35: names lead nowhere, and nothing but files is taken.
#[test]
fn an_archive_of_something_else_is_refused() {
    let of = |name: &str, kind: tar::EntryType| {
        let mut header = tar::Header::new_ustar();
        // Past the checks of the library, which would not write such a name.
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(4);
        header.set_mode(0o600);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(b"meow");
        bytes.resize(2048, 0);
        bytes
    };
    for name in ["../x.0000000001", "/etc/x.0000000001", "a/b.0000000001", "..0000000001", "cat.jpg"] {
        let disk = SimDisk::new();
        let refused = restore_into(&disk, &of(name, tar::EntryType::Regular), RESTORED).unwrap_err();
        assert!(matches!(&refused, Error::InvalidRequest(_)), "{name}: {refused}");
        assert!(disk.files().is_empty(), "{name}: {:?}", disk.files());
    }
    for kind in [tar::EntryType::Symlink, tar::EntryType::Directory, tar::EntryType::GNULongName] {
        let refused = restore_into(&SimDisk::new(), &of("x.0000000001", kind), RESTORED).unwrap_err();
        assert!(matches!(&refused, Error::InvalidRequest(_)), "{kind:?}: {refused}");
    }
    for none in [&b""[..], b"short", &[b'x'; 4096]] {
        let disk = SimDisk::new();
        for refused in [damage_in(none).unwrap_err(), restore_into(&disk, none, RESTORED).unwrap_err()] {
            assert!(
                matches!(&refused, Error::InvalidRequest(why) if why.contains("no archive")),
                "{refused}"
            );
        }
        assert!(disk.files().is_empty(), "{:?}", disk.files());
    }
    // What begins as one is one, whatever became of it.
    assert_eq!(damage_in(b"STORE.0000000001").unwrap(), 1);
}

/// CHECKS 35: what a store reads as a whole is not taken in as long as whoever made the archive likes.
#[test]
fn an_archive_with_an_endless_manifest_is_refused_before_it_is_read() {
    use io::Read as _;
    struct Counted<R>(R, u64);
    impl<R: io::Read> io::Read for Counted<R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(into)?;
            self.1 += read as u64;
            Ok(read)
        }
    }
    for name in ["MANIFEST.0000000001", "STORE.0000000001"] {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(1 << 32);
        header.set_mode(0o600);
        header.set_cksum();
        let archive = || Counted(header.as_bytes().as_slice().chain(io::repeat(0).take(1 << 21)), 0);
        let (path, disk) = (Path::new(NAME), shared(&SimDisk::new()));
        let mut input = archive();
        let report = verify_archive(&mut input, path, &mut |_| Ok(())).unwrap();
        assert!(report.damage[0].what.contains("too long"), "{report:?}");
        assert!(input.1 <= 512, "{} bytes were read", input.1);
        let refused = restore_archive(&disk, &mut archive(), path, RESTORED, &mut |_| Ok(())).unwrap_err();
        assert!(refused.to_string().contains("too long"), "{refused}");
        let refused = unpack_archive(&disk, &mut archive(), path, UNPACKED, &mut |_| Ok(())).unwrap_err();
        assert!(refused.to_string().contains("too long"), "{refused}");
    }
}

/// CHECKS 4, 9: what cannot be read ends the backup with an error, and nothing else.
#[test]
fn a_backup_that_meets_an_error_at_any_operation_is_cut_off_and_says_so() {
    let (base, _) = rich::store();
    let mut failed = 0;
    for n in 1.. {
        let disk = base.after_crash(CrashMode::KeepUnsynced);
        let db = rich::machine(disk.clone()).open(&options()).unwrap();
        db.put(b"not saved", b"x").unwrap();
        let before = contents(&db);
        disk.fail_at(n, Fault::Io);
        let mut bytes = Vec::new();
        let outcome = db
            .backup_archive()
            .and_then(|archive| archive.write_to(&mut bytes, &mut |_, _| Ok(())).map(drop));
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        disk.clear_faults();
        match outcome {
            // What failed was joining index files, or removing what is not needed: the status tells it.
            Ok(()) => assert_eq!(restored(&SimDisk::new(), &bytes), before, "operation {n}"),
            Err(_) => {
                failed += 1;
                assert!(!damage_in(&bytes).is_ok_and(|damage| damage == 0), "operation {n}");
            }
        }
        assert_eq!(contents(&db), before, "operation {n}");
        if db.stats().poisoned.is_none() {
            assert_eq!(restored(&SimDisk::new(), &archive(&db)), before, "operation {n}");
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn who_takes_no_more_ends_the_backup() {
    struct Gone(usize);
    impl io::Write for Gone {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (disk, _) = rich::store();
    let db = rich::machine(disk).open(&options()).unwrap();
    let made = db.backup_archive().unwrap();
    for room in [0, 512, 5000, made.bytes() as usize - 1] {
        assert!(
            matches!(made.write_to(&mut Gone(room), &mut |_, _| Ok(())), Err(Error::Io { .. })),
            "{room}"
        );
    }
    made.write_to(&mut Gone(made.bytes() as usize), &mut |_, _| Ok(())).unwrap();
    let cancelled = made.write_to(&mut io::sink(), &mut |_, _| Err(Error::Cancelled));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}

#[test]
fn unpacking_that_stops_anywhere_leaves_the_old_backup_or_the_new() {
    let (store, _) = rich::store();
    let db = rich::machine(store).open(&options()).unwrap();
    let base = SimDisk::new();
    unpack(&base, &archive(&db)).unwrap();
    let earlier = contents(&db);
    let base = base.crash(CrashMode::KeepUnsynced);
    db.put(b"later", &[1; 3000]).unwrap();
    db.merge(true).unwrap();
    let (bytes, now) = (archive(&db), contents(&db));
    let (mut old, mut new) = (0, 0);
    for n in 1.. {
        let disk = base.after_crash(CrashMode::KeepUnsynced);
        disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(100)][n as usize % 2]);
        let outcome = unpack(&disk, &bytes);
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        assert!(is_power_off(&outcome.unwrap_err()));
        for mode in modes(n) {
            let left = disk.crash(mode);
            let found = unpacked(&left, "/found").unwrap();
            assert!(found == earlier || found == now, "operation {n}, {mode:?}: a mixture");
            old += u32::from(found == earlier);
            new += u32::from(found == now);
            unpack(&left, &bytes).unwrap();
            assert_eq!(unpacked(&left, "/again").unwrap(), now, "operation {n}, {mode:?}");
        }
    }
    assert!(old > 50 && new > 2, "{old} times the old one, {new} times the new one");
    for fault in [Fault::Io, Fault::NoSpace] {
        for n in 1.. {
            let disk = base.after_crash(CrashMode::KeepUnsynced);
            disk.fail_at(n, fault);
            let outcome = unpack(&disk, &bytes);
            if disk.faults_fired() == 0 {
                outcome.unwrap();
                break;
            }
            disk.clear_faults();
            let found = unpacked(&disk.after_crash(CrashMode::power_loss(n)), "/found").unwrap();
            assert!(found == now || (found == earlier && outcome.is_err()), "operation {n}, {fault:?}");
            unpack(&disk, &bytes).unwrap();
            assert_eq!(unpacked(&disk, "/again").unwrap(), now, "operation {n}, {fault:?}");
        }
    }
}

#[test]
fn a_restore_of_an_archive_that_stops_anywhere_leaves_no_store_or_a_whole_one() {
    let (bytes, now) = of_rich_store();
    let (mut none, mut whole) = (0, 0);
    for n in 1.. {
        let disk = SimDisk::new();
        disk.fail_at(n, [Fault::Crash, Fault::CrashAfter(100)][n as usize % 2]);
        let outcome = restore_into(&disk, &bytes, RESTORED);
        if disk.faults_fired() == 0 {
            outcome.unwrap();
            break;
        }
        assert!(is_power_off(&outcome.unwrap_err()));
        for mode in modes(n) {
            let left = disk.crash(mode);
            match open(&left.after_crash(CrashMode::KeepUnsynced), RESTORED).map(|db| contents(&db)) {
                Ok(found) if !found.is_empty() => {
                    assert_eq!(found, now, "operation {n}, {mode:?}");
                    whole += 1;
                    continue;
                }
                // Before the first step nothing says that there is to be anything.
                Ok(_) => none += 1,
                Err(Error::InvalidRequest(why)) if why.contains("run the restore to it again") => none += 1,
                Err(other) => panic!("operation {n}, {mode:?}: {other}"),
            }
            assert_eq!(restored(&left, &bytes), now, "operation {n}, {mode:?}: restored again");
        }
    }
    assert!(none > 50 && whole > 0, "{none} times no store, {whole} times a whole one");
}

/// CHECKS 12: a full disk is no end: it can be done again.
#[test]
fn a_full_disk_under_an_unpacked_archive_leaves_no_litter() {
    let (bytes, expected) = of_rich_store();
    let disk = SimDisk::new();
    unpack(&disk, &bytes).unwrap();
    let before = disk.list(Path::new(UNPACKED)).unwrap();
    disk.inject(FaultPlan::from_nth(Ops::Writes, 3, Fault::NoSpace).on_path(UNPACKED));
    assert!(matches!(unpack(&disk, &bytes), Err(Error::DiskFull)));
    disk.clear_faults();
    assert_eq!(disk.list(Path::new(UNPACKED)).unwrap(), before);
    assert_eq!(unpacked(&disk, "/again"), Some(expected));
}
