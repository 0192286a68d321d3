//! CHECKS 35: any bytes as the list of requests that a store remembers.
#![no_main]

use esker_engine::fuzz_requests;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz_requests(bytes));
