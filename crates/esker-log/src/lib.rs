//! Esker's log: segmented, checksummed, append-only, with group commit. See `docs/format.md` for the bytes.

pub mod clock;
pub mod disk;
