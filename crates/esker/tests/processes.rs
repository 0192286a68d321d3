//! Real processes under load, their clients' history held against the promises: `esker_sim::processes`.
//!
//! The tests of one node show that the harness works; those of clusters are CHECKS 1, 17, 18, 21 with real
//! processes. ESKER_CLUSTER_ROUNDS sets how often the latter do what they do.

use std::time::Duration;

use esker_client::{Client, Retry, Settings};
use esker_sim::{
    clients::Workload,
    processes::{
        Cluster, ClusterOptions, Layout,
        scenarios::{self, Stop},
        under_load,
    },
};

fn options(nodes: u64) -> ClusterOptions {
    ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), nodes)
}

/// Ten clients on any nodes; none of what they ask is retried in secret.
fn workload(nodes: u64) -> Workload {
    Workload { nodes: (1..=nodes).collect(), stale: 0.0, attempts: 1, ..Workload::default() }
}

fn once() -> Settings {
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    settings
}

fn client(cluster: &Cluster, settings: Settings) -> Client {
    Client::with_settings(&cluster.endpoint(1), settings).unwrap()
}

/// CHECKS 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_and_paused_under_load_keeps_its_promises() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(1)).await.unwrap();
    let any = client(&cluster, once());
    let report = under_load(&mut cluster, &workload(1), &once(), any, async |cluster, recorder| {
        for _ in 0..3 {
            scenarios::work_goes_on(recorder, 200).await?;
            cluster.kill(1)?;
            recorder.restarted(1);
            cluster.restart(1).await?;
            cluster.pause(1)?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            cluster.resume(1)?;
        }
        scenarios::work_goes_on(recorder, 200).await?;
        cluster.leader().await
    })
    .await;
    let report = report.unwrap();
    assert!(!report.errors().is_empty(), "nobody noticed that the node was killed");
    assert_eq!(report.check(500), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_restart_costs_patient_clients_nothing() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(1)).await.unwrap();
    let mut settings = Settings::default();
    settings.retry.resend_writes = false;
    let any = client(&cluster, settings.clone());
    let patient = Workload { patience: Duration::from_secs(10), ..workload(1) };
    let report = under_load(&mut cluster, &patient, &settings, any, scenarios::restart_one_by_one);
    let report = report.await.unwrap();
    assert_eq!(report.errors(), [""; 0], "of {}", report.history.operations.len());
    report.check(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_start_says_why() {
    let _turn = crate::support::TURN.lock().await;
    let mut broken = options(1);
    broken.arguments = vec!["--no-such-flag".into()];
    let Err(e) = Cluster::start(&broken).await else { panic!("it started") };
    assert!(e.to_string().contains("no-such-flag"), "{e}");
}

/// The gateway of the nodes' namespaces, where the clients are.
const GATEWAY: u64 = 254;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_a_namespace_is_deafened_and_healed() {
    let _turn = crate::support::TURN.lock().await;
    let cluster = match Cluster::start(&ClusterOptions { layout: Layout::Namespaces, ..options(1) }).await {
        Ok(cluster) => cluster,
        Err(e) => {
            eprintln!("SKIPPED: this needs root, ip (iproute2) and nft (nftables): {e}");
            return;
        }
    };
    let mut settings = once();
    settings.request_timeout = Duration::from_secs(2);
    settings.connect_timeout = Duration::from_secs(2);
    let client = client(&cluster, settings);
    client.put(b"k", "before").await.unwrap();
    cluster.deafen(1, &[GATEWAY]).unwrap();
    client.put(b"k", "meanwhile").await.unwrap_err();
    cluster.heal().unwrap();
    client.put(b"k", "after").await.unwrap();
}

fn rounds(default: usize) -> usize {
    std::env::var("ESKER_CLUSTER_ROUNDS").map_or(default, |text| text.parse().unwrap())
}

/// At default time-outs writes succeed again within a second, always, and mostly within half of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_within_a_second() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(3)).await.unwrap();
    let any = client(&cluster, once());
    let rounds = rounds(5);
    let report = under_load(&mut cluster, &workload(3), &once(), any, async |cluster, recorder| {
        scenarios::lose_leaders(cluster, recorder, rounds, Stop::Kill).await
    })
    .await;
    let gaps = report.unwrap().check(200);
    println!("leader killed: p50 {:?}, max {:?} of {}", gaps.p50(), gaps.max(), gaps.rounds());
    assert!(gaps.p50() < Duration::from_millis(500) && gaps.max() < Duration::from_secs(1), "{gaps:?}");
}

/// A leader that is told to stop hands on first: nobody waits for an election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_costs_next_to_nothing() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(3)).await.unwrap();
    let any = client(&cluster, once());
    let rounds = rounds(5);
    let report = under_load(&mut cluster, &workload(3), &once(), any, async |cluster, recorder| {
        scenarios::lose_leaders(cluster, recorder, rounds, Stop::Terminate).await
    })
    .await;
    let gaps = report.unwrap().check(200);
    println!("leader stopped: p50 {:?}, max {:?} of {}", gaps.p50(), gaps.max(), gaps.rounds());
    // Less than the shortest election; what it is on a machine of its own is in docs/benchmarks.md.
    assert!(gaps.p50() < Duration::from_millis(150), "{gaps:?}");
}

/// CHECKS 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_answers_nothing_stale() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(3)).await.unwrap();
    let any = client(&cluster, once());
    let rounds = rounds(4);
    let report = under_load(&mut cluster, &workload(3), &once(), any, async |cluster, recorder| {
        scenarios::pause_leaders(cluster, recorder, rounds, Duration::from_secs(2)).await
    })
    .await;
    report.unwrap().check(200);
}

/// CHECKS 17, 21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_is_replaced_and_answers_nothing_stale() {
    let _turn = crate::support::TURN.lock().await;
    let options = ClusterOptions { layout: Layout::Namespaces, ..options(3) };
    let mut cluster = match Cluster::start(&options).await {
        Ok(cluster) => cluster,
        Err(e) => {
            eprintln!("SKIPPED: this needs root, ip (iproute2) and nft (nftables): {e}");
            return;
        }
    };
    let any = client(&cluster, once());
    let rounds = rounds(3);
    let report = under_load(&mut cluster, &workload(3), &once(), any, async |cluster, recorder| {
        scenarios::cut_off_leaders(cluster, recorder, rounds).await
    })
    .await;
    report.unwrap().check(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_clients_nothing() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(3)).await.unwrap();
    let settings = Settings::default();
    let any = client(&cluster, settings.clone());
    let patient = Workload { patience: Duration::from_secs(10), nodes: Vec::new(), ..workload(3) };
    let report = under_load(&mut cluster, &patient, &settings, any, scenarios::restart_one_by_one);
    let report = report.await.unwrap();
    assert_eq!(report.errors(), [""; 0]);
    report.check(200);
}

/// Each node is lost with its directory and replaced by a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_replacement_costs_clients_nothing() {
    let _turn = crate::support::TURN.lock().await;
    let mut cluster = Cluster::start(&options(3)).await.unwrap();
    let settings = Settings::default();
    let endpoints: Vec<String> = cluster.numbers().into_iter().map(|node| cluster.endpoint(node)).collect();
    let any = Client::with_settings(&endpoints.join(","), settings.clone()).unwrap();
    let patient = Workload { patience: Duration::from_secs(10), nodes: Vec::new(), ..workload(3) };
    let report = under_load(&mut cluster, &patient, &settings, any, scenarios::replace_one_by_one);
    let report = report.await.unwrap();
    assert_eq!(report.errors(), [""; 0]);
    report.check(200);
}
