//! Appends that fail: what was refused never comes back (CHECKS 14, 20).

#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use esker_log::{
    Error,
    disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk},
};
use support::{draft, frame_len, open};

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
