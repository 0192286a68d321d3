//! `/api/v1/health` says whether the process is of use at all, `/ready` whether to send it requests.

use esker_cluster::{ClusterView, Role, Status};
use esker_wire::{ErrorCode, cluster::HealthAnswer};
use http::Response;

use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, json},
    error::ApiError,
};

/// Whether the node is healthy: not, once writes are refused for good. Damage is told, and is no reason: all but what is damaged
/// is served, and to restart the node would not mend it.
#[utoipa::path(get, path = "/api/v1/health", tag = "operations", responses(
    (status = 200, description = "Healthy; the body says if the disk is full, or stored bytes are damaged", body = HealthAnswer),
    (status = 503, description = "Writes are refused until the store is reopened", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn health(door: Door) -> Result<Response<AnswerBody>, ApiError> {
    condition(door.health().0).map(|answer| json(&answer))
}

/// Whether to send the node requests: not while it shuts down, nor while its cluster has no leader that it knows of, nor
/// once writes are refused for good. A full disk is no reason: reads go on, and that there is space again shows within a second.
#[utoipa::path(get, path = "/ready", tag = "operations", responses(
    (status = 200, description = "Ready; the body says if the disk is full, or stored bytes are damaged", body = HealthAnswer),
    (status = 503, description = "Shutting down, without a leader, or writes are refused until the store is reopened", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn ready(door: Door) -> Result<Response<AnswerBody>, ApiError> {
    readiness(&door).map(|answer| json(&answer))
}

/// Why a node is not to be sent requests, if it is not. Anybody may know.
pub(crate) fn readiness(door: &Door) -> Result<HealthAnswer, ApiError> {
    if door.drain.is_announced() {
        return Err(ApiError::new(ErrorCode::Draining, "the server is shutting down: retry later"));
    }
    let (status, cluster) = door.health();
    refuse_leaderless(cluster)?;
    condition(status)
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
        let door = service.door();
        assert!(ready(door.clone()).await.is_ok());
        door.drain.begin();
        let refused = ready(door.clone()).await.err().unwrap().into_answer();
        assert_eq!(refused.status(), 503);
        assert!(health(door.clone()).await.is_ok());
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_only_a_store_that_refuses_for_good_is_not_ready() {
        let (service, _dir) = test_service();
        let mut status = service.door().health().0;
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
        let door = service.door();
        let damage =
            |offset| esker_engine::Damage { path: "f.log".into(), offset, what: "a checksum".into() };
        door.damage_found(&damage(64));
        door.damage_found(&damage(128));
        let status = door.health().0;
        assert_eq!((status.stats.damage.times, status.stats.damage.last.clone()), (2, Some(damage(128))));
        let answer = condition(status).unwrap();
        assert_eq!(answer.status, "damaged");
        let trouble = answer.trouble.unwrap();
        assert!(
            trouble.starts_with("f.log is damaged at byte 128: a checksum") && trouble.contains("2 times"),
            "{trouble}"
        );
        for answered in [health(door.clone()).await, ready(door.clone()).await] {
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
