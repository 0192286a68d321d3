//! CHECKS 35: Any bytes as the entries of a hint or checkpoint whose checksums are right: an error, never a panic.
#![no_main]

use esker_engine::bitcask::fuzzing::read_entries;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Whether they are taken for entries is no matter here.
    drop(read_entries(bytes));
});
