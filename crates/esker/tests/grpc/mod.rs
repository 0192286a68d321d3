//! SPEC 3.7 with the real binary: every call as any client makes it, every error, and clients that are rude.

mod client;
mod cluster;
mod keys;
mod limits;
use crate::support::program;
mod python;
use crate::support;

use std::time::Duration;

use bytes::Bytes;
use esker_proto::v1::{
    self, BatchRequest, ChangedKey, Condition, DeleteRangeRequest, DeleteRequest, GetRequest, GetResponse,
    IncrementRequest, KeyCondition, MultiGetRequest, Operation, Presence, PutRequest, Range, ScanRequest,
    StatusRequest, WatchRequest, WatchResponse, change::Kind, cluster_client::ClusterClient,
    condition::Demand, kv_client::KvClient, operation::Operation as Write, watch_response::Event,
};
use support::Server;
use tempfile::TempDir;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn server(more: &[&str]) -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<&str> = ["--wal-sync-policy", "never"].iter().chain(more).copied().collect();
    (Server::start(dir.path(), &all), dir)
}

async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn kv(server: &Server) -> KvClient<Channel> {
    KvClient::new(channel(&server.grpc).await).max_decoding_message_size(usize::MAX)
}

/// Runs what a test does, with an end.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it takes no longer") });
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn get(key: &'static str) -> GetRequest {
    GetRequest { key: key.into(), ..Default::default() }
}

fn value(answer: GetResponse) -> Option<Bytes> {
    answer.entry.map(|entry| entry.value)
}

fn demand(demand: Demand) -> Option<Condition> {
    Some(Condition { demand: Some(demand) })
}

fn absent() -> Option<Condition> {
    demand(Demand::Presence(Presence::Absent.into()))
}

fn prefix(prefix: &'static str) -> Option<Range> {
    Some(Range { prefix: Some(prefix.into()), ..Default::default() })
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

/// A figure of `/metrics`; 0 if it is not there.
async fn metric(server: &Server, name: &str) -> f64 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = server.endpoint.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |figure| figure.parse().unwrap())
}

#[test]
fn keys_are_put_read_and_deleted() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        let raw = Bytes::from_static(b"\0\xff/..");
        let first = kv.put(put(raw.clone(), "v")).await.unwrap().into_inner().version;
        let read = GetRequest { key: raw.clone(), ..Default::default() };
        let entry = kv.get(read.clone()).await.unwrap().into_inner().entry.unwrap();
        assert_eq!((entry.value.as_ref(), entry.version, entry.expires_at_ms), (&b"v"[..], first, None));
        let without = GetRequest { keys_only: true, ..read.clone() };
        let answer = kv.get(without).await.unwrap().into_inner();
        assert_eq!(answer.value_bytes, Some(1));
        let entry = answer.entry.unwrap();
        assert_eq!((entry.value.len(), entry.version), (0, first));
        let stale = GetRequest { consistency: v1::Consistency::Stale.into(), ..read.clone() };
        assert_eq!(kv.get(stale).await.unwrap().into_inner().applied_version, Some(first));
        let delete = DeleteRequest { key: raw, ..Default::default() };
        let deleted = kv.delete(delete.clone()).await.unwrap().into_inner();
        assert!(deleted.existed && deleted.version > first);
        assert!(!kv.delete(delete).await.unwrap().into_inner().existed);
        assert_eq!(kv.get(read).await.unwrap().into_inner().entry, None);

        let expiring = PutRequest { ttl_ms: Some(3_600_000), ..put("e", "") };
        kv.put(expiring).await.unwrap();
        let entry = kv.get(get("e")).await.unwrap().into_inner().entry.unwrap();
        assert!(entry.value.is_empty() && entry.expires_at_ms.is_some());
    });
}

#[test]
fn conditions_are_judged_and_tell_the_present_version() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        let version =
            kv.put(PutRequest { condition: absent(), ..put("k", "1") }).await.unwrap().into_inner().version;
        let refused = kv.put(PutRequest { condition: absent(), ..put("k", "2") }).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::FailedPrecondition, "precondition_failed".into())
        );
        assert_eq!(refused.metadata().get("esker-code").unwrap(), "precondition_failed");
        let told = refused.get_details_error_info().unwrap().metadata["version"].clone();
        assert_eq!(told, version.to_string());
        let matching = PutRequest { condition: demand(Demand::Version(version)), ..put("k", "3") };
        kv.put(matching.clone()).await.unwrap();
        assert_eq!(kv.put(matching).await.unwrap_err().code(), Code::FailedPrecondition);
        let present = demand(Demand::Presence(Presence::Present.into()));
        let missing = DeleteRequest { key: "x".into(), condition: present, ..Default::default() };
        assert_eq!(kv.delete(missing).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(value(kv.get(get("k")).await.unwrap().into_inner()).unwrap(), "3");
    });
}

#[test]
fn batches_commit_together_or_not_at_all() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        let write = |write| Operation { operation: Some(write) };
        let put_of = |key: &'static str| {
            write(Write::Put(v1::PutOperation {
                key: key.into(),
                value: "v".into(),
                ttl_ms: None,
                expires_at_ms: None,
            }))
        };
        let batch = BatchRequest {
            operations: vec![
                put_of("a/1"),
                put_of("a/2"),
                put_of("b"),
                write(Write::Delete(v1::DeleteOperation { key: "a/1".into() })),
                write(Write::DeleteRange(prefix("b").unwrap())),
            ],
            conditions: vec![KeyCondition { key: "a/1".into(), condition: absent() }],
            options: None,
        };
        let done = kv.batch(batch.clone()).await.unwrap().into_inner();
        assert_eq!(done.operations, 5);
        let keys = ["a/1", "a/2", "b"].map(Bytes::from).to_vec();
        let asked = MultiGetRequest { keys, ..Default::default() };
        let lookups = kv.multi_get(asked).await.unwrap().into_inner().lookups;
        let found: Vec<_> =
            lookups.into_iter().map(|lookup| lookup.entry.map(|entry| entry.version)).collect();
        assert_eq!(found, [None, Some(done.version), None]);

        let mut void = batch.clone();
        void.conditions[0].key = "a/2".into();
        assert_eq!(kv.batch(void).await.unwrap_err().code(), Code::FailedPrecondition);
        let nothing = BatchRequest { operations: vec![Operation { operation: None }], ..Default::default() };
        let refused = kv.batch(nothing).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with("operations[0]"), "{refused}");
        let empty = kv.batch(BatchRequest::default()).await.unwrap_err();
        assert_eq!(empty.code(), Code::InvalidArgument);
    });
}

#[test]
fn counters_count_and_say_what_they_cannot() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        let by = |by| IncrementRequest { key: "n".into(), by, ..Default::default() };
        assert_eq!(kv.increment(by(None)).await.unwrap().into_inner().value, 1);
        assert_eq!(kv.increment(by(Some(-5))).await.unwrap().into_inner().value, -4);
        assert_eq!(kv.increment(by(Some(0))).await.unwrap().into_inner().value, -4);
        let overflow = kv.increment(by(Some(i64::MIN))).await.unwrap_err();
        assert_eq!((overflow.code(), reason(&overflow)), (Code::OutOfRange, "overflow".into()));
        kv.put(put("n", "text")).await.unwrap();
        let text = kv.increment(by(None)).await.unwrap_err();
        assert_eq!((text.code(), reason(&text)), (Code::FailedPrecondition, "not_an_integer".into()));
    });
}

/// The keys of a scan, and its last cursor.
async fn scanned(kv: &mut KvClient<Channel>, asked: ScanRequest) -> (Vec<Bytes>, String) {
    let mut stream = kv.scan(asked).await.unwrap().into_inner();
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    while let Some(chunk) = stream.message().await.unwrap() {
        assert!(!chunk.items.is_empty());
        keys.extend(chunk.items.into_iter().map(|item| item.key));
        cursor = chunk.cursor;
    }
    (keys, cursor)
}

#[test]
fn ranges_are_read_in_order_and_gone_on_with() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        let all: Vec<Bytes> = (0..3000).map(|n| Bytes::from(format!("k{n:04}"))).collect();
        for keys in all.chunks(1000) {
            let put = |key: &Bytes| Operation {
                operation: Some(Write::Put(v1::PutOperation {
                    key: key.clone(),
                    value: key.clone(),
                    ttl_ms: None,
                    expires_at_ms: None,
                })),
            };
            let operations = keys.iter().map(put).collect();
            kv.batch(BatchRequest { operations, ..Default::default() }).await.unwrap();
        }
        assert_eq!(scanned(&mut kv, ScanRequest::default()).await.0, all);
        let range = |start: &'static str, end: &'static str| {
            Some(Range { start: Some(start.into()), end: Some(end.into()), prefix: None })
        };
        let asked = ScanRequest { range: range("k0010", "k0012"), ..Default::default() };
        assert_eq!(scanned(&mut kv, asked).await.0, ["k0010", "k0011", "k0012"]);
        let asked = ScanRequest { range: prefix("k001"), reverse: true, limit: 3, ..Default::default() };
        let (keys, cursor) = scanned(&mut kv, asked.clone()).await;
        assert_eq!(keys, ["k0019", "k0018", "k0017"]);
        let (keys, _) = scanned(&mut kv, ScanRequest { cursor: cursor.clone(), ..asked.clone() }).await;
        assert_eq!(keys, ["k0016", "k0015", "k0014"]);
        let other = ScanRequest { cursor, reverse: false, ..asked };
        assert_eq!(kv.scan(other).await.unwrap_err().code(), Code::InvalidArgument);
        let mut without = kv
            .scan(ScanRequest { keys_only: true, limit: 1, ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        let item = without.message().await.unwrap().unwrap().items.remove(0);
        assert!(item.entry.unwrap().value.is_empty());

        let deleted = DeleteRangeRequest { range: prefix("k00"), ..Default::default() };
        assert_eq!(kv.delete_range(deleted).await.unwrap().into_inner().deleted, 100);
        let half = Some(Range { start: Some("k".into()), ..Default::default() });
        let half = DeleteRangeRequest { range: half, ..Default::default() };
        assert_eq!(kv.delete_range(half).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(scanned(&mut kv, ScanRequest::default()).await.0.len(), 2900);
    });
}

async fn told(watch: &mut Streaming<WatchResponse>) -> Event {
    watch.message().await.unwrap().unwrap().event.unwrap()
}

#[test]
fn changes_are_told_in_order_and_gone_on_with() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        kv.put(put("a/0", "before")).await.unwrap();
        let asked = WatchRequest { prefix: "a/".into(), ..Default::default() };
        let mut watch = kv.watch(asked.clone()).await.unwrap().into_inner();
        let Event::Progress(began) = told(&mut watch).await else { panic!("progress comes first") };
        kv.put(put("b", "other")).await.unwrap();
        let version = kv.put(put("a/1", "v")).await.unwrap().into_inner().version;
        kv.delete_range(DeleteRangeRequest { range: prefix("a"), ..Default::default() }).await.unwrap();
        let mut changes = Vec::new();
        while changes.len() < 2 {
            if let Event::Changes(more) = told(&mut watch).await {
                changes.extend(more.changes);
            }
        }
        assert_eq!((changes[0].version, changes[0].end_of_version), (version, true));
        let written = ChangedKey { key: "a/1".into(), value: "v".into(), expires_at_ms: None };
        assert_eq!(changes[0].kind, Some(Kind::Put(written)));
        let Some(Kind::DeleteRange(range)) = &changes[1].kind else { panic!("{changes:?}") };
        assert_eq!((range.start.as_deref(), range.end.as_deref()), (Some(&b"a/"[..]), Some(&b"a0"[..])));
        assert!(range.end_excluded);

        let from = Some(began.version + 1);
        let mut again =
            kv.watch(WatchRequest { from, keys_only: true, ..asked.clone() }).await.unwrap().into_inner();
        let first = loop {
            if let Event::Changes(more) = told(&mut again).await {
                break more.changes[0].clone();
            }
        };
        let written = ChangedKey { key: "a/1".into(), value: Bytes::new(), expires_at_ms: None };
        assert_eq!((first.version, first.kind), (version, Some(Kind::Put(written))));
        let mut beyond = kv.watch(WatchRequest { from: Some(1 << 40), ..asked }).await.unwrap().into_inner();
        loop {
            if let Event::Resync(resync) = told(&mut beyond).await {
                assert!(resync.from <= version + 2);
                break;
            }
        }
        assert!(beyond.message().await.unwrap().is_none());
    });
}

#[test]
fn what_cannot_be_meant_is_refused() {
    run(async {
        let (server, _dir) = server(&["--max-value-bytes", "1000"]);
        let mut kv = kv(&server).await;
        let long = Bytes::from(vec![b'k'; 65_536]);
        for bad in [
            put("", "v"),
            put(long.clone(), "v"),
            PutRequest { ttl_ms: Some(0), ..put("k", "v") },
            PutRequest { condition: Some(Condition { demand: None }), ..put("k", "v") },
            PutRequest { options: Some(v1::WriteOptions { ack: 9, ..Default::default() }), ..put("k", "v") },
        ] {
            assert_eq!(kv.put(bad).await.unwrap_err().code(), Code::InvalidArgument);
        }
        for key in [Bytes::new(), long] {
            let asked = GetRequest { key, ..Default::default() };
            assert_eq!(kv.get(asked).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let value = kv.put(put("k", vec![0; 1001])).await.unwrap_err();
        assert_eq!((value.code(), reason(&value)), (Code::ResourceExhausted, "payload_too_large".into()));
        let keys = vec![Bytes::from("k"); 10_001];
        let many = kv.multi_get(MultiGetRequest { keys, ..Default::default() }).await.unwrap_err();
        assert_eq!(many.code(), Code::ResourceExhausted);
        // Nothing of it is there, and the connection lives on.
        assert_eq!(kv.get(get("k")).await.unwrap().into_inner().entry, None);
    });
}

#[test]
fn the_cluster_service_tells_of_a_node_alone() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut cluster = ClusterClient::new(channel(&server.grpc).await);
        let status = cluster.status(StatusRequest {}).await.unwrap().into_inner();
        assert!(!status.clustered && status.healthy && status.trouble.is_empty());
        assert_eq!(status.role(), v1::Role::Leader);
        let nodes = cluster.nodes(v1::NodesRequest {}).await.unwrap().into_inner().nodes;
        assert_eq!((nodes.len(), nodes[0].voter), (1, true));
        let refused = cluster.promote_member(v1::PromoteMemberRequest { node_id: 2 }).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "conflict".into()));
    });
}

#[test]
fn health_and_reflection_tell_of_all_services() {
    run(async {
        let (server, _dir) = server(&[]);
        let channel = channel(&server.grpc).await;
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "esker.v1.Kv", "esker.v1.Cluster"] {
            let asked = HealthCheckRequest { service: service.into() };
            assert_eq!(health.check(asked).await.unwrap().into_inner().status(), ServingStatus::Serving);
        }
        let unknown = HealthCheckRequest { service: "other".into() };
        assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
        reflects_v1(channel.clone()).await;
        reflects_v1alpha(channel).await;
    });
}

macro_rules! reflects {
    ($name:ident, $version:ident) => {
        async fn $name(channel: Channel) {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let asked = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(channel);
            let stream = futures_util::stream::iter([asked]);
            let mut answers = client.server_reflection_info(stream).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
            let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
            names.sort();
            assert_eq!(
                names,
                [
                    "esker.v1.Cluster",
                    "esker.v1.Kv",
                    "grpc.health.v1.Health",
                    "grpc.reflection.v1.ServerReflection",
                    "grpc.reflection.v1alpha.ServerReflection",
                ]
            );
        }
    };
}
reflects!(reflects_v1, v1);
reflects!(reflects_v1alpha, v1alpha);

#[test]
fn the_deadline_of_a_call_is_kept() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        // A stream that has nothing to say ends in time, too; and says so itself, before the client's own clock does.
        let mut asked = Request::new(WatchRequest::default());
        asked.metadata_mut().insert("grpc-timeout", "2S".parse().unwrap());
        let mut watch = kv.watch(asked).await.unwrap().into_inner();
        let ended = loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        let mut asked = Request::new(get("k"));
        asked.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
        assert_eq!(kv.get(asked).await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn calls_are_counted_by_method_and_code() {
    run(async {
        let (server, _dir) = server(&[]);
        let mut kv = kv(&server).await;
        kv.put(put("k", "v")).await.unwrap();
        kv.put(put("", "v")).await.unwrap_err();
        let mut asked = Request::new(get("k"));
        asked.metadata_mut().insert("x-request-id", "abc".parse().unwrap());
        let answer = kv.get(asked).await.unwrap();
        assert_eq!(answer.metadata().get("x-request-id").unwrap(), "abc");
        let calls = |method: &str, code: &str| {
            format!("esker_grpc_calls_total{{method=\"{method}\",code=\"{code}\"}}")
        };
        assert_eq!(metric(&server, &calls("put", "OK")).await, 1.0);
        assert_eq!(metric(&server, &calls("put", "INVALID_ARGUMENT")).await, 1.0);
        assert_eq!(metric(&server, &calls("get", "OK")).await, 1.0);
        assert_eq!(metric(&server, "esker_grpc_seconds_count{operation=\"put\"}").await, 2.0);
        assert_eq!(metric(&server, "esker_grpc_connections").await, 1.0);
    });
}
