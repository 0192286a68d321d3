//! Answers to the administrator's requests.

use serde::{Deserialize, Serialize};

/// `POST /api/v1/admin/checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckpointAnswer {
    /// Every write up to this version is in the checkpoint.
    pub version: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// `POST /api/v1/admin/compact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompactAnswer {
    /// Segments that went.
    pub segments_merged: u64,
    /// Segments that took their place.
    pub segments_made: u64,
    /// Bytes copied into these.
    pub bytes_copied: u64,
    /// Expired keys that were dropped.
    pub keys_expired: u64,
    /// Bytes of the log before.
    pub bytes_before: u64,
    /// Bytes of the log now.
    pub bytes_after: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// `POST /api/v1/admin/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerifyAnswer {
    /// Whether no damage was found.
    pub intact: bool,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records whose checksum was verified.
    pub records: u64,
    /// Every damage found.
    pub damage: Vec<DamageReport>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Where stored bytes fail their checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DamageReport {
    /// The file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}
