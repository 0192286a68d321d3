//! CHECKS 15: the disk hangs, under a real kernel: the file system of the data is frozen (`fsfreeze`), so that writes and
//! syncs wait while what is in the page cache can be read.
//!
//! A single server's writes wait, and beyond a bound are turned away; reads go on; nothing is lost when the disk comes
//! back. A cluster's leader hands the leadership on within seconds, and ends by itself after a minute. ESKER_FREEZE_SECONDS
//! says for how long the leader's disk hangs: from 65 on the end is seen, too.
//!
//! Needs root, loop devices and `fsfreeze`; where they are missing the tests say that they were skipped.

use crate::support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use esker_client::{Client, Consistency, Error, ErrorCode, Retry, Settings};
use esker_sim::processes::{Cluster, ClusterOptions};
use support::{Server, image::Image};
use tokio::time::{Instant, timeout};

/// How long a single server's disk hangs.
const HANGS: Duration = Duration::from_secs(3);
/// Three of these are under way at a time, a fourth is turned away.
const LARGE: usize = 300 << 10;
/// How long the disk of a leader hangs, unless ESKER_FREEZE_SECONDS says otherwise: until the others go on without it.
const LEADER_HANGS_S: u64 = 8;
/// A leader whose disk has not answered for 3 s hands on; the rest is for a machine that is busy.
const HANDED_ON_WITHIN: Duration = Duration::from_secs(8);
/// A node ends when its disk has not answered for so long.
const GIVES_UP_AFTER: Duration = Duration::from_secs(60);
/// Whatever is to happen by itself does so within this.
const SOON: Duration = Duration::from_secs(30);

/// Asks once, and waits for so long.
fn patient(endpoint: &str, request_timeout: Duration) -> Client {
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    settings.request_timeout = request_timeout;
    Client::with_settings(endpoint, settings).unwrap()
}

fn start(data: &Path) -> Server {
    Server::start(
        data,
        &["--write-bytes-under-way", "1MiB", "--max-batch-bytes", "1MiB", "--max-value-bytes", "512KiB"],
    )
}

/// Asks until the answer is what is waited for.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, looks).await.unwrap_or_else(|_| panic!("not so within {SOON:?}: {what}"));
}

/// CHECKS 15, SPEC 5.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_waits_for_a_disk_that_hangs() {
    let Some(image) = Image::or_skip(64, &["fsfreeze"]) else { return };
    let mut server = start(&image.data());
    let (waits, hasty) = (patient(&server.endpoint, SOON), patient(&server.endpoint, Duration::from_secs(1)));
    waits.put(b"k", "before").await.unwrap();
    let frozen = image.freeze();
    let began = Instant::now();
    // Some that wait for the disk, and what they take of the budget leaves no room for more.
    let writes: Vec<_> = (0..3)
        .map(|n| {
            let waits = waits.clone();
            tokio::spawn(async move { waits.put(format!("waits/{n}").as_bytes(), vec![n; LARGE]).await })
        })
        .collect();
    let mut refused = 0;
    while began.elapsed() < HANGS {
        let entry = hasty.get(b"k").await.unwrap().unwrap();
        assert_eq!(entry.value, "before");
        assert_eq!(hasty.health().await.unwrap().status, "ok");
        match hasty.put(b"late", vec![1; LARGE]).await {
            Err(Error::RetryLater { code: ErrorCode::Busy, message, .. }) => {
                assert!(message.contains("retry"), "{message}");
                refused += 1;
            }
            // Before the three are under way, or in place of one of them.
            Err(Error::TimedOut { .. }) => {}
            other => panic!("a disk that hangs: {other:?}"),
        }
    }
    assert!(refused > 0, "nothing was turned away");
    assert!(writes.iter().any(|write| !write.is_finished()), "nothing waited");
    drop(frozen);
    let mut acknowledged = Vec::new();
    for (n, write) in writes.into_iter().enumerate() {
        match write.await.unwrap() {
            Ok(_) => acknowledged.push(n),
            Err(Error::RetryLater { code: ErrorCode::Busy, .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!acknowledged.is_empty());
    waits.put(b"k", "after").await.unwrap();
    server.kill();

    server = start(&image.data());
    let client = patient(&server.endpoint, SOON);
    assert_eq!(client.get(b"k").await.unwrap().unwrap().value, "after");
    for n in acknowledged {
        let entry = client.get(format!("waits/{n}").as_bytes()).await.unwrap().unwrap();
        assert_eq!(entry.value, vec![n as u8; LARGE]);
    }
    assert!(server.ok(&["verify", "--json"]).contains(r#""intact":true"#));
    // Before the image is unmounted.
    drop(server);
}

/// Three nodes, each on a file system of its own.
async fn cluster() -> Option<(Cluster, BTreeMap<u64, Image>)> {
    let mut images = BTreeMap::new();
    for node in 1..=3 {
        images.insert(node, Image::or_skip(96, &["fsfreeze"])?);
    }
    let mut options = ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3);
    options.data_dirs = images.iter().map(|(node, image)| (*node, image.data())).collect();
    Some((Cluster::start(&options).await.unwrap(), images))
}

/// CHECKS 15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_hangs_hands_on_and_ends_after_a_minute() {
    let seconds = std::env::var("ESKER_FREEZE_SECONDS").map_or(LEADER_HANGS_S, |text| text.parse().unwrap());
    let hangs = Duration::from_secs(seconds);
    let Some((mut cluster, images)) = cluster().await else { return };
    let leader = cluster.leader().await.unwrap();
    let others: Vec<_> = cluster
        .numbers()
        .into_iter()
        .filter(|node| *node != leader)
        .map(|node| cluster.endpoint(node))
        .collect();
    let mut settings = Settings::default();
    settings.retry.within = SOON;
    settings.request_timeout = Duration::from_secs(2);
    let client = Client::with_settings(&others.join(","), settings).unwrap();
    client.put(b"k", "before").await.unwrap();

    let frozen = images[&leader].freeze();
    let began = Instant::now();
    let of_leader = patient(&cluster.endpoint(leader), Duration::from_secs(2));
    // The others' disks are enough: writes go on, if slowly, and the leadership is handed on.
    until("another leads", async || {
        client.put(b"k", "meanwhile").await.unwrap();
        let stale = of_leader.get_with(b"k", Consistency::Stale).await.unwrap();
        assert!(stale.entry.is_some(), "reads go on");
        client.status().await.is_ok_and(|status| status.leader_id.is_some_and(|now| now != leader))
    })
    .await;
    let handed_on = began.elapsed();
    println!("handed on after {handed_on:?}");
    assert!(handed_on < HANDED_ON_WITHIN, "{handed_on:?}");
    while began.elapsed() < hangs {
        client.put(b"k", "without it").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(frozen);
    if hangs > GIVES_UP_AFTER + HANDED_ON_WITHIN / 2 {
        // A process cannot quite go while the kernel holds its writes back.
        let (code, told) = cluster.ends(leader, SOON).await.unwrap();
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("the disk has not answered for a minute"), "{told}");
        cluster.restart(leader).await.unwrap();
    }
    let last = client.put(b"k", "after").await.unwrap();
    let back = patient(&cluster.endpoint(leader), Duration::from_secs(2));
    until("the node has caught up", async || {
        let found = back.get_with(b"k", Consistency::Stale).await;
        found.is_ok_and(|found| found.entry.is_some_and(|entry| entry.version == last.version))
    })
    .await;
    assert_eq!(client.get(b"k").await.unwrap().unwrap().value, "after");
    // Before the images are unmounted.
    drop(cluster);
}
