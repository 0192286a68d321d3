//! CHECKS 35: Any bytes as a manifest, its checksum made right: an error, or what is encoded as these bytes again.
#![no_main]

use esker_log::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

const VERSION: std::ops::Range<usize> = 8..12;

fuzz_target!(|bytes: &[u8]| {
    let checksum = crc32c::crc32c(bytes);
    let mut whole = [bytes, &checksum.to_le_bytes()].concat();
    if let Ok((manifest, store)) = Manifest::decode(&whole) {
        let again = manifest.encode(&store);
        // An older version is written anew.
        let end = bytes.len();
        whole[VERSION].copy_from_slice(&again[VERSION]);
        assert_eq!(again[..end], whole[..end]);
    }
});
