//! `esker.v1.Cluster`.

use esker_cluster::MemberChange;
use esker_proto::v1::{
    AddMemberRequest, MemberResponse, Node, NodesRequest, NodesResponse, PromoteMemberRequest,
    RemoveMemberRequest, Role, StatusRequest, StatusResponse, TransferLeadershipRequest,
    cluster_server::Cluster,
};
use esker_wire::cluster as told;
use tonic::{Request, Response, Status};

use super::{status::status_of, store};
use crate::{
    access::Door,
    http::{ApiError, nodes_answer, status_answer},
};

/// The service.
pub(super) struct ClusterCalls(pub(super) Door);

#[tonic::async_trait]
impl Cluster for ClusterCalls {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let told = self.told(status_answer(&self.0))?;
        Ok(Response::new(status_message(told)))
    }

    async fn nodes(&self, _request: Request<NodesRequest>) -> Result<Response<NodesResponse>, Status> {
        let told = self.told(nodes_answer(&self.0))?;
        let nodes = told.nodes.into_iter().map(node_message).collect();
        Ok(Response::new(NodesResponse { nodes }))
    }

    async fn add_member(
        &self,
        request: Request<AddMemberRequest>,
    ) -> Result<Response<MemberResponse>, Status> {
        let AddMemberRequest { peer_address, learner } = request.into_inner();
        self.change(MemberChange::Add { peer_address, voter: !learner }).await
    }

    async fn promote_member(
        &self,
        request: Request<PromoteMemberRequest>,
    ) -> Result<Response<MemberResponse>, Status> {
        self.change(MemberChange::Promote(request.into_inner().node_id)).await
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<MemberResponse>, Status> {
        self.change(MemberChange::Remove(request.into_inner().node_id)).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<MemberResponse>, Status> {
        self.change(MemberChange::Transfer(request.into_inner().node_id)).await
    }
}

impl ClusterCalls {
    fn told<T>(&self, done: esker_cluster::Result<T>) -> Result<T, Status> {
        done.map_err(|error| status_of(&self.0, ApiError::from(error)))
    }

    async fn change(&self, change: MemberChange) -> Result<Response<MemberResponse>, Status> {
        let changed = store::change_members(&self.0, change).await;
        let node_id = changed.map_err(|error| status_of(&self.0, error))?;
        Ok(Response::new(MemberResponse { node_id }))
    }
}

fn status_message(answer: told::StatusAnswer) -> StatusResponse {
    StatusResponse {
        clustered: answer.mode == told::Mode::Raft,
        cluster_id: answer.cluster_id.unwrap_or_default(),
        node_id: answer.node_id,
        role: role(answer.role).into(),
        leader_id: answer.leader_id,
        term: answer.term,
        commit_version: answer.commit_index,
        applied_version: answer.applied_index,
        uptime_seconds: answer.uptime_seconds,
        healthy: answer.healthy,
        trouble: answer.trouble.unwrap_or_default(),
        keys: answer.storage.keys,
        server_version: answer.server_version,
    }
}

fn node_message(node: told::Node) -> Node {
    Node {
        id: node.id,
        http_address: node.http_address,
        peer_address: node.peer_address.unwrap_or_default(),
        role: role(node.role).into(),
        voter: node.voter,
        lag: node.lag,
        silent_ms: node.silent_ms,
        healthy: node.healthy,
    }
}

fn role(role: told::Role) -> Role {
    match role {
        told::Role::Leader => Role::Leader,
        told::Role::Follower => Role::Follower,
        told::Role::Candidate => Role::Candidate,
        told::Role::Learner => Role::Learner,
        told::Role::Outside => Role::Outside,
        told::Role::Removed => Role::Removed,
        _ => Role::Unspecified,
    }
}
