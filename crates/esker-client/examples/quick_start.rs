//! The quick start of README.md. The program stands in a file of its own because a test compares it with the README and runs it.

include!("readme/quick_start.rs");
