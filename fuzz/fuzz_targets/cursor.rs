//! CHECKS 35: Any text as a cursor: refused, or the same text comes of it again.
#![no_main]

use esker_wire::cursor::Cursor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(cursor) = Cursor::decode(text) {
        assert_eq!(Cursor::decode(cursor.encode().as_bytes()), Ok(cursor));
    }
});
