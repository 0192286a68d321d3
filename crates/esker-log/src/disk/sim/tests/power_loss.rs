//! What a power loss takes and what it leaves.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{A, B, create, open, remove, rename, sync_root};
use crate::disk::{
    Disk as _, OpenMode,
    sim::{CrashMode, PoweredOff, SimDisk},
};

fn all_modes(seeds: u64) -> impl Iterator<Item = CrashMode> {
    let fixed = [CrashMode::ProcessKill, CrashMode::DropUnsynced, CrashMode::KeepUnsynced];
    let seeded = (0..seeds).flat_map(|seed| [CrashMode::Prefix { seed }, CrashMode::Reorder { seed }]);
    fixed.into_iter().chain(seeded)
}

/// The bytes of [`A`] over many seeds of one mode.
fn outcomes(disk: &SimDisk, mode: impl Fn(u64) -> CrashMode) -> BTreeSet<Option<Vec<u8>>> {
    (0..2000).map(|seed| disk.after_crash(mode(seed)).file_bytes(A)).collect()
}

fn prefix(seed: u64) -> CrashMode {
    CrashMode::Prefix { seed }
}

fn reorder(seed: u64) -> CrashMode {
    CrashMode::Reorder { seed }
}

// CHECKS 10: data that was synced under a name that was not is lost.
#[test]
fn an_unsynced_name_vanishes_though_its_data_was_synced() {
    let disk = SimDisk::new();
    create(&disk, A, b"data").sync_data().unwrap();
    assert_eq!(disk.crash(CrashMode::DropUnsynced).file_bytes(A), None);
    let found: BTreeSet<_> = outcomes(&disk, reorder);
    assert_eq!(found, BTreeSet::from([None, Some(b"data".to_vec())]));
}

// CHECKS 10
#[test]
fn a_synced_name_keeps_a_file_but_not_its_bytes() {
    let disk = SimDisk::new();
    create(&disk, A, b"data");
    sync_root(&disk);
    assert_eq!(disk.crash(CrashMode::DropUnsynced).file_bytes(A), Some(Vec::new()));
}

// CHECKS 2
#[test]
fn what_was_synced_survives_every_crash() {
    let disk = SimDisk::new();
    create(&disk, A, b"data").sync_data().unwrap();
    sync_root(&disk);
    for mode in all_modes(200) {
        let found = disk.after_crash(mode);
        assert_eq!(found.file_bytes(A).as_deref(), Some(&b"data"[..]), "{mode:?}");
        assert_eq!(found.durable_bytes(A), found.file_bytes(A), "{mode:?}");
    }
}

// CHECKS 1
#[test]
fn a_killed_process_loses_nothing_and_makes_nothing_durable() {
    let disk = SimDisk::new();
    create(&disk, A, b"data");
    let found = disk.crash(CrashMode::ProcessKill);
    assert_eq!(found.file_bytes(A).as_deref(), Some(&b"data"[..]));
    assert_eq!(found.crash(CrashMode::DropUnsynced).file_bytes(A), None);
}

#[test]
fn everything_unsynced_can_be_kept() {
    let disk = SimDisk::new();
    create(&disk, A, b"data");
    rename(&disk, A, B);
    let found = disk.crash(CrashMode::KeepUnsynced);
    assert_eq!(found.durable_bytes(B).as_deref(), Some(&b"data"[..]));
    assert_eq!(found.files(), [PathBuf::from(B)]);
}

// CHECKS 7
#[test]
fn a_write_tears_at_every_byte() {
    let disk = SimDisk::new();
    disk.write_file(A, b"........");
    open(&disk, A).write_all_at(b"new", 2).unwrap();
    let whole = |n: usize| [b"..", &b"new"[..n], &b"......"[n..]].concat();
    let expected: BTreeSet<_> = (0..=3).map(|n| Some(whole(n))).collect();
    assert_eq!(outcomes(&disk, prefix), expected);
}

#[test]
fn a_prefix_keeps_the_order_across_files() {
    let disk = SimDisk::new();
    disk.write_file(A, b"0");
    disk.write_file(B, b"0");
    open(&disk, A).write_all_at(b"1", 0).unwrap();
    open(&disk, B).write_all_at(b"1", 0).unwrap();
    let found = |seed| {
        let found = disk.after_crash(CrashMode::Prefix { seed });
        (found.file_bytes(A).unwrap()[0], found.file_bytes(B).unwrap()[0])
    };
    let all: BTreeSet<_> = (0..100).map(found).collect();
    assert_eq!(all, BTreeSet::from([(b'0', b'0'), (b'1', b'0'), (b'1', b'1')]));
}

// CHECKS 6 and 7: a later write can be there without an earlier one, and zeros in between.
#[test]
fn writes_are_reordered_and_lengths_come_without_bytes() {
    let disk = SimDisk::new();
    disk.write_file(A, b"");
    let file = open(&disk, A);
    file.write_all_at(b"11", 0).unwrap();
    file.write_all_at(b"22", 2).unwrap();
    let all = outcomes(&disk, reorder);
    for expected in [&b""[..], b"11", b"1122", b"\0\x0022", b"\0\0\0\0", b"11\0\0", b"1", b"112", b"\0\x002"]
    {
        assert!(all.contains(&Some(expected.to_vec())), "{expected:?} not in {all:?}");
    }
}

// CHECKS 7
#[test]
fn a_torn_write_keeps_any_subset_of_its_sectors() {
    let disk = SimDisk::new();
    disk.write_file(A, &[0; 2048]);
    open(&disk, A).write_all_at(&[1; 1536], 256).unwrap();
    let shape = |bytes: &[u8]| [256, 512, 1024, 1536].map(|at| bytes[at]);
    let all: BTreeSet<_> =
        outcomes(&disk, reorder).iter().map(|found| shape(found.as_ref().unwrap())).collect();
    assert_eq!(all.len(), 16, "{all:?}");
}

#[test]
fn changes_of_length_keep_their_order() {
    let disk = SimDisk::new();
    disk.write_file(A, b"abc");
    let file = open(&disk, A);
    file.set_len(1).unwrap();
    file.set_len(2).unwrap();
    file.allocate(2, 2).unwrap();
    let expected = [&b"abc"[..], b"a", b"a\0", b"a\0\0\0"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(outcomes(&disk, reorder), BTreeSet::from(expected));
}

// CHECKS 11 and 17 rest on this.
#[test]
fn a_rename_is_atomic() {
    let disk = SimDisk::new();
    disk.write_file(A, b"old");
    create(&disk, B, b"new").sync_data().unwrap();
    rename(&disk, B, A);
    for mode in all_modes(500) {
        let found = disk.after_crash(mode).file_bytes(A).unwrap();
        assert!(found == b"old" || found == b"new", "{mode:?}");
    }
}

// CHECKS 11: without a sync before the rename, the new name can lead to nothing.
#[test]
fn a_rename_without_a_sync_of_the_data_leaves_an_empty_file() {
    let disk = SimDisk::new();
    disk.write_file(A, b"old");
    create(&disk, B, b"new");
    rename(&disk, B, A);
    sync_root(&disk);
    assert_eq!(disk.crash(CrashMode::DropUnsynced).file_bytes(A), Some(Vec::new()));
}

#[test]
fn changes_of_names_survive_in_any_combination() {
    let disk = SimDisk::new();
    disk.write_file(A, b"a");
    create(&disk, B, b"b");
    remove(&disk, A);
    let all: BTreeSet<_> =
        (0..500).map(|seed| disk.after_crash(CrashMode::Reorder { seed }).files().len()).collect();
    assert_eq!(all, BTreeSet::from([0, 1, 2]), "no file: the removal survived, the earlier creation did not");
}

#[test]
fn a_file_is_never_found_under_two_names() {
    let disk = SimDisk::new();
    disk.write_file(A, b"a");
    rename(&disk, A, B);
    rename(&disk, B, "/c");
    for mode in all_modes(500) {
        assert_eq!(disk.after_crash(mode).files().len(), 1, "{mode:?}");
    }
}

#[test]
fn a_removal_comes_back_until_it_is_synced() {
    let disk = SimDisk::new();
    disk.write_file(A, b"a");
    remove(&disk, A);
    assert_eq!(disk.after_crash(CrashMode::DropUnsynced).file_bytes(A).as_deref(), Some(&b"a"[..]));
    sync_root(&disk);
    assert_eq!(disk.crash(CrashMode::DropUnsynced).files(), [] as [PathBuf; 0]);
}

#[test]
fn a_rename_between_directories_is_synced_by_either() {
    for synced in ["/x", "/y"] {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/x")).unwrap();
        disk.create_dir_all(Path::new("/y")).unwrap();
        disk.write_file("/x/f", b"f");
        rename(&disk, "/x/f", "/y/f");
        disk.sync_dir(Path::new(synced)).unwrap();
        assert_eq!(disk.crash(CrashMode::DropUnsynced).files(), [PathBuf::from("/y/f")]);
    }
}

#[test]
fn a_rename_between_directories_takes_earlier_names_along() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/y")).unwrap();
    disk.write_file("/x/f", b"f");
    create(&disk, "/y/f", b"");
    rename(&disk, "/x/f", "/y/f");
    disk.sync_dir(Path::new("/x")).unwrap();
    disk.sync_dir(Path::new("/y")).unwrap();
    assert_eq!(disk.durable_bytes("/y/f").unwrap(), b"f", "the creation came after the rename");
}

#[test]
fn a_sync_of_one_directory_leaves_the_names_of_another() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/x")).unwrap();
    create(&disk, "/x/f", b"");
    sync_root(&disk);
    assert_eq!(disk.crash(CrashMode::DropUnsynced).files(), [] as [PathBuf; 0]);
}

#[test]
fn the_same_seed_gives_the_same_crash() {
    let build = || {
        let disk = SimDisk::new();
        let file = create(&disk, A, &[7; 5000]);
        file.write_all_at(&[8; 5000], 3000).unwrap();
        create(&disk, B, &[9; 700]);
        disk
    };
    for seed in 0..200 {
        let mode = CrashMode::power_loss(seed);
        let (one, two) = (build().crash(mode), build().crash(mode));
        assert_eq!((one.file_bytes(A), one.file_bytes(B)), (two.file_bytes(A), two.file_bytes(B)));
    }
}

#[test]
fn handles_of_a_crashed_machine_are_dead() {
    let disk = SimDisk::new();
    let file = create(&disk, A, b"a");
    let found = disk.crash(CrashMode::KeepUnsynced);
    assert!(disk.is_off() && !found.is_off());
    assert!(PoweredOff::is(&file.read_at(&mut [0], 0).unwrap_err()));
    assert!(PoweredOff::is(&file.len().unwrap_err()));
    assert!(PoweredOff::is(&disk.open(Path::new(A), OpenMode::Read).err().expect("off")));
    found.write_file(A, b"b");
    assert_eq!(disk.file_bytes(A).as_deref(), Some(&b"a"[..]), "two machines, two disks");
}

#[test]
fn a_lock_ends_with_the_machine() {
    let disk = SimDisk::new();
    let lock = disk.lock(Path::new("/LOCK")).unwrap();
    let found = disk.crash(CrashMode::ProcessKill);
    let taken = found.lock(Path::new("/LOCK")).unwrap();
    drop(lock);
    assert!(found.lock(Path::new("/LOCK")).is_err(), "the old guard let go of the new lock");
    drop(taken);
}

#[test]
fn a_crash_leaves_the_running_machine_alone_if_asked_what_if() {
    let disk = SimDisk::new();
    let file = create(&disk, A, &[1; 10_000]);
    file.sync_data().unwrap();
    sync_root(&disk);
    let found = disk.after_crash(CrashMode::DropUnsynced);
    open(&found, A).write_all_at(&[2; 10], 0).unwrap();
    file.write_all_at(&[3; 10], 5000).unwrap();
    assert_eq!(disk.file_bytes(A).unwrap()[..10], [1; 10]);
    assert_eq!(found.file_bytes(A).unwrap()[5000..5010], [1; 10]);
}
