//! Snapshots between nodes: broken on their way, and held up by a full disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use esker_log::disk::sim::{Fault, FaultPlan, OpKind, Ops, SimDisk};

use crate::support::{Cluster, eventually};

const KEYS: usize = 600;

/// Writes so much that who is down needs a snapshot: about 3 MiB. Every key is overwritten, so that the log has more.
async fn outrun(cluster: &Cluster, leader: u64) {
    for round in 0..2 {
        let writes = (0..KEYS).map(|n| async move {
            let value = format!("{round}-{n}-{}", "x".repeat(5000));
            cluster.put(leader, &format!("key{n:04}"), &value).await.unwrap();
        });
        futures_util::future::join_all(writes).await;
    }
    for id in cluster.up() {
        cluster.store(id).checkpoint().await.unwrap();
    }
    eventually("the log is let go of", async || {
        cluster.node(leader).replica().purged().index > KEYS as u64 * 3 / 2
    })
    .await;
}

/// CHECKS 13, 23: a transfer that breaks goes on where it stopped, though the state has changed: nothing is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_snapshot_goes_on_where_it_stopped() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let behind = cluster.up().into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(behind).await;
    outrun(&cluster, leader).await;
    cluster.network.snapshots(|snapshots| snapshots.cuts.extend([3, 0, 2, 1, 2]));
    cluster.start(behind).await;
    // Before and after every break, something is written: what is sent is not the state as it is by then.
    let mut written = 0;
    while cluster.node(behind).applied() < KEYS as u64 {
        let key = format!("key{:04}", written * 7 % KEYS);
        cluster.put(leader, &key, &format!("while it was sent, {written}")).await.unwrap();
        written += 1;
    }
    assert!(written > 5, "nothing changed while it was sent");
    let last = cluster.node(leader).applied();
    eventually("it has caught up", async || cluster.node(behind).applied() >= last).await;
    assert_eq!(cluster.contents(behind).await, cluster.contents(leader).await);
    cluster.network.snapshots(|snapshots| {
        assert_eq!(snapshots.calls.len(), 6, "five broke");
        let ids: BTreeSet<_> = snapshots.calls.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 1, "all sent one snapshot: {ids:?}");
        let sent: Vec<_> = snapshots.calls.iter().flat_map(|(_, keys)| keys).collect();
        assert_eq!((sent.len(), sent.iter().collect::<BTreeSet<_>>().len()), (KEYS, KEYS), "each key once");
        assert!(snapshots.bytes < KEYS * 5100, "{} bytes", snapshots.bytes);
    });
    // It is what it was sent, also after a restart.
    cluster.kill(behind).await;
    cluster.start(behind).await;
    assert_eq!(cluster.contents(behind).await, cluster.contents(leader).await);
}

/// CHECKS 14: a full disk holds a snapshot up, at its values or at its last step; the old state is there all the while, and
/// when there is space it goes on, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_a_snapshot_up() {
    for (path, operations) in [(".log", Ops::Only(OpKind::Write)), ("REPLICA", Ops::Any)] {
        let disks = BTreeMap::from_iter((1..=3).map(|id| (id, SimDisk::new())));
        let mut cluster = Cluster::formed_on(3, disks.clone()).await;
        let leader = cluster.leader().await;
        cluster.put(leader, "key0000", "old").await.unwrap();
        let behind = cluster.up().into_iter().find(|id| *id != leader).unwrap();
        eventually("all have it", async || cluster.store(behind).get(b"key0000").await.unwrap().is_some())
            .await;
        cluster.kill(behind).await;
        outrun(&cluster, leader).await;
        cluster.network.hold_snapshots(true);
        cluster.start(behind).await;
        eventually("it is sent", async || cluster.network.snapshots(|it| !it.calls.is_empty())).await;
        let disk = &disks[&behind];
        disk.inject(FaultPlan::from_nth(operations, 0, Fault::NoSpace).on_path(path));
        cluster.network.hold_snapshots(false);
        let before = disk.faults_fired();
        eventually("it has tried again", async || disk.faults_fired() > before + 5).await;
        let old = cluster.store(behind).get(b"key0000").await.unwrap().unwrap();
        assert_eq!(old.value.as_ref(), b"old", "{path}");
        assert!(cluster.node(behind).failure().is_none(), "{path}");
        cluster.put(leader, "meanwhile", "value").await.unwrap();
        disk.clear_faults();
        let last = cluster.node(leader).applied();
        eventually("it has caught up", async || cluster.node(behind).applied() >= last).await;
        assert_eq!(cluster.contents(behind).await, cluster.contents(leader).await, "{path}");
        assert_eq!(cluster.network.snapshots(|it| it.calls.len()), 1, "{path}: it was sent once");
    }
}

/// A node stops also while its disk is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_keep_a_node_from_stopping() {
    for (path, operations) in [(".log", Ops::Only(OpKind::Write)), ("REPLICA", Ops::Any)] {
        let disks = BTreeMap::from_iter((1..=3).map(|id| (id, SimDisk::new())));
        let mut cluster = Cluster::formed_on(3, disks.clone()).await;
        let leader = cluster.leader().await;
        let behind = cluster.up().into_iter().find(|id| *id != leader).unwrap();
        cluster.kill(behind).await;
        outrun(&cluster, leader).await;
        cluster.network.hold_snapshots(true);
        cluster.start(behind).await;
        eventually("it is sent", async || cluster.network.snapshots(|it| !it.calls.is_empty())).await;
        let disk = &disks[&behind];
        disk.inject(FaultPlan::from_nth(operations, 0, Fault::NoSpace).on_path(path));
        cluster.network.hold_snapshots(false);
        let before = disk.faults_fired();
        eventually("it is held up", async || disk.faults_fired() > before).await;
        let stopped = tokio::time::timeout(Duration::from_secs(10), cluster.node(behind).stop()).await;
        stopped.unwrap_or_else(|_| panic!("{path}: it does not stop"));
        disk.clear_faults();
    }
}
