//! `/api/v1/cluster`: what the node and its cluster are.

use std::sync::Arc;

use axum::{body::Body, extract::State};
use esker_wire::cluster::{Mode, Node, NodesAnswer, Role, StatusAnswer, StorageStatus};
use http::{Request, Response};

use crate::http::{
    Front,
    answer::{AnswerBody, json},
    error::ApiError,
    query::Query,
};

/// What this node is and how it fares.
#[utoipa::path(get, path = "/api/v1/cluster/status", tag = "cluster", responses(
    (status = 200, description = "This node's view", body = StatusAnswer),
))]
pub(super) async fn status(
    State(front): State<Arc<Front>>,
    request: Request<Body>,
) -> Result<Response<AnswerBody>, ApiError> {
    Query::parse(request.uri().query(), &[])?;
    let status = front.store.status();
    let stats = status.stats;
    Ok(json(&StatusAnswer {
        node_id: status.node_id,
        mode: Mode::Single,
        role: Role::Leader,
        leader_id: status.leader_id,
        term: status.term,
        commit_index: status.commit_index,
        healthy: status.trouble.is_none(),
        trouble: status.trouble,
        uptime_seconds: status.uptime.as_secs(),
        server_version: env!("CARGO_PKG_VERSION").into(),
        storage: StorageStatus {
            keys: stats.keys,
            segments: stats.segments,
            log_bytes: stats.log_bytes,
            live_bytes: stats.live_bytes,
            index_bytes: stats.index_bytes,
            queued_bytes: stats.queued_bytes,
        },
    }))
}

/// The members of the cluster.
#[utoipa::path(get, path = "/api/v1/cluster/nodes", tag = "cluster", responses(
    (status = 200, description = "Every member", body = NodesAnswer),
))]
pub(super) async fn nodes(
    State(front): State<Arc<Front>>,
    request: Request<Body>,
) -> Result<Response<AnswerBody>, ApiError> {
    Query::parse(request.uri().query(), &[])?;
    let status = front.store.status();
    let node = Node {
        id: status.node_id,
        http_address: front.address.to_string(),
        role: Role::Leader,
        healthy: status.trouble.is_none(),
    };
    Ok(json(&NodesAnswer { nodes: vec![node] }))
}
