//! Entry points for the fuzzers in `fuzz/`: built only for them.

use super::state_file::State;

/// Decodes `body` as a state file whose magic, version and checksum are right. What decodes must encode to the same.
pub fn read_state(body: &[u8]) {
    let bytes = State::enclose(body);
    if let Ok(state) = State::decode(&bytes) {
        assert_eq!(state.encode(), bytes, "another encoding of the same");
    }
}
