//! CHECKS 35: Any bytes as the keys of a multi-get: refused, or within the limit and none of them empty.
#![no_main]

use esker_wire::mget::{KEYS_MAX, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (base64, json) = input;
    if let Ok(keys) = decode(json, base64) {
        assert!(keys.len() <= KEYS_MAX && keys.iter().all(|key| !key.is_empty()));
    }
});
