//! The native API, `/api/v1`: a module a subject, and the table of routes.

mod admin;
mod backup;
mod batch;
mod cluster;
mod condition;
mod debug;
mod delete_range;
mod describe;
mod health;
mod incr;
mod key;
mod list;
mod mget;
mod watch;
mod work;

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use esker_wire::ErrorCode;

use super::error::ApiError;
use crate::access::Door;

pub(crate) use batch::{add as add_operation, condition as condition_of_demand};
pub(crate) use cluster::{nodes_answer, status_answer};
pub(super) use describe::Description;
pub(crate) use health::readiness;
pub(crate) use key::answer_key;

pub(crate) const LIST_PATH: &str = "/api/v1/kv";
pub(crate) const MGET_PATH: &str = "/api/v1/mget";
pub(crate) const BATCH_PATH: &str = "/api/v1/batch";
pub(crate) const WATCH_PATH: &str = "/api/v1/watch";
/// What anybody may ask for.
pub(crate) const OPEN_PATHS: [&str; 3] = ["/api/v1/health", "/ready", "/api/v1/openapi.json"];

type Routes = MethodRouter;

/// Every route but that of single keys: path, methods, handler. The API description is tested against it.
pub(super) fn routes() -> [(&'static str, &'static str, Routes); 19] {
    const READ: &str = "GET, HEAD";
    const POST: &str = "POST";
    [
        (LIST_PATH, "GET, HEAD, DELETE", get(list::list).delete(delete_range::delete_range)),
        (MGET_PATH, POST, post(mget::mget)),
        (BATCH_PATH, POST, post(batch::batch)),
        (WATCH_PATH, READ, get(watch::watch)),
        ("/api/v1/cluster/status", READ, get(cluster::status)),
        ("/api/v1/cluster/nodes", READ, get(cluster::nodes)),
        ("/api/v1/cluster/members", POST, post(cluster::members)),
        ("/api/v1/admin/backup", POST, post(backup::backup)),
        ("/api/v1/admin/checkpoint", POST, post(admin::checkpoint)),
        ("/api/v1/admin/compact", POST, post(admin::compact)),
        ("/api/v1/admin/merge", POST, post(admin::merge_now)),
        ("/api/v1/admin/verify", POST, post(admin::verify)),
        ("/api/v1/openapi.json", READ, get(describe::openapi)),
        ("/api/v1/health", READ, get(health::health)),
        ("/ready", READ, get(health::ready)),
        ("/metrics", READ, get(metrics)),
        ("/debug/pprof/heap", READ, get(debug::heap)),
        ("/debug/pprof/profile", READ, get(debug::profile)),
        ("/", READ, get(root)),
    ]
}

pub(crate) fn router() -> Router {
    let mut router = Router::new();
    for (path, allow, methods) in routes() {
        let refuse = move || async move { ApiError::method_not_allowed(allow) };
        router = router.route(path, methods.fallback(refuse));
    }
    router.fallback(unknown_route)
}

async fn unknown_route(uri: http::Uri) -> ApiError {
    let hint = "the API begins at /api/v1 and is described at /api/v1/openapi.json";
    ApiError::new(ErrorCode::RouteNotFound, format!("nothing is at {}: {hint}", uri.path()))
}

/// There is no page at `/`; who looks there is told where to go.
async fn root(uri: http::Uri) -> ApiError {
    unknown_route(uri).await
}

/// What is counted: for Prometheus, or, with `Accept: application/json` or `format=json`, as a flat JSON object.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    params(("format" = Option<String>, Query, description = "`json`: the same as `Accept: application/json`")),
    responses(
        (status = 200, description = "OpenMetrics text, or JSON",
            content((String = "application/openmetrics-text"), (crate::http::dialects::verb::MetricsAnswer = "application/json"))),
    ))]
async fn metrics(door: Door) -> Result<Response, ApiError> {
    /// What prometheus-client writes.
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = crate::metrics::encode(&door)?;
    let text =
        text.map_err(|e| ApiError::new(ErrorCode::Internal, format!("the metrics cannot be written: {e}")))?;
    Ok(([(http::header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}
