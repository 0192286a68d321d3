//! A full device, a cold one, one that hangs, and one that damages what it holds.

use std::{io::IoSlice, path::Path, sync::Arc, thread};

use super::{A, B, create, open, remove, sync_root};
use crate::disk::{
    Disk as _,
    sim::{CrashMode, Ops, SimDisk},
};

const ENOSPC: Option<i32> = Some(28);

// CHECKS 14
#[test]
fn a_full_device_refuses_writes_until_there_is_space() {
    let disk = SimDisk::new();
    let file = create(&disk, A, &[1; 60]);
    disk.set_capacity(Some(100));
    assert_eq!(file.write_at(&[IoSlice::new(&[2; 60])], 60).unwrap(), 40, "what fits is written");
    assert_eq!(file.write_all_at(&[2; 20], 100).unwrap_err().raw_os_error(), ENOSPC);
    assert_eq!(file.allocate(90, 20).unwrap_err().raw_os_error(), ENOSPC);
    assert_eq!(disk.used_space(), 100);
    file.write_all_at(&[3; 100], 0).unwrap();
    disk.set_capacity(Some(120));
    file.write_all_at(&[2; 20], 100).unwrap();
    disk.set_capacity(None);
    file.write_all_at(&[2; 1000], 120).unwrap();
}

// CHECKS 14
#[test]
fn writes_into_allocated_space_always_fit() {
    let disk = SimDisk::new();
    let file = create(&disk, A, b"");
    file.allocate(0, 1000).unwrap();
    disk.set_capacity(Some(1000));
    file.write_all_at(&[1; 1000], 0).unwrap();
    assert_eq!(file.write_all_at(&[1], 1000).unwrap_err().raw_os_error(), ENOSPC);
}

#[test]
fn space_comes_back_when_the_last_handle_of_a_removed_file_goes() {
    let disk = SimDisk::new();
    let file = create(&disk, A, &[1; 100]);
    remove(&disk, A);
    sync_root(&disk);
    assert_eq!(disk.used_space(), 100);
    drop(file);
    assert_eq!(disk.used_space(), 0);
}

#[test]
fn space_given_back_by_a_cut_that_a_crash_undoes_is_taken_again() {
    let disk = SimDisk::new();
    disk.write_file(A, &[1; 100]);
    open(&disk, A).set_len(10).unwrap();
    assert_eq!(disk.used_space(), 10);
    assert_eq!(disk.after_crash(CrashMode::DropUnsynced).used_space(), 100);
    assert_eq!(disk.after_crash(CrashMode::KeepUnsynced).used_space(), 10);
}

#[test]
fn a_cold_device_has_nothing_in_memory() {
    let disk = SimDisk::new();
    let file = create(&disk, A, b"hello");
    let mut buf = [0; 5];
    disk.set_cold(true);
    assert_eq!(file.try_read_at(&mut buf, 0).unwrap(), None);
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 5);
    disk.set_cold(false);
    disk.set_try_read_max(Some(2));
    assert_eq!(file.try_read_at(&mut buf, 1).unwrap(), Some(2));
    assert_eq!(&buf[..2], b"el");
    disk.set_try_read_max(None);
    assert_eq!(file.try_read_at(&mut buf, 0).unwrap(), Some(5));
}

// CHECKS 15
#[test]
fn a_stalled_sync_waits_while_reads_go_on() {
    let disk = SimDisk::new();
    let file = create(&disk, A, b"a");
    disk.stall(Ops::Syncs);
    let syncing = thread::spawn({
        let file = Arc::clone(&file);
        move || file.sync_data()
    });
    disk.wait_until_stalled(1);
    file.read_at(&mut [0], 0).unwrap();
    assert_eq!(disk.counters().syncs, 0);
    disk.end_stall();
    syncing.join().unwrap().unwrap();
    assert_eq!(disk.counters().syncs, 1);
}

// CHECKS 15
#[test]
fn a_crash_ends_a_stall_with_an_error() {
    let disk = SimDisk::new();
    let file = create(&disk, A, b"a");
    disk.stall(Ops::Any);
    let writing = thread::spawn(move || file.write_all_at(b"b", 0));
    disk.wait_until_stalled(1);
    disk.crash(CrashMode::ProcessKill);
    assert!(writing.join().unwrap().is_err());
}

// CHECKS 8
#[test]
fn bits_flip_and_files_shrink_on_the_platter_too() {
    let disk = SimDisk::new();
    disk.write_file(A, b"abcd");
    disk.flip_bit(A, 1, 0).unwrap();
    disk.truncate(A, 3).unwrap();
    assert_eq!(disk.file_bytes(A).unwrap(), b"acc");
    assert_eq!(disk.crash(CrashMode::DropUnsynced).file_bytes(A).unwrap(), b"acc");
    assert!(disk.flip_bit(A, 3, 0).is_err());
    assert!(disk.flip_bit(B, 0, 0).is_err());
}

#[test]
fn a_planted_file_replaces_what_was_there() {
    let disk = SimDisk::new();
    create(&disk, "/x", b"old");
    disk.write_file("/x", b"new");
    disk.write_file("/deep/er/y", b"y");
    let found = disk.crash(CrashMode::DropUnsynced);
    assert_eq!(found.file_bytes("/x").unwrap(), b"new");
    assert_eq!(found.list(Path::new("/deep/er")).unwrap()[0].name, "y");
}

#[test]
fn counters_tell_the_write_amplification() {
    let disk = SimDisk::new();
    let file = create(&disk, A, &[1; 100]);
    file.sync_data().unwrap();
    sync_root(&disk);
    file.read_at(&mut [0; 30], 80).unwrap();
    let counters = disk.counters();
    assert_eq!((counters.writes, counters.write_bytes), (1, 100));
    assert_eq!((counters.reads, counters.read_bytes), (1, 20));
    assert_eq!((counters.syncs, counters.dir_syncs), (1, 1));
}
