//! A cluster of real processes and ten clients, while everything that can be done to processes and networks is done to them
//! at random: CHECKS 1, 17, 18, 21, 28. `ESKER_TORMENT_SECONDS` says for how long (default 30), `ESKER_TORMENT_SEED` with
//! which choices.

use std::time::Duration;

use esker_client::{Client, Retry, Settings};
use esker_sim::{
    Rng,
    clients::Workload,
    processes::{Cluster, ClusterOptions, Layout, torment::torment, under_load},
};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn run(layout: Layout, nodes: u64) {
    let options = ClusterOptions { layout, ..ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), nodes) };
    let mut cluster = match Cluster::start(&options).await {
        Ok(cluster) => cluster,
        Err(e) if layout == Layout::Namespaces => {
            eprintln!("SKIPPED: this needs root, ip (iproute2) and nft (nftables): {e}");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    settings.request_timeout = Duration::from_secs(1);
    let any = Client::with_settings(&cluster.endpoint(1), settings.clone()).unwrap();
    let workload = Workload { nodes: (1..=nodes).collect(), attempts: 1, ..Workload::default() };
    let time = Duration::from_secs(number("ESKER_TORMENT_SECONDS", 30));
    let seed = number("ESKER_TORMENT_SEED", u64::from(std::process::id()));
    println!("{nodes} nodes, seed {seed}, {time:?}");
    let report = under_load(&mut cluster, &workload, &settings, any, async |cluster, recorder| {
        torment(cluster, recorder, &Rng::new(seed), time, layout == Layout::Namespaces).await
    });
    let report = report.await.unwrap();
    println!("{} operations, {} answered", report.history.operations.len(), report.history.answered());
    println!("{:?}", report.check(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_keep_their_promises_whatever_is_done_to_them() {
    run(Layout::Namespaces, 3).await;
}

/// Where there are no namespaces: kills and pauses alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_loopback_keep_their_promises_whatever_is_done_to_them() {
    run(Layout::Loopback, 3).await;
}
