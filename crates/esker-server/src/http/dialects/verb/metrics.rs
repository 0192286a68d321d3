//! `GET /metrics` as a flat JSON object, for who asks for JSON.

use esker_cluster::Status;
use http::{HeaderMap, Response, Uri, header};
use serde::Serialize;

use crate::{
    access::Door,
    http::{
        answer::{AnswerBody, json},
        error::ApiError,
    },
    metrics::{Operation, ServerMetrics},
};

/// What is counted since the server started, over all HTTP APIs; what the store counts, on this node.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MetricsAnswer {
    /// Puts and increments.
    writes: u64,
    /// Gets and multi-gets.
    reads: u64,
    /// Batches.
    batches: u64,
    /// Ranges read.
    scans: u64,
    /// Deletes, of ranges too.
    deletes: u64,
    /// Requests answered with a status of 500 or more.
    errors: u64,
    /// Merges done.
    compactions: u64,
    /// Checkpoints and hint files written: what has the index on the disk.
    flushes: u64,
    /// Calls of fdatasync on the log.
    wal_syncs: u64,
    /// Segments of the log that no merge has been at yet.
    l0_files: u64,
    /// Keys present.
    keys: u64,
    /// Bytes of the log.
    log_bytes: u64,
}

/// Whether a request for the metrics asks for JSON: with `format=json`, or by naming it in `Accept`.
pub(super) fn is_asked(uri: &Uri, headers: &HeaderMap) -> bool {
    let by_parameter = || uri.query().unwrap_or_default().split('&').any(|pair| pair == "format=json");
    let types =
        headers.get_all(header::ACCEPT).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    let mut essences = types.map(|given| given.split(|&b| b == b';').next().unwrap_or_default().trim_ascii());
    by_parameter() || essences.any(|essence| essence.eq_ignore_ascii_case(b"application/json"))
}

pub(super) fn metrics(door: &Door) -> Result<Response<AnswerBody>, ApiError> {
    let (_, status, _) = door.store_metrics()?;
    Ok(json(&MetricsAnswer::of(&door.front().metrics, &status)))
}

impl MetricsAnswer {
    fn of(metrics: &ServerMetrics, status: &Status) -> Self {
        let answered = |operations: &[Operation]| operations.iter().map(|&of| metrics.answered(of)).sum();
        let stats = &status.stats;
        Self {
            writes: answered(&[Operation::Put, Operation::Incr]),
            reads: answered(&[Operation::Get, Operation::MultiGet]),
            batches: answered(&[Operation::Batch]),
            scans: answered(&[Operation::List]),
            deletes: answered(&[Operation::Delete, Operation::DeleteRange]),
            errors: metrics.failed(),
            compactions: stats.merges.merges,
            flushes: stats.checkpoints,
            wal_syncs: stats.syncs,
            l0_files: stats.segments,
            keys: stats.keys,
            log_bytes: stats.log_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_asked_for_by_parameter_or_type() {
        let asked = |target: &'static str, accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            accept.map(|accept| headers.insert(header::ACCEPT, HeaderValue::from_static(accept)));
            is_asked(&Uri::from_static(target), &headers)
        };
        assert!(asked("/metrics?format=json", None) && asked("/metrics?a=1&format=json", Some("text/plain")));
        assert!(asked("/metrics", Some("text/html;q=0.5, Application/JSON; q=1")));
        assert!(!asked("/metrics", None) && !asked("/metrics?format=text", Some("*/*")));
        assert!(!asked(
            "/metrics",
            Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1")
        ));
    }
}
