//! Answers to the administrator's requests.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ErrorBody;

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

/// The body of `POST /api/v1/admin/backup`; an empty one stands for `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BackupRequest<'a> {
    /// The directory below the server's `backup_dir` that the backup is made in. Without, it is sent as the answer.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
}

/// The answer to `POST /api/v1/admin/backup` with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupAnswer {
    /// The last version that the backup has.
    pub version: u64,
    /// Files it consists of.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the earlier backup of this name had.
    pub files_kept: u64,
    /// Files that it shares with the store.
    pub files_linked: u64,
    /// Bytes that were written.
    pub bytes_copied: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A line of an answer that tells on the way how far the work is. The last one is `done` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkLine<T> {
    /// It goes on.
    Progress(WorkDone),
    /// It is done: the answer.
    Done(T),
    /// It failed.
    Error(ErrorBody),
}

/// How far work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkDone {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 as long as that is not known.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_work_are_the_documented_ones() {
        let line = |line: WorkLine<CheckpointAnswer>| serde_json::to_string(&line).unwrap();
        let progress = WorkLine::Progress(WorkDone { done: 1, total: 2 });
        assert_eq!(line(progress), r#"{"progress":{"done":1,"total":2}}"#);
        let done = WorkLine::Done(CheckpointAnswer { version: 3, took_ms: 4 });
        assert_eq!(line(done), r#"{"done":{"version":3,"took_ms":4}}"#);
        let error = ErrorBody { code: crate::ErrorCode::Conflict, message: "why".into(), details: None };
        assert!(line(WorkLine::Error(error)).starts_with(r#"{"error":{"code":"conflict","message":"why""#));
        assert!(serde_json::from_str::<BackupRequest<'_>>(r#"{"nam":"x"}"#).is_err());
    }
}
