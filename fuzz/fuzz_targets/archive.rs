//! CHECKS 35: Any bytes as an archive of a backup, its headers' checksums made right: it verifies if it can be restored and unpacked,
//! and nothing else is taken.
#![no_main]

use esker_engine::backup_fuzzing::read_archive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_archive(bytes));
