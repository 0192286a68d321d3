//! CHECKS 35: Any bytes as a segment's frames: the scanner ends, and gives only frames that verify.
#![no_main]

use std::{path::Path, sync::Arc};

use esker_log::{
    disk::sim::SimDisk,
    format::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, verify_frame},
    recovery::open_for_scan,
    scan::{FrameScanner, Step},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(frame) = bytes.get(..bytes.len().min(4096)) {
        assert!(verify_frame(frame, 1, 64).is_err() || frame.len() >= FRAME_HEADER_LEN);
    }
    let disk = Arc::new(SimDisk::new());
    let start = SEGMENT_HEADER_LEN as u64;
    disk.write_file(Path::new("/0000000001.log"), &[&[0; SEGMENT_HEADER_LEN], bytes].concat());
    let segment = open_for_scan(disk.as_ref(), Path::new("/"), 1, &[7; 16]).expect("the file is there");
    let mut scanner = FrameScanner::new(&segment, start, start + bytes.len() as u64);
    while let Step::Frame(frame) = scanner.step().expect("the disk has no faults") {
        assert!(u64::from(frame.end().offset) <= start + bytes.len() as u64);
    }
    scanner.durable_mark_behind().expect("the disk has no faults");
});
