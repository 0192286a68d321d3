//! CHECKS 35: Any bytes as a hint or checkpoint file: an error, never a panic.
#![no_main]

use esker_engine::bitcask::fuzzing::read_index_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Whether it is taken for an index file is no matter here.
    drop(read_index_file(bytes));
});
