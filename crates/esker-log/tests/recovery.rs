//! What recovery makes of a tail: torn, zeroed, noise, or damage that it must not cut (CHECKS 6, 7, 8).

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use esker_log::{
    Error,
    disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk},
    segment::segment_name,
};
use proptest::prelude::*;
use support::{DIR, draft, frame_len, open};

/// What befalls the last segment behind a byte.
#[derive(Debug, Clone)]
enum Tail {
    Cut,
    Zeros(usize),
    Noise(Vec<u8>),
    /// Frames of this very segment, from its beginning: intact, but in the wrong place.
    OldFrames,
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        Just(Tail::Cut),
        (1..400_usize).prop_map(Tail::Zeros),
        prop::collection::vec(any::<u8>(), 1..400).prop_map(Tail::Noise),
        Just(Tail::OldFrames),
    ]
}

fn last_segment(disk: &SimDisk) -> (String, Vec<u8>) {
    let last =
        (1..).take_while(|&id| disk.file_bytes(format!("{DIR}/{}", segment_name(id))).is_some()).last();
    let path = format!("{DIR}/{}", segment_name(last.unwrap()));
    let bytes = disk.file_bytes(&path).unwrap();
    (path, bytes)
}

/// Writes `values`, syncing after the first `synced` of them; gives the log of a killed process.
fn written(values: &[Vec<u8>], synced: usize) -> (SimDisk, u64) {
    let disk = SimDisk::new();
    let mut writer = open(&disk).unwrap().0.writer;
    for value in &values[..synced] {
        writer.append(&mut [draft(value)]).unwrap();
    }
    writer.log().sync().unwrap();
    let durable = writer.log().durable();
    for value in &values[synced..] {
        writer.append(&mut [draft(value)]).unwrap();
    }
    let in_last = durable.segment == writer.log().appended().segment;
    let first_unsynced = if in_last { u64::from(durable.offset) } else { 64 };
    (disk.crash(CrashMode::ProcessKill), first_unsynced)
}

/// CHECKS 4, 6: the cut of a torn tail does not reach the disk, as its sync fails. The next process sees it done, in
/// memory; were it to believe that, the frame behind the hole would come back once the hole is filled.
#[test]
fn a_cut_that_failed_to_reach_the_disk_is_made_again() {
    let values = [b"first", b"holed", b"stale"].map(|value| value.to_vec());
    let (disk, hole) = written(&values, 1);
    let (path, mut bytes) = last_segment(&disk);
    bytes[hole as usize..hole as usize + frame_len(b"holed")].fill(0);
    disk.write_file(&path, &bytes);

    let failing = FaultPlan::nth(Ops::Only(OpKind::SyncData), 1, Fault::Io).on_path(".log");
    disk.inject(failing);
    assert!(open(&disk).is_err());
    let (mut recovered, found) = open(&disk).unwrap();
    assert_eq!(found, [b"first"]);
    recovered.writer.append(&mut [draft(b"fills")]).unwrap();
    recovered.writer.log().sync().unwrap();
    let found = open(&disk.after_crash(CrashMode::DropUnsynced)).unwrap().1;
    assert_eq!(found, [b"first", b"fills"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an unsynced tail becomes, what was synced is there, the rest is a prefix, and what is appended
    /// afterwards is found by the opening after that.
    #[test]
    fn a_tail_is_cut_before_anything_is_appended(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
        synced_share in 0..=100_usize,
        at in any::<prop::sample::Index>(),
        tail in tail(),
    ) {
        let synced = values.len() * synced_share / 100;
        let (disk, first_unsynced) = written(&values, synced);
        let (path, mut bytes) = last_segment(&disk);
        let at = first_unsynced as usize + at.index(bytes.len() - first_unsynced as usize + 1);
        let old = bytes[64..at.clamp(64, 364)].to_vec();
        bytes.truncate(at);
        match tail {
            Tail::Cut => {}
            Tail::Zeros(len) => bytes.resize(at + len, 0),
            Tail::Noise(noise) => bytes.extend(noise),
            Tail::OldFrames => bytes.extend(old),
        }
        disk.write_file(&path, &bytes);
        let (mut recovered, found) = open(&disk).unwrap();
        prop_assert!(found.len() >= synced, "{} of {synced} synced frames", found.len());
        prop_assert!(found[..] == values[..found.len()], "{} frames, not those written", found.len());
        recovered.writer.append(&mut [draft(b"appended")]).unwrap();
        recovered.writer.append(&mut [draft(b"too")]).unwrap();
        recovered.writer.log().sync().unwrap();
        drop(recovered);
        let mut expected = found;
        expected.extend([b"appended".to_vec(), b"too".to_vec()]);
        for mode in [CrashMode::DropUnsynced, CrashMode::ProcessKill] {
            let (recovered, again) = open(&disk.after_crash(mode)).unwrap();
            prop_assert!(recovered.notices.is_empty(), "{mode:?}: the tail is still there: {:?}", recovered.notices);
            prop_assert!(again == expected, "{mode:?}: {} frames of {}", again.len(), expected.len());
        }
    }

    /// Damage in what a later frame vouches for is never cut.
    #[test]
    fn damage_before_a_vouching_frame_refuses(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 2..12),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let (disk, vouched) = written(&values, values.len() - 1);
        let (path, mut bytes) = last_segment(&disk);
        prop_assume!(vouched > 64);
        let at = 64 + at.index(vouched as usize - 64);
        bytes[at] ^= flip;
        disk.write_file(&path, &bytes);
        match open(&disk) {
            Err(Error::Damage(damage)) => prop_assert!(damage.offset <= at as u64, "{damage}, not {at}"),
            other => prop_assert!(false, "{:?}", other.map(|(_, values)| values.len())),
        }
        prop_assert!(disk.file_bytes(&path).unwrap() == bytes, "a refusal changes nothing");
    }
}
