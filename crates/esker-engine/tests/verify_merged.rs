//! CHECKS 8: verifying a closed store reads what merges made and what they left, and finds every damage in it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{path::Path, sync::Arc};

use esker_engine::{VerifyReport, verify_dir};
use esker_log::{
    Draft, LogOptions, Merge, MergedWriter, Opening,
    disk::{Disk as _, sim::SimDisk},
    manifest::MANIFEST_NAME,
    record::{RecordKind, encode_record},
    segment::{MERGED_BIT, segment_name},
};

const DIR: &str = "/store";

fn encode(buf: &mut Vec<u8>, n: u8) -> esker_log::Result<()> {
    encode_record(buf, RecordKind::Put, &[n], &[n; 300])
}

/// A store of five log segments, of which the third and fourth are gone, and one merged.
fn store() -> SimDisk {
    let disk = SimDisk::new();
    let options = LogOptions { segment_max_bytes: 1024, allocate_bytes: 512, ..LogOptions::default() };
    let opening = Opening::begin(Arc::new(disk.clone()), Path::new(DIR), options, || Ok([1; 16])).unwrap();
    let mut writer = opening.recover(Default::default(), Default::default(), &mut |_| Ok(())).unwrap().writer;
    for n in 1..=9 {
        let mut payload = Vec::new();
        encode(&mut payload, n).unwrap();
        writer.append(&mut [Draft::next(0, payload, 1)]).unwrap();
    }
    let log = writer.log();
    log.sync().unwrap();
    let mut merged = MergedWriter::create(log).unwrap();
    for n in 5..=8 {
        merged.push(u64::from(n), |buf| encode(buf, n)).unwrap();
    }
    let outputs = vec![merged.finish().unwrap()];
    log.install(&Merge { outputs, inputs: vec![3, 4], generation: 0, judged: 9 }).unwrap();
    disk
}

fn verify(disk: &SimDisk) -> VerifyReport {
    verify_dir(disk, DIR, &mut |_, _| Ok(())).unwrap()
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

#[test]
fn what_counts_is_read_and_what_does_not_is_noted() {
    let disk = store();
    disk.write_file(path(&segment_name(MERGED_BIT + 7)), b"left");
    let report = verify(&disk);
    assert_eq!(report.damage, []);
    assert_eq!(report.records, 5 + 4);
    assert_eq!(report.notices.len(), 2, "{:?}", report.notices);
    for id in [3, 4, MERGED_BIT + 7] {
        disk.remove(Path::new(&path(&segment_name(id)))).unwrap();
    }
    let report = verify(&disk);
    assert_eq!((report.damage, report.notices), (Vec::new(), Vec::new()));
}

/// Nobody knows then what counts, so all of it is looked at.
#[test]
fn without_its_manifest_every_segment_is_checked() {
    for (gone, records) in [(false, 9 + 4), (true, 5 + 4)] {
        let disk = store();
        if gone {
            [3, 4].into_iter().for_each(|id| disk.remove(Path::new(&path(&segment_name(id)))).unwrap());
        }
        disk.flip_bit(path(MANIFEST_NAME), 30, 2).unwrap();
        if gone {
            let lost = disk.copied();
            lost.remove(Path::new(&path(MANIFEST_NAME))).unwrap();
            let report = verify(&lost);
            assert_eq!((report.damage.len(), report.damage[0].what.as_str()), (1, "the file is missing"));
            assert_eq!(report.records, records);
        }
        let report = verify(&disk);
        let damaged: Vec<_> = report.damage.iter().map(|found| found.path.clone()).collect();
        assert_eq!(damaged, [Path::new(&path(MANIFEST_NAME))], "{report:?}");
        assert_eq!(report.records, records, "{report:?}");
        assert!(report.notices.len() == 1 && report.notices[0].contains("every segment"), "{report:?}");
        let merged = path(&segment_name(MERGED_BIT + 1));
        let len = disk.file_bytes(&merged).unwrap().len() as u64;
        for at in (0..len).step_by(7) {
            let bad = disk.copied();
            bad.flip_bit(&merged, at, 3).unwrap();
            let report = verify(&bad);
            let is_told =
                report.damage.iter().any(|found| found.path.ends_with(segment_name(MERGED_BIT + 1)))
                    || report.notices.iter().any(|notice| notice.contains(&merged));
            assert!(is_told, "flipped at {at}: {report:?}");
        }
    }
}

#[test]
fn every_damage_is_found() {
    for gone in [false, true] {
        let disk = store();
        if gone {
            [3, 4].into_iter().for_each(|id| disk.remove(Path::new(&path(&segment_name(id)))).unwrap());
        }
        for name in [segment_name(2), segment_name(MERGED_BIT + 1), MANIFEST_NAME.to_owned()] {
            let check = |bad: &SimDisk, what: &str| {
                let found = verify(bad).damage;
                assert!(found.iter().any(|found| found.path.ends_with(&name)), "{name}, {what}: {found:?}");
            };
            let end = match name.as_str() {
                MANIFEST_NAME => disk.file_bytes(path(&name)).unwrap().len(),
                "0000000002.log" => 64 + 2 * (44 + 12 + 1 + 300),
                _ => 64 + 44 + 4 * (8 + 12 + 1 + 300),
            };
            for at in (0..end as u64).step_by(3) {
                let bad = disk.copied();
                bad.flip_bit(path(&name), at, 5).unwrap();
                check(&bad, "flipped");
                let bad = disk.copied();
                bad.truncate(path(&name), at).unwrap();
                check(&bad, "cut");
            }
            if name != MANIFEST_NAME {
                let bad = disk.copied();
                bad.remove(Path::new(&path(&name))).unwrap();
                check(&bad, "missing");
            }
        }
    }
}
