//! CHECKS 35: Any bytes as a JSON batch: refused, or within the limits.
#![no_main]

use esker_wire::batch::{BatchLimits, Operation, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let limits = BatchLimits { operations: 100, bytes: 10_000 };
    let (mut operations, mut conditions) = (0, 0);
    let mut each = |operation: Operation<'_>| {
        match operation {
            Operation::Require { .. } => conditions += 1,
            _ => operations += 1,
        }
        Ok(())
    };
    if let Ok(count) = decode(json, limits, &mut each) {
        assert_eq!(count, operations);
        assert!(count > 0 && count + conditions <= limits.operations);
    }
});
