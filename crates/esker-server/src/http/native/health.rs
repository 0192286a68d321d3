//! `/api/v1/health` says whether the process is of use at all, `/ready` whether to send it requests.

use std::sync::Arc;

use axum::extract::State;
use esker_cluster::{ClusterView, Role, Status};
use esker_wire::{ErrorCode, cluster::HealthAnswer};
use http::Response;

use crate::http::{
    Front,
    answer::{AnswerBody, json},
    error::ApiError,
};

/// Whether the node is healthy: not, once writes are refused for good. Damage is told, and is no reason: all but what is damaged
/// is served, and to restart the node would not mend it.
#[utoipa::path(get, path = "/api/v1/health", tag = "operations", responses(
    (status = 200, description = "Healthy; the body says if the disk is full, or stored bytes are damaged", body = HealthAnswer),
    (status = 503, description = "Writes are refused until the store is reopened", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn health(State(front): State<Arc<Front>>) -> Result<Response<AnswerBody>, ApiError> {
    condition(front.store.status()).map(|answer| json(&answer))
}

/// Whether to send the node requests: not while it shuts down, nor while its cluster has no leader that it knows of, nor
/// once writes are refused for good. A full disk is no reason: reads go on, and that there is space again shows within a second.
#[utoipa::path(get, path = "/ready", tag = "operations", responses(
    (status = 200, description = "Ready; the body says if the disk is full, or stored bytes are damaged", body = HealthAnswer),
    (status = 503, description = "Shutting down, without a leader, or writes are refused until the store is reopened", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn ready(State(front): State<Arc<Front>>) -> Result<Response<AnswerBody>, ApiError> {
    if front.drain.is_announced() {
        return Err(ApiError::new(ErrorCode::Draining, "the server is shutting down: retry later"));
    }
    refuse_leaderless(front.store.cluster())?;
    condition(front.store.status()).map(|answer| json(&answer))
}

fn refuse_leaderless(cluster: Option<ClusterView>) -> Result<(), ApiError> {
    match cluster {
        Some(ClusterView { role: Role::Removed, .. }) => Err(ApiError::from(esker_cluster::Error::Removed)),
        Some(ClusterView { leader: None, .. }) => Err(ApiError::new(
            ErrorCode::NoLeader,
            "this node knows of no leader of its cluster: retry later",
        )),
        _ => Ok(()),
    }
}

fn condition(status: Status) -> Result<HealthAnswer, ApiError> {
    if let Some(why) = status.stats.poisoned {
        return Err(ApiError::new(ErrorCode::WritesRefused, format!("{why}. Restart the server")));
    }
    let word = match (status.stats.disk_full, &status.stats.damage.last) {
        (true, _) => "disk_full",
        (false, Some(_)) => "damaged",
        (false, None) => "ok",
    };
    Ok(HealthAnswer { status: word.into(), trouble: status.trouble })
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

    #[tokio::test]
    async fn a_full_disk_is_told_and_only_a_store_that_refuses_for_good_is_not_ready() {
        let (service, _dir) = test_service();
        let mut status = service.front().store.status();
        assert_eq!(condition(status.clone()).unwrap().status, "ok");
        status.stats.disk_full = true;
        status.trouble = Some("full".into());
        let answer = condition(status.clone()).unwrap();
        assert_eq!((answer.status.as_str(), answer.trouble.as_deref()), ("disk_full", Some("full")));
        status.stats.disk_full = false;
        assert_eq!(condition(status.clone()).unwrap().status, "ok");
        status.stats.poisoned = Some("why".into());
        assert_eq!(condition(status).err().unwrap().into_answer().status(), 503);
    }

    /// Nothing gets better by sending the requests elsewhere, or by a restart.
    #[tokio::test]
    async fn damage_is_told_until_the_node_is_restarted_and_leaves_it_ready() {
        let (service, _dir) = test_service();
        let front = service.front();
        let damage =
            |offset| esker_engine::Damage { path: "f.log".into(), offset, what: "a checksum".into() };
        front.damage_found(&damage(64));
        front.damage_found(&damage(128));
        let status = front.store.status();
        assert_eq!((status.stats.damage.times, status.stats.damage.last.clone()), (2, Some(damage(128))));
        let answer = condition(status).unwrap();
        assert_eq!(answer.status, "damaged");
        let trouble = answer.trouble.unwrap();
        assert!(
            trouble.starts_with("f.log is damaged at byte 128: a checksum") && trouble.contains("2 times"),
            "{trouble}"
        );
        for answered in [health(State(Arc::clone(front))).await, ready(State(Arc::clone(front))).await] {
            assert_eq!(answered.ok().unwrap().status(), 200);
        }
    }

    #[test]
    fn a_node_without_a_leader_is_not_ready() {
        let mut view = super::super::cluster::tests::view();
        assert!(refuse_leaderless(None).is_ok() && refuse_leaderless(Some(view.clone())).is_ok());
        view.leader = None;
        let refused = refuse_leaderless(Some(view)).err().unwrap().into_answer();
        assert_eq!(refused.status(), 503);
        let removed = ClusterView { role: Role::Removed, ..super::super::cluster::tests::view() };
        let refused = refuse_leaderless(Some(removed)).err().unwrap().into_answer();
        assert_eq!(refused.status(), 503);
    }
}
