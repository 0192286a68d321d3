//! CHECKS 35: Any bytes as a JSON batch: refused, or within the limits.
#![no_main]

use esker_wire::batch::{BatchLimits, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let limits = BatchLimits { operations: 100, bytes: 10_000 };
    let mut seen = 0;
    let mut each = |_operation: esker_wire::batch::Operation<'_>| {
        seen += 1;
        Ok(())
    };
    if let Ok(count) = decode(json, limits, &mut each) {
        assert_eq!(count, seen);
        assert!((1..=limits.operations).contains(&count));
    }
});
