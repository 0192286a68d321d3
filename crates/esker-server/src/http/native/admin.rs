//! `/api/v1/admin`: maintenance, run when asked for.

use std::{collections::BTreeMap, time::Duration};

use axum::body::Body;
use esker_cluster::WorkProgress;
use esker_engine::Damage;
use esker_wire::admin::{CheckpointAnswer, CompactAnswer, DamageReport, VerifyAnswer};
use http::{Request, Response};
use utoipa::{
    IntoResponses,
    openapi::{self, RefOr},
};

use super::{list::wants_stream, work};
use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, json},
    error::ApiError,
    query::Query,
    receive::receive,
    refusals::Form,
};

/// What is answered to maintenance that cannot be done.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        Form::Native.describe(&[
            ("400", "The request is wrong: its parameters, its body, or what the server is not set up for"),
            ("409", "Maintenance is already running"),
            ("500", "The store is damaged, or the server failed"),
            ("503", "Writes are refused, or the server is shutting down"),
            ("507", "The disk is full"),
        ])
    }
}

/// Makes every write durable and writes a checkpoint, so that reopening replays nothing before it.
#[utoipa::path(post, path = "/api/v1/admin/checkpoint", tag = "operations", responses(
    (status = 200, description = "Written", body = CheckpointAnswer),
    Refusals,
))]
pub(super) async fn checkpoint(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    refuse_particulars(&door, request).await?;
    let start = door.clock().monotonic();
    let version = door.checkpoint().await?;
    Ok(json(&CheckpointAnswer { version, took_ms: elapsed_ms(&door, start) }))
}

/// Merges everything that may be merged on this node: dead records go, and what lives lies in key order. Reads and writes go on.
#[utoipa::path(post, path = "/api/v1/admin/compact", tag = "operations", responses(
    (status = 200, description = "What was merged", body = CompactAnswer),
    Refusals,
))]
pub(super) async fn compact(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    merge(door, request, true).await
}

/// Merges on this node what is worth it now, without waiting until it would be done anyway.
#[utoipa::path(post, path = "/api/v1/admin/merge", tag = "operations", responses(
    (status = 200, description = "What was merged", body = CompactAnswer),
    Refusals,
))]
pub(super) async fn merge_now(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    merge(door, request, false).await
}

async fn merge(door: Door, request: Request<Body>, all: bool) -> Result<Response<AnswerBody>, ApiError> {
    refuse_particulars(&door, request).await?;
    let start = door.clock().monotonic();
    let done = door.merge(all).await?;
    Ok(json(&CompactAnswer {
        segments_merged: done.merged.inputs,
        segments_made: done.merged.outputs,
        bytes_copied: done.merged.bytes_copied,
        keys_expired: done.merged.keys_expired,
        bytes_before: done.before,
        bytes_after: done.after,
        took_ms: elapsed_ms(&door, start),
    }))
}

/// Reads and checks every byte of the store. Damage found is an answer, not an error. With Accept: application/x-ndjson the
/// answer is lines: `{"progress":{"done","total"}}` now and then, in bytes, and `{"done":...}` or `{"error":...}` at the end.
#[utoipa::path(post, path = "/api/v1/admin/verify", tag = "operations", responses(
    (status = 200, description = "What was read and every damage found", body = VerifyAnswer),
    Refusals,
))]
pub(super) async fn verify(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    let in_lines = wants_stream(request.headers());
    refuse_particulars(&door, request).await?;
    let progress = WorkProgress::default();
    let told = progress.clone();
    work::answer(in_lines, progress, async move {
        let start = door.clock().monotonic();
        let report = door.verify(&told).await?;
        report.damage.iter().for_each(|damage| door.damage_found(damage));
        Ok(VerifyAnswer {
            intact: report.damage.is_empty(),
            files: report.files,
            bytes: report.bytes,
            records: report.records,
            damage: report.damage.into_iter().map(damage_report).collect(),
            took_ms: elapsed_ms(&door, start),
        })
    })
    .await
}

/// None of these requests takes parameters or a body (an empty JSON object will do): what is ignored would mislead.
async fn refuse_particulars(door: &Door, request: Request<Body>) -> Result<(), ApiError> {
    const EMPTY_BODY_MAX: usize = 64;
    refuse_parameters(&request)?;
    let received = receive(door, request.into_body(), EMPTY_BODY_MAX).await?;
    match received.bytes.trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(ApiError::bad_request("this request takes no body")),
    }
}

pub(super) fn refuse_parameters(request: &Request<Body>) -> Result<(), ApiError> {
    Query::parse(request.uri().query(), &[]).map(drop)
}

pub(super) fn damage_report(damage: Damage) -> DamageReport {
    DamageReport { file: damage.path.display().to_string(), offset: damage.offset, what: damage.what }
}

pub(super) fn elapsed_ms(door: &Door, start: Duration) -> u64 {
    door.clock().monotonic().saturating_sub(start).as_millis() as u64
}
