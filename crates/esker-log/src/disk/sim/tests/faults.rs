//! Operations that fail on demand.

use std::{
    io::{ErrorKind, IoSlice},
    path::Path,
};

use super::{A, B, create, open, rename, sync_root};
use crate::disk::{
    Disk as _, OpenMode,
    sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, PoweredOff, SimDisk},
};

const EIO: Option<i32> = Some(5);
const ENOSPC: Option<i32> = Some(28);

fn with_file(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file(A, bytes);
    disk
}

// CHECKS 4
#[test]
fn a_failed_sync_loses_its_data_even_if_a_later_one_succeeds() {
    let disk = with_file(b"....");
    let file = open(&disk, A);
    file.write_all_at(b"ab", 0).unwrap();
    disk.inject(FaultPlan::nth(Ops::Syncs, 1, Fault::Io));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), EIO);
    assert_eq!(disk.file_bytes(A).unwrap(), b"ab..", "readers still see it");

    file.write_all_at(b"c", 2).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.file_bytes(A).unwrap(), b"abc.");
    let killed = disk.after_crash(CrashMode::ProcessKill);
    assert_eq!(killed.file_bytes(A).unwrap(), b"abc.");
    for mode in [CrashMode::DropUnsynced, CrashMode::KeepUnsynced] {
        assert_eq!(killed.after_crash(mode).file_bytes(A).unwrap(), b"..c.");
    }
}

// CHECKS 4
#[test]
fn a_failed_sync_of_a_directory_loses_its_names() {
    let disk = SimDisk::new();
    create(&disk, A, b"").sync_data().unwrap();
    disk.inject(FaultPlan::nth(Ops::Only(OpKind::SyncDir), 1, Fault::Io));
    assert_eq!(disk.sync_dir(Path::new("/")).unwrap_err().raw_os_error(), EIO);
    sync_root(&disk);
    assert_eq!(disk.file_bytes(A), Some(Vec::new()));
    assert_eq!(disk.crash(CrashMode::KeepUnsynced).file_bytes(A), None);
}

#[test]
fn an_interrupted_sync_loses_nothing() {
    let disk = with_file(b"");
    let file = open(&disk, A);
    file.write_all_at(b"ab", 0).unwrap();
    disk.fail_at(1, Fault::Interrupted);
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::Interrupted);
    file.sync_data().unwrap();
    assert_eq!(disk.durable_bytes(A).unwrap(), b"ab");
}

// CHECKS 14
#[test]
fn a_failed_write_changes_nothing_and_a_short_one_says_so() {
    let disk = with_file(b"");
    let file = open(&disk, A);
    disk.inject(FaultPlan::nth(Ops::Writes, 1, Fault::NoSpace));
    assert_eq!(file.write_all_at(b"abc", 0).unwrap_err().raw_os_error(), ENOSPC);
    assert_eq!(disk.file_bytes(A).unwrap(), b"");

    disk.inject(FaultPlan::nth(Ops::Writes, 1, Fault::Short(4)));
    let bufs = [IoSlice::new(b"abc"), IoSlice::new(b"def")];
    assert_eq!(file.write_at(&bufs, 0).unwrap(), 4);
    assert_eq!(disk.file_bytes(A).unwrap(), b"abcd");

    disk.inject(FaultPlan::nth(Ops::Writes, 1, Fault::ShortThenIo(1)));
    assert_eq!(file.write_all_at(b"xyz", 4).unwrap_err().raw_os_error(), EIO);
    assert_eq!(disk.file_bytes(A).unwrap(), b"abcdx");
}

#[test]
fn loops_get_over_short_and_interrupted_operations() {
    let disk = with_file(b"");
    let file = open(&disk, A);
    disk.inject(FaultPlan::from_nth(Ops::Any, 1, Fault::Short(1)));
    disk.inject(FaultPlan::nth(Ops::Any, 2, Fault::Interrupted));
    file.write_all_at(b"abc", 0).unwrap();
    let mut buf = [0; 3];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abc");
    assert_eq!(disk.counters().writes, 3);
    assert_eq!(disk.counters().reads, 3);
}

// CHECKS 5: such a loop over n is how the log and the engines are tested.
#[test]
fn a_crash_at_each_operation_ends_the_run_there() {
    let workload = |disk: &SimDisk| -> std::io::Result<()> {
        let file = disk.open(Path::new(B), OpenMode::CreateNew)?;
        file.write_all_at(b"new", 0)?;
        file.sync_data()?;
        disk.rename(Path::new(B), Path::new(A))?;
        disk.sync_dir(Path::new("/"))
    };
    let mut found = Vec::new();
    for n in 1.. {
        let disk = with_file(b"old");
        disk.fail_at(n, Fault::Crash);
        let result = workload(&disk);
        if disk.faults_fired() == 0 {
            result.unwrap();
            break;
        }
        assert!(PoweredOff::is(&result.unwrap_err()));
        assert_eq!(disk.op_count(), n, "{:?}", disk.op_trace());
        found.push(disk.crash(CrashMode::KeepUnsynced).file_bytes(A).unwrap());
    }
    assert_eq!(found, [b"old", b"old", b"old", b"old", b"new"]);
}

// CHECKS 7
#[test]
fn a_crash_in_a_write_leaves_its_first_bytes() {
    let disk = with_file(b"");
    disk.inject(FaultPlan::nth(Ops::Writes, 1, Fault::CrashAfter(2)));
    let file = open(&disk, A);
    assert!(PoweredOff::is(&file.write_all_at(b"abc", 0).unwrap_err()));
    assert!(disk.is_off());
    assert_eq!(disk.crash(CrashMode::KeepUnsynced).file_bytes(A).unwrap(), b"ab");
}

#[test]
fn plans_choose_by_kind_and_path() {
    let disk = with_file(b"a");
    disk.write_file(B, b"b");
    disk.inject(FaultPlan::from_nth(Ops::Reads, 2, Fault::Io).on_path("b"));
    let (a, b) = (open(&disk, A), open(&disk, B));
    a.read_at(&mut [0], 0).unwrap();
    b.write_all_at(b"c", 0).unwrap();
    assert_eq!(b.read_at(&mut [0], 0).unwrap_err().raw_os_error(), EIO);
    assert_eq!(b.try_read_at(&mut [0], 0).unwrap_err().raw_os_error(), EIO);
    assert_eq!(disk.faults_fired(), 2);
    disk.clear_faults();
    b.read_at(&mut [0], 0).unwrap();
}

// CHECKS 4 and 14: whichever operation fails, it says so and changes no name.
#[test]
fn every_operation_on_names_can_fail() {
    let disk = with_file(b"a");
    disk.inject(FaultPlan::from_nth(Ops::Any, 1, Fault::Io));
    let (a, b) = (Path::new(A), Path::new(B));
    assert!(disk.open(a, OpenMode::Read).is_err());
    assert!(disk.open(b, OpenMode::CreateNew).is_err());
    assert!(disk.rename(a, b).is_err());
    assert!(disk.remove(a).is_err());
    assert!(disk.list(Path::new("/")).is_err());
    assert!(disk.create_dir_all(Path::new("/x/y")).is_err());
    assert!(disk.lock(b).is_err());
    assert_eq!(disk.files(), [a]);
    assert_eq!(disk.faults_fired(), 7);
}

#[test]
fn the_trace_names_the_last_operations() {
    let disk = SimDisk::new();
    create(&disk, A, b"abc");
    disk.fail_at(1, Fault::Io);
    disk.rename(Path::new(A), Path::new(B)).unwrap_err();
    rename(&disk, A, B);
    assert_eq!(disk.op_trace(), ["#1 Create /a", "#2 Write /a 0+3", "#3 Rename /a <- Io", "#4 Rename /a"]);
}
