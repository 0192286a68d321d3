//! CHECKS 35: Any bytes as a replica's state file, its checksum made right: what decodes is what was encoded.
#![no_main]

use esker_engine::replica::fuzzing::read_state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_state(bytes));
