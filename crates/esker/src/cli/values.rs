//! What is written in one word: times, sizes.

use std::time::Duration;

use esker_wire::Ttl;

use crate::config::{parse_bytes, parse_millis};

/// Reads a time such as `30s`, for clap.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    parse_millis(text).ok_or_else(|| "give a time such as 500ms, 30s or 5m".into())
}

/// Reads a time to live such as `30s`, for clap.
pub(super) fn time_to_live(text: &str) -> Result<Duration, String> {
    text.parse().map(|ttl: Ttl| Duration::from_millis(ttl.as_millis())).map_err(|e| e.to_string())
}

/// Reads a size such as `64MiB`, for clap.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).filter(|bytes| *bytes > 0).ok_or_else(|| "give a size such as 4KiB or 64MiB".into())
}
