//! `/health` says whether the process is of use at all, `/ready` whether to send it requests.

use std::sync::Arc;

use axum::extract::State;
use esker_wire::{ErrorCode, cluster::HealthAnswer};
use http::Response;

use crate::http::{
    Front,
    answer::{AnswerBody, json},
    error::ApiError,
};

/// Whether the node is healthy: not, once writes are refused for good.
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Healthy", body = HealthAnswer),
    (status = 503, description = "Writes are refused until the store is reopened", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn health(State(front): State<Arc<Front>>) -> Result<Response<AnswerBody>, ApiError> {
    match front.store.status().stats.poisoned {
        Some(why) => Err(ApiError::new(ErrorCode::WritesRefused, format!("{why}. Restart the server"))),
        None => Ok(ok()),
    }
}

/// Whether the node takes reads and writes now.
#[utoipa::path(get, path = "/ready", tag = "operations", responses(
    (status = 200, description = "Ready", body = HealthAnswer),
    (status = 503, description = "Shutting down, or writes are refused", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn ready(State(front): State<Arc<Front>>) -> Result<Response<AnswerBody>, ApiError> {
    if front.drain.is_announced() {
        return Err(ApiError::new(ErrorCode::Draining, "the server is shutting down: use another node"));
    }
    match front.store.status().trouble {
        Some(why) => Err(ApiError::new(ErrorCode::Unavailable, why)),
        None => Ok(ok()),
    }
}

fn ok() -> Response<AnswerBody> {
    json(&HealthAnswer { status: "ok".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_service;

    #[tokio::test]
    async fn a_draining_node_is_healthy_but_not_ready() {
        let (service, _dir) = test_service();
        let front = service.front();
        assert!(ready(State(Arc::clone(front))).await.is_ok());
        front.drain.begin();
        let refused = ready(State(Arc::clone(front))).await.err().unwrap().into_answer();
        assert_eq!(refused.status(), 503);
        assert!(health(State(Arc::clone(front))).await.is_ok());
    }
}
