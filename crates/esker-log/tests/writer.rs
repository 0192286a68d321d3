//! Appends that fail: what was refused never comes back (CHECKS 14, 20).

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use esker_log::{
    Error, LogOptions,
    disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk},
};
use support::{draft, frame_len, open, open_with, options};

const KEPT: &[u8] = b"kept";
const REFUSED: &[u8] = b"refused";

fn modes() -> impl Iterator<Item = CrashMode> {
    let plain = [CrashMode::ProcessKill, CrashMode::DropUnsynced, CrashMode::KeepUnsynced];
    plain.into_iter().chain((0..20).map(CrashMode::power_loss))
}

/// A disk on which the second of two frames that are written together finds no space.
fn disk_that_fills_within_a_group() -> SimDisk {
    let disk = SimDisk::new();
    drop(open(&disk).unwrap());
    // The first opening writes the segment's header; the next writes it anew, then come the two appends.
    disk.inject(FaultPlan::nth(Ops::Only(OpKind::Write), 3, Fault::Short(frame_len(REFUSED))));
    disk.inject(FaultPlan::nth(Ops::Only(OpKind::Write), 4, Fault::NoSpace));
    disk
}

#[test]
fn the_whole_frames_of_a_refused_group_never_come_back() {
    let disk = disk_that_fills_within_a_group();
    let mut writer = open(&disk).unwrap().0.writer;
    writer.append(&mut [draft(KEPT)]).unwrap();
    writer.log().sync().unwrap();
    let error = writer.append(&mut [draft(REFUSED), draft(REFUSED)]).unwrap_err();
    assert!(matches!(error, Error::DiskFull), "{error}");
    assert_eq!(disk.faults_fired(), 2);
    for mode in modes() {
        assert_eq!(open(&disk.after_crash(mode)).unwrap().1, [KEPT], "{mode:?}");
    }
    writer.append(&mut [draft(b"next")]).unwrap();
    writer.log().sync().unwrap();
    for mode in modes() {
        assert_eq!(open(&disk.after_crash(mode)).unwrap().1, [KEPT, b"next"], "{mode:?}");
    }
}

/// If the cut cannot be made, the refused frames may be there after a crash: then nothing is taken any more, and the
/// writer is not told that it was refused.
#[test]
fn a_cut_that_fails_for_want_of_space_poisons() {
    for kind in [OpKind::SetLen, OpKind::SyncData] {
        let disk = disk_that_fills_within_a_group();
        let mut writer = open(&disk).unwrap().0.writer;
        writer.append(&mut [draft(KEPT)]).unwrap();
        disk.inject(FaultPlan::nth(Ops::Only(kind), 1, Fault::NoSpace));
        let error = writer.append(&mut [draft(REFUSED), draft(REFUSED)]).unwrap_err();
        assert!(matches!(error, Error::Poisoned(_)), "{kind:?}: {error}");
        assert!(matches!(writer.append(&mut [draft(b"next")]), Err(Error::Poisoned(_))), "{kind:?}");
    }
}

/// CHECKS 9: in every place of the log, whatever the sizes.
#[test]
fn frames_of_every_size_are_found_again() {
    for segment_filling in 0..80 {
        let disk = SimDisk::new();
        let mut writer = open(&disk).unwrap().0.writer;
        let values: Vec<_> = (0..40).map(|n| vec![n as u8; segment_filling * 7 + n]).collect();
        for value in &values {
            writer.append(&mut [draft(value)]).unwrap();
        }
        drop(writer);
        let (recovered, found) = open(&disk.crash(CrashMode::ProcessKill)).unwrap();
        assert!(recovered.notices.is_empty(), "{:?}", recovered.notices);
        assert_eq!(found, values);
    }
}

#[test]
fn a_segment_is_sealed_at_the_target() {
    let disk = SimDisk::new();
    let mut writer = open(&disk).unwrap().0.writer;
    let lens = |writer: &esker_log::Writer| -> Vec<u32> {
        writer.log().segments().iter().filter_map(|segment| segment.sealed_end()).collect()
    };
    let one = frame_len(&[0; 100]) as u32;
    writer.log().set_segment_target(64 + 3 * u64::from(one));
    for _ in 0..7 {
        writer.append(&mut [draft(&[0; 100])]).unwrap();
    }
    assert_eq!(lens(&writer), [64 + 3 * one; 2]);
    // Several frames at once, a frame that is longer than the target, and a target beyond what a segment may have.
    let mut many: Vec<_> = (0..4).map(|_| draft(&[0; 100])).collect();
    assert_eq!(writer.append(&mut many).unwrap(), 2);
    writer.append(&mut [draft(&[0; 900])]).unwrap();
    writer.log().set_segment_target(u64::MAX);
    for _ in 0..20 {
        writer.append(&mut [draft(&[0; 100])]).unwrap();
    }
    let all = lens(&writer);
    assert_eq!(all[2], 64 + 3 * one);
    assert!((1900..=2048).contains(&all[3]), "{all:?}");
    drop(writer);
    assert!(open(&disk.crash(CrashMode::ProcessKill)).unwrap().0.notices.is_empty());
}

/// Before a segment ends it is written out once more, though little has gathered: who seals it waits for the rest alone.
#[test]
fn a_segment_is_written_out_shortly_before_its_end() {
    let disk = SimDisk::new();
    let options = LogOptions { segment_max_bytes: 16_000, write_back_bytes: 10_000, ..options() };
    let mut writer = open_with(&disk, options).unwrap().0.writer;
    let log = std::sync::Arc::clone(writer.log());
    std::thread::scope(|scope| {
        scope.spawn(|| log.run_write_back());
        for (appended, written_out) in [(11_000, 10_000), (14_000, 13_500)] {
            while log.appended().offset < appended {
                writer.append(&mut [draft(&[0; 100])]).unwrap();
            }
            while log.durable().offset < written_out {
                std::thread::yield_now();
            }
        }
        log.close_write_back();
    });
    assert_eq!(log.appended().segment, 1);
}

/// What nobody syncs is written out beside the appends, which do not wait for it.
#[test]
fn what_nobody_syncs_is_written_out() {
    let disk = SimDisk::new();
    let options = LogOptions { segment_max_bytes: 1 << 20, write_back_bytes: 10_000, ..options() };
    let mut writer = open_with(&disk, options).unwrap().0.writer;
    let log = std::sync::Arc::clone(writer.log());
    let syncs = || log.counters().syncs.load(std::sync::atomic::Ordering::Relaxed);
    let before = syncs();
    std::thread::scope(|scope| {
        scope.spawn(|| log.run_write_back());
        disk.stall(Ops::Only(OpKind::SyncData));
        while log.appended().offset < 12_000 {
            writer.append(&mut [draft(&[0; 100])]).unwrap();
        }
        disk.wait_until_stalled(1);
        assert!(log.durable().offset < 10_000);
        while log.appended().offset < 15_000 {
            writer.append(&mut [draft(&[0; 100])]).unwrap();
        }
        log.close_write_back();
        disk.end_stall();
    });
    assert!(log.durable().offset >= 10_000 && syncs() == before + 1, "{:?}", log.durable());
}

/// A log of which every append is synced, and what it holds; the next append begins the second segment, and zeros behind it.
fn log_before_zeros(disk: &SimDisk) -> (esker_log::Writer, Vec<Vec<u8>>) {
    let mut writer = open(disk).unwrap().0.writer;
    let mut values = Vec::new();
    while u64::from(writer.log().appended().offset) + frame_len(&[0; 100]) as u64
        <= writer.log().segment_target()
    {
        values.push(vec![values.len() as u8; 100]);
        writer.append(&mut [draft(values.last().unwrap())]).unwrap();
        writer.log().sync().unwrap();
    }
    (writer, values)
}

/// Where each write is synced, zeros lie where the next ones go; they are no data, wherever the power fails.
#[test]
fn zeros_ahead_of_small_syncs_are_no_data() {
    let disk = SimDisk::new();
    let (mut writer, mut values) = log_before_zeros(&disk);
    let (before, begun) = (disk.counters().write_bytes, values.len());
    while writer.log().appended().offset < 1900 || writer.log().appended().segment < 2 {
        values.push(vec![values.len() as u8; 100]);
        writer.append(&mut [draft(values.last().unwrap())]).unwrap();
        for mode in modes() {
            let found = open(&disk.after_crash(mode)).unwrap().1;
            assert!(values.starts_with(&found) && found.len() + 1 >= values.len(), "{mode:?}");
        }
        writer.log().sync().unwrap();
        for mode in modes() {
            assert_eq!(open(&disk.after_crash(mode)).unwrap().1, values, "{mode:?}");
        }
    }
    let frames = (values.len() - begun) * frame_len(&[0; 100]);
    let zeros = disk.counters().write_bytes - before - frames as u64;
    assert!((1000..2048).contains(&zeros), "{zeros}");
}

/// Where there is no room for zeros ahead the log goes without; any other failure is one of the log, though the frame before them may be
/// there.
#[test]
fn zeros_that_fail_lose_nothing() {
    let faults: [&[Fault]; 3] = [&[Fault::NoSpace], &[Fault::Short(100), Fault::NoSpace], &[Fault::Io]];
    for faults in faults {
        let disk = SimDisk::new();
        let (mut writer, mut values) = log_before_zeros(&disk);
        // Behind the new segment's header and the frame.
        for (n, fault) in (3..).zip(faults) {
            disk.inject(FaultPlan::nth(Ops::Only(OpKind::Write), n, *fault));
        }
        values.push(vec![9; 100]);
        let appended = writer.append(&mut [draft(&[9; 100])]);
        assert_eq!(disk.faults_fired(), faults.len() as u64);
        let is_synced = match faults.last() {
            Some(Fault::NoSpace) => {
                appended.unwrap();
                writer.log().sync().unwrap();
                true
            }
            _ => {
                assert!(matches!(appended, Err(Error::Poisoned(_))), "{appended:?}");
                false
            }
        };
        for mode in modes() {
            let found = open(&disk.after_crash(mode)).unwrap().1;
            assert!(found == values || !is_synced && found == values[..values.len() - 1], "{mode:?}");
        }
    }
}
