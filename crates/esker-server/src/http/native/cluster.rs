//! `/api/v1/cluster`: what the node and its cluster are, and changes of the membership.

use std::time::Duration;

use axum::body::Body;
use esker_cluster::{ClusterView, Member, MemberChange, Status};
use esker_engine::Stats;
use esker_wire::cluster::{
    AddMember, DamageMet, MembersAnswer, MembersRequest, Mode, Node, NodesAnswer, Role, StatusAnswer,
    StorageStatus,
};
use http::{Request, Response};

use super::admin::damage_report;
use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, json},
    error::ApiError,
    query::Query,
    receive::receive,
};

/// A change of the membership is a line of JSON.
const CHANGE_BODY_MAX: usize = 4 << 10;

/// What this node is and how it fares.
#[utoipa::path(get, path = "/api/v1/cluster/status", tag = "cluster", responses(
    (status = 200, description = "This node's view", body = StatusAnswer),
    (status = 400, description = "The request takes no parameters", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn status(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    Query::parse(request.uri().query(), &[])?;
    Ok(json(&status_answer(&door)?))
}

/// What this node is and how it fares.
pub(crate) fn status_answer(door: &Door) -> esker_cluster::Result<StatusAnswer> {
    Ok(describe(door.status()?, door.cluster()?))
}

fn describe(status: Status, cluster: Option<ClusterView>) -> StatusAnswer {
    let stats = status.stats;
    let leaderless = cluster.as_ref().is_some_and(|view| view.leader.is_none());
    let is_removed = cluster.as_ref().is_some_and(|view| view.role == esker_cluster::Role::Removed);
    let removed = || esker_cluster::Error::Removed.to_string();
    let no_leader = || "this node knows of no leader of its cluster: neither reads nor writes".into();
    let trouble = status.trouble.or_else(|| is_removed.then(removed)).or_else(|| leaderless.then(no_leader));
    let mut answer = StatusAnswer {
        node_id: status.node_id,
        mode: Mode::Single,
        role: Role::Leader,
        cluster_id: None,
        leader_id: status.leader_id,
        term: status.term,
        commit_index: status.commit_index,
        applied_index: stats.version,
        healthy: trouble.is_none(),
        trouble,
        uptime_seconds: status.uptime.as_secs(),
        server_version: env!("CARGO_PKG_VERSION").into(),
        storage: storage_status(stats),
    };
    if let Some(view) = cluster {
        answer.node_id = view.node_id;
        answer.mode = Mode::Raft;
        answer.role = role(view.role);
        answer.cluster_id = view.cluster.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect());
        answer.leader_id = view.leader;
        answer.term = view.term;
        answer.commit_index = view.committed;
        answer.applied_index = view.applied;
    }
    answer
}

fn storage_status(stats: Stats) -> StorageStatus {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    StorageStatus {
        keys: stats.keys,
        segments: stats.segments,
        merged_segments: stats.merged_segments,
        log_bytes: stats.log_bytes,
        live_bytes: stats.live_bytes,
        dead_bytes: stats.dead_bytes(),
        index_bytes: stats.index_bytes,
        queued_bytes: stats.queued_bytes,
        merges: stats.merges.merges,
        bytes_copied: stats.merges.bytes_copied,
        write_amplification: stats.write_amplification(),
        compression_ratio: stats.compression.ratio(),
        cache_bytes: stats.cache.bytes,
        cache_hit_rate: stats.cache.hit_rate(),
        disk_full: stats.disk_full,
        memory_full: stats.memory_full,
        throttled_ms: millis(stats.throttled),
        snapshots: stats.snapshots.held,
        oldest_snapshot_ms: millis(stats.snapshots.oldest_age),
        snapshot_index_bytes: stats.snapshots.index_bytes,
        retired_bytes: stats.snapshots.retired_bytes,
        merge_error: stats.merge_error,
        checkpoint_error: stats.checkpoint_error,
        damage: stats
            .damage
            .last
            .map(|last| DamageMet { times: stats.damage.times, last: damage_report(last) }),
    }
}

fn role(role: esker_cluster::Role) -> Role {
    match role {
        esker_cluster::Role::Leader => Role::Leader,
        esker_cluster::Role::Follower => Role::Follower,
        esker_cluster::Role::Candidate => Role::Candidate,
        esker_cluster::Role::Learner => Role::Learner,
        esker_cluster::Role::Outside => Role::Outside,
        esker_cluster::Role::Removed => Role::Removed,
    }
}

/// The members of the cluster as this node knows them: only the leader hears from all.
#[utoipa::path(get, path = "/api/v1/cluster/nodes", tag = "cluster", responses(
    (status = 200, description = "Every member", body = NodesAnswer),
    (status = 400, description = "The request takes no parameters", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn nodes(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    Query::parse(request.uri().query(), &[])?;
    Ok(json(&nodes_answer(&door)?))
}

/// The members, or this node alone.
pub(crate) fn nodes_answer(door: &Door) -> esker_cluster::Result<NodesAnswer> {
    let status = door.status()?;
    let healthy = status.trouble.is_none();
    let nodes = match door.cluster()? {
        Some(view) => members_of(&view, healthy, door.config.timeouts.member_silence),
        None => vec![Node {
            id: status.node_id,
            http_address: door.address.to_string(),
            peer_address: None,
            role: Role::Leader,
            voter: true,
            lag: Some(0),
            silent_ms: None,
            healthy: Some(healthy),
        }],
    };
    Ok(NodesAnswer { nodes })
}

/// Every member; `healthy` is this node's own condition, the others' follows from when the leader heard from them.
fn members_of(view: &ClusterView, healthy: bool, silence: Duration) -> Vec<Node> {
    let node = |member: &Member| {
        let own = (member.id == view.node_id).then_some(healthy);
        Node {
            id: member.id,
            http_address: member.http_address.clone(),
            peer_address: Some(member.peer_address.clone()),
            role: role(member.role),
            voter: !matches!(member.role, esker_cluster::Role::Learner | esker_cluster::Role::Outside),
            lag: member.matched.map(|matched| view.committed.saturating_sub(matched)),
            silent_ms: member.silent_for.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
            healthy: own.or(member.silent_for.map(|silent| silent <= silence)),
        }
    };
    view.members.iter().map(node).collect()
}

/// Changes the membership, asked of any node: a node is added, promoted or removed, or the leadership handed on. Answers
/// when it is done, which for a new voter is when it has caught up.
#[utoipa::path(post, path = "/api/v1/cluster/members", tag = "cluster", request_body = MembersRequest, responses(
    (status = 200, description = "Done", body = MembersAnswer),
    (status = 307, description = "Another node leads and this one redirects; see Location", body = esker_wire::ErrorAnswer),
    (status = 400, description = "Not a change of the membership", body = esker_wire::ErrorAnswer),
    (status = 408, description = "The body did not arrive in time", body = esker_wire::ErrorAnswer),
    (status = 409, description = "The cluster's state does not allow it, or the mode has no members", body = esker_wire::ErrorAnswer),
    (status = 413, description = "The body is too large", body = esker_wire::ErrorAnswer),
    (status = 500, description = "The server failed", body = esker_wire::ErrorAnswer),
    (status = 503, description = "The cluster has no leader; see Retry-After", body = esker_wire::ErrorAnswer),
))]
pub(super) async fn members(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    Query::parse(request.uri().query(), &[])?;
    let received = receive(&door, request.into_body(), CHANGE_BODY_MAX).await?;
    let asked: MembersRequest = serde_json::from_slice(&received.bytes)
        .map_err(|e| ApiError::bad_request(format!("the body is not a change of the membership: {e}")))?;
    let node = door.change_members(change(asked)).await?;
    Ok(json(&MembersAnswer { node }))
}

fn change(asked: MembersRequest) -> MemberChange {
    match asked {
        MembersRequest::Add(AddMember { peer_address, voter }) => MemberChange::Add { peer_address, voter },
        MembersRequest::Promote(node) => MemberChange::Promote(node),
        MembersRequest::Remove(node) => MemberChange::Remove(node),
        MembersRequest::Transfer(node) => MemberChange::Transfer(node),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use esker_cluster::Role as StoreRole;

    use super::*;
    use crate::http::test_service;

    fn member(id: u64, role: StoreRole, matched: Option<u64>, silent_ms: Option<u64>) -> Member {
        Member {
            id,
            instance: [id as u8; 16],
            peer_address: format!("h:707{id}"),
            http_address: format!("h:808{id}"),
            role,
            matched,
            silent_for: silent_ms.map(Duration::from_millis),
        }
    }

    /// What the leader, node 1, knows of its three members.
    pub(in crate::http::native) fn view() -> ClusterView {
        ClusterView {
            cluster: Some([0xab; 16]),
            node_id: 1,
            role: StoreRole::Leader,
            leader: Some(1),
            term: 7,
            committed: 100,
            applied: 99,
            gossip_ignored: 0,
            members: vec![
                member(1, StoreRole::Leader, Some(101), None),
                member(2, StoreRole::Follower, Some(90), Some(20)),
                member(3, StoreRole::Learner, None, Some(5000)),
            ],
        }
    }

    #[tokio::test]
    async fn the_status_is_the_views_in_a_cluster() {
        let (service, _dir) = test_service();
        let status = || service.door().health().0;
        let single = describe(status(), None);
        assert_eq!((single.mode, single.role, single.cluster_id), (Mode::Single, Role::Leader, None));
        let answer = describe(status(), Some(view()));
        assert_eq!((answer.mode, answer.role, answer.leader_id), (Mode::Raft, Role::Leader, Some(1)));
        assert_eq!(answer.cluster_id, Some("ab".repeat(16)));
        assert_eq!((answer.term, answer.commit_index, answer.applied_index), (7, 100, 99));
        assert!(answer.healthy);
        let leaderless = ClusterView { leader: None, role: StoreRole::Candidate, ..view() };
        let answer = describe(status(), Some(leaderless));
        assert_eq!((answer.role, answer.leader_id, answer.healthy), (Role::Candidate, None, false));
        assert!(answer.trouble.is_some());
    }

    #[test]
    fn members_are_told_with_what_is_known_of_them() {
        let nodes = members_of(&view(), true, Duration::from_secs(1));
        let told: Vec<_> = nodes.iter().map(|node| (node.id, node.voter, node.lag, node.healthy)).collect();
        let expected =
            [(1, true, Some(0), Some(true)), (2, true, Some(10), Some(true)), (3, false, None, Some(false))];
        assert_eq!(told, expected);
        assert_eq!(nodes[1].peer_address.as_deref(), Some("h:7072"));
        // A follower knows of itself alone.
        let members =
            vec![member(1, StoreRole::Leader, None, None), member(2, StoreRole::Follower, Some(100), None)];
        let nodes = members_of(&ClusterView { node_id: 2, members, ..view() }, false, Duration::from_secs(1));
        assert_eq!((nodes[0].healthy, nodes[0].lag), (None, None));
        assert_eq!((nodes[1].healthy, nodes[1].lag), (Some(false), Some(0)));
    }
}
