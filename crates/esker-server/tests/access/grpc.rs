//! CHECKS 37: the table of gRPC; calls that go on while callers change.

use esker_proto::v1::{
    AddMemberRequest, BatchRequest, Condition, DeleteRangeRequest, DeleteRequest, GetRequest,
    IncrementRequest, KeyCondition, MultiGetRequest, NodesRequest, Operation, Presence, PromoteMemberRequest,
    PutOperation, PutRequest, Range, RemoveMemberRequest, ScanRequest, StatusRequest,
    TransferLeadershipRequest, WatchRequest, condition::Demand, operation::Operation as Write,
};
use prost::Message;
use tokio::net::TcpStream;

use super::{
    support::calls::{Told, call, framed, open, open_unfinished},
    *,
};

const UNAUTHENTICATED: u32 = 16;
const PERMISSION_DENIED: u32 = 7;
const UNAVAILABLE: u32 = 14;

/// Method, message, what it takes.
type Row = (&'static str, Vec<u8>, Takes);

fn row(method: &'static str, message: &impl Message, takes: Takes) -> Row {
    (method, framed(message), takes)
}

fn present() -> Option<Condition> {
    Some(Condition { demand: Some(Demand::Presence(Presence::Present.into())) })
}

fn prefix(prefix: &'static str) -> Option<Range> {
    Some(Range { prefix: Some(prefix.into()), ..Range::default() })
}

fn between(start: &'static str, end: &'static str) -> Option<Range> {
    Some(Range { start: Some(start.into()), end: Some(end.into()), prefix: None })
}

fn put(key: &'static str, condition: Option<Condition>) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), condition, ..PutRequest::default() }
}

fn batch(keys: &[&'static str], condition: Option<KeyCondition>) -> BatchRequest {
    let put = |key: &&'static str| Operation {
        operation: Some(Write::Put(PutOperation {
            key: (*key).into(),
            value: "v".into(),
            ..PutOperation::default()
        })),
    };
    BatchRequest {
        operations: keys.iter().map(put).collect(),
        conditions: condition.into_iter().collect(),
        ..BatchRequest::default()
    }
}

fn multi_get(keys: &[&'static str]) -> MultiGetRequest {
    let keys = keys.iter().map(|key| (*key).into()).collect();
    MultiGetRequest { keys, ..MultiGetRequest::default() }
}

fn calls() -> Vec<Row> {
    use Takes::{Everything, Read, ReadAndWrite, ToBeKnown};
    let get = GetRequest { key: "a/k".into(), ..GetRequest::default() };
    let head = GetRequest { keys_only: true, ..get.clone() };
    let delete = DeleteRequest { key: "a/k".into(), ..DeleteRequest::default() };
    let delete_present = DeleteRequest { condition: present(), ..delete.clone() };
    let increment = IncrementRequest { key: "a/n".into(), ..IncrementRequest::default() };
    let delete_range = |range| DeleteRangeRequest { range, options: None };
    let scan = |range| ScanRequest { range, ..ScanRequest::default() };
    let watch = |prefix: &'static str| WatchRequest { prefix: prefix.into(), ..WatchRequest::default() };
    let demand = KeyCondition { key: "a/n".into(), condition: present() };
    vec![
        row("esker.v1.Kv/Get", &get, Read),
        row("esker.v1.Kv/Get", &head, Read),
        row("esker.v1.Kv/MultiGet", &multi_get(&["a/k", "a/n"]), Read),
        row("esker.v1.Kv/MultiGet", &multi_get(&["a/k", "c/z"]), Everything),
        row("esker.v1.Kv/Scan", &scan(prefix("a/")), Read),
        row("esker.v1.Kv/Scan", &scan(between("a/a", "b/z")), Everything),
        row("esker.v1.Kv/Scan", &scan(None), Everything),
        row("esker.v1.Kv/Watch", &watch("a/"), Read),
        row("esker.v1.Kv/Watch", &watch(""), Everything),
        row("esker.v1.Kv/Put", &put("a/k", None), Takes::Write),
        row("esker.v1.Kv/Put", &put("a/k", present()), ReadAndWrite),
        row("esker.v1.Kv/Delete", &delete, Takes::Write),
        row("esker.v1.Kv/Delete", &delete_present, ReadAndWrite),
        row("esker.v1.Kv/Increment", &increment, ReadAndWrite),
        row("esker.v1.Kv/Batch", &batch(&["a/k", "a/n"], None), Takes::Write),
        row("esker.v1.Kv/Batch", &batch(&["a/k", "c/z"], None), Everything),
        row("esker.v1.Kv/Batch", &batch(&["a/k"], Some(demand)), ReadAndWrite),
        row("esker.v1.Kv/DeleteRange", &delete_range(prefix("a/")), Takes::Write),
        row("esker.v1.Kv/DeleteRange", &delete_range(prefix("")), Everything),
        row("esker.v1.Cluster/Status", &StatusRequest {}, ToBeKnown),
        row("esker.v1.Cluster/Nodes", &NodesRequest {}, ToBeKnown),
        row("esker.v1.Cluster/AddMember", &AddMemberRequest::default(), Everything),
        row("esker.v1.Cluster/PromoteMember", &PromoteMemberRequest { node_id: 9 }, Everything),
        row("esker.v1.Cluster/RemoveMember", &RemoveMemberRequest { node_id: 9 }, Everything),
        row(
            "esker.v1.Cluster/TransferLeadership",
            &TransferLeadershipRequest { node_id: Some(9) },
            Everything,
        ),
        row("esker.v1.Kv/Nothing", &StatusRequest {}, ToBeKnown),
        row("other.Service/Nothing", &StatusRequest {}, ToBeKnown),
        row("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &StatusRequest {}, ToBeKnown),
        row("grpc.health.v1.Health/Check", &StatusRequest {}, Takes::Nothing),
        row("grpc.health.v1.Health/Watch", &StatusRequest {}, Takes::Nothing),
    ]
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
fn ask(server: &TestServer, method: &str, authorization: Option<&str>, message: &[u8]) -> Told {
    run(async {
        let stream = TcpStream::connect(server.grpc.unwrap()).await.unwrap();
        call(stream, method, authorization, message.to_vec()).await.unwrap()
    })
}

#[test]
fn everybody_does_what_the_table_says_and_nothing_else() {
    let server = server(&control(&users()));
    for (method, message, takes) in calls() {
        for who in EVERYBODY {
            let before = restore(&server);
            let authorization = format!("Bearer {}", who.token());
            let shown = (who != Stranger).then_some(&authorization[..]);
            let told = ask(&server, method, shown, &message);
            let what = format!("{who:?} {method} {takes:?}: {told:?}");
            if takes.allows(who) {
                assert!(!matches!(told.code, UNAUTHENTICATED | PERMISSION_DENIED), "{what}");
                continue;
            }
            let expected = match who {
                Stranger | Wrong => (UNAUTHENTICATED, "unauthorized"),
                _ => (PERMISSION_DENIED, "forbidden"),
            };
            assert_eq!((told.code, &told.esker_code[..]), expected, "{what}");
            assert_eq!(server.store.status().commit_index, before, "{what}: something was written");
            assert!(told.body.is_empty(), "{what}");
        }
    }
    assert_denials_are_counted(&server, "grpc");
}

#[test]
fn a_password_is_as_good_as_a_token_and_guessing_is_bounded() {
    let mut file = users();
    file.users[0].password = Some(hash_password(b"open sesame").unwrap());
    let server = server(&control(&file));
    restore(&server);
    let get = framed(&GetRequest { key: "a/k".into(), ..GetRequest::default() });
    let told = |shown: &str| ask(&server, "esker.v1.Kv/Get", Some(shown), &get);
    assert_eq!(told(&basic("reader", "open sesame")).value(), SECRET.as_bytes());
    for wrong in [&basic("reader", "open barley")[..], "Bearer", "Digest x"] {
        assert_eq!(told(wrong).code, UNAUTHENTICATED, "{wrong}");
    }
    let codes: Vec<u32> = (0..14).map(|at| told(&basic("reader", &format!("guess {at}"))).code).collect();
    assert!(codes.contains(&UNAUTHENTICATED) && codes.contains(&UNAVAILABLE), "{codes:?}");
    assert_eq!(told(&format!("Bearer {}", Reader.token())).code, 0);
}

/// Whoever watches is told nothing that it may not read any more.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
fn a_watch_under_way_ends_with_the_right() {
    let access = control(&users());
    let server = server(&access);
    let watch = framed(&WatchRequest { prefix: "a/".into(), ..WatchRequest::default() });
    let authorization = format!("Bearer {}", Reader.token());
    let told = run(async {
        let stream = TcpStream::connect(server.grpc.unwrap()).await.unwrap();
        let opened = open(stream, "esker.v1.Kv/Watch", Some(&authorization), watch).await.unwrap();
        let mut file = users();
        file.users.remove(0);
        access.replace(Users::new(&file).unwrap());
        let mut batch = Batch::new(server.store.limits());
        batch.put(b"a/k", SECRET.as_bytes()).unwrap();
        server.store.write(batch, WriteOptions::default()).await.unwrap();
        opened.finish().await.unwrap()
    });
    assert_eq!((told.code, &told.esker_code[..]), (UNAUTHENTICATED, "unauthorized"));
    assert!(!told.body.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
}

/// Also who has nothing to be told: as soon as the list of users was replaced, over gRPC and HTTP.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
fn a_watch_that_waits_ends_with_the_right() {
    let access = control(&users());
    let server = server(&access);
    let watch = framed(&WatchRequest { prefix: "a/".into(), ..WatchRequest::default() });
    let authorization = format!("Bearer {}", Reader.token());
    let mut events = server.client();
    events.send_request("GET", "/api/v1/watch?prefix=a/", &[("authorization", &authorization)], b"");
    let head = events.read_head().unwrap();
    assert_eq!(head.status, 200);
    let told = run(async {
        let stream = TcpStream::connect(server.grpc.unwrap()).await.unwrap();
        let opened = open(stream, "esker.v1.Kv/Watch", Some(&authorization), watch).await.unwrap();
        // A list in which they still are ends nothing.
        access.replace(Users::new(&users()).unwrap());
        let mut file = users();
        file.users.remove(0);
        access.replace(Users::new(&file).unwrap());
        opened.finish().await.unwrap()
    });
    assert_eq!((told.code, &told.esker_code[..]), (UNAUTHENTICATED, "unauthorized"));
    let events = String::from_utf8(events.read_body(head).body).unwrap();
    assert!(events.contains("event: error") && events.contains("unauthorized"), "{events}");
}

/// By its head, while its message is not there.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
fn a_stranger_is_refused_before_its_message() {
    let server = server(&control(&users()));
    let told = run(async {
        let stream = TcpStream::connect(server.grpc.unwrap()).await.unwrap();
        // Ten bytes are announced.
        let begun = vec![0, 0, 0, 0, 10, b'a'];
        open_unfinished(stream, "esker.v1.Kv/Put", begun).await.unwrap()
    });
    assert_eq!(told, Some((UNAUTHENTICATED, "unauthorized".into())));
}
