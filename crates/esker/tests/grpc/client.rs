//! `esker-client` over gRPC: the same methods, the same answers, the same errors.

use std::time::Duration;

use esker_client::{Batch, Client, Condition, Error, ErrorCode, PutOptions, Query, Range, WriteOptions};
use esker_sim::processes::{Cluster, ClusterOptions};

use super::{run, server};

#[test]
fn the_client_asks_the_same_over_grpc() {
    run(async {
        let (server, _dir) = server(&[]);
        let client = Client::new(&format!("grpc://{}", server.grpc)).unwrap();
        let version = client.put(b"k", "v").await.unwrap().version;
        let entry = client.get(b"k").await.unwrap().unwrap();
        assert_eq!((&entry.value[..], entry.version), (&b"v"[..], version));
        assert_eq!(client.get(b"absent").await.unwrap(), None);
        assert_eq!(client.head(b"k").await.unwrap().unwrap().value_len, 1);
        let refused = client.put_with(b"k", "w", PutOptions::default().if_absent()).await.unwrap_err();
        assert!(
            matches!(refused, Error::ConditionFailed { version: Some(at), .. } if at == version),
            "{refused}"
        );
        assert_eq!(client.incr(b"n", 5).await.unwrap().value, 5);
        let not_a_number = client.incr(b"k", 5).await.unwrap_err();
        assert_eq!(not_a_number.code(), Some(ErrorCode::NotAnInteger));

        let mut batch = Batch::new();
        for n in 0..3000 {
            batch.put(format!("p/{n:04}").as_bytes(), b"v");
        }
        batch.put_expiring(b"e", b"v", Duration::from_secs(3600)).unwrap();
        batch.incr(b"n", 2);
        batch.delete(b"k");
        batch.require(b"k", Condition::Present);
        let done = client.batch(batch.clone(), WriteOptions::default()).await.unwrap();
        assert_eq!((done.operations, done.sum), (3003, Some(7)));
        let void = client.batch(batch, WriteOptions::default()).await.unwrap_err();
        assert!(matches!(void, Error::ConditionFailed { version: None, .. }), "{void}");
        let found = client.mget(&["e", "k", "n"]).await.unwrap();
        assert!(found[0].as_ref().is_some_and(|entry| entry.expires_at.is_some()) && found[1].is_none());

        let query = Query { range: Range::Prefix(b"p/".to_vec()), ..Query::default() };
        let mut scan = client.scan(&query).await.unwrap();
        let mut count = 0;
        while let Some(item) = scan.next().await {
            assert_eq!(item.unwrap().key, format!("p/{count:04}").into_bytes());
            count += 1;
        }
        assert_eq!(count, 3000);
        let page = client.list(&query, None).await.unwrap();
        assert_eq!((page.items.len(), page.items[99].key.as_slice()), (100, &b"p/0099"[..]));
        let next = client.list(&query, page.next.as_deref()).await.unwrap();
        assert_eq!(next.items[0].key, b"p/0100");
        let deleted = client.delete_range(&query.range, WriteOptions::default()).await.unwrap();
        assert_eq!(deleted.deleted, Some(3000));
        assert!(client.delete(b"n").await.unwrap().existed);
        assert_eq!(client.nodes().await.unwrap().nodes.len(), 1);
        assert!(matches!(client.status().await, Err(Error::NotSupported { .. })));
    });
}

/// Errors of the network are told apart: nothing was sent, or nobody knows.
#[test]
fn the_client_knows_a_server_that_is_away() {
    run(async {
        let (server, _dir) = server(&[]);
        let address = server.grpc.clone();
        drop(server);
        let mut settings = esker_client::Settings::default();
        settings.retry.within = Duration::ZERO;
        let client = Client::with_settings(&format!("grpc://{address}"), settings).unwrap();
        let refused = client.get(b"k").await.unwrap_err();
        assert!(matches!(refused, Error::Unreachable { .. }), "{refused:?}");
    });
}

/// The leader is killed under the client's writes, and no increment is lost or done twice.
#[test]
fn the_client_goes_on_when_a_leader_is_killed() {
    run(async {
        let options = ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3);
        let mut cluster = Cluster::start(&options).await.unwrap();
        let leader = cluster.leader().await.unwrap();
        let endpoints: Vec<String> = cluster
            .numbers()
            .into_iter()
            .map(|node| format!("grpc://{}", cluster.grpc_address(node)))
            .collect();
        let client = Client::new(&endpoints.join(",")).unwrap();
        for n in 1..=200 {
            if n == 50 {
                cluster.kill(leader).unwrap();
            }
            assert_eq!(client.incr(b"n", 1).await.unwrap().value, n);
        }
    });
}
