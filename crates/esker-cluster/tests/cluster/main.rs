//! Whole nodes in one process, over a network of direct calls that can be cut: the thin end-to-end tests of mode `raft`. What
//! must be exhaustive is simulated by esker-sim; what must be real runs the binary.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod snapshots;
mod support;

use std::{collections::BTreeMap, time::Duration};

use esker_cluster::{
    Ack, Batch, Consistency, Error, MemberChange, Role, WriteOptions,
    peer::{Caller, Id, Identity, PeerApi, wire},
    raft::RaftConfig,
};
use esker_engine::RequestId;
use esker_log::disk::sim::{CrashMode, Ops, SimDisk};

use crate::support::{Cluster, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_and_any_of_them_takes_writes_and_reads() {
    let cluster = Cluster::formed(3).await;
    for (n, id) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
        let key = format!("key{n}");
        cluster.put(id, &key, "value").await.unwrap();
        for reader in [1, 2, 3] {
            assert_eq!(cluster.get(reader, &key).await.unwrap().as_deref(), Some("value"));
        }
    }
    for ack in [Ack::Local, Ack::All] {
        let options = WriteOptions { ack, ..WriteOptions::default() };
        cluster.put_with(cluster.leader().await, "acked", "value", options).await.unwrap();
    }
}

/// CHECKS 1, 17: what was acknowledged is there after the leader is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_without_the_leader_and_it_catches_up() {
    let mut cluster = Cluster::formed(3).await;
    let first = cluster.leader().await;
    cluster.put(first, "before", "1").await.unwrap();
    cluster.kill(first).await;
    let other = cluster.up()[0];
    eventually("a write succeeds again", async || cluster.put(other, "after", "2").await.is_ok()).await;
    assert_eq!(cluster.get(other, "before").await.unwrap().as_deref(), Some("1"));
    cluster.start(first).await;
    assert_eq!(cluster.get(first, "after").await.unwrap().as_deref(), Some("2"));
}

/// CHECKS 21: a minority neither writes nor reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_neither_writes_nor_reads() {
    let cluster = Cluster::formed(3).await;
    let old = cluster.leader().await;
    cluster.put(old, "k", "1").await.unwrap();
    cluster.network.isolate(old);
    let others: Vec<_> = cluster.up().into_iter().filter(|id| *id != old).collect();
    eventually("the others elect one", async || cluster.put(others[0], "k", "2").await.is_ok()).await;
    assert!(cluster.get(old, "k").await.is_err());
    assert!(cluster.put(old, "k", "3").await.is_err());
    let stale = cluster.store(old).read_point(Consistency::Stale).await.unwrap();
    assert!(stale > 0);
    cluster.network.heal();
    eventually("the old leader follows", async || {
        cluster.get(old, "k").await.is_ok_and(|value| value.as_deref() == Some("2"))
    })
    .await;
}

/// CHECKS 19: a retried write is applied once, also when another node leads by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_applied_once_across_leaders() {
    let mut cluster = Cluster::formed(3).await;
    let request = Some(RequestId { client: 1, sequence: 1 });
    let options = WriteOptions { request, ..WriteOptions::default() };
    let first = cluster.put_with(1, "k", "1", options).await.unwrap();
    cluster.put(1, "k", "2").await.unwrap();
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let other = cluster.up()[0];
    eventually("the retry is answered", async || {
        cluster.put_with(other, "k", "1", options).await.is_ok_and(|again| again == first)
    })
    .await;
    assert_eq!(cluster.get(other, "k").await.unwrap().as_deref(), Some("2"));
}

/// CHECKS 20: an attempt whose end nobody knows is not called a refusal because the next one finds no leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_may_come_to_pass_is_not_called_refused() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let followers: Vec<_> = cluster.up().into_iter().filter(|id| *id != leader).collect();
    cluster.kill(followers[1]).await;
    // Of three voters one is down: the leader has the write committed and waits on.
    let store = cluster.store(followers[0]).clone();
    let mut batch = Batch::new(store.limits());
    batch.put(b"k", b"v").unwrap();
    let options = WriteOptions { ack: Ack::All, ..WriteOptions::default() };
    let written = tokio::spawn(store.write(batch, options));
    eventually("it is committed", async || store.get(b"k").await.unwrap().is_some()).await;
    cluster.kill(leader).await;
    let outcome = written.await.unwrap();
    assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))), "{outcome:?}");
    assert!(store.get(b"k").await.unwrap().is_some());
}

/// CHECKS 13, 23: a node whose entries are gone gets the state as a snapshot, and goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let behind = if leader == 1 { 2 } else { 1 };
    cluster.kill(behind).await;
    for n in 0..300 {
        cluster.put(leader, &format!("key{:03}", n % 100), &format!("value{n}")).await.unwrap();
    }
    for id in cluster.up() {
        cluster.store(id).checkpoint().await.unwrap();
    }
    eventually("the log is let go of", async || cluster.node(leader).replica().purged().index > 200).await;
    cluster.start(behind).await;
    // Meanwhile it sends readers away.
    eventually("it has caught up", async || {
        cluster.get(behind, "key099").await.is_ok_and(|value| value.as_deref() == Some("value299"))
    })
    .await;
    assert_eq!(cluster.contents(behind).await, cluster.contents(leader).await);
    cluster.put(behind, "more", "more").await.unwrap();
    cluster.kill(behind).await;
    cluster.start(behind).await;
    assert_eq!(cluster.contents(behind).await, cluster.contents(leader).await);
}

/// CHECKS 24, 27: a newcomer becomes a voter by itself; who was removed, and a wiped node's old number, stay out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_leave_and_come_back_wiped() {
    let mut cluster = Cluster::formed(3).await;
    cluster.put(1, "k", "v").await.unwrap();
    let joined = cluster.join(1).await;
    eventually("it becomes a voter", async || {
        cluster.member(1, joined).is_some_and(|member| member.role == Role::Follower)
    })
    .await;
    assert_eq!(cluster.get(joined, "k").await.unwrap().as_deref(), Some("v"));
    cluster.store(1).change_members(MemberChange::Remove(joined)).await.unwrap();
    eventually("it is no member", async || cluster.member(1, joined).is_none()).await;
    cluster.kill(joined).await;

    let wiped = cluster.up().into_iter().find(|id| cluster.leader_now(1) != Some(*id)).unwrap();
    let asked = cluster.up().into_iter().find(|id| *id != wiped).unwrap();
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    let anew = cluster.start(wiped).await;
    assert_ne!(anew, wiped, "its old number's votes are not its own");
    eventually("it took its old place", async || {
        cluster.member(asked, wiped).is_none()
            && cluster.member(asked, anew).is_some_and(|member| member.role != Role::Learner)
    })
    .await;
    assert_eq!(cluster.get(anew, "k").await.unwrap().as_deref(), Some("v"));
}

/// CHECKS 24: a voter that is behind has not heard of a newer one. If the leader is lost, they need each other's votes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_behind_votes_for_a_newer_member() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    cluster.put(leader, "k", "v").await.unwrap();
    let mut others = cluster.up().into_iter().filter(|id| *id != leader);
    let (behind, leaves) = (others.next().unwrap(), others.next().unwrap());
    cluster.get(behind, "k").await.unwrap();
    cluster.network.isolate(behind);
    let joined = cluster.join(leader).await;
    eventually("it becomes a voter", async || {
        cluster.member(leader, joined).is_some_and(|member| member.role == Role::Follower)
    })
    .await;
    // A leader that was removed would go on to lead, and then hear from nobody.
    let refused = cluster.store(leader).change_members(MemberChange::Remove(leader)).await.unwrap_err();
    assert!(refused.to_string().contains("transfer the leadership first"), "{refused}");
    cluster.store(leader).change_members(MemberChange::Remove(leaves)).await.unwrap();
    cluster.kill(leaves).await;
    cluster.put(leader, "k", "w").await.unwrap();
    cluster.kill(leader).await;
    assert!(cluster.member(behind, joined).is_none(), "it has not heard of it");
    cluster.network.heal();
    // Only this one has everything.
    eventually("it leads", async || cluster.leader_now(behind) == Some(joined)).await;
    assert_eq!(cluster.get(behind, "k").await.unwrap().as_deref(), Some("w"));
}

/// What a leader remembers is not enough: the next one has to know, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_given_once_whoever_leads() {
    let mut cluster = Cluster::formed(3).await;
    let joined = cluster.join(1).await;
    cluster.store(1).change_members(MemberChange::Remove(joined)).await.unwrap();
    cluster.kill(joined).await;
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    cluster.start(leader).await;
    cluster.leader().await;
    let next = cluster.join(1).await;
    assert!(next > joined, "{next} was given before");
}

/// A request to join that was under way for long, when the node that sent it has lost its directory since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_does_not_join() {
    let cluster = Cluster::formed(3).await;
    let there = cluster.member(1, 2).unwrap();
    let nobody = Identity { node: 0, instance: Id::default() };
    let caller = Caller { cluster: Id::default(), from: nobody, to: nobody };
    let gone = wire::Member {
        instance: vec![7; 16].into(),
        peer_address: there.peer_address,
        http_address: there.http_address,
        voter: true,
        ..wire::Member::default()
    };
    let cluster_name = RaftConfig::default().cluster_name;
    let add = wire::AddMember { member: Some(gone), cluster_name };
    let change = Some(wire::change_members_request::Change::Add(add));
    let request = wire::ChangeMembersRequest { group: 0, change };
    let reply = cluster.node(1).service().change_members(caller, request).await.unwrap();
    assert!(reply.refused.contains("is another than the one that asks"), "{reply:?}");
    assert_eq!(cluster.node(1).view().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_order_hands_over_first() {
    let mut cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    cluster.put(leader, "k", "v").await.unwrap();
    cluster.stop(leader).await;
    let other = cluster.up()[0];
    // No election time-out has to pass.
    let write = tokio::time::timeout(Duration::from_millis(150), cluster.put(other, "k", "w")).await;
    write.expect("the next leader was there at once").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_is_a_cluster_of_one() {
    let mut cluster = Cluster::formed(1).await;
    cluster.put(1, "k", "v").await.unwrap();
    cluster.kill(1).await;
    cluster.start(1).await;
    assert_eq!(cluster.get(1, "k").await.unwrap().as_deref(), Some("v"));
    let joined = cluster.join(1).await;
    assert_eq!(cluster.get(joined, "k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writes_through_a_follower_are_all_answered() {
    let cluster = Cluster::formed(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.up().into_iter().find(|id| *id != leader).unwrap();
    let (cluster, started) = (&cluster, tokio::time::Instant::now());
    let writers = (0..50).map(|writer| async move {
        for n in 0..20 {
            cluster.put(follower, &format!("key{writer}-{n}"), "value").await.unwrap();
        }
    });
    futures_util::future::join_all(writers).await;
    assert!(started.elapsed() < Duration::from_secs(2), "none had to wait for its time-out");
    assert_eq!(cluster.contents(follower).await.len(), 1000);
}

/// CHECKS 26: a replica whose state is not the others' says so and stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_diverged_is_found_and_stops() {
    let mut cluster = Cluster::formed(3).await;
    for n in 0..50 {
        cluster.put(1, &format!("key{n}"), "value").await.unwrap();
    }
    let leader = cluster.leader().await;
    let odd = cluster.up().into_iter().find(|id| *id != leader).unwrap();
    cluster.get(odd, "key49").await.unwrap();
    cluster.kill(odd).await;
    cluster.tamper_with(odd);
    cluster.start(odd).await;
    cluster.put(leader, "more", "value").await.unwrap();
    eventually("it has noticed", async || cluster.store(odd).status().trouble.is_some()).await;
    let trouble = cluster.store(odd).status().trouble.unwrap();
    assert!(trouble.contains("differs from a majority's"), "{trouble}");
    for id in cluster.up().into_iter().filter(|id| *id != odd) {
        assert_eq!(cluster.store(id).status().trouble, None);
    }
    cluster.put(leader, "still", "here").await.unwrap();
}

/// CHECKS 24: it finds out by asking the others, says so, and answers nothing but stale reads. One that is only cut off does not
/// take itself for removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_notices_and_one_that_is_cut_off_is_not_removed() {
    let cluster = Cluster::formed(3).await;
    cluster.put(1, "k", "v").await.unwrap();
    let leader = cluster.leader().await;
    let removed = cluster.up().into_iter().find(|id| *id != leader).unwrap();
    let other = cluster.up().into_iter().find(|id| ![leader, removed].contains(id)).unwrap();
    cluster.get(removed, "k").await.unwrap();

    cluster.network.isolate(other);
    eventually("it has no leader", async || cluster.leader_now(other).is_none()).await;
    cluster.store(leader).change_members(MemberChange::Remove(removed)).await.unwrap_err();
    cluster.network.heal();
    cluster.leader().await;
    eventually("it was removed", async || {
        let leader = cluster.leader_now(other).unwrap_or(other);
        // The first attempt may have come to pass, late.
        let _twice = cluster.store(leader).change_members(MemberChange::Remove(removed)).await;
        cluster.member(other, removed).is_none()
    })
    .await;
    eventually("it notices", async || cluster.node(removed).view().role == Role::Removed).await;
    assert_ne!(cluster.node(other).view().role, Role::Removed);
    assert_eq!(cluster.leader_now(removed), None);
    let write = cluster.put(removed, "k", "w").await.unwrap_err();
    assert!(matches!(write, Error::Removed), "{write}");
    let read = cluster.get(removed, "k").await.unwrap_err();
    assert!(matches!(read, Error::Removed), "{read}");
    let stale = cluster.store(removed).get(b"k").await.unwrap().unwrap();
    assert_eq!(stale.value.into_vec(), b"v");
    cluster.put(other, "k", "w").await.unwrap();
}

/// CHECKS 15: the disk of the leader hangs: another one leads, and goes on; after a while the node gives up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_whose_disk_hangs_hands_over_and_gives_up() {
    let disks: BTreeMap<u64, SimDisk> = (1..=3).map(|id| (id, SimDisk::new())).collect();
    let cluster = Cluster::formed_on(3, disks).await;
    let leader = cluster.leader().await;
    cluster.put(leader, "k", "v").await.unwrap();
    let hangs = &cluster.disks[&leader];
    hangs.stall(Ops::Syncs);
    cluster.put(leader, "k", "w").await.unwrap();
    let other = cluster.up().into_iter().find(|id| *id != leader).unwrap();
    eventually("another leads", async || cluster.leader_now(other).is_some_and(|now| now != leader)).await;
    eventually("it takes writes", async || cluster.put(other, "k", "x").await.is_ok()).await;
    let given_up = cluster.node(leader).disk_given_up();
    tokio::time::timeout(Duration::from_secs(20), given_up).await.expect("it gives up");
    hangs.end_stall();
}

/// With `ack=all` the leader's own disk counts, too, though the others are enough to commit and the leader applies what it has
/// only written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_disks_are_the_leaders_too() {
    let disks: BTreeMap<u64, SimDisk> = (1..=3).map(|id| (id, SimDisk::new())).collect();
    let cluster = Cluster::formed_on(3, disks).await;
    let leader = cluster.leader().await;
    cluster.put_with(leader, "k", "v", all()).await.unwrap();
    let hangs = &cluster.disks[&leader];
    hangs.stall(Ops::Syncs);
    let refused = cluster.put_with(leader, "k", "w", all()).await.unwrap_err();
    assert!(matches!(refused, Error::OutcomeUnknown(_)), "{refused}");
    hangs.end_stall();
}

/// CHECKS 27: what the leader knows a node to have acknowledged is not there any more, though the files are where they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_log_went_back_is_refused() {
    let disks: BTreeMap<u64, SimDisk> = (1..=3).map(|id| (id, SimDisk::new())).collect();
    let mut cluster = Cluster::formed_on(3, disks).await;
    let leader = cluster.leader().await;
    cluster.put(leader, "k", "old").await.unwrap();
    let restored = cluster.up().into_iter().find(|id| *id != leader).unwrap();
    cluster.get(restored, "k").await.unwrap();
    // A snapshot of the block device: not even the directory is another one.
    let snapshot = cluster.disks[&restored].after_crash(CrashMode::ProcessKill);
    for n in 0..20 {
        cluster.put_with(leader, &format!("k{n}"), "new", all()).await.unwrap();
    }
    cluster.kill(restored).await;
    cluster.disks.insert(restored, snapshot);
    cluster.start(restored).await;
    eventually("it is refused", async || {
        cluster.store(restored).status().trouble.is_some_and(|why| why.contains("old copy"))
    })
    .await;
    cluster.put(leader, "k", "newer").await.unwrap();
    assert_eq!(cluster.leader().await, leader);
}

fn all() -> WriteOptions {
    WriteOptions { ack: Ack::All, ..WriteOptions::default() }
}
