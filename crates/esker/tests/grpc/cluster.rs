//! A cluster of real processes: any node takes any call.

use esker_proto::v1::{self, NodesRequest, ScanRequest, StatusRequest, cluster_client::ClusterClient};
use esker_sim::processes::{Cluster, ClusterOptions};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{KvClient, PATIENCE, channel, get, put, run, value};

#[test]
fn any_node_takes_any_call_and_none_does_without_a_leader() {
    run(async {
        let options = ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3);
        let mut cluster = Cluster::start(&options).await.unwrap();
        let leader = cluster.leader().await.unwrap();
        let mut nodes = Vec::new();
        for node in cluster.numbers() {
            nodes.push((node, channel(&cluster.grpc_address(node)).await));
        }
        for (node, channel) in &nodes {
            let mut kv = KvClient::new(channel.clone());
            kv.put(put(format!("k{node}"), node.to_string())).await.unwrap();
        }
        for (node, channel) in &nodes {
            let mut kv = KvClient::new(channel.clone());
            assert_eq!(value(kv.get(get("k2")).await.unwrap().into_inner()).unwrap(), "2", "node {node}");
            let mut scan = kv.scan(ScanRequest::default()).await.unwrap().into_inner();
            assert_eq!(scan.message().await.unwrap().unwrap().items.len(), 3);
            let mut about = ClusterClient::new(channel.clone());
            // On a busy machine the leader may change meanwhile.
            let status = loop {
                let status = about.status(StatusRequest {}).await.unwrap().into_inner();
                if status.leader_id.is_some() {
                    break status;
                }
            };
            assert_eq!((status.node_id, status.clustered), (*node, true));
            assert!(cluster.numbers().contains(&status.leader_id()), "{status:?}");
            assert_eq!(about.nodes(NodesRequest {}).await.unwrap().into_inner().nodes.len(), 3);
        }
        // A write that is sent twice is done once.
        let request_id = Some(v1::RequestId { client: 77, sequence: 1 });
        let options = Some(v1::WriteOptions { request_id, ..Default::default() });
        let asked = v1::IncrementRequest { key: "n".into(), options, ..Default::default() };
        for (_, channel) in &nodes {
            let mut kv = KvClient::new(channel.clone());
            assert_eq!(kv.increment(asked.clone()).await.unwrap().into_inner().value, 1);
        }

        let (survivor, channel) = nodes.iter().find(|(node, _)| *node != leader).unwrap().clone();
        for (node, _) in &nodes {
            if *node != survivor {
                cluster.kill(*node).unwrap();
            }
        }
        let mut kv = KvClient::new(channel.clone());
        let mut read = Request::new(get("k1"));
        read.set_timeout(PATIENCE);
        let refused = kv.get(read).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(refused.metadata().get("retry-after-ms").is_some(), "{refused}");
        let stale = v1::GetRequest { consistency: v1::Consistency::Stale.into(), ..get("k1") };
        let answer = kv.get(stale).await.unwrap().into_inner();
        assert!(answer.applied_version.is_some());
        assert_eq!(value(answer).unwrap(), "1");
        // The node finds out that it has no leader, and health says so.
        let mut health = HealthClient::new(channel);
        let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        while watched.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    });
}
