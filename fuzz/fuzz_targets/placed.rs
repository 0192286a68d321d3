//! CHECKS 35: Any bytes as placed records: decoding ends, stays inside, and says again what was encoded.
#![no_main]

use esker_log::record::{PlacedRecords, RecordKind, encode_placed, record_len};
use libfuzzer_sys::fuzz_target;

const VERSION_LEN: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut end = 0;
    for record in PlacedRecords::new(bytes) {
        let Ok((at, version, record)) = record else { break };
        assert_eq!(at, end + VERSION_LEN);
        end = at + record_len(record.key.len(), record.value.len());
        if record.kind == RecordKind::Put {
            let mut again = Vec::new();
            encode_placed(&mut again, version, record.kind, record.flags, record.key, record.value).expect("it was a record");
            // All but the checksum.
            assert_eq!(again[..VERSION_LEN], bytes[at - VERSION_LEN..at]);
            assert_eq!(again[VERSION_LEN + 4..], bytes[at + 4..end]);
        }
    }
    assert!(end <= bytes.len());
});
