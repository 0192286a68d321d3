//! CHECKS 35: Any bytes as records: decoding ends, stays inside, and says again what was encoded.
#![no_main]

use esker_log::record::{Records, encode_record_of, record_len};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut end = 0;
    for record in Records::new(bytes) {
        let Ok((at, record)) = record else { break };
        assert_eq!(at, end);
        end += record_len(record.key.len(), record.value.len());
        let mut again = Vec::new();
        encode_record_of(&mut again, record.kind, record.flags, record.key, &[record.value]).expect("it was a record");
        assert_eq!(again[4..], bytes[at + 4..end]);
    }
    assert!(end <= bytes.len());
});
